"""The application: `uvicorn --factory examples.heroes.app:create_app`.

The cache appears in three places: the lifespan, the middleware, and one `aget_many`. Reads by key
are hits because the models say so; what commits change is forgotten by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlmodel import SQLModel, col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.requests import HTTPConnection

from examples.heroes.models import Hero, HeroCreate, HeroPublic, HeroUpdate, Team, TeamCreate
from examples.heroes.settings import Settings
from sqlmodel_cache import SQLModelCache, aget_many
from sqlmodel_cache.fastapi import CacheMiddleware, cache_lifespan

router = APIRouter()


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; without `settings` it reads them from the environment."""
    settings = settings or Settings.from_environment()
    engine = create_async_engine(settings.database_url)

    @asynccontextmanager
    async def database(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with engine.begin() as connection:
            await connection.run_sync(SQLModel.metadata.create_all)
        yield {"make_session": session_factory(engine)}
        await engine.dispose()

    def from_support(connection: HTTPConnection) -> bool:
        given, token = connection.headers["X-Cache-Bypass"], settings.support_token
        return token is not None and secrets.compare_digest(given.encode(), token.encode())

    app = FastAPI(
        title="Heroes",
        lifespan=cache_lifespan(
            settings.cache_url, lifespan=database, default_ttl=300, key_prefix=settings.key_prefix
        ),
    )
    app.add_middleware(CacheMiddleware, may_bypass=from_support)
    app.include_router(router)
    app.state.engine = engine
    return app


def session_factory(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Return what makes the session of a request."""
    return async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """Yield a session; it is closed after the response."""
    async with request.state.make_session() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]


async def find_hero(hero_id: int, session: SessionDep) -> Hero:
    """Return a hero, or answer 404."""
    hero = await session.get(Hero, hero_id)
    if hero is None:
        raise HTTPException(status_code=404, detail="no such hero")
    return hero


HeroDep = Annotated[Hero, Depends(find_hero)]


async def public(session: AsyncSession, hero: Hero) -> HeroPublic:
    """Return a hero with the name of the team, one more read by key."""
    team = None if hero.team_id is None else await session.get(Team, hero.team_id)
    return HeroPublic(id=hero.id or 0, name=hero.name, team=team and team.name)


async def check_team(session: AsyncSession, team_id: int | None) -> None:
    """Answer 422 for a team that does not exist."""
    if team_id is not None and await session.get(Team, team_id) is None:
        raise HTTPException(status_code=422, detail="no such team")


@router.post("/teams", status_code=201)
async def create_team(new: TeamCreate, session: SessionDep) -> Team:
    """Found a team."""
    team = Team.model_validate(new)
    session.add(team)
    await session.commit()
    return team


@router.get("/teams/{team_id}")
async def read_team(team_id: int, session: SessionDep) -> Team:
    """Return a team."""
    team = await session.get(Team, team_id)
    if team is None:
        raise HTTPException(status_code=404, detail="no such team")
    return team


@router.post("/teams/{team_id}/disband", status_code=204)
async def disband_team(team_id: int, session: SessionDep) -> None:
    """Send all heroes of a team home, in one statement: their entries are forgotten as well."""
    await session.exec(update(Hero).where(col(Hero.team_id) == team_id).values(team_id=None))
    await session.commit()


@router.post("/heroes", status_code=201)
async def create_hero(new: HeroCreate, session: SessionDep) -> HeroPublic:
    """Enrol a hero."""
    await check_team(session, new.team_id)
    hero = Hero.model_validate(new)
    session.add(hero)
    await session.commit()
    return await public(session, hero)


@router.get("/heroes")
async def list_heroes(
    session: SessionDep, ids: Annotated[list[int] | None, Query()] = None
) -> list[HeroPublic]:
    """Return the heroes with these ids that exist, or the first hundred."""
    if ids is None:
        heroes = list(await session.exec(select(Hero).order_by(col(Hero.id)).limit(100)))
    else:
        heroes = [hero for hero in await aget_many(session, Hero, ids) if hero is not None]
    return [await public(session, hero) for hero in heroes]


@router.get("/heroes/{hero_id}")
async def read_hero(hero: HeroDep, session: SessionDep) -> HeroPublic:
    """Return a hero."""
    return await public(session, hero)


@router.patch("/heroes/{hero_id}")
async def update_hero(hero: HeroDep, change: HeroUpdate, session: SessionDep) -> HeroPublic:
    """Change what was sent."""
    await check_team(session, change.team_id)
    hero.sqlmodel_update(change.model_dump(exclude_unset=True))
    session.add(hero)
    await session.commit()
    return await public(session, hero)


@router.delete("/heroes/{hero_id}", status_code=204)
async def delete_hero(hero: HeroDep, session: SessionDep) -> None:
    """Retire a hero."""
    await session.delete(hero)
    await session.commit()


@router.get("/cache")
async def cache_stats() -> dict[str, Any]:
    """Return what the cache of this process did so far. Not for strangers: guard it, or drop it."""
    return SQLModelCache.stats().as_dict()

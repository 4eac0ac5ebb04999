"""Coroutines that read where only a greenlet can wait."""

import gc
from pathlib import Path

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.exc import MissingGreenlet, StatementError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlmodel_cache import CacheConfig, SQLModelCache


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("warm", [False, True])
async def test_a_lazy_load_outside_a_greenlet_raises_whether_cached_or_not(
    tmp_path: Path, warm: bool
) -> None:
    """SQLAlchemy refuses it; that must not depend on what happens to be cached."""

    class Base(DeclarativeBase):
        pass

    class Team(Base):
        __tablename__ = "greenlets_team"
        __cache_config__ = CacheConfig()
        id: Mapped[int] = mapped_column(primary_key=True)

    class Hero(Base):
        __tablename__ = "greenlets_hero"
        __cache_config__ = CacheConfig()
        id: Mapped[int] = mapped_column(primary_key=True)
        team_id: Mapped[int] = mapped_column(ForeignKey(Team.id))
        team: Mapped[Team] = relationship()

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/x.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        session.add_all([Team(id=1), Hero(id=1, team_id=1)])
        await session.commit()
    SQLModelCache.configure("memory://")
    if warm:
        async with AsyncSession(engine) as session:
            await session.get(Team, 1)
    async with AsyncSession(engine) as session:
        hero = await session.get(Hero, 1)
        with pytest.raises((MissingGreenlet, StatementError)):
            _ = hero.team
    await engine.dispose()
    gc.collect()  # what nobody awaits says so here, where it is expected

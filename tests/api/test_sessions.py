"""Every kind of session is cached after configure(), whichever was created first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import NoResultFound
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlmodel import Session as SQLModelSession
from sqlmodel.ext.asyncio.session import AsyncSession as SQLModelAsyncSession

from sqlmodel_cache import SQLModelCache
from tests.api.models import Hero, fill
from tests.recording import Statements, stable_id

Recorder = Callable[[Any], AbstractContextManager[Statements]]


@pytest.fixture(autouse=True)
def row(engine: Engine) -> None:
    """Store a row; nothing is configured yet."""
    fill(engine, Hero(id=1, name="Deadpond"))


@pytest.mark.parametrize("first", ["session first", "configure first"])
@pytest.mark.parametrize("kind", [Session, SQLModelSession, sessionmaker])
def test_sync_sessions(engine: Engine, kind: Any, first: str, sql: Recorder) -> None:
    """A hit sends no SQL, for get and get_one alike."""
    make = kind(bind=engine) if kind is sessionmaker else lambda: kind(engine)
    if first == "session first":
        early = make()
        SQLModelCache.configure("memory://")
    else:
        SQLModelCache.configure("memory://")
        early = make()
    with early:
        assert early.get(Hero, 1).name == "Deadpond"
    with make() as session, sql(engine) as statements:
        hero = session.get_one(Hero, 1)
        assert hero.name == "Deadpond"
        assert session.get(Hero, 1) is session.get_one(Hero, ident=1) is hero
        assert statements == []
    assert SQLModelCache.stats().hits == 1


@pytest.mark.parametrize("first", ["session first", "configure first"])
@pytest.mark.parametrize("kind", [AsyncSession, SQLModelAsyncSession, async_sessionmaker])
async def test_async_sessions(
    async_engine: AsyncEngine, kind: Any, first: str, sql: Recorder
) -> None:
    """The same through the greenlet."""
    make = kind(bind=async_engine) if kind is async_sessionmaker else lambda: kind(async_engine)
    if first == "session first":
        early = make()
        SQLModelCache.configure("memory://")
    else:
        SQLModelCache.configure("memory://")
        early = make()
    async with early:
        assert (await early.get(Hero, 1)).name == "Deadpond"
    async with make() as session:
        with sql(async_engine) as statements:
            hero = await session.get_one(Hero, 1)
            assert hero.name == "Deadpond"
            assert await session.get(Hero, 1) is await session.get_one(Hero, 1) is hero
        assert statements == []
    assert SQLModelCache.stats().hits == 1


def test_scoped_session(engine: Engine, sql: Recorder) -> None:
    """The registry hands the call on."""
    scoped = scoped_session(sessionmaker(engine))
    SQLModelCache.configure("memory://")
    assert scoped.get(Hero, 1).name == "Deadpond"
    scoped.remove()
    with sql(engine) as statements:
        assert scoped.get_one(Hero, 1).name == "Deadpond"
        assert statements == []
    scoped.get_one(Hero, 1).name = "new"
    scoped.commit()
    scoped.remove()
    assert scoped.get_one(Hero, 1).name == "new"
    scoped.remove()


async def test_async_scoped_session(async_engine: AsyncEngine, sql: Recorder) -> None:
    """The async registry too."""
    scoped = async_scoped_session(async_sessionmaker(async_engine), scopefunc=asyncio.current_task)
    SQLModelCache.configure("memory://")
    assert (await scoped.get(Hero, 1)).name == "Deadpond"
    await scoped.remove()
    with sql(async_engine) as statements:
        assert (await scoped.get_one(Hero, 1)).name == "Deadpond"
    assert statements == []
    (await scoped.get_one(Hero, 1)).name = "new"
    await scoped.commit()
    await scoped.remove()
    assert (await scoped.get_one(Hero, 1)).name == "new"
    await scoped.remove()


def test_sync_and_async_sessions_share_entries(engine: Engine, async_engine: AsyncEngine) -> None:
    """Two engines, one database: what one stored the other reads, and each hears of the other."""
    SQLModelCache.configure("memory://")

    async def read() -> str:
        async with AsyncSession(async_engine) as session:
            return str((await session.get_one(Hero, 1)).name)

    async def rename() -> None:
        async with AsyncSession(async_engine) as session:
            (await session.get_one(Hero, 1)).name = "by async"
            await session.commit()

    with Session(engine) as session:
        session.get(Hero, 1)
    assert asyncio.run(read()) == "Deadpond"
    assert SQLModelCache.stats().hits == 1
    asyncio.run(rename())
    with Session(engine) as session:
        assert session.get_one(Hero, 1).name == "by async"
        session.get_one(Hero, 1).name = "by sync"
        session.commit()
    assert asyncio.run(read()) == "by sync"


def test_get_one_of_a_row_that_is_not_there(engine: Engine) -> None:
    """It raises what it raises without a cache, and get returns None."""
    SQLModelCache.configure("memory://")
    for _ in range(2):
        with Session(engine) as session:
            with pytest.raises(NoResultFound):
                session.get_one(Hero, 404)
            assert session.get(Hero, 404) is None
    assert SQLModelCache.stats().fills == 0


def test_session_subclass_with_a_get_of_its_own(engine: Engine) -> None:
    """Its super() call arrives at the cache."""

    class Mine(Session):
        def get(self, entity: Any, ident: Any, **options: Any) -> Any:
            return super().get(entity, ident, **options)

    SQLModelCache.configure("memory://")
    for _ in range(2):
        with Mine(engine) as session:
            assert session.get(Hero, 1).name == "Deadpond"
    assert SQLModelCache.stats().hits == 1


@pytest.mark.parametrize("spelling", [1, (1,), [1], {"id": 1}], ids=stable_id)
def test_spellings_of_a_key(engine: Engine, spelling: Any) -> None:
    """Scalar, tuple, list and dict are one entry."""
    SQLModelCache.configure("memory://")
    with Session(engine) as session:
        session.get(Hero, 1)
    with Session(engine) as session:
        assert session.get_one(Hero, spelling).name == "Deadpond"
    assert SQLModelCache.stats().hits == 1


@pytest.mark.parametrize("wrong", [(1, 2), {}, {"nonsense": 1}, [[1]]], ids=stable_id)
def test_what_is_no_key_raises_as_without_a_cache(engine: Engine, wrong: Any) -> None:
    """SQLAlchemy says it best, so it says it."""
    with Session(engine) as session, pytest.raises(Exception, match=r".") as without:
        session.get(Hero, wrong, execution_options={"cache": False})
    SQLModelCache.configure("memory://")
    with Session(engine) as session, pytest.raises(type(without.value)) as raised:
        session.get(Hero, wrong)
    assert str(raised.value) == str(without.value)


def test_what_is_no_model_raises_as_without_a_cache(engine: Engine) -> None:
    """An unmapped class, an instance, nothing at all."""
    for entity in (int, Hero(id=1), None):
        SQLModelCache.reset()
        with Session(engine) as session, pytest.raises(Exception, match=r".") as without:
            session.get(entity, 1)  # type: ignore[arg-type]
        SQLModelCache.configure("memory://")
        with Session(engine) as session, pytest.raises(type(without.value)) as raised:
            session.get(entity, 1)  # type: ignore[arg-type]
        assert str(raised.value) == str(without.value)

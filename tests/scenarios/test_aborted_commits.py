"""A commit that is aborted or cancelled leaves no open transaction in the pool (B31)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sqlmodel_cache import FenceError
from sqlmodel_cache.protocol.ops import Fence, Release
from tests.scenarios.harness import World
from tests.scenarios.models import Hero, Town

DATABASES = ["sqlite", "postgresql", "mariadb"]
MakeWorld = Callable[..., World]


def _faulty(make_world: MakeWorld, mode: str, database: str, **settings: Any) -> Any:
    return make_world(mode, "faulty", database, **settings)


def _unrelated_commit(world: World, engine: Any) -> None:
    """Commit something else on the pool's one connection."""
    with world.session(bind=engine) as session:
        session.add(Town(name="Rome"))
        session.commit()


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_b31_an_aborted_commit_is_rolled_back(
    make_world: MakeWorld, mode: str, database: str
) -> None:
    """With `abort`, a fence that fails raises; nothing of it is ever persisted."""
    world = _faulty(make_world, mode, database, on_fence_failure="abort")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.another_engine(pool_size=1, max_overflow=0) as engine:
        with world.session(bind=engine) as session:
            session.get(Hero, pk).name = "Bea"
            world.backing.fail_at = Fence
            with pytest.raises(FenceError):
                session.commit()
            assert world.row(Hero, pk)["name"] == "Ann"
            world.backing.fail_at = None
            session.rollback()
            assert session.get(Hero, pk).name == "Ann"
        _unrelated_commit(world, engine)
        assert world.row(Hero, pk)["name"] == "Ann"
    assert world.get(Hero, pk).name == "Ann"
    assert world.hit(Hero, pk).name == "Ann"


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_b31_an_aborted_core_commit(make_world: MakeWorld, mode: str, database: str) -> None:
    """The same for a connection of the engine's own."""
    world = _faulty(make_world, mode, database, on_fence_failure="abort")
    pk = world.store(Hero(name="Ann"))
    statement = Hero.__table__.update().where(Hero.__table__.c.id == pk).values(name="Bea")
    with world.another_engine(pool_size=1, max_overflow=0) as engine:
        world.engine = engine
        world.backing.fail_at = Fence
        with pytest.raises(FenceError), world.begin() as connection:
            connection.execute(statement)
        world.backing.fail_at = None
        _unrelated_commit(world, engine)
        assert world.row(Hero, pk)["name"] == "Ann"


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_b31_proceeding_commits_and_counts(make_world: MakeWorld, mode: str) -> None:
    """With `proceed` the commit succeeds without its fence, and is released after it."""
    world = _faulty(make_world, mode, "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        world.backing.fail_at = Fence
        session.commit()
    world.backing.fail_at = None
    assert world.stats().models["Hero"].errors == 1
    assert world.row(Hero, pk)["name"] == "Bea"
    assert world.get(Hero, pk).name == "Bea"


@pytest.mark.parametrize("database", DATABASES)
def test_b31_a_commit_cancelled_in_its_fence(make_world: MakeWorld, database: str) -> None:
    """A task cancelled while it fences has committed nothing, now or later."""
    world = _faulty(make_world, "async", database)
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.another_engine(pool_size=1, max_overflow=0) as engine:
        session = world.session(bind=engine)
        session.get(Hero, pk).name = "Bea"
        world.backing.hang_at = Fence
        world.loop.run_until_complete(_cancelled_in(world, session._wrapped.commit()))
        world.backing.hang_at = None
        session.close()
        assert world.row(Hero, pk)["name"] == "Ann"
        _unrelated_commit(world, engine)
        assert world.row(Hero, pk)["name"] == "Ann"
    assert world.get(Hero, pk).name == "Ann"


@pytest.mark.parametrize("database", DATABASES)
def test_b31_a_commit_cancelled_in_its_release(make_world: MakeWorld, database: str) -> None:
    """Too late to undo: it is published all the same, and no reader sees the old row."""
    world = _faulty(make_world, "async", database)
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.another_engine(pool_size=1, max_overflow=0) as engine:
        session = world.session(bind=engine)
        session.get(Hero, pk).name = "Bea"
        world.backing.hang_at = Release
        world.loop.run_until_complete(_cancelled_in(world, session._wrapped.commit(), go_on=True))
        world.backing.hang_at = None
        session.close()
        assert world.row(Hero, pk)["name"] == "Bea"
        assert world.get(Hero, pk).name == "Bea"
        _unrelated_commit(world, engine)
    assert world.get(Hero, pk).name == "Bea"
    assert world.hit(Hero, pk).name == "Bea"


async def _cancelled_in(world: Any, commit: Any, *, go_on: bool = False) -> None:
    """Run a commit until it hangs, cancel it, and see it cancelled."""
    task = asyncio.ensure_future(commit)
    await asyncio.wait_for(world.backing.hanging.wait(), 10)
    task.cancel()
    if go_on:
        await asyncio.sleep(0)
        world.backing.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task

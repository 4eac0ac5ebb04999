"""Sessions that join somebody's transaction: only the real commit publishes (B25)."""

from __future__ import annotations

from typing import Any

import pytest

from sqlmodel_cache import SQLModelCache
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Hero

MODES = ("conditional_savepoint", "rollback_only", "control_fully", "create_savepoint")


def _joined(world: World, connection: Any, mode: str) -> Any:
    return world.session(bind=connection, join_transaction_mode=mode)


def _begun(world: World, connection: Any) -> Any:
    """Begin a transaction that the driver has begun too: sqlite3 would wait for a write."""
    transaction = world.begun(connection)
    if world.database == "sqlite":
        connection.exec_driver_sql("BEGIN")
    return transaction


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_b25_a_joined_session_s_commit(world: World, mode: str, ending: str) -> None:
    """A cached row is a hit for others until the outermost transaction is committed."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.connect() as connection:
        outer = _begun(world, connection)
        with _joined(world, connection, mode) as session:
            session.get(Hero, pk).name = "Bea"
            session.commit()
            if mode == "control_fully":  # the session's commit is the real one
                assert world.row(Hero, pk)["name"] == "Bea"
                assert world.miss(Hero, pk).name == "Bea"
                return
            assert world.hit(Hero, pk).name == "Ann" == world.row(Hero, pk)["name"]
            assert session.get(Hero, pk).name == "Bea"
        assert world.hit(Hero, pk).name == "Ann"
        getattr(outer, ending)()
    if ending == "commit":
        assert world.miss(Hero, pk).name == "Bea" == world.row(Hero, pk)["name"]
        assert world.hit(Hero, pk).name == "Bea"
    else:
        assert world.hit(Hero, pk).name == "Ann" == world.row(Hero, pk)["name"]


@pytest.mark.parametrize("mode", MODES)
def test_b25_a_joined_session_s_rollback(world: World, mode: str) -> None:
    """What it rolled back is published by nobody; what others hit is what is committed."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.connect() as connection:
        outer = _begun(world, connection)
        with _joined(world, connection, mode) as session:
            session.get(Hero, pk).name = "Bea"
            session.flush()
            session.rollback()
        if outer.is_active:
            outer.commit()
        assert world.get(Hero, pk).name == "Ann" == world.row(Hero, pk)["name"]
    assert world.hit(Hero, pk).name == "Ann"


@pytest.mark.parametrize("mode", ["conditional_savepoint", "create_savepoint"])
def test_b25_below_a_savepoint_of_the_outer_transaction(world: World, mode: str) -> None:
    """A joined session's commit is a RELEASE there, and the savepoint's rollback undoes it."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.connect() as connection:
        outer = _begun(world, connection)
        nested = world.savepoint(connection)
        with _joined(world, connection, mode) as session:
            session.get(Hero, pk).name = "Bea"
            session.commit()
        assert world.hit(Hero, pk).name == "Ann"
        nested.rollback()
        outer.commit()
    assert world.get(Hero, pk).name == "Ann" == world.row(Hero, pk)["name"]
    assert world.hit(Hero, pk).name == "Ann"


def test_b25_the_usual_test_fixture(world: World) -> None:
    """What a test wrote it reads back from the database; nothing of it is stored or published."""
    cached, cold = world.store(Hero(name="Ann"), Hero(name="Cid"))
    world.warm(Hero, cached)
    with world.connect() as connection:
        outer = _begun(world, connection)
        with _joined(world, connection, "create_savepoint") as session:
            before = world.stats()
            session.get(Hero, cached).name = "Bea"
            session.commit()
            session.expunge_all()
            assert session.get(Hero, cached).name == "Bea"
            assert session.get(Hero, cold).name == "Cid"  # after a write nothing is stored
            session.commit()
        with _joined(world, connection, "create_savepoint") as another:
            assert another.get(Hero, cached).name == "Bea"
            another.delete(another.get(Hero, cold))
            another.commit()
            assert another.get(Hero, cold) is None
        after = world.stats()
        assert (after.fills, after.invalidations) == (before.fills, before.invalidations)
        outer.rollback()
    assert len(world.backing.values()) == 1
    assert world.hit(Hero, cached).name == "Ann"
    assert world.miss(Hero, cold).name == "Cid"


def test_b25_two_sessions_of_one_outer_transaction(world: World) -> None:
    """They share what is touched: the second does not hit what the first has changed."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.connect() as connection:
        outer = _begun(world, connection)
        for name in ("Bea", "Cid"):
            with _joined(world, connection, "create_savepoint") as session:
                session.get(Hero, pk).name = name
                session.commit()
        with _joined(world, connection, "create_savepoint") as session:
            assert session.get(Hero, pk).name == "Cid"
        assert world.hit(Hero, pk).name == "Ann"
        outer.commit()
    assert world.miss(Hero, pk).name == "Cid"


@on_sqlite
def test_b25_sqlite3_without_a_transaction_of_the_driver(world: World) -> None:
    """There a RELEASE of the outermost savepoint commits: it is published, for it is durable."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.connect() as connection:
        outer = world.begun(connection)
        with _joined(world, connection, "create_savepoint") as session:
            session.get(Hero, pk).name = "Bea"
            session.commit()
        assert world.get(Hero, pk).name == world.row(Hero, pk)["name"]
        outer.rollback()
    assert world.get(Hero, pk).name == world.row(Hero, pk)["name"]
    assert SQLModelCache.stats().lost == 0

"""What a transaction wrote is seen by itself, then by everybody, and never in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Badge, Errand, Hero, Town

# B3: uncommitted data


def test_b03_a_flushed_row_comes_from_the_database_for_its_writer_only(world: World) -> None:
    """Between flush and commit the writer reads its own row; others hit the committed one."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as writer:
        writer.get(Hero, pk).name = "Bea"
        writer.flush()
        writer.expunge_all()
        with world.one_select():
            assert writer.get(Hero, pk).name == "Bea"
        assert world.hit(Hero, pk).name == "Ann"
        writer.commit()
    assert world.miss(Hero, pk).name == "Bea"
    assert world.hit(Hero, pk).name == "Bea"


def test_b03_a_statement_that_failed(world: World) -> None:
    """Where it aborts the transaction, reads raise until that ends, as without a cache.

    A ROLLBACK TO SAVEPOINT ends that, too.
    """
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as session:
        if world.database != "postgresql":
            with pytest.raises(DBAPIError):
                session.execute(text("SELECT no_such_column FROM scenario_hero"))
            assert session.get(Hero, pk).name == "Ann"
            return
        savepoint = world.savepoint(session)
        with pytest.raises(DBAPIError):
            session.execute(text("SELECT 1 / 0"))
        with pytest.raises(DBAPIError, match="transaction is aborted"):
            session.get(Hero, pk)
        savepoint.rollback()
        with world.no_sql():
            assert session.get(Hero, pk).name == "Ann"
        session.expunge_all()
        with pytest.raises(DBAPIError):
            session.execute(text("SELECT 1 / 0"))
        with pytest.raises(DBAPIError, match="transaction is aborted"):
            session.get(Hero, pk)
        session.rollback()
        with world.no_sql():
            assert session.get(Hero, pk).name == "Ann"
    assert world.stats().bypasses == {"session_inactive": 2}


@on_sqlite
def test_b03_a_row_read_back_by_its_writer_is_not_stored(world: World) -> None:
    """A cold row that its writer flushed and read again is in nobody else's cache."""
    pk = world.store(Hero(name="Ann"))
    with world.session() as writer:
        writer.get(Hero, pk, execution_options={"cache": False}).name = "Bea"
        writer.flush()
        writer.expunge_all()
        assert writer.get(Hero, pk).name == "Bea"
        assert world.backing.values() == {}
        writer.rollback()
    assert world.miss(Hero, pk).name == "Ann"


def test_b03_after_any_write_a_connection_fills_nothing(world: World) -> None:
    """A trigger may have changed rows that no statement named: other models are not stored."""
    pk = world.store(Hero(name="Ann"))
    with world.session() as writer:
        writer.add(Town(name="Rome"))
        writer.flush()
        with world.one_select():
            assert writer.get(Hero, pk).name == "Ann"
        assert world.backing.values() == {}
        writer.commit()
        assert world.miss(Hero, pk).name == "Ann"


@on_sqlite
def test_b03_the_next_transaction_of_a_session_fills_again(world: World) -> None:
    """After the commit the same session stores what it reads."""
    pk = world.store(Hero(name="Ann"))
    with world.session() as session:
        session.add(Town(name="Rome"))
        session.commit()
        session.get(Hero, pk)
    assert world.hit(Hero, pk).name == "Ann"


# B4: rollback, close, failing commit


@pytest.mark.parametrize("ending", ["rollback", "close"])
def test_b04_a_transaction_that_is_not_committed_changes_nothing(world: World, ending: str) -> None:
    """After rollback, or close without commit, the committed row is still a hit."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        session.flush()
        getattr(session, ending)()
    assert world.hit(Hero, pk).name == "Ann" == world.row(Hero, pk)["name"]


@on_sqlite
def test_b04_a_session_reads_the_cache_again_after_its_rollback(world: World) -> None:
    """What was touched is forgotten with the transaction, on the same session and connection."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        session.flush()
        session.rollback()
        session.expunge_all()
        with world.no_sql():
            assert session.get(Hero, pk).name == "Ann"


def test_b04_a_commit_whose_flush_fails_changes_nothing(world: World) -> None:
    """An IntegrityError in the flush of commit(): the cache keeps or refills what is committed."""
    first, second = world.store(Badge(code=f"{world.fresh}-1"), Badge(code=f"{world.fresh}-2"))
    world.warm(Badge, first)
    world.warm(Badge, second)
    with world.session() as session:
        session.get(Badge, first).code = f"{world.fresh}-2"
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
    assert world.get(Badge, first).code == f"{world.fresh}-1"  # its fence may have gone ahead
    assert world.hit(Badge, first).code == f"{world.fresh}-1"
    assert world.hit(Badge, second).code == f"{world.fresh}-2"


def test_b04_a_refused_commit_keeps_the_committed_value(world: World) -> None:
    """A constraint checked at COMMIT refuses it: the old value is read, and cached again."""
    if world.database == "mariadb":
        pytest.skip("MariaDB checks no constraint at COMMIT")
    pk = world.store(Errand(name="buy"))
    world.warm(Errand, pk)
    with world.session() as session:
        errand = session.get(Errand, pk)
        errand.name, errand.hero_id = "sell", -1
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
    assert world.get(Errand, pk).name == "buy" == world.row(Errand, pk)["name"]
    assert world.hit(Errand, pk).name == "buy"


# B5: savepoints


def test_b05_a_released_savepoint_is_published_with_the_root(world: World) -> None:
    """Nothing is published at the release; at the commit everything is."""
    outer, inner = world.store(Hero(name="Ann"), Hero(name="Bea"))
    world.warm(Hero, outer)
    world.warm(Hero, inner)
    with world.session() as session:
        session.get(Hero, outer).name = "Cid"
        session.flush()
        with session.begin_nested():
            session.get(Hero, inner).name = "Dan"
        assert world.hit(Hero, inner).name == "Bea"
        session.commit()
    assert world.miss(Hero, outer).name == "Cid"
    assert world.miss(Hero, inner).name == "Dan"


def test_b05_a_rolled_back_savepoint_takes_only_its_own_level_along(world: World) -> None:
    """What the savepoint touched stays cached; what the root touched is published."""
    outer, inner = world.store(Hero(name="Ann"), Hero(name="Bea"))
    world.warm(Hero, outer)
    world.warm(Hero, inner)
    with world.session() as session:
        session.get(Hero, outer).name = "Cid"
        session.flush()
        nested = world.savepoint(session)
        session.get(Hero, inner).name = "Dan"
        session.flush()
        nested.rollback()
        session.commit()
    assert world.hit(Hero, inner).name == "Bea" == world.row(Hero, inner)["name"]
    assert world.miss(Hero, outer).name == "Cid"


@on_sqlite
def test_b05_a_rollback_of_the_root_forgets_released_savepoints(world: World) -> None:
    """A released savepoint under a root that is rolled back changed nothing."""
    outer, inner = world.store(Hero(name="Ann"), Hero(name="Bea"))
    world.warm(Hero, inner)
    with world.session() as session:
        session.get(Hero, outer).name = "Cid"
        session.flush()
        with session.begin_nested():
            session.get(Hero, inner).name = "Dan"
        session.rollback()
    assert world.hit(Hero, inner).name == "Bea" == world.row(Hero, inner)["name"]


@on_sqlite
def test_b05_deep_savepoints_merge_level_by_level(world: World) -> None:
    """Of three levels the middle one is rolled back, and the innermost with it."""
    keys = world.store(*(Hero(name="Ann") for _ in range(3)))
    for pk in keys:
        world.warm(Hero, pk)
    with world.session() as session:
        session.get(Hero, keys[0]).name = "Bea"
        session.flush()
        middle = world.savepoint(session)
        session.get(Hero, keys[1]).name = "Bea"
        with session.begin_nested():
            session.get(Hero, keys[2]).name = "Bea"
        middle.rollback()
        session.commit()
    assert world.miss(Hero, keys[0]).name == "Bea"
    assert world.hit(Hero, keys[1]).name == "Ann"
    assert world.hit(Hero, keys[2]).name == "Ann"


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_b05_what_a_driver_makes_durable_at_a_release_is_published(
    world: World, ending: str
) -> None:
    """sqlite3 begins no transaction before a SAVEPOINT, so releasing the outermost commits.

    Whatever the database then holds, a hit must say the same.
    """
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as session:
        with session.begin_nested():
            session.get(Hero, pk).name = "Bea"
        assert world.get(Hero, pk).name == world.row(Hero, pk)["name"]
        getattr(session, ending)()
    assert world.get(Hero, pk).name == world.row(Hero, pk)["name"]
    assert world.hit(Hero, pk).name == world.row(Hero, pk)["name"]


# AUTOCOMMIT: each statement is durable at once


def test_autocommit_is_published_statement_by_statement(world: World) -> None:
    """Nobody reads the old row after the statement, though no COMMIT was sent yet."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    with world.session(bind=engine) as session:
        hero = session.get(Hero, pk)
        for name in ("Bea", "Cid"):
            hero.name = name
            session.flush()
            assert world.row(Hero, pk)["name"] == name
            assert world.get(Hero, pk).name == name
        session.rollback()
    assert world.get(Hero, pk).name == "Cid"
    assert world.hit(Hero, pk).name == "Cid"


def test_autocommit_in_a_pipeline(make_world: Callable[..., World]) -> None:
    """What psycopg has sent, and the server has not answered yet, stays fenced."""
    world = make_world("sync", "redis", "postgresql")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, connection.connection.driver_connection.pipeline():
        table = Hero.__table__
        connection.execute(update(table).where(table.c.id == pk).values(name="Bea"))
        fills = world.stats().fills
        world.get(Hero, pk)
        assert world.stats().fills == fills
    assert world.miss(Hero, pk).name == "Bea"

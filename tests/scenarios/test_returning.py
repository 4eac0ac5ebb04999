"""Statements that say by RETURNING which rows they wrote: only these are forgotten (B13, B14)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from sqlmodel_cache import SQLModelCache
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Hero, Town


def _three(world: World) -> list[int]:
    """Return the keys of three cached heroes, of whom the first two have this test's name."""
    keys: list[int] = world.store(
        Hero(name=world.fresh), Hero(name=world.fresh), Hero(name=f"not {world.fresh}")
    )
    for pk in keys:
        world.warm(Hero, pk)
    return keys


def _updates(world: World) -> None:
    if world.database == "mariadb":
        pytest.skip("MariaDB has no UPDATE ... RETURNING")


def _update(world: World) -> Any:
    return update(Hero).where(Hero.name == world.fresh).values(power=7)


HOW = ("orm key", "orm entity", "core", "engine", "fetch")


def _execute(world: World, statement: Any, how: str) -> Any:
    """Return a session or connection in whose transaction the statement was executed."""
    if how == "engine":
        target = world.connect().__enter__()
        target.execute(statement.returning(Hero.__table__))
        return target
    target = world.session()
    if how == "fetch":
        target.execute(statement, execution_options={"synchronize_session": "fetch"})
    elif how == "core":
        target.connection().execute(statement.returning(Hero.__table__.c.name, Hero.id))
    else:
        target.execute(statement.returning(Hero if how == "orm entity" else Hero.id))
    return target


@pytest.mark.parametrize("how", HOW)
def test_b13_an_update_forgets_what_it_returns(world: World, how: str) -> None:
    """Others read the old rows until the COMMIT and the new ones after it; the rest stay hits."""
    _updates(world)
    first, second, other = _three(world)
    target = _execute(world, _update(world), how)
    assert world.hit(Hero, first).power == 0  # a reader between statement and COMMIT
    target.commit()
    target.close()
    assert world.hit(Hero, other).power == 0
    assert [world.miss(Hero, pk).power for pk in (first, second)] == [7, 7]
    assert [world.hit(Hero, pk).power for pk in (first, second)] == [7, 7]
    assert world.row(Hero, first)["power"] == 7


@pytest.mark.parametrize("how", HOW)
def test_b13_a_delete_forgets_what_it_returns(world: World, how: str) -> None:
    """The same, on MariaDB too."""
    first, second, other = _three(world)
    target = _execute(world, delete(Hero).where(Hero.name == world.fresh), how)
    assert world.hit(Hero, first).power == 0
    target.commit()
    target.close()
    assert world.hit(Hero, other).power == 0
    assert [world.miss(Hero, pk) for pk in (first, second)] == [None, None]


def test_b03_the_writer_itself(world: World) -> None:
    """Its own reads of these rows go to the database, and none of them is stored."""
    _updates(world)
    first, _, other = _three(world)
    with world.session() as session:
        session.execute(_update(world).returning(Hero.id))
        with world.one_select():
            assert session.get(Hero, first).power == 7
        if world.database == "postgresql":  # SQLite's own transaction uses no cache at all
            with world.no_sql():
                assert session.get(Hero, other).power == 0
        session.rollback()
    assert world.hit(Hero, first).power == 0


def test_b13_a_reader_that_stores_before_the_commit(world: World) -> None:
    """What was read and stored between statement and COMMIT is gone after it."""
    _updates(world)
    first, second, _ = _three(world)
    with world.session() as session:
        session.execute(_update(world).returning(Hero.id))
        SQLModelCache.invalidate(Hero, first, second, bind=world.outside)
        assert world.miss(Hero, first).power == 0
        assert world.hit(Hero, first).power == 0
        session.commit()
    assert [world.miss(Hero, pk).power for pk in (first, second)] == [7, 7]


@pytest.mark.parametrize("ending", ["rollback", "close"])
def test_b04_not_committed(world: World, ending: str) -> None:
    """Then nothing is forgotten."""
    _updates(world)
    first, *_ = _three(world)
    with world.session() as session:
        session.execute(_update(world).returning(Hero.id))
        getattr(session, ending)()
    assert world.hit(Hero, first).power == 0


def test_b05_in_savepoints(world: World) -> None:
    """A released savepoint is published with the root, a rolled back one is not."""
    _updates(world)
    first, second, other = _three(world)
    with world.session() as session:
        session.execute(update(Town).where(Town.id == -1).values(name="x"))
        kept = world.savepoint(session)
        session.execute(_update(world).where(Hero.id + 0 == first).returning(Hero.id))
        kept.commit()
        lost = world.savepoint(session)
        session.execute(_update(world).where(Hero.id + 0 == second).returning(Hero.id))
        lost.rollback()
        session.commit()
    assert world.miss(Hero, first).power == 7
    assert world.hit(Hero, second).power == 0
    assert world.hit(Hero, other).power == 0


def test_autocommit(world: World) -> None:
    """A statement that commits itself is fenced before anybody knows its rows: the model."""
    _updates(world)
    first, _, other = _three(world)
    with world.another_engine(isolation_level="AUTOCOMMIT") as engine:
        with world.session(bind=engine) as session:
            assert session.execute(_update(world).returning(Hero.id)).all()
        assert world.miss(Hero, first).power == 7
        assert world.miss(Hero, other).power == 0


def test_what_the_user_reads(world: World) -> None:
    """The very rows, by whatever way they are fetched."""
    _updates(world)
    first, second, _ = _three(world)
    both = {first, second}
    with world.session() as session:
        statement = _update(world).returning(Hero.id, Hero.power)
        result = session.execute(statement)
        assert {result.fetchone().id, result.fetchone().id} == both
        assert result.fetchone() is None
        assert {row.id for row in session.execute(statement).mappings()} == both
        assert set(session.scalars(statement)) == both
        entities = session.scalars(_update(world).returning(Hero)).all()
        assert {hero.id for hero in entities} == both
        assert all(hero in session for hero in entities)
        session.commit()


def test_b13_an_upsert_by_another_key(world: World) -> None:
    """ON CONFLICT by a unique column: RETURNING says which row it was."""
    _updates(world)
    first, _, other = _three(world)
    name = f"not {world.fresh}"
    only = text(f"name = '{name}'")
    with world.outside.begin() as connection:
        index = f"CREATE UNIQUE INDEX by_{world.fresh} ON scenario_hero (name) WHERE {only}"
        connection.execute(text(index))
    make: Any = sqlite.insert if world.database == "sqlite" else postgresql.insert
    statement = make(Hero).on_conflict_do_update(
        index_elements=["name"], index_where=only, set_={"power": 9}
    )
    try:
        with world.session() as session:
            session.execute(text("SELECT max(id) FROM scenario_hero"))  # SQLite notes the index
            rows = [{"name": name, "power": 9}, {"name": f"new {world.fresh}", "power": 1}]
            found = session.scalars(statement.returning(Hero.id), rows).all()
            assert found[0] == other
            session.commit()
    finally:
        with world.outside.begin() as connection:
            connection.execute(text(f"DROP INDEX by_{world.fresh}"))
    assert world.miss(Hero, other).power == 9
    assert world.hit(Hero, first).power == 0


def test_b21_generated_keys_of_inserts(world: World) -> None:
    """Where "no such row" is remembered, an INSERT that returns its keys forgets just these."""
    base = int(world.fresh[:6], 16)
    for pk in (base, base + 1):
        world.get(Town, pk)
        assert world.hit(Town, pk) is None
    one = world.store(Hero(name="one"))
    town, hero = Town.__table__, Hero.__table__
    chosen = select(hero.c.id * 0 + base, hero.c.name).where(hero.c.id == one)
    statement = insert(town).from_select(["id", "name"], chosen).returning(town.c.id)
    with world.begin() as connection:
        assert connection.execute(statement).scalar_one() == base
    assert world.get(Town, base) is not None
    assert world.hit(Town, base + 1) is None


GENERATING: dict[str, Callable[[], Any]] = {
    "table": lambda: insert(Town.__table__).values(name="new"),
    "model": lambda: insert(Town).values(name="new"),
}


@pytest.mark.parametrize("how", GENERATING)
def test_b21_a_generated_key(world: World, how: str) -> None:
    """An INSERT of one row says its key without RETURNING, too: others stay, there or not."""
    old: int = world.store(Town(name="old"))
    world.warm(Town, old)
    for pk in (old + 1, old + 2):
        world.get(Town, pk)
        assert world.hit(Town, pk) is None
    with world.session() as session:
        inserted = session.execute(GENERATING[how]()).inserted_primary_key
        assert inserted == (old + 1,)
        assert session.get(Town, old + 1).name == "new"
        assert world.hit(Town, old + 1) is None
        session.commit()
    assert world.miss(Town, old + 1).name == "new" == world.row(Town, old + 1)["name"]
    assert world.hit(Town, old + 2) is None
    assert world.hit(Town, old).name == "old"


@on_sqlite
def test_two_statements_of_one_transaction(world: World) -> None:
    """One that says its rows does not take back what another forgets."""
    first, _, other = _three(world)
    with world.session() as session:
        session.execute(update(Hero).where(Hero.name == f"not {world.fresh}").values(power=3))
        session.execute(_update(world).returning(Hero.id))
        session.commit()
    assert world.miss(Hero, other).power == 3
    assert world.miss(Hero, first).power == 7

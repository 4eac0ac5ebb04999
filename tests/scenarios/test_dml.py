"""Statements that write many rows, through sessions and engines (B13, B14, B15: the safe form)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, insert, lambda_stmt, select, text, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ClauseElement, Executable

from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Cat, Engineer, Hero, Note, Person, Town

Statement = Callable[[int], Any]

UPDATES: dict[str, Statement] = {
    "by-key": lambda pk: update(Hero).where(Hero.id == pk).values(power=7),
    "by-other-column": lambda pk: update(Hero).where(Hero.name == f"n{pk}").values(power=7),
    "by-range": lambda pk: update(Hero).where(Hero.id >= pk).values(power=7),
    "by-subquery": lambda pk: (
        update(Hero)
        .where(Hero.id.in_(select(Town.id + (pk - Town.id)).where(Town.id > 0)))
        .values(power=7)
    ),
    "by-expression": lambda pk: update(Hero).where(Hero.id == pk).values(power=Hero.power + 7),
    "by-table": lambda pk: update(Hero.__table__).where(Hero.__table__.c.id == pk).values(power=7),
}


def _hero(world: World) -> int:
    """Return a cached hero whose name tells its key, and see that a town exists."""
    pk: int = world.store(Hero(name="?"))
    world.store(Town(name="some town"))
    with world.outside.begin() as connection:
        connection.execute(update(Hero).where(Hero.id == pk).values(name=f"n{pk}"))
    world.warm(Hero, pk)
    return pk


@pytest.mark.parametrize("which", UPDATES)
def test_b13_update_through_a_session(world: World, which: str) -> None:
    """The new value is read after the commit, the old one by others before it."""
    pk = _hero(world)
    with world.session() as session:
        session.execute(UPDATES[which](pk))
        with world.one_select():
            assert session.get(Hero, pk).power == 7
        assert world.hit(Hero, pk).power == 0
        session.commit()
    assert world.miss(Hero, pk).power == 7 == world.row(Hero, pk)["power"]
    assert world.hit(Hero, pk).power == 7


@pytest.mark.parametrize("which", UPDATES)
def test_b14_update_through_an_engine(world: World, which: str) -> None:
    """The same on a Core connection, without any session."""
    pk = _hero(world)
    with world.begin() as connection:
        connection.execute(UPDATES[which](pk))
        assert world.hit(Hero, pk).power == 0
    assert world.miss(Hero, pk).power == 7
    assert world.hit(Hero, pk).power == 7


@pytest.mark.parametrize("via", ["session", "engine"])
def test_b13_delete(world: World, via: str) -> None:
    """Deleted rows are gone after the commit, whether pinned by key or not."""
    first, second = world.store(Hero(name="Ann"), Hero(name=f"{world.fresh}"))
    world.warm(Hero, first)
    world.warm(Hero, second)
    with world.session() if via == "session" else world.begin() as target:
        target.execute(delete(Hero).where(Hero.id == first))
        target.execute(delete(Hero).where(Hero.name == world.fresh))
        if via == "session":
            target.commit()
    for pk in (first, second):
        assert world.miss(Hero, pk) is None
        assert world.row(Hero, pk) is None


@pytest.mark.parametrize("ending", ["rollback", "close"])
@pytest.mark.parametrize("via", ["session", "engine"])
@on_sqlite
def test_b13_statements_that_are_not_committed(world: World, via: str, ending: str) -> None:
    """A bulk update that is rolled back, or left behind, leaves a hit."""
    pk = _hero(world)
    with world.session() if via == "session" else world.connect() as target:
        target.execute(update(Hero).where(Hero.id == pk).values(power=7))
        getattr(target, ending)()
    assert world.hit(Hero, pk).power == 0


def test_b13_executemany_by_primary_key(world: World) -> None:
    """The ORM's bulk UPDATE by primary key names each of its rows."""
    keys = world.store(*(Hero(name="Ann") for _ in range(3)))
    for pk in keys:
        world.warm(Hero, pk)
    with world.session() as session:
        session.execute(update(Hero), [{"id": pk, "power": pk} for pk in keys[:2]])
        session.commit()
    assert [world.miss(Hero, pk).power for pk in keys[:2]] == keys[:2]
    assert world.hit(Hero, keys[2]).power == 0


@on_sqlite
def test_b13_legacy_bulk_methods(world: World) -> None:
    """`bulk_update_mappings` and `bulk_save_objects` invalidate what they wrote."""
    first, second = world.store(Hero(name="Ann"), Hero(name="Bea"))
    world.warm(Hero, first)
    detached = world.warm(Hero, second)
    detached.power = 8
    with world.session() as session:
        run = session.run_sync if world.mode == "async" else lambda work: work(session)
        run(lambda plain: plain.bulk_update_mappings(Hero, [{"id": first, "power": 7}]))
        run(lambda plain: plain.bulk_save_objects([detached]))
        session.commit()
    assert world.miss(Hero, first).power == 7
    assert world.miss(Hero, second).power == 8


@pytest.mark.parametrize("via", ["session", "engine"])
def test_b13_insert_from_select_and_many(world: World, via: str) -> None:
    """Rows that a statement makes are found, also where their absence was remembered."""
    base = int(world.fresh[:6], 16)
    for pk in (base, base + 1, base + 2):
        world.get(Town, pk)
        assert world.hit(Town, pk) is None
    with world.session() if via == "session" else world.begin() as target:
        target.execute(insert(Town), [{"id": base, "name": "a"}, {"id": base + 1, "name": "b"}])
        target.execute(
            insert(Town).from_select(
                ["id", "name"],
                select(Town.__table__.c.id + 2, Town.__table__.c.name).where(
                    Town.__table__.c.id == base
                ),
            )
        )
        if via == "session":
            target.commit()
    assert [world.get(Town, base + n).name for n in range(3)] == ["a", "b", "a"]


def test_b13_upsert(world: World) -> None:
    """INSERT ... ON CONFLICT (or ON DUPLICATE KEY) changes a cached row."""
    from sqlalchemy.dialects import mysql, postgresql, sqlite

    pk = _hero(world)
    row = {"id": pk, "name": "upserted", "power": 9}
    statement: Any
    if world.database == "mariadb":
        statement = mysql.insert(Hero).values(row).on_duplicate_key_update(power=9)
    else:
        make: Any = sqlite.insert if world.database == "sqlite" else postgresql.insert
        statement = make(Hero).values(row)
        statement = statement.on_conflict_do_update(index_elements=["id"], set_={"power": 9})
    with world.session() as session:
        session.execute(statement)
        session.commit()
    assert world.miss(Hero, pk).power == 9
    assert world.hit(Hero, pk).power == 9


@on_sqlite
def test_b13_a_subclass_by_statement(world: World) -> None:
    """An UPDATE of a single-table subclass, and one of a joined subclass's own table."""
    cat, ada = world.store(Cat(name="Tom", lives=9)), world.store(Engineer(name="Ada"))
    world.warm(Cat, cat)
    world.warm(Engineer, ada)
    engineers = Engineer.__table__
    with world.begin() as connection:
        connection.execute(update(Cat).where(Cat.id == cat).values(lives=8))
        connection.execute(
            update(engineers).where(engineers.c.id == ada).values(language="Ada")  # type: ignore[arg-type]
        )
    assert world.miss(Cat, cat).lives == 8
    assert world.miss(Engineer, ada).language == "Ada"
    assert world.hit(Person, ada).name == "Ada"


def test_b14_other_models_keep_their_entries(world: World) -> None:
    """A statement on one table drops nothing of another's."""
    hero, town = world.store(Hero(name="Ann")), world.store(Town(name="Rome"))
    world.warm(Hero, hero)
    world.warm(Town, town)
    with world.session() as session:
        session.execute(update(Hero).where(Hero.power < 0).values(power=0))
        session.execute(update(Note).values(name="n"))
        session.commit()
    assert world.hit(Town, town).name == "Rome"


def test_b14_a_write_in_a_common_table_expression(world: World) -> None:
    """PostgreSQL writes inside of a SELECT."""
    if world.database != "postgresql":
        pytest.skip("only PostgreSQL has data-modifying WITH")
    pk = _hero(world)
    changed = update(Hero).where(Hero.id == pk).values(power=7).returning(Hero.id).cte("changed")
    with world.session() as session:
        assert session.execute(select(changed.c.id)).all() == [(pk,)]
        session.commit()
    assert world.miss(Hero, pk).power == 7


@pytest.mark.parametrize("via", ["session", "engine", "driver_sql"])
def test_b15_raw_text_drops_every_cached_model(
    world: World, via: str, caplog: pytest.LogCaptureFixture, no_sqlglot: None
) -> None:
    """Text that may write drops all models at its commit, and is warned of once."""
    hero, town = world.store(Hero(name="Ann")), world.store(Town(name="Rome"))
    world.warm(Hero, hero)
    world.warm(Town, town)
    statement = f"UPDATE scenario_hero SET power = 7 WHERE id = {hero}"
    with world.session() if via == "session" else world.begin() as target:
        for _ in range(2):
            if via == "driver_sql":
                target.exec_driver_sql(statement)
            else:
                target.execute(text(statement))
        assert world.hit(Hero, hero).power == 0
        if via == "session":
            with world.one_select():
                assert target.get(Hero, hero).power == 7
            with world.one_select():
                assert target.get(Town, town).name == "Rome"
            target.commit()
    assert world.miss(Hero, hero).power == 7
    assert world.miss(Town, town).name == "Rome"
    assert world.hit(Hero, hero).power == 7
    assert sum("raw SQL" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    "harmless", ["SELECT 1", "  /* note */ select name from scenario_hero", "-- x\nSELECT 'update'"]
)
@on_sqlite
def test_b15_text_that_only_reads_drops_nothing(world: World, harmless: str) -> None:
    """A SELECT leaves the cache as it is, for others and for its own session."""
    pk = _hero(world)
    with world.session() as session:
        session.execute(text(harmless)).all()
        with world.no_sql():
            assert session.get(Hero, pk).power == 0
        session.commit()
    assert world.hit(Hero, pk).power == 0


@on_sqlite
def test_b15_text_that_is_rolled_back(world: World) -> None:
    """Nothing is dropped without a commit."""
    pk = _hero(world)
    with world.session() as session:
        session.execute(text(f"DELETE FROM scenario_hero WHERE id = {pk}"))
        session.rollback()
    assert world.hit(Hero, pk).power == 0


class RaisePower(Executable, ClauseElement):
    """A statement of the user's own, as SQLAlchemy's compiler extension makes them."""

    inherit_cache = False

    def __init__(self, pk: int) -> None:
        self.pk = pk


@compiles(RaisePower)
def _raise_power(element: RaisePower, compiler: Any, **settings: Any) -> str:
    return f"UPDATE scenario_hero SET power = 7 WHERE id = {element.pk}"


def _returning(pk: int) -> Any:
    return text(f"UPDATE scenario_hero SET power = 7 WHERE id = {pk} RETURNING id, name, power")


HIDDEN: dict[str, Statement] = {
    "lambda": lambda pk: lambda_stmt(
        lambda: update(Hero).where(Hero.id == pk).values(power=7)  # type: ignore[arg-type]
    ),
    "custom": RaisePower,
    "textual-select": lambda pk: _returning(pk).columns(Hero.id, Hero.name, Hero.power),
    "orm-from-text": lambda pk: select(Hero).from_statement(_returning(pk)),
    "orm-from-columns": lambda pk: select(Hero).from_statement(
        _returning(pk).columns(Hero.id, Hero.name, Hero.power)
    ),
    "orm-from-update": lambda pk: select(Hero).from_statement(
        update(Hero).where(Hero.id == pk).values(power=7).returning(Hero)
    ),
    "orm-returning": lambda pk: update(Hero).where(Hero.id == pk).values(power=7).returning(Hero),
}


@pytest.mark.parametrize("which", HIDDEN)
@on_sqlite
def test_b15_writes_in_another_guise(world: World, which: str) -> None:
    """A statement that does not look like a write on the outside is still not missed."""
    pk = _hero(world)
    with world.session() as session:
        result = session.execute(HIDDEN[which](pk))
        if which not in ("custom", "lambda"):
            result.all()
        session.commit()
    assert world.row(Hero, pk)["power"] == 7
    assert world.get(Hero, pk).power == 7
    assert world.hit(Hero, pk).power == 7


def test_b15_text_in_a_common_table_expression(make_world: Callable[..., World]) -> None:
    """PostgreSQL writes inside of WITH, also where that part is text."""
    world = make_world("sync", "memory", "postgresql")
    pk = _hero(world)
    changed = _returning(pk).columns(Hero.id).cte("changed")
    with world.session() as session:
        assert session.execute(select(changed.c.id)).all() == [(pk,)]
        session.commit()
    assert world.get(Hero, pk).power == 7


@pytest.mark.parametrize("via", ["session", "engine"])
def test_b14_an_update_of_two_tables_at_once(make_world: Callable[..., World], via: str) -> None:
    """MariaDB sets columns of every table in the statement; each one's model is invalidated."""
    world = make_world("sync", "memory", "mariadb")
    hero, town = world.store(Hero(name="Ann")), world.store(Town(name=world.fresh))
    world.warm(Hero, hero)
    world.warm(Town, town)
    heroes, towns = Hero.__table__, Town.__table__
    statement = (
        update(heroes)
        .values({heroes.c.power: 7, towns.c.name: f"{world.fresh}!"})
        .where(heroes.c.id == hero, towns.c.id == heroes.c.id - hero + town)
    )
    with world.session() if via == "session" else world.begin() as target:
        target.execute(statement)
        if via == "session":
            assert target.get(Town, town).name == f"{world.fresh}!"
            target.commit()
    assert world.miss(Hero, hero).power == 7
    assert world.miss(Town, town).name == f"{world.fresh}!"


def test_b14_an_update_from_another_table(world: World) -> None:
    """UPDATE ... FROM, or its like, invalidates what it writes and not what it reads."""
    hero, town = world.store(Hero(name="Ann")), world.store(Town(name="Rome"))
    world.warm(Hero, hero)
    world.warm(Town, town)
    heroes, towns = Hero.__table__, Town.__table__
    with world.session() as session:
        session.execute(
            update(heroes)
            .values(name=towns.c.name)
            .where(heroes.c.id == hero, towns.c.id == heroes.c.id - hero + town)
            .execution_options(synchronize_session=False)
        )
        session.commit()
    assert world.miss(Hero, hero).name == "Rome"
    assert world.hit(Town, town).name == "Rome"

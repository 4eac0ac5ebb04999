"""Text that changes what a connection's later statements mean: it bypasses the cache (3.6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    func,
    literal,
    select,
    text,
    true,
)

from sqlmodel_cache.orm.writes.rawsql import read
from sqlmodel_cache.orm.writes.sqltext import Effect
from tests.scenarios.harness import DATABASES, World
from tests.scenarios.models import Hero

MakeWorld = Callable[..., World]

# (database, what is executed)
FOR_GOOD = [
    ("postgresql", "SET search_path TO public"),
    ("postgresql", "SET \"app.tenant\" = '7'"),
    ("postgresql", "SET/**/ROLE postgres"),
    ("postgresql", "SET SESSION AUTHORIZATION DEFAULT"),
    ("postgresql", "SELECT set_config('app.tenant', '7', false)"),
    ("postgresql", "SELECT upper(pg_catalog.set_config('app.tenant', '7', false))"),
    ("postgresql", "DO $$ BEGIN PERFORM set_config('app.tenant', '7', false); END $$"),
    ("postgresql", "DO $$ BEGIN SET app.tenant = '7'; END $$"),
    ("postgresql", "UPDATE pg_settings SET setting = 'UTC' WHERE name = 'TimeZone'"),
    ("postgresql", select(func.set_config("app.tenant", "7", False))),
    ("postgresql", select(func.upper(func.set_config("app.tenant", "7", False)))),
    ("postgresql", select(func.pg_catalog.set_config("app.tenant", "7", literal(1) == 0))),
    ("mariadb", "SET LOCAL sql_mode = ''"),
    ("mariadb", "SET @tenant = 7"),
    ("mariadb", "SET @@session.sql_mode = ''"),
    ("mariadb", "USE information_schema"),
    ("sqlite", "ATTACH DATABASE ':memory:' AS other"),
    ("sqlite", "PRAGMA read_uncommitted = 0"),
]
UNTIL_THE_END = [
    ("postgresql", "SET LOCAL app.tenant = '7'"),
    ("postgresql", "SELECT set_config('app.tenant', '7', true)"),
    ("postgresql", select(func.set_config("app.tenant", "7", True))),
    ("postgresql", select(func.set_config("app.tenant", "7", true()))),
    ("postgresql", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
]
HARMLESS = [
    ("postgresql", "SET LOCAL lock_timeout = '2s'"),
    ("postgresql", "SET statement_timeout = 0"),
    ("postgresql", "SET CONSTRAINTS ALL DEFERRED"),
    ("mariadb", "SET SESSION foreign_key_checks = 1"),
    ("sqlite", "PRAGMA foreign_keys = ON"),
]


def _reads(world: World, connection: Connection, pk: int) -> bool:
    """Tell whether a get on this connection is a hit."""
    with world.session(bind=connection) as session:
        before = world.stats().hits
        assert session.get(Hero, pk).name == "Ann"
        return world.stats().hits > before


def _run(connection: Any, statement: Any) -> None:
    if isinstance(statement, str):
        connection.exec_driver_sql(statement)
    else:
        connection.execute(statement)


def _world(make_world: MakeWorld, database: str) -> tuple[World, int]:
    world = make_world("sync", "memory", database)
    pk: int = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    return world, pk


@pytest.mark.parametrize(("database", "statement"), FOR_GOOD)
def test_settings_for_good(make_world: MakeWorld, database: str, statement: Any) -> None:
    """Its connection bypasses the cache, after its transaction too, and stores nothing."""
    world, pk = _world(make_world, database)
    with world.another_engine(isolation_level=_current(database)) as engine:
        with engine.connect() as connection:
            assert _reads(world, connection, pk)
            connection.rollback()
            _run(connection, statement)
            if "information_schema" in str(statement):
                connection.rollback()
                assert world.stats().bypasses == {}
                with (
                    world.session(bind=connection) as session,
                    pytest.raises(Exception, match="scen"),
                ):
                    session.get(Hero, pk)
                connection.invalidate()
                return
            assert not _reads(world, connection, pk)
            connection.rollback()
            assert not _reads(world, connection, pk)
            connection.invalidate()
        with engine.connect() as connection:  # another one, which nobody set up
            assert _reads(world, connection, pk)
    assert set(world.stats().bypasses) <= {"connection_settings", "touched"}


@pytest.mark.parametrize(("database", "statement"), UNTIL_THE_END)
def test_settings_of_a_transaction(make_world: MakeWorld, database: str, statement: Any) -> None:
    """Lifted by the transaction's end."""
    world, pk = _world(make_world, database)
    with world.another_engine() as engine, engine.connect() as connection:
        _run(connection, statement)
        assert not _reads(world, connection, pk)
        connection.rollback()
        assert _reads(world, connection, pk)


@pytest.mark.parametrize(("database", "statement"), HARMLESS)
def test_settings_that_change_no_row(make_world: MakeWorld, database: str, statement: str) -> None:
    """Timeouts and checks leave the cache in use."""
    world, pk = _world(make_world, database)
    level = _current(database)
    with (
        world.another_engine(isolation_level=level) as engine,
        engine.connect() as connection,
    ):
        _run(connection, statement)
        assert _reads(world, connection, pk)


def _current(database: str) -> str | None:
    """Return a level under which a transaction that has begun still takes hits."""
    return "READ COMMITTED" if database == "mariadb" else None


@pytest.mark.parametrize("how", ["text", "quoted", "ddl"])
@pytest.mark.parametrize("database", DATABASES)
def test_a_temporary_table_of_a_models_name(make_world: MakeWorld, database: str, how: str) -> None:
    """On its connection it is read in the place of the model's own; nobody else ever sees it."""
    world, pk = _world(make_world, database)
    quote = "`" if database == "mariadb" else '"'
    table = f"{quote}scenario_hero{quote}" if how == "quoted" else "scenario_hero"
    made = Table(
        "scenario_hero",
        MetaData(),
        Column("id", Integer),
        Column("name", String(9)),
        Column("power", Integer),
        prefixes=["TEMPORARY"],
    )
    statement = f"CREATE TEMPORARY TABLE {table} (id int, name varchar(9), power int)"
    level = _current(database)
    with (
        world.another_engine(isolation_level=level) as engine,
        engine.connect() as connection,
    ):
        if how == "ddl":
            made.create(connection, checkfirst=False)
        else:
            connection.execute(text(statement))
        connection.execute(text(f"INSERT INTO {table} VALUES ({pk}, 'Eve', 0)"))
        connection.commit()
        for _ in range(2):
            with world.session(bind=connection) as session:
                assert session.get(Hero, pk).name == "Eve"
        connection.invalidate()
    assert world.get(Hero, pk).name == "Ann"
    assert world.hit(Hero, pk).name == "Ann"


def test_a_temporary_table_of_another_name(make_world: MakeWorld) -> None:
    """It leaves the cache in use."""
    world, pk = _world(make_world, "sqlite")
    with world.another_engine() as engine, engine.connect() as connection:
        connection.execute(text("CREATE TEMP TABLE something (id int)"))
        connection.commit()
        assert _reads(world, connection, pk)


def test_a_write_in_the_text_of_settings() -> None:
    """Both count: what a text of several statements writes, and what it sets."""
    reading = read("SET app.tenant = '7'; UPDATE scenario_hero SET power = 7", "postgresql")
    assert reading.effect is Effect.SETTINGS
    assert {written.name for written in reading.writes} == {"scenario_hero"}

"""`cache_invalidates`: what a statement writes, said by whoever wrote it (B15)."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, aliased

from sqlmodel_cache import ConfigurationError, SQLModelCache
from sqlmodel_cache.orm.connections.ledger import ledger_of
from tests.recording import stable_id
from tests.writes.scripted import ScriptedTransport

RAW = text("UPDATE badge SET hero_id = 1")


@pytest.fixture(params=["parsed", "words"])
def any_parser(request):
    """Run with sqlglot, and without."""
    if request.param == "words":
        request.getfixturevalue("no_sqlglot")


DECLARED = {
    "class": (lambda w: [w.Badge], {"badge"}),
    "two": (lambda w: [w.Badge, "ghost"], {"badge", "ghost"}),
    "mapper": (lambda w: (inspect(w.Badge),), {"badge"}),
    "table": (lambda w: {w.Badge.__table__}, {"badge"}),
    "name": (lambda w: ["Badge"], {"badge"}),
    "qualified": (lambda w: ["main.badge"], {"badge"}),
    "another table of that name": (
        lambda w: [Table("badge", MetaData(), Column("code", Integer))],
        {"badge"},
    ),
    "subclass": (lambda w: [w.Flyer], {"hero", "badge"}),
    "with dependants": (lambda w: [w.Team], {"team", "hero", "badge"}),
    "uncached": (lambda w: [w.Log], set()),
    "nothing": (lambda w: [], set()),
}


@pytest.mark.parametrize("which", DECLARED)
def test_b15_declared_is_what_is_dropped(world, which, any_parser, caplog):
    """Exactly those models, with what the database may change by itself; no warning."""
    named, wanted = DECLARED[which]
    with world.engine.begin() as connection:
        connection.execute(RAW, execution_options={"cache_invalidates": named(world)})
        assert world.touched(connection)[1] == wanted
        assert not (ledger_of(connection) and ledger_of(connection).everything)
    assert not caplog.records


WRONG = {
    "a string": ("badge", "use a list"),
    "a class": (lambda w: w.Badge, "use a list"),
    "nothing": (None, "use a list"),
    "unknown": (["bagde"], "'bagde'"),
    "unknown schema": (["other.badge"], "'other.badge'"),
    "number": ([7], "7 is no mapped class"),
    "unmapped": ([dict], "no mapped class"),
    "alias": (lambda w: [aliased(w.Badge)], "no mapped class"),
    "column": (lambda w: [w.Badge.code], "no mapped class"),
}


@pytest.mark.parametrize("which", WRONG)
def test_b15_wrong_declarations(world, which):
    """ConfigurationError names the value and what to do, and nothing has been sent."""
    value, message = WRONG[which]
    value = value(world) if callable(value) else value
    with world.engine.begin() as connection:
        connection.execute(insert(world.Badge).values(code="x"))
        changes = connection.connection.driver_connection.total_changes
        with pytest.raises(ConfigurationError, match=message):
            connection.execute(RAW, execution_options={"cache_invalidates": value})
        assert connection.execute(text("SELECT 1")).scalar() == 1
        assert connection.connection.driver_connection.total_changes == changes


LAYERS = {
    "statement": lambda engine, options: (engine, RAW.execution_options(**options)),
    "engine": lambda engine, options: (engine.execution_options(**options), RAW),
}


@pytest.mark.parametrize("which", LAYERS)
def test_b15_where_it_can_be_said(world, which):
    """On a text() and on an engine."""
    engine, statement = LAYERS[which](world.engine, {"cache_invalidates": [world.Badge]})
    with engine.begin() as connection:
        connection.execute(statement)
        assert world.touched(connection)[1] == {"badge"}
    with Session(engine) as session:
        session.execute(statement)
        assert world.touched(session.connection())[1] == {"badge"}
        session.commit()


def test_b15_on_a_connection(world):
    """Every statement of it counts as such a write; one of its own takes precedence."""
    SQLModelCache.configure("memory://")  # asks the database who it is, on this very connection
    with world.engine.connect().execution_options(cache_invalidates=["badge"]) as connection:
        connection.exec_driver_sql("UPDATE badge SET hero_id = 2")
        assert world.touched(connection)[1] == {"badge"}
        connection.execute(RAW, execution_options={"cache_invalidates": [world.Ghost]})
        assert world.touched(connection)[1] == {"badge", "ghost"}


def test_b15_on_a_session_call(world):
    """`session.execute(..., execution_options=...)`."""
    with Session(world.engine) as session:
        session.execute(RAW, execution_options={"cache_invalidates": [world.Badge]})
        assert world.touched(session.connection())[1] == {"badge"}


async def test_b15_async(world, tmp_path):
    """Through an AsyncSession and an AsyncConnection."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/world.db")
    options = {"cache_invalidates": [world.Badge]}
    async with AsyncSession(engine) as session:
        await session.execute(RAW, execution_options=options)
        connection = await session.connection()
        assert world.touched(connection.sync_connection)[1] == {"badge"}
        await session.rollback()
        with pytest.raises(ConfigurationError):
            await session.execute(RAW, execution_options={"cache_invalidates": ["bagde"]})
    async with engine.begin() as connection:
        connection = await connection.execution_options(**options)
        await connection.execute(RAW)
        assert world.touched(connection.sync_connection)[1] == {"badge"}
    await engine.dispose()


def test_b15_of_a_select_that_calls_a_function(world):
    """A SELECT can be said to write; nothing else would tell."""
    with world.engine.begin() as connection:
        connection.execute(
            select(func.abs(1)), execution_options={"cache_invalidates": [world.Badge]}
        )
        assert world.touched(connection)[1] == {"badge"}
        assert ledger_of(connection).wrote


def test_b15_declared_does_not_hide_what_is_known(world):
    """An insert() with a declaration still invalidates its own table."""
    with world.engine.begin() as connection:
        connection.execute(
            insert(world.Ghost).values(id=1), execution_options={"cache_invalidates": [world.Badge]}
        )
        rows, tables = world.touched(connection)
    assert {table for table, _ in rows} == {"ghost"}
    assert tables == {"badge"}


@pytest.mark.parametrize(
    "statement", ["SET ROLE alice", "UPDATE x SET y = 1; SET ROLE alice"], ids=stable_id
)
def test_b15_declared_does_not_hide_settings(world, statement):
    """A declaration is about rows; what the text does to the connection counts all the same."""
    from sqlmodel_cache.orm.writes.texts import on_text

    with world.engine.connect() as connection:
        context = type(
            "Context",
            (),
            {
                "root_connection": connection,
                "isddl": False,
                "execution_options": {"cache_invalidates": ()},
            },
        )()
        on_text(statement, None, context)
        assert ledger_of(connection).settings
        assert not ledger_of(connection).everything


def test_b15_declared_in_autocommit(world):
    """What is declared and what is known are fenced together, before the statement is sent."""
    store = ScriptedTransport()
    SQLModelCache.configure(store, namespace="world")
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(
            insert(world.Ghost).values(id=1), execution_options={"cache_invalidates": [world.Badge]}
        )
        rows, tables = world.touched(connection)
        assert ({table for table, _ in rows}, tables) == ({"ghost"}, {"badge"})
        assert store.names() == ["Fence", "Fence", "Release", "Release"]
        connection.execute(RAW, execution_options={"cache_invalidates": [world.Team]})
        assert world.touched(connection)[1] == {"team", "hero", "badge"}
    SQLModelCache.reset()

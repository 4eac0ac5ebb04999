"""Statements that were judged before are let through, and what may differ is judged again."""

from __future__ import annotations

import pytest
from sqlalchemy import event, func, insert, select, text, update
from sqlalchemy.orm import Session
from sqlmodel import select as select_of_rows

from sqlmodel_cache.orm.connections.ledger import ledger_of
from sqlmodel_cache.orm.writes import appearing, listeners, texts


def _counted(monkeypatch, module, name):
    calls = []
    plain = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args: calls.append(args) or plain(*args))
    return calls


@pytest.mark.parametrize("of", [select, select_of_rows], ids=["sqlalchemy", "sqlmodel"])
def test_a_select_is_judged_once(world, monkeypatch, of):
    """By its compiled form, also where its class is not SQLAlchemy's own."""
    judged = _counted(monkeypatch, listeners, "is_opaque")
    with Session(world.engine) as session:
        for number in range(3):
            session.execute(of(world.Hero).where(world.Hero.id == number)).all()
    assert len(judged) == (0 if of is select else 1)


def test_a_text_that_reads_is_judged_once(world, monkeypatch):
    """By its text; what is mapped, or went before it, makes no difference to it."""
    judged = _counted(monkeypatch, texts, "_judge")
    with world.engine.connect() as connection:
        for _ in range(3):
            connection.execute(text("SELECT count(*) FROM hero WHERE 7 = 7")).all()
    assert not judged


def test_where_values_of_unique_keys_stand_is_judged_once(world, monkeypatch):
    """By the compiled form; the values themselves are each execution's own."""
    judged = _counted(monkeypatch, appearing, "parameter_of")
    seat = world.Seat
    with world.engine.begin() as connection:
        for number in range(1, 4):
            connection.execute(insert(seat.__table__), {"id": number, "number": number})
            connection.execute(update(seat).where(seat.id == number), {"number": number + 10})
        rows, tables = world.touched(connection)
    assert len(judged) == 2
    assert {("seat", f"~number:i{number}") for number in (1, 2, 3, 11, 12, 13)} <= rows
    assert not tables


def test_b15_a_declaration_counts_on_a_select_seen_before(world):
    """`cache_invalidates` belongs to the execution, not to the statement."""
    statement = select(func.count()).select_from(world.Hero)
    with world.engine.begin() as connection:
        connection.execute(statement)
        connection.execute(statement)
        declared = {"cache_invalidates": [world.Hero]}
        connection.execute(statement, execution_options=declared)
        assert "hero" in world.touched(connection)[1]


def test_a_text_rewritten_by_a_listener_is_judged_again(world):
    """The compiled form is the same; what is sent is not."""
    statement = select(world.Hero.id)
    with world.engine.begin() as connection:
        connection.connection.dbapi_connection.create_function("set_config", 3, lambda *_: 1)
        connection.execute(statement)

        @event.listens_for(connection, "before_cursor_execute", retval=True)
        def rewrite(_connection, _cursor, sent, parameters, *_):
            return f"{sent} WHERE set_config('role', 'x', 0) = 1", parameters

        connection.execute(statement)
        assert ledger_of(connection).settings


def test_a_setting_is_seen_each_time(world):
    """A statement that changes what rows mean is harmless at no execution."""
    statement = select(func.set_config("role", "x", False))
    for _ in range(2):
        with world.engine.connect() as connection:
            connection.connection.dbapi_connection.create_function("set_config", 3, lambda *_: 1)
            connection.execute(statement)
            assert ledger_of(connection).settings
            connection.invalidate()


def test_b15_statements_without_parameters(world):
    """The execution option `no_parameters` has an event of its own; a write is seen there too."""
    with world.engine.begin() as connection:
        bare = connection.execution_options(no_parameters=True)
        bare.exec_driver_sql("SELECT 1").all()
        bare.exec_driver_sql("UPDATE hero SET name = 'x'")
        assert ledger_of(connection).may_differ("hero", "i1")

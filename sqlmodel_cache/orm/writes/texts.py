"""Statements that are judged by their text or by what was declared for them, and what they do.

Text, DDL, and parts of other statements that only their text tells of. What was declared by
`cache_invalidates` is believed in the place of what a text seems to write; the settings and
transactions in it count all the same.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import BindParameter, True_
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import iterate

from sqlmodel_cache.events import logger
from sqlmodel_cache.orm.connections.autocommit import fence_now, settle_statement
from sqlmodel_cache.orm.connections.isolation import has_another_level
from sqlmodel_cache.orm.connections.ledger import ledger_of, open_ledger
from sqlmodel_cache.orm.connections.transactions import open_for_write, wrap_dialect
from sqlmodel_cache.orm.model.tables import table_map
from sqlmodel_cache.orm.writes.named import OPTION, tables_declared, tables_written
from sqlmodel_cache.orm.writes.rawsql import read
from sqlmodel_cache.orm.writes.sqltext import (
    LONG,
    Effect,
    brackets,
    commits_implicitly,
    headline,
    is_one_statement,
    temporary_tables,
)
from sqlmodel_cache.orm.writes.statements import tables_emptied

if TYPE_CHECKING:
    from sqlmodel_cache.orm.connections.ledger import Ledger

_WRITES = Effect.ANYTHING | Effect.COMMIT_PREPARED
_warned: set[str] = set()


def on_declared(context: Any) -> None:
    """Note the tables that `cache_invalidates` names; raises before the statement is sent."""
    connection = context.root_connection
    schema = connection.dialect.default_schema_name
    declared = tables_declared(context.execution_options[OPTION], table_map(), schema)
    if not declared:
        return
    ledger = open_for_write(connection)
    itself = settle_statement(context, ledger)
    for table in declared:
        ledger.frames.touch_table(table)
    if itself:
        fence_now(connection, ledger)


def on_text(statement: str, compiled: Any, context: Any) -> None:
    """Note what a text, DDL included, may do."""
    connection = context.root_connection
    dialect = connection.dialect.name
    if not context.isddl and len(statement) <= LONG and _only_reads(statement, dialect):
        return
    effect, whole = _judge(statement, compiled, context)
    alone = context if is_one_statement(statement, dialect) else None
    durable = commits_implicitly(statement, dialect)
    if (opens := brackets(statement, dialect)) is not None:
        wrap_dialect(connection.dialect)
        open_ledger(connection).opened = opens
        if opens and has_another_level(connection):
            effect |= Effect.ISOLATION
    if _shadows_a_model(statement, dialect):
        effect |= Effect.SETTINGS
    if effect is Effect.NOTHING and whole is None:
        known = ledger_of(connection) if durable else None
        if known is not None and known.wrote:
            fence_now(connection, known, alone)
        return
    wrap_dialect(connection.dialect)
    ledger = open_ledger(connection)
    if Effect.COMMIT_PREPARED in effect and ledger.publishing:
        return  # the dialect's own, between fence and release
    writes = bool(effect & _WRITES) or whole is not None
    if writes or Effect.COMMIT in effect:  # others may have to be a transaction's first statement
        open_for_write(connection)
    itself = writes and settle_statement(context, ledger)
    if whole is not None:
        ledger.frames.wrote = True
        for table in whole:
            ledger.frames.touch_table(table)
    if Effect.COMMIT_PREPARED in effect:  # after what was there before has been settled
        durable = ledger.everything = True
    if Effect.ANYTHING in effect:
        ledger.everything = True
        _warn_of_text(statement)
    _note_settings(ledger, effect)
    if Effect.COMMIT in effect or durable or itself:
        fence_now(connection, ledger, alone)


@lru_cache(maxsize=512)
def _only_reads(statement: str, dialect: str) -> bool:
    """Tell whether a text concerns nobody, whatever is mapped and whatever went before it."""
    reading = read(statement, dialect)
    return not (
        reading.effect
        or reading.writes
        or commits_implicitly(statement, dialect)
        or brackets(statement, dialect) is not None
        or temporary_tables(statement, dialect)
    )


def on_function_that_sets(compiled: Any, context: Any) -> None:
    """Note `func.set_config(...)` in a statement that is not text."""
    wrap_dialect(context.root_connection.dialect)
    ledger = open_ledger(context.root_connection)
    _note_settings(ledger, _effect_of_set_config(compiled, context.compiled_parameters[0]))


def _judge(statement: str, compiled: Any, context: Any) -> tuple[Effect, frozenset[str] | None]:
    """Return what the text does, and the roots' tables that it writes; None: it writes none."""
    tables = table_map()
    dialect = context.root_connection.dialect
    if context.isddl and (emptied := tables_emptied(compiled.statement, tables)) is not None:
        return Effect.NOTHING, emptied or None
    reading = read(statement, dialect.name)
    if OPTION in context.execution_options:
        return reading.effect & ~Effect.ANYTHING, None
    if not reading.writes:
        return reading.effect, None
    whole = tables_written(reading.writes, tables, dialect.default_schema_name)
    if whole is None:
        return reading.effect | Effect.ANYTHING, None
    return reading.effect, whole


def _shadows_a_model(statement: str, dialect: str) -> bool:
    """Tell whether a temporary table takes the place of a cached model's on this connection."""
    made = {name.casefold() for name in temporary_tables(statement, dialect)}
    if not made:
        return False
    known = {root.table.rpartition(".")[2].casefold() for root in table_map().roots()}
    return "" in made or not made.isdisjoint(known)


def _note_settings(ledger: Ledger, effect: Effect) -> None:
    ledger.settings |= Effect.SETTINGS in effect
    ledger.local_settings |= Effect.LOCAL_SETTINGS in effect
    ledger.isolation_changed |= Effect.ISOLATION in effect


def _effect_of_set_config(compiled: Any, parameters: Any) -> Effect:
    """Return SETTINGS unless each `set_config` in the statement is for this transaction only."""
    effect = Effect.NOTHING
    for element in iterate(compiled.statement):
        if isinstance(element, FunctionElement) and getattr(element, "name", "").lower() == (
            "set_config"
        ):
            arguments = list(element.clauses)
            last = arguments[-1] if len(arguments) == 3 else None
            if isinstance(last, BindParameter):
                local = parameters.get(compiled.bind_names.get(last)) is True
            else:
                local = isinstance(last, True_)
            effect |= Effect.LOCAL_SETTINGS if local else Effect.SETTINGS
    return effect or Effect.SETTINGS


def _warn_of_text(statement: str) -> None:
    if table_map().roots():
        warn_once(
            "text",
            f"a raw SQL statement that could write anything ({headline(statement)}) was"
            " executed: every cached model is dropped at its commit. Say what it writes by"
            " execution_options(cache_invalidates=[...]), use insert(), update() or delete(), or"
            " install sqlmodel-cache[sql], which reads the tables off the text. This is said once.",
        )


def warn_once(what: str, message: str) -> None:
    """Log a warning, once until `warn_again`."""
    if what not in _warned:
        _warned.add(what)
        logger.warning(message)


def warn_again() -> None:
    """Forget what was warned of."""
    _warned.clear()

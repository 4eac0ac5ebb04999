"""Watching writes: statements on every engine, and what the ORM knows of rows it flushed.

The statement is the truth; mapper events add what a statement cannot say (generated keys, the
key before and after a change). Both end in the ledger of the DBAPI connection. All listeners are
public events; they are added by `watch` and gone after `unwatch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.expression import (
    ReleaseSavepointClause,
    RollbackToSavepointClause,
    SavepointClause,
)

from sqlmodel_cache import _state
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.orm import _sqlalchemy, schemas
from sqlmodel_cache.orm.connections.ahead import fence_ahead
from sqlmodel_cache.orm.connections.autocommit import fence_now, settle_statement
from sqlmodel_cache.orm.connections.cursors import watch_cursor
from sqlmodel_cache.orm.connections.ledger import Ledger, ledger_of
from sqlmodel_cache.orm.connections.transactions import (
    on_error,
    on_first_savepoint,
    open_for_write,
    unwatch_recoveries,
    unwrap_dialects,
    watch_recoveries,
)
from sqlmodel_cache.orm.model.keying import pk_codec, row_key
from sqlmodel_cache.orm.model.tables import Root, table_map
from sqlmodel_cache.orm.reads.options import OURS
from sqlmodel_cache.orm.writes.affected import affected_keys
from sqlmodel_cache.orm.writes.appearing import touch_appearing
from sqlmodel_cache.orm.writes.named import OPTION
from sqlmodel_cache.orm.writes.returned import Awaited, name_afterwards
from sqlmodel_cache.orm.writes.rows import keys_of
from sqlmodel_cache.orm.writes.stamping import touch_stamps
from sqlmodel_cache.orm.writes.statements import Hit, analyse, is_opaque
from sqlmodel_cache.orm.writes.texts import (
    on_declared,
    on_function_that_sets,
    on_text,
    warn_again,
    warn_once,
)
from sqlmodel_cache.orm.writes.upserts import Existing

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import InstanceState

_SAVEPOINTS = (SavepointClause, RollbackToSavepointClause, ReleaseSavepointClause)
_ZERO_GENERATES = ("mysql", "mariadb")  # a key of 0 asks for a generated one
_SEEN = "_sqlmodel_cache_seen"
_HARMLESS = "_sqlmodel_cache_harmless"  # on a compiled form: the text of it that was judged so


def watch() -> None:
    """Add every listener that is not there yet."""
    for name, listener in _STATEMENT_EVENTS:
        if not event.contains(Engine, name, listener):
            event.listen(Engine, name, listener)
    for name, listener in _MAPPER_EVENTS:
        if not event.contains(Mapper, name, listener):
            event.listen(Mapper, name, listener, raw=True)
    watch_recoveries()
    warn_again()


def unwatch() -> None:
    """Remove every listener and wrapper, and forget what was prepared."""
    unwatch_recoveries()
    for name, listener in _STATEMENT_EVENTS:
        if event.contains(Engine, name, listener):
            event.remove(Engine, name, listener)
    for name, listener in _MAPPER_EVENTS:
        if event.contains(Mapper, name, listener):
            event.remove(Mapper, name, listener)
    unwrap_dialects()
    warn_again()


def _on_statement(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
    compiled = context.compiled
    options = context.execution_options
    if context.dialect.name == "sqlite" and not _sqlalchemy.is_get(options):
        watch_cursor(context)
    if getattr(compiled, _HARMLESS, None) == statement and not (
        OPTION in options or "cache" in options
    ):
        return  # most statements: a SELECT that was seen before
    if OPTION in options and not hasattr(context, _SEEN):
        on_declared(context)
    if compiled is None or context.is_text or context.isddl:
        on_text(statement, compiled, context)
        return
    sets = "set_config" in statement or "SET_CONFIG" in statement
    if sets:
        on_function_that_sets(compiled, context)
    if context.is_crud or getattr(compiled, "ctes", None):
        if not hasattr(context, _SEEN):  # one statement may be sent in many batches
            setattr(context, _SEEN, True)
            _on_dml(compiled, context)
            if analyse(compiled, table_map()).opaque:
                on_text(statement, compiled, context)
    elif type(compiled.statement) in _SAVEPOINTS:
        if type(compiled.statement) is SavepointClause:
            on_first_savepoint(context.root_connection, compiled.statement.ident)
    elif type(compiled.statement) is not Select and is_opaque(compiled):
        on_text(statement, compiled, context)
    elif options.get("cache") is True and not OURS.keys() <= options.keys():
        for cache in _state.live():
            cache.tally.unattributed.bypass(Bypass.QUERY)
        warn_once(
            "query",
            "execution option cache=True on what is no select() of a cached model (a table, a"
            " model that is not cached): this one and those after it go to the database",
        )
    elif not sets:
        setattr(compiled, _HARMLESS, statement)


def _on_bare_statement(cursor: Any, statement: str, context: Any) -> None:
    """Of the execution option `no_parameters`: this event has one argument fewer."""
    _on_statement(cursor, statement, (), context)


_STATEMENT_EVENTS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("do_execute", _on_statement),
    ("do_executemany", _on_statement),
    ("do_execute_no_params", _on_bare_statement),
    ("handle_error", on_error),
)


def _on_dml(compiled: Any, context: Any) -> None:
    tables = table_map()
    analysis = analyse(compiled, tables)
    if not analysis.writes:
        return
    connection = context.root_connection
    ledger = open_for_write(connection)
    itself = settle_statement(context, ledger)
    ledger.frames.wrote = True
    for table in analysis.tables:
        ledger.frames.touch_table(table)
    from_orm = _sqlalchemy.is_unit_of_work(context)
    ledger.translate = context.execution_options.get(schemas.OPTION)
    parameters: Sequence[Mapping[str, Any]] = context.compiled_parameters or ({},)
    awaited: list[Awaited] = []
    for hit in analysis.hits:
        root, dialect = hit.target.root, connection.dialect
        says = hit.returned is not None and not itself
        found = hit.existing is Existing.FOUND
        unsure = hit.existing is Existing.ANY or (found and not says)
        if unsure or (hit.rekeys and (itself or not from_orm)):
            ledger.frames.touch_table(root.table)
            continue
        schema = _schema(root, connection, ledger)
        if hit.appearing:
            touch_appearing(root, hit.appearing, parameters, ledger, dialect, schema)
        stamp = None
        if root.stamped:
            stamp = partial(
                touch_stamps,
                hit,
                compiled,
                parameters,
                ledger,
                dialect,
                schema,
                from_orm=from_orm,
                itself=itself,
            )
        named = not found and all(
            _touch_rows(connection, ledger, hit, compiled, values, from_orm, says)
            for values in parameters
        )
        if says and not named:
            awaited.append(Awaited(hit, schema, stamp))
            continue
        if not named:
            ledger.frames.touch_table(root.table)
        if stamp is not None:
            stamp()
    if awaited:
        name_afterwards(context, ledger, awaited)
    if itself:
        fence_now(connection, ledger, context)
    else:
        fence_ahead(connection, ledger)


def _touch_rows(
    connection: Connection,
    ledger: Ledger,
    hit: Hit,
    compiled: Any,
    values: Mapping[str, Any],
    from_orm: bool,
    says: bool,
) -> bool:
    """Touch the rows that one set of parameters concerns; False: any row of the table.

    `says`: the statement will name its rows itself, if this cannot do it well.
    """
    root, dialect = hit.target.root, connection.dialect
    keys = keys_of(hit.rows, values)
    if hit.insert and dialect.name in _ZERO_GENERATES and any(0 in pk for pk in keys or ()):
        return False
    changes = not hit.insert or hit.existing is not Existing.NONE
    if keys is not None:
        safe = pk_codec(root, dialect).safe_in_sql
        if says and changes and not (safe or from_orm):
            return False
        schema = _schema(root, connection, ledger)
        texts = [row_key(root, pk, dialect, trusted=from_orm, schema=schema) for pk in keys]
        for text in texts:
            if text is not None:
                ledger.frames.touch_row((root.table, text))
                if changes and not safe:
                    ledger.doubtful.add((root.table, text))
        unnamed = texts.count(None)
    else:
        unnamed = 1
    if not unnamed:
        return True
    if not hit.insert:
        return _name_rows(connection, ledger, hit, compiled, values)
    if changes:
        return False
    if root.negative and from_orm:
        ledger.frames.expect_inserts(root.table, unnamed)
    return from_orm or not root.negative


def _name_rows(
    connection: Connection, ledger: Ledger, hit: Hit, compiled: Any, values: Mapping[str, Any]
) -> bool:
    """Name each row that is about to change, if no cache can forget a table; False otherwise."""
    root, columns = hit.target.root, hit.target.pk
    if columns is None or any(cache.stores.full for cache in _state.live()):
        return False
    schema = _schema(root, connection, ledger)
    keys = affected_keys(connection, hit.dml, compiled, values, columns, ledger.translate)
    for pk in keys or ():
        key = row_key(root, pk, connection.dialect, trusted=True, schema=schema)
        if key is None:
            return False
        ledger.frames.touch_row((root.table, key))
    return keys is not None


def _schema(root: Root, connection: Connection, ledger: Ledger) -> str:
    """Return the prefix of keys of `root` in the schema that is being written to."""
    if not ledger.translate:
        return ""
    schema = schemas.prefix_of(root, ledger.translate, connection.dialect)
    for cache in _state.live():
        cache.sites.of(connection.dialect).schemas.add(schema)
    return schema


# -- what the unit of work knows ------------------------------------------------------------------


def _after_insert(mapper: Mapper[Any], connection: Connection, state: InstanceState[Any]) -> None:
    key = mapper.primary_key_from_instance(state.obj())
    _touch(mapper, connection, key, inserted=True)


def _after_update(mapper: Mapper[Any], connection: Connection, state: InstanceState[Any]) -> None:
    pk = mapper.primary_key_from_instance(state.obj())
    _touch(mapper, connection, pk)
    if state.key is not None and any(
        new is not old for new, old in zip(pk, state.key[1], strict=True)
    ):
        _touch(mapper, connection, state.key[1])


def _after_delete(mapper: Mapper[Any], connection: Connection, state: InstanceState[Any]) -> None:
    if state.key is not None:
        _touch(mapper, connection, state.key[1])


_MAPPER_EVENTS = (
    ("after_insert", _after_insert),
    ("after_update", _after_update),
    ("after_delete", _after_delete),
)


def _touch(mapper: Mapper[Any], connection: Connection, pk: Any, inserted: bool = False) -> None:
    roots = table_map().roots_of(mapper)
    ledger = ledger_of(connection) if roots else None
    if ledger is None or not ledger.wrote:
        return  # no statement was emitted: nothing changed
    # Of the flush: somebody's listener may have executed another statement since.
    ledger.translate = connection.get_execution_options().get(schemas.OPTION)
    for root in roots:
        _touch_under(root, connection, ledger, pk, inserted)


def _touch_under(
    root: Root, connection: Connection, ledger: Ledger, pk: Any, inserted: bool
) -> None:
    known = all(value is not None for value in pk)
    key = pk_codec(root, connection.dialect).encode(pk) if known else None
    if key is None:
        ledger.frames.touch_table(root.table)
        return
    key = _schema(root, connection, ledger) + key
    ledger.doubtful.discard((root.table, key))
    if inserted:
        ledger.frames.name_insert(root.table, (root.table, key))
    else:
        ledger.frames.touch_row((root.table, key))

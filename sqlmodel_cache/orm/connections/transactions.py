"""A transaction as the dialect runs it: begun, savepoints, prepared, committed, rolled back.

The dialect's own methods are wrapped, engine by engine: they are called for whatever SQLAlchemy
commits, by session, connection or pool, and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import wrapt
from sqlalchemy.engine import Connection, ExceptionContext
from sqlalchemy.exc import DBAPIError

from sqlmodel_cache import _state
from sqlmodel_cache.orm.connections.isolation import level_of, sqlite_in_transaction
from sqlmodel_cache.orm.connections.ledger import Ledger, ledger_of, open_ledger
from sqlmodel_cache.orm.connections.publish import commit, end_early, withdraw

# Dialects whose do_commit passes through `publish`, and what others had put on them before.
_wrapped: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()
_wrapping = Lock()
_prepared: dict[Any, Ledger] = {}  # two-phase transactions between PREPARE and COMMIT


def wrap_dialect(dialect: Any) -> None:
    """Pass the transaction methods of one engine's dialect through the ledger. Idempotent."""
    if dialect in _wrapped:
        return
    with _wrapping:  # and noted last: a thread that finds it noted may commit at once
        if dialect not in _wrapped:
            own = vars(dialect)
            before = {name: own[name] for name in _DIALECT_METHODS if name in own}
            for name, wrapper in _DIALECT_METHODS.items():
                wrapt.wrap_function_wrapper(dialect, name, _for_dialect(wrapper, dialect))
            _wrapped[dialect] = before


def _for_dialect(wrapper: Callable[..., None], dialect: Any) -> Callable[..., None]:
    """Return `wrapper` for one dialect: where somebody put a plain function, wrapt knows none."""

    def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
        wrapper(wrapped, dialect, args, kwargs)

    return call


def unwrap_dialects() -> None:
    """Give every dialect its own methods back, and forget what was prepared."""
    for dialect, before in list(_wrapped.items()):
        for name in _DIALECT_METHODS:
            vars(dialect).pop(name, None)
        vars(dialect).update(before)
    _wrapped.clear()
    _prepared.clear()


def watch_recoveries() -> None:
    """See `Connection.commit_prepared` also on engines that did nothing else. Idempotent."""
    if not _ours(vars(Connection)["commit_prepared"]):
        wrapt.wrap_function_wrapper(Connection, "commit_prepared", _commit_prepared)


def unwatch_recoveries() -> None:
    """Undo `watch_recoveries`, unless somebody has wrapped it since."""
    found = vars(Connection)["commit_prepared"]
    if _ours(found):
        Connection.commit_prepared = found.__wrapped__  # type: ignore[method-assign]


def _ours(method: Any) -> bool:
    return getattr(method, "_self_wrapper", None) is _commit_prepared


def _commit_prepared(wrapped: Any, connection: Connection, args: Any, kwargs: Any) -> None:
    wrap_dialect(connection.dialect)
    wrapped(*args, **kwargs)


def open_for_write(connection: Connection) -> Ledger:
    """Return the ledger of `connection`, sure that its commit will publish it."""
    wrap_dialect(connection.dialect)
    for cache in _state.live():
        cache.sites.of(connection.dialect).learn(connection)
    return open_ledger(connection)


def on_error(context: ExceptionContext) -> None:
    """Note that PostgreSQL has aborted the transaction in which a statement failed."""
    connection = context.connection
    if connection is None or context.dialect.name != "postgresql":
        return
    failed = isinstance(context.sqlalchemy_exception, DBAPIError)
    if failed and level_of(connection, connection) != "AUTOCOMMIT":
        wrap_dialect(connection.dialect)
        open_ledger(connection).aborted = True


def _do_commit(wrapped: Any, dialect: Any, args: Any, kwargs: Any) -> None:
    ledger = ledger_of(args[0])
    if ledger is None:
        wrapped(*args, **kwargs)
    else:
        commit(
            ledger, dialect, lambda: wrapped(*args, **kwargs), lambda: dialect.do_rollback(args[0])
        )


def _do_rollback(wrapped: Any, dialect: Any, args: Any, kwargs: Any) -> None:
    wrapped(*args, **kwargs)
    ledger = ledger_of(args[0])
    if ledger is not None:
        ledger.end()
        if ledger.early:
            end_early(ledger)
        if ledger.ahead:
            withdraw(ledger)


def on_first_savepoint(connection: Connection, name: str) -> None:
    """Wrap a dialect that meets us by a SAVEPOINT; its `do_savepoint` is already running.

    Not by the engine's own `savepoint` event: one listener of that kind makes SQLAlchemy
    dispatch all kinds, which costs every statement of every engine five percent.
    """
    if connection.dialect not in _wrapped:
        wrap_dialect(connection.dialect)
        _open_savepoint(connection, name)


def _do_savepoint(wrapped: Any, dialect: Any, args: Any, kwargs: Any) -> None:
    _open_savepoint(*args)
    wrapped(*args, **kwargs)


def _open_savepoint(connection: Connection, name: str) -> None:
    ledger = open_ledger(connection)
    # sqlite3 begins no transaction before a SAVEPOINT: SQLite does, and RELEASE will commit it.
    if connection.dialect.name == "sqlite" and not sqlite_in_transaction(connection):
        ledger.begun_by = name
    ledger.frames.savepoint(name)


def _do_release_savepoint(wrapped: Any, dialect: Any, args: Any, kwargs: Any) -> None:
    connection, name = args
    ledger = open_ledger(connection)
    if ledger.begun_by != name:
        wrapped(*args, **kwargs)
        ledger.frames.release(name)
        return
    namespaces = frozenset(ledger.namespaces)
    commit(
        ledger,
        dialect,
        lambda: wrapped(*args, **kwargs),
        lambda: dialect.do_rollback_to_savepoint(connection, name),
    )
    ledger.namespaces.update(namespaces)  # the session's transaction goes on


def _do_rollback_to_savepoint(wrapped: Any, dialect: Any, args: Any, kwargs: Any) -> None:
    wrapped(*args, **kwargs)
    ledger = open_ledger(args[0])
    ledger.frames.rollback_to(args[1])
    ledger.aborted = False


def _do_prepare_twophase(wrapped: Any, dialect: Any, args: Any, kwargs: Any) -> None:
    wrapped(*args, **kwargs)
    ledger = ledger_of(args[0])
    # A copy: the connection may be reset, and lent to others, before the COMMIT.
    _prepared[args[1]] = Ledger() if ledger is None else ledger.prepared()


def _do_commit_twophase(wrapped: Any, dialect: Any, args: Any, kwargs: Any) -> None:
    connection, xid, is_prepared, recover = _twophase(*args, **kwargs)
    own = open_for_write(connection)
    ledger = own
    if recover or is_prepared:
        ledger = _prepared.get(xid) or Ledger()
        # Another process's transaction: nobody here knows what it wrote.
        ledger.everything = ledger.everything or recover or xid not in _prepared

    def abort() -> None:
        if not recover:  # whoever recovers it has decided that it shall be committed
            dialect.do_rollback_twophase(connection, xid, is_prepared)

    own.publishing = True
    try:
        commit(ledger, dialect, lambda: wrapped(*args, **kwargs), abort)
    finally:
        own.publishing = False
    _prepared.pop(xid, None)
    own.end()


def _do_rollback_twophase(wrapped: Any, dialect: Any, args: Any, kwargs: Any) -> None:
    connection, xid, *_ = _twophase(*args, **kwargs)
    wrapped(*args, **kwargs)
    _prepared.pop(xid, None)
    ledger = ledger_of(connection)
    if ledger is not None:
        ledger.end()


def _twophase(
    connection: Connection, xid: Any, is_prepared: bool = True, recover: bool = False
) -> tuple[Connection, Any, bool, bool]:
    """Name the arguments of `do_commit_twophase` and `do_rollback_twophase`."""
    return connection, xid, is_prepared, recover


_DIALECT_METHODS = {
    "do_commit": _do_commit,
    "do_rollback": _do_rollback,
    "do_savepoint": _do_savepoint,
    "do_release_savepoint": _do_release_savepoint,
    "do_rollback_to_savepoint": _do_rollback_to_savepoint,
    "do_prepare_twophase": _do_prepare_twophase,
    "do_commit_twophase": _do_commit_twophase,
    "do_rollback_twophase": _do_rollback_twophase,
}

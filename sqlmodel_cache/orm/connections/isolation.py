"""Whether a transaction may read from the cache, and whether it may fill.

READ COMMITTED sees the newest rows, so a lease taken before the SELECT is enough. A snapshot
(REPEATABLE READ, SQLite inside a driver transaction or below an open cursor) does not: once it
exists, it must see nothing newer and store nothing older. Before it exists, the lease predates it
and all is well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.util import only_once

from sqlmodel_cache.events import Bypass
from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.connections.cursors import is_half_read

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_CURRENT = frozenset({"READ COMMITTED", "AUTOCOMMIT"})
# Databases whose REPEATABLE READ is one snapshot, from a transaction's first statement or later.
_SNAPSHOTS = frozenset({"postgresql", "mysql", "mariadb"})
# Where a level cannot be learnt, the dialects whose default is known to see the newest rows.
_READ_COMMITTED_BY_DEFAULT = frozenset({"postgresql", "oracle", "mssql"})


def level_of(bind: Any, connection: Connection | None) -> str | None:
    """Return the isolation level in force, None where it cannot be told without asking."""
    options = (connection if connection is not None else bind).get_execution_options()
    dialect = bind.dialect
    level = options.get("isolation_level") or _sqlalchemy.on_connect_isolation_level(dialect)
    return _named(level or _default_of(dialect))


def _default_of(dialect: Any) -> Any:
    level = getattr(dialect, "default_isolation_level", None)
    if level is None and dialect.name in _READ_COMMITTED_BY_DEFAULT:
        return "READ COMMITTED"
    return level


def _named(level: Any) -> str | None:
    return None if level is None else str(level).upper().replace("_", " ")


def has_another_level(connection: Connection) -> bool:
    """Tell whether a transaction that a text begins may not have the level that SQLAlchemy says.

    Where each statement commits itself, it has the database's own.
    """
    if connection.dialect.name == "sqlite" or not commits_itself(connection):
        return False
    return _named(_default_of(connection.dialect)) not in _CURRENT


def blocks(bind: Any, connection: Connection | None) -> Bypass | None:
    """Return why a transaction on `bind` must not use the cache, None if it may.

    `connection` is the one it already runs on, None if it has touched no database yet.
    """
    if bind.dialect.name == "sqlite":
        # The level says SERIALIZABLE whatever is true: only the driver knows. Its legacy mode
        # begins no transaction for a SELECT, so each one sees the newest rows; unless an earlier
        # one has rows left.
        if connection is None:
            return None
        held = sqlite_in_transaction(connection) or is_half_read(connection)
        return Bypass.SNAPSHOT if held else None
    level = level_of(bind, connection)
    if level in _CURRENT:
        return None
    if level in ("SERIALIZABLE", "READ UNCOMMITTED"):
        return Bypass.ISOLATION
    return None if connection is None else Bypass.SNAPSHOT


def begins_snapshot(connection: Connection, *, ended: bool) -> bool:
    """Tell whether the next statement of `connection`, and nothing before it, begins a snapshot.

    Or might begin one. `ended`: the transaction before it was seen to end, or there was none.
    Where a driver cannot tell whether another is open, nothing but a listener of the pool's can
    have begun one since.
    """
    dialect = connection.dialect.name
    if dialect == "sqlite":
        return not (sqlite_in_transaction(connection) or is_half_read(connection))
    if dialect not in _SNAPSHOTS or level_of(connection, connection) != "REPEATABLE READ":
        return False
    told = in_transaction(driver_of(connection))
    if told is None:
        return ended and not connection.engine.pool.dispatch.checkout
    return not told


def connects_plainly(connection: Connection, ours: Any) -> bool:
    """Tell whether nobody but SQLAlchemy, its driver and `ours` has used a new connection.

    Of SQLAlchemy's own listeners one is wrapped as anybody's would be that is called once.
    """
    dispatch = connection.engine.pool.dispatch
    listeners = [one for one in (*dispatch.first_connect, *dispatch.connect) if one is not ours]
    others = [
        one
        for one in listeners
        if not one.__module__.startswith(("sqlalchemy.engine.", "sqlalchemy.dialects."))
    ]
    return (
        [one.__module__ for one in others] == [only_once.__module__]
        and not _sqlalchemy.creator_is_foreign(connection.engine)
        and getattr(driver_of(connection), "init_command", "not told") is None
    )


def in_transaction(driver: Any) -> bool | None:
    """Tell whether a driver has a transaction open, or waits for one; None if it cannot say."""
    tells = getattr(driver, "is_in_transaction", None)  # asyncpg
    if tells is not None:
        return bool(tells())
    status = getattr(getattr(driver, "info", None), "transaction_status", None)  # psycopg
    return status != 0 if isinstance(status, int) else None


def sqlite_in_transaction(connection: Connection) -> bool:
    """Tell whether the SQLite driver has a transaction open."""
    return bool(driver_of(connection).in_transaction)


def driver_of(connection: Connection) -> Any:
    """Return the driver's own connection; a detached one has no record to ask for it."""
    pooled = connection.connection
    found: Any = pooled.driver_connection
    if found is None and pooled.dbapi_connection is not None:
        found = connection.dialect.get_driver_connection(pooled.dbapi_connection)
    return found


def commits_itself(connection: Connection) -> bool:
    """Tell whether the driver makes each statement durable by itself."""
    level = connection.get_execution_options().get("isolation_level")
    if level is None:
        level = _sqlalchemy.on_connect_isolation_level(connection.dialect)
    if level == "AUTOCOMMIT":
        return True
    driver = driver_of(connection)
    if connection.dialect.name == "sqlite":
        # Python 3.12 has an attribute for it: True, False, or -1 where `isolation_level` decides.
        itself = getattr(driver, "autocommit", -1) is True or driver.isolation_level is None
        return itself and not driver.in_transaction
    # Drivers can be told so without SQLAlchemy: `connect_args`, `SET autocommit = 1`.
    if connection.dialect.name == "postgresql":
        return getattr(driver, "autocommit", False) is True
    tells = getattr(driver, "get_autocommit", None)  # of MySQL's
    return tells is not None and bool(tells())

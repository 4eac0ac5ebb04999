"""SELECTs of SQLite that have not been read to their end: each holds its connection to a state.

In a WAL file others commit meanwhile, and every later SELECT of the connection still reads the
old state, though the driver says that no transaction is open. Neither COMMIT nor ROLLBACK ends
it: only the end of the rows, closing the result, or the result's own end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from sqlmodel_cache.orm import _sqlalchemy

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_KEY: Final = "sqlmodel_cache_cursors"  # in the `info` of a DBAPI connection


def watch_cursor(context: Any) -> None:
    """Remember a statement about to be executed on SQLite, until its rows are read or dropped.

    Known by its execution context, which lives as long as its result. A result that streams
    (`yield_per`) has a way of its own to end, so it counts until it is gone; so does one that
    turns out to have no rows, which nobody keeps.
    """
    if context.isddl or (context.is_crud and not context.compiled.effective_returning):
        return
    if getattr(context.cursor, "server_side", None) is False:
        return  # an async driver's: read to its end before anybody gets it
    try:
        info = context.root_connection.info
    except NotImplementedError:  # a dialect's first connection, which is nobody's yet
        return
    reading = info.get(_KEY)
    if reading is None:
        reading = info[_KEY] = _Reading()
    reading.contexts.add(context)
    if not _sqlalchemy.streams(context):
        context.cursor_fetch_strategy = reading


class _Reading(_sqlalchemy.CursorFetchStrategy):
    """SQLAlchemy's own way to fetch from a cursor, which says when it is closed."""

    __slots__ = ("contexts",)

    def __init__(self) -> None:
        self.contexts: WeakSet[Any] = WeakSet()

    def soft_close(self, result: Any, dbapi_cursor: Any) -> None:
        self.contexts.discard(result.context)
        super().soft_close(result, dbapi_cursor)

    def hard_close(self, result: Any, dbapi_cursor: Any) -> None:
        self.contexts.discard(result.context)
        super().hard_close(result, dbapi_cursor)


def is_half_read(connection: Connection) -> bool:
    """Tell whether a cursor of this connection may still hold it to an older state."""
    reading = connection.info.get(_KEY)
    if reading is None or not len(reading.contexts):
        return False
    # A result without rows holds nothing, but SQLAlchemy never closes it either.
    return any(context.cursor.description is not None for context in list(reading.contexts))

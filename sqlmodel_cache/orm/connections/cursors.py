"""SELECTs of SQLite that have not been read to their end: each holds its connection to a state.

In a WAL file others commit meanwhile, and every later SELECT of the connection still reads the
old state, though the driver says that no transaction is open. Neither COMMIT nor ROLLBACK ends
it: only the end of the rows, closing the result, or the result's own end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from sqlmodel_cache.orm import _sqlalchemy

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_KEY: Final = "sqlmodel_cache_cursors"  # in the `info` of a DBAPI connection
_MANY: Final = 32  # references; beyond, those of results that are gone are dropped


def watch_cursor(context: Any) -> None:
    """Remember a statement about to be executed on SQLite, until its rows are read or dropped.

    Known by its execution context, which lives as long as its result. A result that streams
    (`yield_per`) has a way of its own to end, so it counts until it is gone; so does one that
    turns out to have no rows, which nobody keeps.
    """
    if context.isddl or (context.is_crud and not context.compiled.effective_returning):
        return
    if context.dialect.is_async and getattr(context.cursor, "server_side", None) is False:
        return  # read to its end before anybody gets it
    try:
        info = context.root_connection.connection.info
    except NotImplementedError:  # a dialect's first connection, which is nobody's yet
        return
    reading = info.get(_KEY)
    if reading is None:
        reading = info[_KEY] = _Reading()
    contexts = reading.contexts
    if len(contexts) > _MANY:
        reading.forget_the_gone()
    contexts.add(ref(context))
    if not _sqlalchemy.streams(context):
        context.cursor_fetch_strategy = reading


class _Reading(_sqlalchemy.CursorFetchStrategy):
    """SQLAlchemy's own way to fetch from a cursor, which says when it is closed.

    `contexts` holds bare weak references: a WeakSet takes three times as long for each change.
    What died unread stays in it until somebody looks.
    """

    __slots__ = ("contexts",)

    def __init__(self) -> None:
        self.contexts: set[ref[Any]] = set()

    def soft_close(self, result: Any, dbapi_cursor: Any) -> None:
        self.contexts.discard(ref(result.context))
        _soft_close(self, result, dbapi_cursor)

    def hard_close(self, result: Any, dbapi_cursor: Any) -> None:
        self.contexts.discard(ref(result.context))
        _hard_close(self, result, dbapi_cursor)

    def forget_the_gone(self) -> list[Any]:
        """Return the contexts that are still there."""
        found = []
        for each in list(self.contexts):
            context = each()
            if context is None:
                self.contexts.discard(each)
            else:
                found.append(context)
        return found


_soft_close = _sqlalchemy.CursorFetchStrategy.soft_close
_hard_close = _sqlalchemy.CursorFetchStrategy.hard_close


def is_half_read(connection: Connection) -> bool:
    """Tell whether a cursor of this connection may still hold it to an older state."""
    reading = connection.info.get(_KEY)
    if reading is None or not reading.contexts:
        return False
    # A result without rows holds nothing, but SQLAlchemy never closes it either.
    return any(map(_is_open, reading.forget_the_gone()))


def _is_open(context: Any) -> bool:
    try:
        return context.cursor.description is not None
    except AttributeError:  # one of an async driver's that streams has lost what it stood for
        return False

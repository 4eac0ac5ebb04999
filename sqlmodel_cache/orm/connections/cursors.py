"""Cursors between their execution and their result: rows read ahead, and rows not read to the end.

A SELECT of SQLite that was not read to its end holds its connection to a state.

In a WAL file others commit meanwhile, and every later SELECT of the connection still reads the
old state, though the driver says that no transaction is open. Neither COMMIT nor ROLLBACK ends
it: only the end of the rows, closing the result, or the result's own end. A get's one row is read
to its end at once, so gets are not watched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from sqlmodel_cache.orm import _fetching

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
    if not _fetching.streams(context):
        context.cursor_fetch_strategy = reading


class _Reading(_fetching.CursorFetchStrategy):
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


_soft_close = _fetching.CursorFetchStrategy.soft_close
_hard_close = _fetching.CursorFetchStrategy.hard_close


def read_ahead(context: Any, number: int) -> Sequence[Any] | None:
    """Return the first rows of a statement that was just executed; its result has them, too.

    At most `number` of them, or all that there are in batches. None where nobody may read them now:
    they stream, or a driver has a way of its own.
    """
    if context.executemany:
        return _fetching.rows_of_batches(context)
    strategy = context.cursor_fetch_strategy
    ours = isinstance(strategy, _Reading)
    if "yield_per" in context.execution_options or (not ours and _fetching.streams(context)):
        return None
    if context.cursor.description is None:
        return None
    rows: Sequence[Any] = context.cursor.fetchmany(number)
    _fetching.put_back(context, rows)
    if ours and len(rows) < number:  # the cursor is at its end
        strategy.contexts.discard(ref(context))
    return rows


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

"""The private names of SQLAlchemy by which the rows of a cursor reach a result.

Checked on 2.0.58 and 2.1.9, as in `_sqlalchemy`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine.cursor import (
    _DEFAULT_FETCH,
    BufferedRowCursorFetchStrategy,
    CursorFetchStrategy,
)

__all__ = ["CursorFetchStrategy"]


def streams(context: Any) -> bool:
    """Tell whether rows of this statement will be fetched by another strategy than the usual."""
    return (
        context.cursor_fetch_strategy is not _DEFAULT_FETCH
        or context._is_server_side
        or context.execution_options.get("stream_results", False)
    )


def put_back(context: Any, rows: Sequence[Any]) -> None:
    """Have the result to come begin with rows that were fetched already, and go on after them."""
    context.cursor_fetch_strategy = BufferedRowCursorFetchStrategy(
        context.cursor, {}, initial_buffer=deque(rows)
    )


def rows_of_batches(context: Any) -> Sequence[Any] | None:
    """Return the rows of an INSERT that was sent in batches, which its result will have; or None.

    In SQLAlchemy's words, of "insertmanyvalues" with RETURNING.
    """
    rows: Sequence[Any] | None = context._insertmanyvalues_rows
    return rows

"""Rows that a statement names itself, once it was executed: by RETURNING their primary keys.

Or by the key that was generated for the one row of an INSERT, where the driver tells it.

What it returns is just what it changed, so a WHERE that pins no key need not forget the model.
Until the rows are known they count as any row. They are taken from the cursor before anybody has
the result, which has them all the same, and noted in the frame that the statement ran in. If there
are too many of them, if they stream, if anything is raised in between, they stay any row.

Two things RETURNING does not say. A row's old key, where it gets another. And what a trigger did
instead: a DELETE that returns no row may have been turned into an UPDATE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlmodel_cache.orm.connections.cursors import read_ahead
from sqlmodel_cache.orm.model.keying import row_key
from sqlmodel_cache.orm.writes.rows import ROWS_AT_MOST

if TYPE_CHECKING:
    from sqlmodel_cache.orm.connections.ledger import Ledger
    from sqlmodel_cache.orm.writes.statements import Hit


class Awaited(NamedTuple):
    """Rows of one root that will be known; `stamp`, if any, is to be called with their keys.

    `schema` is the prefix that `schemas.prefix_of` gives.
    """

    hit: Hit
    schema: str
    stamp: Callable[[Sequence[tuple[Any, ...]]], None] | None


def name_afterwards(context: Any, ledger: Ledger, rows: Sequence[Awaited]) -> None:
    """Have rows named as soon as the statement that is about to be sent was executed."""
    for each in rows:
        ledger.frames.expect_rows(each.hit.target.root.table)
    context.post_exec = partial(_post_exec, context, ledger, rows)


def _post_exec(context: Any, ledger: Ledger, awaited: Sequence[Awaited]) -> None:
    """Stand in for the context's own `post_exec`, which a dialect may need."""
    del context.post_exec
    context.post_exec()
    said = _generated(context) if context.compiled.postfetch_lastrowid else _returned(context)
    if said is None:
        return
    for hit, schema, stamp in awaited:
        keys = None if hit.dml.is_delete and not said.rows else _keys(context, hit, said)
        root = hit.target.root
        texts = [
            row_key(root, key, context.dialect, trusted=True, schema=schema) for key in keys or ()
        ]
        if keys is None or None in texts:
            continue
        if keys and stamp is not None:
            stamp(keys)
        ledger.frames.name_rows(root.table, [(root.table, text) for text in texts])


class _Said(NamedTuple):
    """Rows, and for each of their columns how the driver describes it: a name, a type's code."""

    rows: Sequence[Any]
    columns: Sequence[Sequence[Any]]


def _generated(context: Any) -> _Said | None:
    """Return the key that was generated for a row, None if there may be none."""
    key = context.get_lastrowid()
    return _Said([(key,)], [("", None)]) if key and context.cursor.rowcount == 1 else None


def _returned(context: Any) -> _Said | None:
    """Return what RETURNING said, None if nobody may read it now or it is too much."""
    rows = read_ahead(context, ROWS_AT_MOST + 1)
    if rows is None or len(rows) > ROWS_AT_MOST:
        return None
    columns = context.cursor.description
    # Text in the RETURNING has a place in the rows, and none among its columns.
    if len(columns) != len(context.compiled.effective_returning):
        return None
    return _Said(rows, columns)


def _keys(context: Any, hit: Hit, said: _Said) -> list[tuple[Any, ...]] | None:
    """Return the keys in rows as they came from the driver, as a load would have them."""
    assert hit.returned is not None
    assert hit.target.pk is not None
    parts = [
        (place, context.get_result_processor(column.type, *said.columns[place][:2]))
        for place, column in zip(hit.returned, hit.target.pk, strict=True)
    ]
    try:
        return [
            tuple(row[n] if process is None else process(row[n]) for n, process in parts)
            for row in said.rows
        ]
    except Exception:  # of the user's own type; it will be raised where the user reads
        return None

"""The private names of SQLAlchemy's results that this library touches: rows, as a load gives them.

Checked on 2.0.58 and 2.1.9, as in `_sqlalchemy`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import Result, exc
from sqlalchemy.engine import ChunkedIteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData

if TYPE_CHECKING:
    from sqlmodel_cache.orm._compiling import Entity


def rows_metadata(entities: Sequence[Entity]) -> Any:
    """Return what a result of rows with these elements knows of them."""

    def filters(result: Any = None) -> list[Any]:
        if result is not None and result._yield_per:
            raise exc.InvalidRequestError(
                "Can't use the ORM yield_per feature in conjunction with unique()"
            )
        return [_uniqueness(each) for each in entities]

    given: dict[str, Any] = {"_create_unique_filters": filters}  # 2.1
    if "_unique_filters" in SimpleResultMetaData.__slots__:  # 2.0
        given = {"_unique_filters": filters()}
    labels, extra = [each.label for each in entities], [each.extra for each in entities]
    return SimpleResultMetaData(labels, extra, **given)


def _uniqueness(entity: Entity) -> Callable[[Any], Any] | None:
    by_id, unhashable, uncertain = entity.unique
    if by_id:
        return id
    if not (unhashable or uncertain):
        return None

    def refuse(value: Any) -> int:
        if uncertain:
            try:
                return hash(value)
            except TypeError:
                pass
        raise exc.InvalidRequestError(
            f"Can't apply uniqueness to row tuple containing value of type {entity.type!r};"
            " it is not hashable"
        )

    return refuse


def of_core(load: Callable[[], Result[Any]], metadata: Any) -> Result[Any]:
    """Return what a statement of Core loads as a hit gives it; prebuffered, like one of the ORM."""
    rows = [tuple(row) for row in load()]
    return _result(metadata, lambda size: iter([rows]), filtered=False)


def rows_result(metadata: Any, rows: Iterable[Any], *, filtered: bool) -> Result[Any]:
    """Return the result that a load returns that found these tuples."""
    left = iter(rows)

    def chunks(size: int | None) -> Iterator[list[Any]]:
        while chunk := list(islice(left, size)):
            yield chunk

    return _result(metadata, chunks, filtered=filtered)


def _result(metadata: Any, chunks: Callable[[int | None], Any], *, filtered: bool) -> Result[Any]:
    result: Result[Any] = ChunkedIteratorResult(metadata, chunks)
    result._attributes = result._attributes.union({"filtered": filtered, "is_single_entity": False})
    return result

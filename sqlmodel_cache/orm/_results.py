"""The private names of SQLAlchemy's results that this library touches: rows, as a load gives them.

Checked on 2.0.58 and 2.1.9, as in `_sqlalchemy`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Result, exc
from sqlalchemy.engine import ChunkedIteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import Mapper, Session

if TYPE_CHECKING:
    from sqlmodel_cache.orm._compiling import Entity

# Makes a load take all its rows at once, as `AsyncSession` does, so that they can be looked at.
PREBUFFERED: Final = {"prebuffer_rows": True}


def entity_metadata(mapper: Mapper[Any]) -> Any:
    """Return what a result of `select(entity)` knows of its one column."""
    return _metadata([mapper.class_.__name__], [(mapper.class_,)], [id])


def rows_metadata(entities: Sequence[Entity]) -> Any:
    """Return what a result of rows with these elements knows of them."""
    labels, extra = [each.label for each in entities], [each.extra for each in entities]
    if all(each.selected is each.column is None for each in entities):  # of Core, as in a union
        return SimpleResultMetaData(labels, extra)
    return _metadata(labels, extra, list(map(_uniqueness, entities)))


def _metadata(labels: Sequence[Any], extra: Sequence[Any], uniqueness: Sequence[Any]) -> Any:
    """Return metadata by which `Result.unique()` compares values in these ways."""

    def filters(result: Any) -> Sequence[Any]:
        if result._yield_per:
            raise exc.InvalidRequestError(
                "Can't use the ORM yield_per feature in conjunction with unique()"
            )
        return uniqueness

    given: dict[str, Any] = {"_create_unique_filters": filters}  # 2.1
    if "_unique_filters" in SimpleResultMetaData.__slots__:  # 2.0
        given = {"_unique_filters": uniqueness}
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


def entity_result(metadata: Any, instances: Iterable[Any]) -> Result[Any]:
    """Return the result that a load returns that found these instances."""
    return _result(metadata, _in_chunks(instances), filtered=True, single=True)


def rows_result(metadata: Any, rows: Iterable[Any], *, filtered: bool) -> Result[Any]:
    """Return the result that a load returns that found these tuples."""
    return _result(metadata, _in_chunks(rows), filtered=filtered)


def of_core(load: Callable[[], Result[Any]], metadata: Any) -> Result[Any]:
    """Return what a statement of Core loads as a hit gives it; prebuffered, like one of the ORM."""
    rows = [tuple(row) for row in load()]
    return _result(metadata, lambda size: iter([rows]), filtered=False)


def _in_chunks(rows: Iterable[Any]) -> Callable[[int | None], Iterator[list[Any]]]:
    left = iter(rows)

    def chunks(size: int | None) -> Iterator[list[Any]]:
        while chunk := list(islice(left, size)):
            yield chunk

    return chunks


def _result(
    metadata: Any, chunks: Callable[[int | None], Any], *, filtered: bool, single: bool = False
) -> Result[Any]:
    result: Result[Any] = ChunkedIteratorResult(metadata, chunks, source_supports_scalars=single)
    # `Query` learns from these what it got.
    said = {"filtered": filtered, "is_single_entity": single}
    result._attributes = result._attributes.union(said)
    return result


def prebuffered_instances(session: Session, result: Any) -> list[Any] | None:
    """Return the instances, or rows, in a result that is prebuffered, and consume none.

    None where somebody listens to `do_orm_execute`: it may be any result, and read only once.
    """
    if session.dispatch.do_orm_execute:
        return None
    return [each for chunk in result.chunks(None) for each in chunk]

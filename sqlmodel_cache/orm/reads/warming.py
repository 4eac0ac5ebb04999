"""`warm`: rows read for those who come after."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, overload

from sqlalchemy import Select, inspect, select
from sqlalchemy.orm import Mapper, Session

from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.orm.model.plan import plan_of
from sqlmodel_cache.orm.reads.many import check_async, check_sync, fetch, listed
from sqlmodel_cache.orm.reads.options import OURS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

AT_ONCE: Final = 500  # rows of one round trip, and of one query


@overload
def warm(session: Session, model: Select[Any]) -> int: ...


@overload
def warm(session: Session, model: type[Any], keys: Iterable[Any]) -> int: ...


def warm(session: Session, model: Any, keys: Any = None) -> int:
    """Have rows in the cache; return how many were stored for it.

    `warm(session, Hero, [1, 2])` takes primary keys, each as `session.get()` takes it;
    `warm(session, select(Hero).where(...))` takes the rows of a select, and asks for their keys
    first. Reads as `get_many` does, 500 rows at a time: one round trip for those that are there,
    one query for the others.

    Give it a session of its own: what a session holds already is left alone. One that is new reads
    each part in a transaction that ends with it; in one that runs already, REPEATABLE READ and
    SERIALIZABLE show a snapshot, of which nothing is stored.

    Raises as `get_many` does, and ConfigurationError for a model that is not cached and for a
    select of anything but one model.
    """
    check_sync("warm", session)
    # Nobody can tell that such a session was rolled back.
    end = _nothing if session.in_transaction() or session.identity_map else session.rollback
    if isinstance(model, type):
        _check_cached(model)
        return _store(session, model, listed(model, keys), end)
    mapper = _selected(model, keys)
    _check_cached(mapper.class_)
    found = _keys_of(session, model, mapper)
    end()
    return _store(session, mapper.class_, found, end)


@overload
async def awarm(session: AsyncSession, model: Select[Any]) -> int: ...


@overload
async def awarm(session: AsyncSession, model: type[Any], keys: Iterable[Any]) -> int: ...


async def awarm(session: AsyncSession, model: Any, keys: Any = None) -> int:
    """Like `warm`, for an `AsyncSession`."""
    check_async("awarm", session)
    warm_it: Callable[..., int] = warm
    return await session.run_sync(warm_it, model, keys)


def _selected(statement: Any, keys: object) -> Mapper[Any]:
    if isinstance(statement, Select) and keys is None:
        described = statement.column_descriptions
        entity = described[0].get("entity")
        if len(described) == 1 and described[0]["expr"] is entity and isinstance(entity, type):
            return inspect(entity)
    raise ConfigurationError("warm(): give it a model and keys, or a select() of one model")


def _check_cached(model: Any) -> None:
    if plan_of(model) is None:
        raise ConfigurationError(f"warm({model.__name__}): the model is not cached")


def _keys_of(session: Session, statement: Select[Any], mapper: Mapper[Any]) -> list[Any]:
    """Return the primary keys that a select selects: its order and options stay as they are."""
    rows = statement.subquery()
    key: list[Any] = [rows.corresponding_column(each) for each in mapper.primary_key]  # type: ignore[arg-type]
    where = {"mapper": mapper}
    found = session.execute(select(*key), execution_options=OURS, bind_arguments=where)
    return [tuple(row) for row in found]


def _store(session: Session, model: Any, keys: list[Any], end: Callable[[], object]) -> int:
    stored = 0
    for start in range(0, len(keys), AT_ONCE):
        stored += fetch(session, model, keys[start : start + AT_ONCE])[1]
        end()
    return stored


def _nothing() -> None:
    pass

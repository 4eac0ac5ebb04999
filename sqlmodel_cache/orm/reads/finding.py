"""`get_by`: one row by a unique key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.orm.binding import binding_of, cache_of
from sqlmodel_cache.orm.model.plan import Plan, plan_of
from sqlmodel_cache.orm.reads.decide import NO_OPTIONS, check_configured
from sqlmodel_cache.orm.reads.many import check_async, check_sync

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")


def get_by(session: Session, model: type[T], /, **values: Any) -> T | None:
    """Return the row of `model` with these values of a unique key, None if there is none.

    `get_by(session, User, email="ann@example.com")`; the key must stand in the model's
    `CacheConfig(unique=...)`, or be its primary key. What `session.exec(select(User).where(...))`
    does too.

    Raises ConfigurationError before `configure()`, for a model that is not cached and for
    attributes that are no such key.
    """
    check_sync("get_by", session)
    plan = plan_of(model)
    if plan is None:
        raise ConfigurationError(
            f"get_by({model.__name__}): the model is not cached; use a select()"
        )
    _check_names(plan, values.keys())
    if cache_of(binding_of(session)) is None:
        check_configured(plan, NO_OPTIONS)
    where = [getattr(model, name) == value for name, value in values.items()]
    found: T | None = session.execute(select(model).where(*where)).unique().scalar_one_or_none()
    return found


async def aget_by(session: AsyncSession, model: type[T], /, **values: Any) -> T | None:
    """Like `get_by`, for an `AsyncSession`."""
    check_async("aget_by", session)
    return await session.run_sync(lambda plain: get_by(plain, model, **values))


def _check_names(plan: Plan, names: Iterable[str]) -> None:
    given = set(names)
    keys = [plan.key, *(unique.attributes for unique in plan.uniques)]
    if given not in [set(key) for key in keys]:
        shown = ", ".join(sorted(given)) or "nothing"
        known = "; ".join(", ".join(key) for key in keys)
        raise ConfigurationError(
            f"get_by({plan.name}): ({shown}) is no unique key of it; known are: {known}. Name it in"
            f" CacheConfig(unique=...) of {plan.name}, or use a select()"
        )

"""A mapper, as the cache sees it: compiled once, asked on every call.

A row's key is made of its *root*: the mapper whose table holds the whole hierarchy's primary
key. One identity has one key, whichever class of the hierarchy it is asked through. What a
`select()` of one mapper loads of another's row is a `View`; a payload is always one view's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Table, Uuid, inspect
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import ColumnProperty, Mapper

from sqlmodel_cache.config import CacheConfig
from sqlmodel_cache.events import Bypass, logger
from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.model.policy import compiled, config_of, opted_in
from sqlmodel_cache.orm.model.steps import (
    JOINED,
    NotTheSame,
    Step,
    has_own_eager,
    joins_collections,
    steps_of,
)
from sqlmodel_cache.orm.model.uniques import Unique, uniques_of

# What a user who asked for caching would not expect, and what to do about it.
SURPRISING = {
    Bypass.EAGER: "its eager relationships cannot be loaded one by one with the same outcome as by"
    " a load (docs/configuration.md has the list); make one lazy='select' to cache the row",
    Bypass.EXPRESSION: "a column_property() is a SQL expression; defer it to cache the row",
    Bypass.SELECTABLE: "it is mapped to something that is not a table",
}

_COMPILED = compiled.name
_REMEMBERED = 100  # ways to load one model, besides a plain get


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The columns that `select(asked)` loads of a row of `mapper`, in a fixed order."""

    mapper: Mapper[Any]
    columns: tuple[ColumnProperty[Any], ...]  # loaded with the row
    expired: tuple[str, ...]  # of the class, but not of this view: loaded on access


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How one mapped class is cached. `blocked` is set where it never can be.

    `steps` are the relationships that a `get()` loads too; `steps_elsewhere` those that a lazy
    load does, by its path, or a `get()` with loader options, by what they say; None where lazy
    loads would not bring the same.
    """

    mapper: Mapper[Any]
    config: CacheConfig
    root: Mapper[Any]
    identity_class: type[Any]
    blocked: Bypass | None
    key: tuple[str, ...]  # the attributes of the primary key, in its order
    steps: tuple[Step, ...]
    uniques: tuple[Unique, ...]
    joins_collections: bool  # results of a select() of it insist on unique()
    keyed_by_uuid: bool  # a part of its key may be spelt as text
    steps_elsewhere: dict[Any, tuple[Step, ...] | None] = field(default_factory=dict)

    def remembered(
        self, key: Any, work_out: Callable[[], tuple[Step, ...] | None]
    ) -> tuple[Step, ...] | None:
        """Return the steps known under `key`, worked out the first time."""
        try:
            return self.steps_elsewhere[key]
        except KeyError:
            if len(self.steps_elsewhere) >= _REMEMBERED:
                self.steps_elsewhere.clear()
            found = self.steps_elsewhere[key] = work_out()
            return found

    @property
    def name(self) -> str:
        """The model's name in stats, logs and errors."""
        return self.mapper.class_.__name__

    @property
    def table(self) -> str:
        """The table that names this row in keys."""
        return table_name(self.root)


def plan_of(entity: Any) -> Plan | None:
    """Return the plan of a mapped class or mapper; None if it did not opt in.

    What is no mapped class at all has no plan either: SQLAlchemy says it best.
    """
    try:
        plan: Plan | None = entity.__dict__[_COMPILED]
        return plan
    except (KeyError, AttributeError):
        pass
    cls = entity if isinstance(entity, type) else getattr(entity, "class_", None)
    if not isinstance(cls, type):
        return None
    if cls is not entity and cls in compiled:  # a mapper was given
        known: Plan | None = compiled[cls]
        return known
    try:
        mapper: Mapper[Any] = inspect(cls)
    except NoInspectionAvailable:
        return None
    made: Plan | None = compiled.setdefault(cls, compile_plan(mapper))
    return made


def plans() -> list[Plan]:
    """Return the plans of every mapped class that opted in, by name."""
    mapped = (mapper.class_ for mapper in _sqlalchemy.all_mappers())
    found = (plan_of(cls) for cls in mapped if opted_in(cls))
    return sorted((plan for plan in found if plan is not None), key=lambda plan: plan.name)


def compile_plan(mapper: Mapper[Any]) -> Plan | None:
    """Work out everything about `mapper` that no call can change."""
    config = config_of(mapper.class_)
    if config is None:
        return None
    blocked = _blocked(mapper, config)
    steps = None if blocked else _steps(mapper, config)
    if steps is None and blocked is None:
        blocked = Bypass.EAGER
    if blocked in SURPRISING:
        logger.warning(
            "%s is not answered from the cache (%s): %s",
            mapper.class_.__name__,
            blocked.value,
            SURPRISING[blocked],
            extra={"cache_model": mapper.class_.__name__, "cache_reason": blocked.value},
        )
    identity_class = _sqlalchemy.identity_class(mapper)
    key = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
    return Plan(
        mapper,
        config,
        root_of(mapper),
        identity_class,
        blocked,
        key,
        steps or (),
        uniques_of(mapper, config),
        joins_collections(mapper),
        any(isinstance(column.type, Uuid) for column in mapper.primary_key),
    )


def root_of(mapper: Mapper[Any]) -> Mapper[Any]:
    """Return the mapper whose table names this identity: the base, or a concrete class itself."""
    while mapper.inherits is not None and not mapper.concrete:
        mapper = mapper.inherits
    return mapper


def table_name(mapper: Mapper[Any]) -> str:
    """Return the full name of a root's own table."""
    return str(getattr(mapper.local_table, "fullname", mapper.local_table))


def hierarchy(plan: Plan) -> tuple[Mapper[Any], ...]:
    """Return every mapper whose rows can be found under a key of this plan."""
    united = unions(plan.root)
    return tuple(
        mapper
        for mapper in plan.root.self_and_descendants
        if root_of(mapper) is plan.root or mapper in united
    )


def unions(mapper: Mapper[Any]) -> frozenset[Mapper[Any]]:
    """Return the concrete mappers whose tables a `select(mapper)` unites with its own.

    Their rows live under keys of two roots, the base's and their own.
    """
    return frozenset(
        each for each in mapper.with_polymorphic_mappers if each.concrete and each is not mapper
    )


def view_of(asked: Mapper[Any], actual: Mapper[Any]) -> View:
    """Work out what `select(asked)` loads of a row that turns out to be an `actual`."""
    if asked is actual or not actual.isa(asked):
        asked = actual
    loaded = {
        column
        for mapper in (asked, *asked.with_polymorphic_mappers)
        for prop in mapper.column_attrs
        for column in prop.columns
    }
    # A discriminator without an attribute is selected, and put into no instance.
    own = [prop for prop in actual.column_attrs if prop.instrument and not prop.deferred]
    columns = tuple(prop for prop in own if any(column in loaded for column in prop.columns))
    rest = tuple(prop.key for prop in own if prop not in columns)
    return View(actual, columns, rest)


def _blocked(mapper: Mapper[Any], config: CacheConfig) -> Bypass | None:
    if not config.enabled:
        return Bypass.MODEL_OFF
    if mapper.always_refresh:
        return Bypass.ALWAYS_REFRESH
    united = unions(mapper)
    for each in mapper.self_and_descendants:
        if root_of(each) is not root_of(mapper) and each not in united:
            continue
        if not isinstance(each.local_table, Table):
            return Bypass.SELECTABLE
        if each.polymorphic_load == "selectin" and each is not mapper:
            return Bypass.EAGER
        if has_own_eager(each, mapper):
            return Bypass.EAGER
        for prop in each.column_attrs:
            if prop.deferred or isinstance(prop.columns[0], Column):
                continue
            if prop.instrument or not each.concrete:  # a union's discriminator is in no table
                return Bypass.EXPRESSION
    return None


def _steps(mapper: Mapper[Any], config: CacheConfig) -> tuple[Step, ...] | None:
    """Return what a load of `mapper` loads too, None if lazy loads would not bring the same."""
    try:
        steps = steps_of(mapper, _sqlalchemy.mapper_path(mapper))
    except NotTheSame:
        return None
    # "No such row" may mean that the row to join is not there, of which we would not hear.
    inner = any(step.prop.lazy in JOINED and step.prop.innerjoin for step in steps)
    return None if inner and config.negative_ttl else steps

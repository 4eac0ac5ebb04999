"""Relationships remembered as lists of keys, and the tables whose writers must tell of them.

Such a list is the result of a query (`orm/queries/`): it depends on stamps, which the writers of
its tables send. Those are the tables of the target's hierarchy, and an association table, of
which no class need be mapped. A process that has not configured its mappers cannot know where a
relationship leads; until then every cached model is taken for a target.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, MetaData, Table
from sqlalchemy.orm import Mapper, RelationshipProperty

from sqlmodel_cache.config import CacheConfig
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.orm import _strategies
from sqlmodel_cache.orm.model.policy import config_of, opted_in

_NEVER_A_LIST: Final = frozenset({"dynamic", "write_only", "noload", "raise", "raise_on_sql", None})


class Reach(NamedTuple):
    """Of which tables lists are made.

    `known`: every relationship is resolved. `columns`: those that tell the lists of one target
    apart, by table. `associations`: tables between two sides; `perhaps`: those that may be.
    """

    known: bool
    columns: dict[Table, set[Column[Any]]]
    associations: tuple[Table, ...]
    perhaps: dict[Table, None]

    def concerns(self, table: object) -> bool:
        """Tell whether rows of `table` are in a list."""
        return table in self.columns


def reach_of(mappers: Iterable[Mapper[Any]]) -> Reach:
    """Return what the collections of these mappers, all opted in, depend on."""
    unknown: set[MetaData] = set()
    known = True
    columns: dict[Table, set[Column[Any]]] = {}
    associations: dict[Table, None] = {}
    for mapper in mappers:
        config = config_of(mapper.class_)
        if config is None or not config.collections:
            continue
        if not mapper.configured:
            known = False
            for other in mapper.registry.mappers:
                if isinstance(other.local_table, Table):
                    unknown.add(other.local_table.metadata)
            continue
        for prop in _named(mapper, config):
            for table in prop.mapper.tables:
                if isinstance(table, Table):
                    columns.setdefault(table, set())
            for column in prop.remote_side:
                if isinstance(column, Column) and isinstance(column.table, Table):
                    columns.setdefault(column.table, set()).add(column)
            if isinstance(prop.secondary, Table):
                associations[prop.secondary] = None
    perhaps = {table: None for each in unknown for table in each.tables.values()}
    return Reach(known, columns, tuple(associations), perhaps)


def check(mapper: Mapper[Any], config: CacheConfig) -> None:
    """Raise ConfigurationError, naming model, relationship and remedy, for the first wrong one."""
    for name in config.collections:
        why = _why_not(mapper, name)
        if why is not None:
            raise ConfigurationError(
                f"{mapper.class_.__name__}.__cache_config__: collections names {name!r}, {why}"
            )


def _named(mapper: Mapper[Any], config: CacheConfig) -> Iterable[RelationshipProperty[Any]]:
    return (
        mapper.relationships[name] for name in config.collections if _why_not(mapper, name) is None
    )


def _why_not(mapper: Mapper[Any], name: str) -> str | None:
    prop = mapper.relationships.get(name)
    if prop is None:
        return "which is no relationship of it; name relationships"
    if _strategies.is_by_key(prop):
        return "which is looked up by key, and cached without being named; leave it out"
    if prop.lazy in _NEVER_A_LIST:
        return f"which has lazy={prop.lazy!r} and is never loaded as a list; leave it out"
    if _strategies.leads_to_alias(prop):
        return "which leads to an aliased class; leave it out"
    target = prop.mapper.class_
    if not opted_in(target):
        return f"whose target {target.__name__} is not cached; decorate it with @cached"
    return None

"""The unique keys that `CacheConfig(unique=...)` names, checked against mapper and table.

The text that names a value of one stands beside the primary keys of its model, under a prefix
that none of those has. So both share the model's shards, and what forgets the model forgets it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Index, Table, UniqueConstraint
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import ColumnProperty, Mapper

from sqlmodel_cache.config import CacheConfig
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.keys import escape


@dataclass(frozen=True, slots=True)
class Unique:
    """One unique key, in the order of its columns' names, so that every release spells it so."""

    attributes: tuple[str, ...]
    columns: tuple[Column[Any], ...]

    @property
    def prefix(self) -> str:
        """What the text of each of its values begins with."""
        return f"~{','.join(escape(column.name) for column in self.columns)}:"


def is_pointer(text: str) -> bool:
    """Tell whether the text of an entry is that of a unique key's value, and no primary key."""
    return (text.partition(":")[2] if text.startswith("@") else text).startswith("~")


def uniques_of(mapper: Mapper[Any], config: CacheConfig) -> tuple[Unique, ...]:
    """Return the unique keys of a mapper; those that cannot be are left out, see `check`."""
    found = (_unique(mapper, names) for names in _keys(config))
    return tuple(each for each in found if isinstance(each, Unique))


def check(mapper: Mapper[Any], config: CacheConfig) -> None:
    """Raise ConfigurationError, naming model, key and remedy, for the first that cannot be."""
    for names in _keys(config):
        found = _unique(mapper, names)
        if isinstance(found, str):
            shown = names[0] if len(names) == 1 else names
            raise ConfigurationError(
                f"{mapper.class_.__name__}.__cache_config__: unique={shown!r} {found}"
            )


def _keys(config: CacheConfig) -> Iterator[tuple[str, ...]]:
    for key in config.unique:
        yield key if isinstance(key, tuple) else (key,)


def _unique(mapper: Mapper[Any], names: tuple[str, ...]) -> Unique | str:
    """Return the unique key of these attributes, or why there is none."""
    pairs: list[tuple[str, Column[Any]]] = []
    for name in names:
        try:
            prop = mapper.get_property(name)
        except InvalidRequestError:
            return f"names {name!r}, which is no attribute of it; name mapped attributes"
        column = prop.columns[0] if isinstance(prop, ColumnProperty) else None
        if not isinstance(column, Column):
            return f"names {name!r}, which is no column; name attributes that are columns"
        if isinstance(prop, ColumnProperty) and prop.deferred:
            return f"names {name!r}, which is deferred; a hit could not compare it: load it eagerly"
        pairs.append((name, column))
    pairs.sort(key=lambda pair: pair[1].name)
    attributes, columns = zip(*pairs, strict=True)
    table = columns[0].table
    if not isinstance(table, Table) or not _is_unique(table, set(columns)):
        return (
            "has no unique constraint or index on just its columns in the table's metadata; add"
            " unique=True to the column or a UniqueConstraint to the table"
        )
    return Unique(attributes, columns)


def _is_unique(table: Table, columns: set[Column[Any]]) -> bool:
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint) and set(constraint.columns) == columns:
            return True
    return any(
        index.unique
        and set(index.columns) == columns
        and list(index.expressions) == list(index.columns)
        and not _is_partial(index)
        for index in table.indexes
    )


def _is_partial(index: Index) -> bool:
    said = index.dialect_kwargs
    return any(name.endswith("_where") and said[name] is not None for name in said)

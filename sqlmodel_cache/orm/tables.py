"""From a table that was written to the rows of cached models that this changes.

Built from mappers and foreign keys once, and again whenever a mapper is configured. A written
row of `table` is the row of a root if the table holds the root's primary key; a joined subclass's
table does, under names of its own. What the database itself does further down foreign keys
(`ON DELETE CASCADE`, `SET NULL`, `ON UPDATE ...`) is known only by table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Table
from sqlalchemy.orm import Mapper

from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.plan import root_of, table_name
from sqlmodel_cache.orm.policy import config_of

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Root:
    """The name of a root's table and the types of its primary key: all that a key needs."""

    name: str  # the root class, for counts and logs
    table: str
    types: tuple[TypeEngine[Any], ...]
    negative: bool  # some class of the hierarchy remembers rows that do not exist


@dataclass(frozen=True, slots=True)
class Target:
    """A root reached through one table: which of its columns hold the root's primary key."""

    root: Root
    pk: tuple[Column[Any], ...] | None  # None: rows of this table cannot be named


class TableMap:
    """Which cached models live in which tables, keyed by the tables' full names."""

    def __init__(self, mappers: Iterable[Mapper[Any]]) -> None:
        self._targets: dict[str, dict[str, Target]] = {}
        self._roots: dict[str, Root] = {}
        self._cascades: dict[tuple[str, bool], frozenset[str]] = {}
        for mapper in mappers:
            self._add(mapper)

    def roots(self) -> list[Root]:
        """Return every root of a cached model."""
        return list(self._roots.values())

    def targets(self, table: str) -> Iterable[Target]:
        """Return the roots that a write to `table` concerns; empty for uncached tables."""
        return self._targets.get(table, {}).values()

    def root(self, table: str) -> Root | None:
        """Return the root whose own table is `table`."""
        return self._roots.get(table)

    def knows(self, table: str) -> bool:
        """Tell whether a write to `table` can concern a cached model at all."""
        return table in self._targets

    def dependants(self, table: Table, *, deleted: bool) -> frozenset[str]:
        """Return roots' tables that the database may change by itself after this write.

        `deleted`: the write removes rows; otherwise it changes their keys.
        """
        key = (table.fullname, deleted)
        if key not in self._cascades:
            self._cascades[key] = frozenset(
                target.root.table
                for name in _cascade(table, deleted)
                for target in self.targets(name)
            )
        return self._cascades[key]

    def _add(self, mapper: Mapper[Any]) -> None:
        root_mapper = root_of(mapper)
        name = table_name(root_mapper)
        pk = root_mapper.primary_key
        config = config_of(mapper.class_)
        known = self._roots.get(name)
        negative = bool(config and config.negative_ttl) or (known is not None and known.negative)
        model = root_mapper.class_.__name__
        root = Root(model, name, tuple(column.type for column in pk), negative)
        self._roots[name] = root
        lineage = [mapper]
        while lineage[-1] is not root_mapper and lineage[-1].inherits is not None:
            lineage.append(lineage[-1].inherits)
        for each in (*lineage, *mapper.self_and_descendants):
            if root_of(each) is root_mapper and isinstance(each.local_table, Table):
                columns = _key_columns(each, root_mapper)
                table = each.local_table
                self._targets.setdefault(table.fullname, {})[name] = Target(root, columns)
        for targets in self._targets.values():
            if name in targets:
                targets[name] = Target(root, targets[name].pk)


_current: TableMap | None = None


def table_map() -> TableMap:
    """Return the map for every cached mapper there is, built anew after one was added.

    Mappers need not be configured: a process that only writes may never do so.
    """
    global _current
    if _current is None:
        _current = TableMap(
            mapper for mapper in _sqlalchemy.all_mappers() if config_of(mapper.class_) is not None
        )
    return _current


def forget_table_map() -> None:
    """Have the map built anew at the next question."""
    global _current
    _current = None


def referenced(table: Table) -> frozenset[str]:
    """Return the names of columns of `table` that foreign keys of other tables point at."""
    return frozenset(
        element.column.name
        for child in table.metadata.tables.values()
        for constraint in child.foreign_key_constraints
        if constraint.referred_table is table
        for element in constraint.elements
    )


def _key_columns(mapper: Mapper[Any], root: Mapper[Any]) -> tuple[Column[Any], ...] | None:
    """Return the columns of the mapper's own table that carry the root's key, in its order."""
    table = mapper.local_table
    if mapper is root or table is root.local_table:
        return tuple(column for column in root.primary_key if isinstance(column, Column))
    found = []
    for column in root.primary_key:
        attribute = mapper.get_property_by_column(column)
        here = [c for c in attribute.columns if isinstance(c, Column) and c.table is table]
        if not here:
            here = [
                fk.parent
                for c in getattr(table, "primary_key", ())
                for fk in c.foreign_keys
                if fk.column is column
            ]
        if not here:
            return None
        found.append(here[0])
    return tuple(found)


def _cascade(table: Table, deleted: bool) -> set[str]:
    """Return the names of tables that a delete (or key change) in `table` ripples into."""
    seen: set[str] = set()
    todo = [(table, deleted)]
    done: set[tuple[str, bool]] = set()
    while todo:
        parent, gone = todo.pop()
        if (parent.fullname, gone) in done:
            continue
        done.add((parent.fullname, gone))
        for child in parent.metadata.tables.values():
            for constraint in child.foreign_key_constraints:
                if constraint.referred_table is not parent:
                    continue
                action = (constraint.ondelete if gone else constraint.onupdate) or ""
                action = action.upper()
                if action in ("", "NO ACTION", "RESTRICT"):
                    continue
                seen.add(child.fullname)
                todo.append((child, gone and action == "CASCADE"))
    return seen

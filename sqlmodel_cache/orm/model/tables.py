"""From a table that was written to the rows of cached models that this changes.

Built from mappers and foreign keys once, and again whenever a mapper is configured. A written
row of `table` is the row of a root if the table holds the root's primary key; a joined subclass's
table does, under names of its own. What the database itself does further down foreign keys
(`ON DELETE CASCADE`, `SET NULL`, `ON UPDATE ...`) is known only by table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from sqlalchemy import Column, MetaData, Table, TableClause
from sqlalchemy.orm import Mapper

from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.model.collections import Reach, reach_of
from sqlmodel_cache.orm.model.conditions import Stamped, named_columns, stamped
from sqlmodel_cache.orm.model.plan import Plan, root_of, unions
from sqlmodel_cache.orm.model.policy import config_of, longest_local_ttls, opted_in
from sqlmodel_cache.orm.model.uniques import Unique, uniques_of

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Root:
    """The name of a root's table and the types of its primary key: all that a key needs."""

    name: str  # the root class, for counts and logs
    table: str
    types: tuple[TypeEngine[Any], ...]
    negative: bool  # some class of the hierarchy remembers rows that do not exist
    schemas: tuple[str | None, ...]  # those that its hierarchy's tables are declared in
    uniques: tuple[Unique, ...]  # by which rows of its hierarchy are looked up
    local_ttl: int  # the longest that a class of a table of this name has; 0: nobody keeps copies
    hash_keys: bool  # its rows' keys are hidden
    cls: Callable[[], type | None]  # a weak reference; None for a table that is no class's
    # Its hierarchy's tables, if results of queries are cached: their writers send stamps.
    stamped: tuple[Stamped, ...] = ()
    unasked: bool = False  # all its classes cache queries that nobody asks for

    def stamped_as(self, table: str) -> Stamped | None:
        """Return the table of its hierarchy with this name, without schema."""
        return next((each for each in self.stamped if each.table.name == table), None)


@dataclass(frozen=True, slots=True)
class Target:
    """A root reached through one table: which of its columns hold the root's primary key."""

    root: Root
    pk: tuple[Column[Any], ...] | None  # None: rows of this table cannot be named


class TableMap:
    """Which cached models live in which tables; made of all mappers, cached or not.

    Looked up by the Table itself: two databases may each have a `user`, of different shape. A
    Table that nobody mapped (reflected, say) stands for all of its name.
    """

    def __init__(self, mappers: Iterable[Mapper[Any]]) -> None:
        mapped = list(mappers)
        mappers = [mapper for mapper in mapped if opted_in(mapper.class_)]
        self._metadatas = {
            mapper.local_table.metadata
            for mapper in mapped
            if isinstance(mapper.local_table, Table)
        }
        self._roots: dict[Table, Root] = {}
        self._targets: dict[Table, list[Target]] = {}
        self._by_name: dict[str, list[Target]] = {}
        reach = reach_of(mappers)
        families: dict[Table, list[Mapper[Any]]] = {}
        for mapper in mappers:
            table = root_of(mapper).local_table
            if isinstance(table, Table):
                families.setdefault(table, []).append(mapper)
        self._local_ttls = longest_local_ttls(
            (table.fullname, mapper.class_) for table in families for mapper in families[table]
        )
        for table, family in families.items():
            self._add(table, family, reach)
        for table in reach.associations:
            self._add_association(table)
        for table in reach.perhaps:
            if table.fullname not in self._by_name:
                self._add_association(table, sure=False)
        self._named: dict[str, list[Root]] = {}
        for root in self._roots.values():
            self._named.setdefault(root.table, []).append(root)

    def roots(self) -> list[Root]:
        """Return every root of a cached model."""
        return list(self._roots.values())

    def root_of(self, mapper: Mapper[Any]) -> Root | None:
        """Return the root that a mapper's rows belong to, None if none of them is cached."""
        return self._roots.get(cast("Table", root_of(mapper).local_table))

    def roots_of(self, mapper: Mapper[Any]) -> list[Root]:
        """Return every root under whose keys rows of this mapper can be found."""
        here = mapper.local_table
        own = self.root_of(mapper)
        found = [] if own is None else [own]
        if isinstance(here, Table):
            found += [one.root for one in self._at(here) if one.root is not own]
        return found

    def roots_named(self, table: str) -> Sequence[Root]:
        """Return the roots whose own table has this full name: one in each database that has it."""
        return self._named.get(table, ())

    def targets(self, table: TableClause, default_schema: str | None = None) -> Sequence[Target]:
        """Return the roots that a write to `table` concerns; empty for uncached tables.

        `default_schema`: the one that a name without schema means in this database.
        """
        found = self._at(table) or self._by_name.get(table.fullname, ())
        if default_schema is None:
            return found
        if table.schema is None:
            other = f"{default_schema}.{table.name}"
        elif table.schema == default_schema:
            other = table.name
        else:
            return found
        return (*found, *self._by_name.get(other, ()))

    def dependants(self, table: TableClause, *, deleted: bool) -> frozenset[str]:
        """Return roots' tables that the database may change by itself after this write.

        `deleted`: the write removes rows; otherwise it changes their keys.
        """
        return frozenset(
            target.root.table
            for parent in self._described(table)
            for child in _cascade(parent, deleted)
            for target in self.targets(child)
        )

    def referrers(self, table: TableClause) -> frozenset[str]:
        """Return roots' tables that refer to `table`, whatever their foreign keys say."""
        return frozenset(
            target.root.table
            for parent in self._described(table)
            for child in _referring(parent)
            for target in self.targets(child)
        )

    def called(self, name: str, schema: str, default_schema: str | None) -> list[Table]:
        """Return the tables beside any mapped class that a text may call so, in any case.

        `schema` is empty where the text has none: then it may mean any.
        """
        wanted, where = name.casefold(), schema.casefold()
        default = (default_schema or "").casefold()
        return [
            table
            for metadata in self._metadatas
            for table in metadata.tables.values()
            if table.name.casefold() == wanted
            and (not where or (table.schema or default).casefold() == where)
        ]

    def referenced(self, table: TableClause) -> frozenset[str]:
        """Return names of columns of `table` that foreign keys of others point at."""
        return frozenset(
            element.column.name
            for parent in self._described(table)
            for child in parent.metadata.tables.values()
            for constraint in child.foreign_key_constraints
            if constraint.referred_table is parent
            for element in constraint.elements
        )

    def _described(self, table: TableClause) -> list[Table]:
        """Return the Tables that know the foreign keys to `table`: itself, or those of its name.

        What a migration writes as `table("team", column("id"))` is known to nobody else.
        """
        metadatas = {known.metadata for known in self._targets}
        own: MetaData | None = getattr(table, "metadata", None)
        where = {own} if own in metadatas else metadatas | {own}
        # By name also in its own: what the ORM executes has an annotated copy of the Table.
        return [
            m.tables[table.fullname] for m in where if m is not None and table.fullname in m.tables
        ]

    def _add(self, table: Table, family: list[Mapper[Any]], reach: Reach) -> None:
        configs = [config_of(mapper.class_) for mapper in family]
        root_mapper = root_of(family[0])
        root = self._roots[table] = Root(
            root_mapper.class_.__name__,
            table.fullname,
            tuple(column.type for column in root_mapper.primary_key),
            any(config is not None and config.negative_ttl for config in configs),
            _schemas(family),
            _uniques(family),
            self._local_ttls[table.fullname],
            any(config is not None and config.hash_keys for config in configs),
            ref(root_mapper.class_),
            _stamped(family, reach),
            all(config is not None and config.queries is True for config in configs),
        )
        for each in dict.fromkeys(member for mapper in family for member in _lineage(mapper)):
            here = each.local_table
            if isinstance(here, Table) and all(t.root is not root for t in self._at(here)):
                target = Target(root, _key_columns(each, root_of(each)))
                self._targets.setdefault(here, []).append(target)
                self._by_name.setdefault(here.fullname, []).append(target)

    def _add_association(self, table: Table, *, sure: bool = True) -> None:
        """Have the writers of a table that no cached class is mapped to tell of lists."""
        if table in self._targets:
            return
        key = tuple(table.primary_key.columns)
        root = self._roots[table] = Root(
            table.name,
            table.fullname,
            tuple(column.type for column in key),
            negative=False,
            schemas=(table.schema,),
            uniques=(),
            local_ttl=self._local_ttls.get(table.fullname, 0),
            hash_keys=any(self._hides(key.column.table) for key in table.foreign_keys),
            cls=_no_class,
            stamped=(stamped(table, None, sure=sure),),
        )
        target = Target(root, key or None)
        self._targets[table] = [target]
        self._by_name.setdefault(table.fullname, []).append(target)

    def _hides(self, table: TableClause) -> bool:
        return any(target.root.hash_keys for target in self._at(table))

    def _at(self, table: TableClause) -> Sequence[Target]:
        return self._targets.get(cast("Table", table), ())


def _schemas(family: Iterable[Mapper[Any]]) -> tuple[str | None, ...]:
    """Return the schemas of all tables of a hierarchy, each once, in an order of their own."""
    tables = (member.local_table for mapper in family for member in _lineage(mapper))
    found = {table.schema for table in tables if isinstance(table, Table)}
    return tuple(sorted(found, key=lambda schema: (schema is not None, schema)))


def _uniques(family: Iterable[Mapper[Any]]) -> tuple[Unique, ...]:
    """Return the unique keys of all classes of a hierarchy, each once."""
    found = {}
    for mapper in family:
        config = config_of(mapper.class_)
        for unique in () if config is None else uniques_of(mapper, config):
            found[unique.prefix] = unique
    return tuple(found.values())


def _no_class() -> None:
    """Stand for the class of a table that none is mapped to."""


def _stamped(family: Iterable[Mapper[Any]], reach: Reach) -> tuple[Stamped, ...]:
    """Return the tables of a hierarchy, each once; none if they are in no cached query or list."""
    members = [(mapper, config) for mapper in family if (config := config_of(mapper.class_))]
    tables = dict.fromkeys(each.local_table for mapper, _ in members for each in _lineage(mapper))
    sure = any(config.queries for _, config in members) or any(map(reach.concerns, tables))
    if not sure and reach.known:
        return ()
    named = {
        column
        for mapper, config in members
        if config.query_columns is not None
        for column in named_columns(mapper, config.query_columns)
    }
    own = any(config.query_columns is not None for _, config in members)
    return tuple(
        stamped(
            table,
            named if own else None,
            reach.columns.get(table, ()),
            sure=sure,
            known=table not in reach.perhaps,
        )
        for table in tables
        if isinstance(table, Table)
    )


def _lineage(mapper: Mapper[Any]) -> Iterator[Mapper[Any]]:
    """Yield the mappers, up to the root and down, whose tables hold parts of this one's rows."""
    root = root_of(mapper)
    above: Mapper[Any] | None = mapper
    while above is not None:
        yield above
        above = None if above is root else above.inherits
    # Through a union the base holds concrete rows under keys of its own. Whether there is one is
    # known once its mapper is configured; until then there may be.
    united = unions(root) if root.configured else frozenset(mapper.self_and_descendants)
    for each in mapper.self_and_descendants:
        if root_of(each) is root or each in united:
            yield each


_current: TableMap | None = None


def table_map() -> TableMap:
    """Return the map for every cached mapper there is, built anew after one was added.

    Mappers need not be configured: a process that only writes may never do so.
    """
    global _current
    found = _current
    if found is None:  # not read again below: a thread that maps a class forgets it
        found = _current = TableMap(_sqlalchemy.all_mappers())
    return found


def root_of_plan(plan: Plan) -> Root:
    """Return the root of a model that can be cached.

    Where somebody cleared the events of mappers, nobody has told the map of a class mapped since.
    """
    found = table_map().root_of(plan.mapper)
    if found is None:
        forget_table_map()
        found = table_map().root_of(plan.mapper)
    assert found is not None, "a model with a plan has a root"
    return found


def forget_table_map() -> None:
    """Have the map built anew at the next question."""
    global _current
    _current = None


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


def _referring(table: Table) -> set[Table]:
    """Return the tables with a foreign key to `table`, or to one of those."""
    seen: set[Table] = set()
    todo = [table]
    while todo:
        parent = todo.pop()
        for child in parent.metadata.tables.values():
            if child not in seen and any(
                constraint.referred_table is parent for constraint in child.foreign_key_constraints
            ):
                seen.add(child)
                todo.append(child)
    return seen


def _cascade(table: Table, deleted: bool) -> set[Table]:
    """Return the tables that a delete (or key change) in `table` ripples into."""
    seen: set[Table] = set()
    todo = [(table, deleted)]
    done: set[tuple[Table, bool]] = set()
    while todo:
        parent, gone = todo.pop()
        if (parent, gone) in done:
            continue
        done.add((parent, gone))
        for child in parent.metadata.tables.values():
            for constraint in child.foreign_key_constraints:
                if constraint.referred_table is not parent:
                    continue
                action = (constraint.ondelete if gone else constraint.onupdate) or ""
                action = action.upper()
                if action in ("", "NO ACTION", "RESTRICT"):
                    continue
                seen.add(child)
                todo.append((child, gone and action == "CASCADE"))
    return seen

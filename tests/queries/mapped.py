"""A blueprint as mapped classes, tables and the rows that every example begins with."""

from __future__ import annotations

from datetime import date
from enum import Enum
from itertools import product
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    Uuid,
    event,
    insert,
    text,
)
from sqlalchemy import Enum as EnumType
from sqlalchemy.orm import DeclarativeBase, configure_mappers, relationship

from sqlmodel_cache import cached
from tests.queries.blueprints import Blueprint, ColumnPlan, RefPlan, TablePlan
from tests.queries.places import Plain


class Mood(Enum):
    """Values of the columns of kind enum."""

    SAD = "sad"
    GLAD = "glad"
    CALM = "calm"


_TYPES: dict[str, Any] = {
    "int": Integer,
    "bool": Boolean,
    "text": lambda: String(20),
    "date": Date,
    "enum": lambda: EnumType(Mood, native_enum=False),
    "uuid": Uuid,
}
VALUES: dict[str, tuple[Any, ...]] = {
    "int": (0, 1, 2),
    "bool": (False, True),
    "text": ("a", "b", "A"),
    "date": (date(2026, 1, 1), date(2026, 1, 2), date(1999, 12, 31)),
    "enum": tuple(Mood),
    "uuid": (UUID(int=1), UUID(int=2), UUID(int=2**127)),
}
_COUNTERS = {
    "postgresql": "SELECT setval(pg_get_serial_sequence('{0}', 'id'), 50)",
    "mysql": "ALTER TABLE {0} AUTO_INCREMENT = 50",
}
_SERVER = {
    "int": "1",
    "text": "'b'",
    "date": "'2026-01-02'",
    "enum": "'GLAD'",
}


class Field(NamedTuple):
    """A column, or those of a foreign key, and all values that they may have."""

    name: str
    attributes: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    kind: str  # "ref" for a foreign key
    table: Table


class Entity(NamedTuple):
    """One mapped class as queries and writes see it."""

    name: str
    cls: Any
    base: str  # the entity at the top of its hierarchy
    table: Table
    key: tuple[str, ...]
    keys: tuple[tuple[Any, ...], ...]
    fields: dict[str, Field]
    refs: dict[str, tuple[str, str]]  # name of a reference: (its target, relationship to it)
    lists: dict[str, str]  # relationship: entity
    links: dict[str, str]  # many to many: entity
    constant: dict[str, Any]  # the discriminator of its rows
    joined: bool

    @property
    def own(self) -> list[Field]:
        """Return the fields in the table of its own."""
        return [field for field in self.fields.values() if field.table is self.table]


class Schema:
    """The classes of a blueprint in a place of their own."""

    def __init__(self, blueprint: Blueprint, place: Plain, number: int = 0) -> None:
        self.blueprint = blueprint
        self.number = number  # of its tables' names
        self.place = place
        self.engine = place.outside
        self.entities: dict[str, Entity] = {}
        self.links: Table | None = None
        self.options = {"cache": True} if blueprint.asks else {}

        class Base(DeclarativeBase):
            metadata = MetaData()

        self.base = Base
        self._collections: dict[str, list[str]] = {}
        for number, plan in enumerate(blueprint.tables):
            self._map(number, plan)
        if blueprint.links is not None:
            self._link(*blueprint.links)
        self._decorate()
        configure_mappers()
        self.base.metadata.create_all(self.engine)
        self._begin = self._first_rows()

    def __repr__(self) -> str:
        return repr(self.blueprint)

    def dispose(self) -> None:
        """Let everything go."""
        self.base.metadata.drop_all(self.engine)
        self.place.dispose()
        self.base.registry.dispose()

    def restart(self) -> None:
        """Put the first rows there, and no others, unseen by the library."""
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            for statement, parameters in self._begin:
                cursor.execute(statement, parameters)
            connection.driver_connection.commit()  # type: ignore[union-attr]
        finally:
            connection.close()

    def contents(self) -> dict[str, list[Any]]:
        """Return all rows of all tables as the driver has them."""
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            found = {}
            for table in self.base.metadata.sorted_tables:
                cursor.execute(f"SELECT * FROM {table.name}")
                found[table.name] = sorted(cursor.fetchall(), key=repr)
            connection.driver_connection.rollback()  # type: ignore[union-attr]
            return found
        finally:
            connection.close()

    def _map(self, number: int, plan: TablePlan) -> None:
        name = f"T{number}"
        columns: list[Column[Any]] = []
        fields: dict[str, tuple[tuple[str, ...], Any, str]] = {}
        constraints: list[ForeignKeyConstraint] = []
        refs = {ref.name: self._ref(plan, ref, columns, constraints, fields) for ref in plan.refs}
        key, keys = self._key(plan, columns, fields)
        for each in plan.columns:
            columns.append(_column(each))
            fields[each.name] = ((each.name,), _values(each), each.kind)
        spaces: dict[str, Any] = {"__tablename__": self._called(name), "__mapper_args__": {}}
        if plan.sub is not None:
            columns.append(Column("kind", String(9), nullable=False))
            arguments = {"polymorphic_on": "kind", "polymorphic_identity": "base"}
            spaces["__mapper_args__"] = arguments
        attributes = {column.name: column for column in columns}
        base = type(name, (self.base,), {**attributes, **spaces, "__table_args__": (*constraints,)})
        made = {n: Field(n, *each, base.__table__) for n, each in fields.items()}
        constant = {"kind": "base"} if plan.sub is not None else {}
        own = Entity(
            name, base, name, base.__table__, key, keys, made, {}, {}, {}, constant, joined=False
        )
        self.entities[name] = own
        if plan.sub is not None:
            self._map_sub(own, plan)
        for ref in plan.refs:
            self._relate(own, ref, refs[ref.name])

    def _map_sub(self, base: Entity, plan: TablePlan) -> None:
        assert plan.sub is not None
        name = f"{base.name}Sub"
        attributes: dict[str, Any] = {each.name: _column(each) for each in plan.sub.columns}
        arguments: dict[str, Any] = {"polymorphic_identity": "sub"}
        if plan.polymorphic:
            arguments["polymorphic_load"] = plan.polymorphic
        if plan.sub.joined:
            key = [Column(each, base.table.c[each].type, primary_key=True) for each in base.key]
            names = [f"{base.table.name}.{each}" for each in base.key]
            upwards = ForeignKeyConstraint(list(base.key), names, ondelete="CASCADE")
            attributes |= {column.name: column for column in key}
            attributes |= {"__tablename__": self._called(name), "__table_args__": (upwards,)}
        made = type(name, (base.cls,), {**attributes, "__mapper_args__": arguments})
        fields = {
            each.name: Field(each.name, (each.name,), _values(each), each.kind, made.__table__)
            for each in plan.sub.columns
        }
        self.entities[name] = base._replace(
            name=name,
            cls=made,
            table=made.__table__,
            fields={**base.fields, **fields},
            constant={"kind": "sub"},
            joined=plan.sub.joined,
        )

    def _ref(
        self,
        plan: TablePlan,
        ref: RefPlan,
        columns: list[Column[Any]],
        constraints: list[ForeignKeyConstraint],
        fields: dict[str, tuple[tuple[str, ...], Any, str]],
    ) -> list[Column[Any]]:
        target = self.entities.get(f"T{ref.target}")
        if target is None:  # itself; its key comes later
            key, keys, table = *_own_keys(plan), self._called(f"t{len(self._top())}")
            types = [_key_type(plan, each)() for each in key]
        else:
            key, keys, table = target.key, target.keys, target.table.name
            types = [target.table.c[each].type for each in key]
        names = [f"{ref.name}_{each}" for each in key]
        within = plan.key == "owned" and ref is plan.refs[0]
        made = [
            Column(
                name,
                type_,
                primary_key=within,
                nullable=ref.nullable,
                unique=(ref.one and len(names) == 1) or None,
            )
            for name, type_ in zip(names, types, strict=True)
        ]
        columns += made
        paths = [f"{table}.{each}" for each in key]
        constraints.append(ForeignKeyConstraint(names, paths, ondelete=ref.on_delete))
        nothing = ((None,) * len(names),) if ref.nullable else ()
        if not within:
            fields[ref.name] = (tuple(names), (*keys[:3], *nothing), "ref")
        return made

    def _called(self, name: str) -> str:
        return f"{name.lower()}_{self.number}"

    def _top(self) -> list[str]:
        return [each.name for each in self.entities.values() if each.name == each.base]

    def _key(
        self, plan: TablePlan, columns: list[Column[Any]], fields: Any
    ) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
        if plan.key != "owned":
            names, keys = _own_keys(plan)
            columns[:0] = [
                Column(name, _key_type(plan, name)(), primary_key=True) for name in names
            ]
            return names, keys
        owner = self.entities[f"T{plan.refs[0].target}"]
        names = tuple(f"{plan.refs[0].name}_{each}" for each in owner.key)
        columns.insert(len(names), Column("n", Integer, primary_key=True, autoincrement=False))
        return (*names, "n"), tuple((*k, n) for n, k in product((1, 2), owner.keys[:3]))

    def _relate(self, child: Entity, ref: RefPlan, columns: list[Column[Any]]) -> None:
        parent = self.entities[f"T{ref.target}"]
        up, down = f"{ref.name}_one", f"{child.name.lower()}_{ref.name}"
        condition = _same(child.cls, [c.name for c in columns], parent.cls, parent.key)
        child.refs[ref.name] = (parent.name, up)
        parent.lists[down] = child.name
        foreign = [getattr(child.cls, column.name) for column in columns]
        remote = [getattr(parent.cls, each) for each in parent.key]
        setattr(
            child.cls,
            up,
            relationship(
                parent.cls,
                primaryjoin=condition,
                foreign_keys=foreign,
                remote_side=remote,
                back_populates=down,
            ),
        )
        passive: Any = "all" if ref.passive and (ref.on_delete or not ref.nullable) else False
        setattr(
            parent.cls,
            down,
            relationship(
                child.cls,
                primaryjoin=condition,
                foreign_keys=foreign,
                remote_side=foreign,
                back_populates=up,
                passive_deletes=passive,
                uselist=not (ref.one and len(columns) == 1),
                order_by=[getattr(child.cls, each) for each in child.key],
            ),
        )
        self._collections.setdefault(parent.name, []).append(down)

    def _link(self, first: int, second: int) -> None:
        ends = [self.entities[f"T{number}"] for number in (first, second)]
        columns: list[Any] = []
        for side, end in zip("xy", ends, strict=True):
            names = [f"{side}_{each}" for each in end.key]
            columns += [
                Column(name, end.table.c[each].type, primary_key=True)
                for name, each in zip(names, end.key, strict=True)
            ]
            paths = [f"{end.table.name}.{each}" for each in end.key]
            columns.append(ForeignKeyConstraint(names, paths, ondelete="CASCADE"))
        self.links = Table(self._called("links"), self.base.metadata, *columns)
        joins = [
            _and(self.links.c[f"{side}_{each}"] == end.table.c[each] for each in end.key)
            for side, end in zip("xy", ends, strict=True)
        ]
        for name, other, (here, there), (near, far) in (
            ("linked_y", "linked_x", ends, joins),
            ("linked_x", "linked_y", ends[::-1], joins[::-1]),
        ):
            made = relationship(
                there.cls,
                secondary=self.links,
                primaryjoin=near,
                secondaryjoin=far,
                back_populates=other,
                order_by=[getattr(there.cls, each) for each in there.key],
            )
            setattr(here.cls, name, made)
            here.links[name] = there.name
            self._collections.setdefault(here.name, []).append(name)

    def _decorate(self) -> None:
        for name, entity in self.entities.items():
            plan = self.blueprint.tables[int(entity.base[1:])]
            lists = self._collections.get(entity.base, []) if plan.collections else []
            cached(
                queries="asked" if self.blueprint.asks else True,
                query_columns=plan.query_columns,
                collections=tuple(lists),
            )(self.entities[name].cls)

    def _first_rows(self) -> list[tuple[str, Any]]:
        """Return what empties the tables and fills them, as the driver gets it."""
        tables = self.base.metadata.sorted_tables
        sent: list[tuple[str, Any]] = [
            (f"DELETE FROM {table.name}", ()) for table in reversed(tables)
        ]

        def note(_c: Any, _k: Any, statement: str, parameters: Any, *_: Any) -> None:
            sent.append((statement, parameters))

        with self.engine.connect() as connection:
            counter = _COUNTERS.get(self.engine.dialect.name)
            for name in self._top():
                numbered = self.entities[name].key == ("id",) and self._plan(name).key == "int"
                if counter and numbered:
                    sent.append((counter.format(self._called(name)), ()))
            event.listen(connection, "before_cursor_execute", note)
            for name in self._top():
                entity = self.entities[name]
                sub = self.entities.get(f"{name}Sub")
                for number, key in enumerate(entity.keys[:3]):
                    chosen = sub if sub is not None and number == 1 else entity
                    for table, values in rows_of(self, chosen, key, number):
                        connection.execute(insert(table).values(**values))
            if self.links is not None:
                names = list(self.links.columns.keys())
                first, second = (self.entities[f"T{each}"] for each in self.blueprint.links or ())
                for x, y in ((0, 0), (0, 1), (1, 0)):
                    values = dict(zip(names, first.keys[x] + second.keys[y], strict=True))
                    connection.execute(insert(self.links).values(**values))
            connection.rollback()
        return sent

    def _plan(self, name: str) -> TablePlan:
        return self.blueprint.tables[int(self.entities[name].base[1:])]

    def unique(self, field: Field) -> bool:
        """Tell whether no two rows may have the same value of a field."""
        return len(field.attributes) == 1 and bool(field.table.c[field.attributes[0]].unique)


def rows_of(
    schema: Schema, entity: Entity, key: tuple[Any, ...], number: int
) -> list[tuple[Table, dict[str, Any]]]:
    """Return the values of a row in each table that holds a part of it."""
    names = dict(zip(entity.key, key, strict=True))
    found: dict[Table, dict[str, Any]] = {}
    base = schema.entities[entity.base]
    for table in dict.fromkeys((base.table, entity.table)):
        found[table] = {**names}
    if "kind" in base.table.c:
        found[base.table] |= entity.constant
    for field in entity.fields.values():
        if schema.unique(field) and number == 2:  # "A" may be "a" to the database
            values = field.values[-1]  # nothing
        elif field.kind == "ref":  # to the first two rows; those to itself, to nothing
            itself = entity.refs[field.name][0] == entity.base
            alone = schema.unique(field) and number
            values = field.values[-1] if itself or alone else field.values[number % 2]
        else:
            values = field.values[number % len(field.values)]
        found[field.table] |= dict(zip(field.attributes, values, strict=True))
    return list(found.items())


def _column(plan: ColumnPlan) -> Column[Any]:
    first = VALUES[plan.kind][1]
    more: dict[str, Any] = {}
    if plan.sets == "default":
        more["default"] = first
    elif plan.sets == "onupdate":
        more["onupdate"] = lambda: first
    elif plan.sets == "server" and plan.kind in _SERVER:
        more["server_default"] = text(_SERVER[plan.kind])
    return Column(
        plan.name,
        _TYPES[plan.kind](),
        nullable=plan.nullable,
        index=plan.index == "index",
        unique=plan.index == "unique" or None,
        **more,
    )


def _values(plan: ColumnPlan) -> tuple[tuple[Any, ...], ...]:
    nothing = ((None,),) if plan.nullable else ()
    return (*((each,) for each in VALUES[plan.kind]), *nothing)


def _own_keys(plan: TablePlan) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    if plan.key == "pair":
        return ("a", "b"), ((1, 1), (1, 2), (2, 1), (2, 2), (3, 1))
    numbers = range(1, 6)
    if plan.key == "uuid":
        return ("id",), tuple((UUID(int=each),) for each in numbers)
    if plan.key == "text":
        return ("id",), (("k",), ("l",), ("m:1",), ("K",), ("",))
    return ("id",), tuple((each,) for each in numbers)


def _key_type(plan: TablePlan, name: str) -> Any:
    return {"uuid": Uuid, "text": lambda: String(9)}.get(plan.key, Integer)


def _and(conditions: Any) -> Any:
    first, *rest = conditions
    for each in rest:
        first = first & each
    return first


def _same(child: Any, columns: list[str], parent: Any, key: tuple[str, ...]) -> Any:
    """Return the condition of a reference."""
    return _and(
        parent.__table__.c[there] == child.__table__.c[here]
        for here, there in zip(columns, key, strict=True)
    )

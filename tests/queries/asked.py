"""Generated queries: small data that fits a schema, made into a SELECT when it is used."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st
from sqlalchemy import (
    String,
    and_,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.orm import Session, aliased, joinedload, selectinload, subqueryload

from tests.queries.mapped import Entity, Field, Schema
from tests.queries.places import within


class Query(NamedTuple):
    """A question about an entity. `via`: a reference, relationship or field, as `kind` has it."""

    kind: str
    of: str
    where: list[Any]
    via: str = ""
    number: int = 0


_ANY = (
    "rows", "rows", "rows", "page", "columns", "count", "groups", "top", "self", "distinct",
    "window", "union", "union rows", "declared", "mixed", "alias", "key in",
)  # fmt: skip
_WITH_REF = ("join", "outer", "names", "exists", "below", "cte", "has", "any", "pairs")
_WITH_LIST = ("collection", "collection", "loaded", "members")


# -- strategies ------------------------------------------------------------------------------------


def atoms(entity: Entity, *, own: bool = False) -> list[tuple[str, str, Any]]:
    """Return every simple condition on an entity's fields; `own`: on those of its own table."""
    found: list[tuple[str, str, Any]] = []
    for field in entity.own if own else entity.fields.values():
        values = field.values
        found += [("=", field.name, value) for value in values for _ in range(2)]
        found += [("in", field.name, values[:2]), ("in", field.name, values[1:3])]
        found += [("in", field.name, ()), ("in", field.name, values), ("!=", field.name, values[0])]
        if field.kind in ("int", "text", "date"):
            found.append((">", field.name, values[0]))
    return found


def conditions(entity: Entity, *, own: bool = False) -> st.SearchStrategy[Any]:
    """Draw conditions that fit an entity."""
    simple = st.sampled_from(atoms(entity, own=own) or [("true", "", None)])
    several = st.lists(simple, min_size=1, max_size=2)
    joined = st.tuples(st.sampled_from(["and", "or", "not"]), several)
    return st.lists(simple | simple | joined, max_size=2)


def queries(entities: list[Entity]) -> st.SearchStrategy[Query]:
    """Draw queries about these entities."""
    return st.one_of([_queries_of(entity) for entity in entities])


def _queries_of(entity: Entity) -> st.SearchStrategy[Query]:
    kinds: list[tuple[str, str]] = []
    fields = list(entity.fields)
    for kind in _ANY:
        several = kind in ("groups", "top", "self", "distinct", "union", "window")
        kinds += [(kind, name) for name in (fields if several else [""])]
    kinds += [(kind, name) for kind in _WITH_REF for name in entity.refs]
    kinds += [(kind, name) for kind in _WITH_LIST for name in (*entity.lists, *entity.links)]
    kinds += [("one", name) for name in entity.refs] + [("get", "")]
    by_kind: dict[str, list[str]] = {}
    for kind, via in kinds:
        by_kind.setdefault(kind, []).append(via)
    weights = [kind for kind in (*_ANY, *_WITH_REF, *_WITH_LIST, "one", "get") if kind in by_kind]
    where = conditions(entity)

    @st.composite
    def drawn(draw: Any) -> Query:
        kind = draw(st.sampled_from(weights))
        via = by_kind[kind]
        return Query(
            kind,
            entity.name,
            draw(where),
            via[0] if len(via) == 1 else draw(st.sampled_from(via)),
            draw(st.integers(0, 2)),
        )

    return drawn()


# -- statements ------------------------------------------------------------------------------------


def condition(entity: Entity, said: Any, cls: Any) -> Any:
    """Return a condition in SQL, on `cls`, which is the entity's class or an alias of it."""
    kind, name, *rest = said
    if kind == "true":
        return literal_column("1") == 1
    if kind in ("and", "or", "not"):
        parts = [condition(entity, part, cls) for part in name]
        return {"and": and_, "or": or_}[kind](*parts) if kind != "not" else not_(and_(*parts))
    field, value = entity.fields[name], rest[0]
    columns = [getattr(cls, each) for each in field.attributes]
    if kind == "=":
        return and_(*(column == one for column, one in zip(columns, value, strict=True)))
    if kind == "in" and len(columns) == 1:
        return columns[0].in_([one for (one,) in value if one is not None])
    if kind == "in":
        whole = [each for each in value if None not in each]
        return tuple_(*columns).in_(whole) if whole else columns[0].in_([])
    if kind == "!=":
        return columns[0] != value[0]
    return columns[0] > value[0]


def statement(schema: Schema, said: Query) -> Any:
    """Return the SELECT of a query, None for what is an attribute or a `get()`."""
    if said.kind in ("get", "one", "collection"):
        return None
    entity = schema.entities[said.of]
    cls, number = entity.cls, said.number
    where = [condition(entity, each, cls) for each in said.where]
    keys = [getattr(cls, each) for each in entity.key]
    column = _column(entity, said.via)
    exact = _exact(schema, column)
    some = next(iter(entity.fields.values()))
    first = getattr(cls, some.attributes[0])
    order = (keys, [first.desc(), *keys], [each.desc() for each in keys])[number]
    match said.kind:
        case "rows":
            return select(cls).where(*where).order_by(*order)
        case "page":
            return select(cls).where(*where).order_by(*order).limit(2).offset(number)
        case "columns":
            return select(*keys, first).where(*where).order_by(*order)
        case "count":
            return select(func.count()).select_from(cls).where(*where)
        case "groups":
            groups = select(exact, func.count(), func.count(first)).where(*where)
            return groups.group_by(exact).order_by(exact)
        case "top":
            field = entity.fields[said.via]
            if field.kind not in ("int", "date", "text"):
                best = select(column).where(*where).order_by(column, *keys).limit(1)
            else:
                best = select(func.max(column)).where(*where)
            return select(cls).where(column == best.scalar_subquery()).order_by(*keys)
        case "self":
            other = aliased(cls)
            twin = getattr(other, column.key)
            theirs = [getattr(other, each) for each in entity.key]
            pairs = select(*keys, *theirs).join(other, column == twin)
            return pairs.where(*where).order_by(*keys, *theirs)
        case "distinct":
            return select(exact).where(*where).distinct().order_by(exact)
        case "window":
            over = func.row_number().over(partition_by=column, order_by=keys)
            return select(*keys, over).where(*where).order_by(*keys)
        case "union":
            both = select(exact).where(*where).union_all(select(exact)).subquery()
            return select(both).order_by(both.c[0])
        case "union rows":
            both = select(cls).where(*where).union(select(cls).where(first == some.values[0][0]))
            return select(cls).from_statement(both.order_by(*(each.key for each in keys)))
        case "declared":
            known = select(*keys).where(*where, text("1 = 1")).order_by(*keys)
            every = [each.cls for each in schema.entities.values()]
            return known.execution_options(cache_depends=every)
        case "mixed":
            return select(cls, first, func.length("a")).where(*where).order_by(*order)
        case "alias":
            other = aliased(cls)
            there = [condition(entity, each, other) for each in said.where]
            return select(other).where(*there).order_by(*(getattr(other, k) for k in entity.key))
        case "key in":
            few = entity.keys[number : number + 2]
            inside = keys[0].in_([key[0] for key in few])
            return select(cls).where(inside, *where).order_by(*keys)
        case "loaded":
            load = (selectinload, joinedload, subqueryload)[number]
            return select(cls).where(*where).order_by(*keys).options(load(getattr(cls, said.via)))
        case "members":
            has = getattr(cls, said.via).any if _many(cls, said.via) else getattr(cls, said.via).has
            return select(cls).where(has(), *where).order_by(*keys)
    return _with_parent(schema, entity, said, where, order)


def beside(schema: Schema, entity: Entity, via: str) -> tuple[Entity, Any, Any]:
    """Return where a reference leads to, its class or an alias of it, and what joins them."""
    parent = schema.entities[entity.refs[via][0]]
    there = aliased(parent.cls) if parent.base == entity.base else parent.cls
    pairs = zip(_names(entity, via), parent.key, strict=True)
    on = and_(*(getattr(entity.cls, here) == getattr(there, each) for here, each in pairs))
    return parent, there, on


def _with_parent(
    schema: Schema, entity: Entity, said: Query, where: list[Any], order: list[Any]
) -> Any:
    cls, number = entity.cls, said.number
    parent, there, on = beside(schema, entity, said.via)
    field = list(parent.fields.values())[number % len(parent.fields)]
    column = getattr(there, field.attributes[0])
    is_so = condition(parent, ("=", field.name, field.values[number % len(field.values)]), there)
    keys = [getattr(cls, each) for each in entity.key]
    theirs = [getattr(there, each) for each in parent.key]
    match said.kind:
        case "join":
            return select(cls).join(there, on).where(is_so, *where).order_by(*order)
        case "outer":
            return select(*keys, column).outerjoin(there, on).where(*where).order_by(*order)
        case "names":
            return select(column, *keys).select_from(cls).join(there, on).where(*where).order_by(
                *keys
            )  # fmt: skip
        case "exists":
            return select(there).where(exists().where(on, *where)).order_by(*theirs)
        case "below":
            ids = select(getattr(cls, _names(entity, said.via)[0])).where(*where)
            return select(there).where(theirs[0].in_(ids)).order_by(*theirs)
        case "cte":
            mine = [getattr(cls, each) for each in _names(entity, said.via)]
            counts = select(*mine, func.count().label("total")).where(*where).group_by(*mine).cte()
            same = and_(*(c == each for c, each in zip(counts.c, theirs, strict=False)))
            return select(column, counts.c.total).join(counts, same).order_by(*theirs)
        case "has":
            part = condition(parent, ("=", field.name, field.values[0]), parent.cls)
            has = getattr(cls, entity.refs[said.via][1]).has(part)
            return select(cls).where(has, *where).order_by(*order)
        case "any":
            down = f"{entity.base.lower()}_{said.via}"
            base = schema.entities[entity.base]
            inner = [condition(base, each, base.cls) for each in said.where if _fits(base, each)]
            relation = getattr(parent.cls, down)
            test = relation.any if _many(parent.cls, down) else relation.has
            top = [getattr(parent.cls, each) for each in parent.key]
            return select(parent.cls).where(test(and_(True, *inner))).order_by(*top)
    return select(cls, there).join(there, on).where(*where).order_by(*order)


def _column(entity: Entity, via: str) -> Any:
    field = entity.fields.get(via)
    return None if field is None else getattr(entity.cls, field.attributes[0])


def _exact(schema: Schema, column: Any) -> Any:
    """Return a column so that no two of its values are one.

    Of "a" and "A", MariaDB returns which it likes, and in any order.
    """
    is_text = column is not None and isinstance(column.type, String)
    return func.hex(column) if is_text and schema.engine.dialect.name == "mysql" else column


def _names(entity: Entity, ref: str) -> tuple[str, ...]:
    field: Field | None = entity.fields.get(ref)
    if field is not None:
        return field.attributes
    return tuple(each for each in entity.key if each.startswith(f"{ref}_"))


def _many(cls: Any, name: str) -> bool:
    return bool(getattr(cls, name).property.uselist)


def _fits(entity: Entity, said: Any) -> bool:
    """Tell whether all fields of a condition are an entity's."""
    kind, name, *_ = said
    if kind in ("and", "or", "not"):
        return all(_fits(entity, part) for part in name)
    return name in entity.fields


# -- answers ---------------------------------------------------------------------------------------


def answer(schema: Schema, session: Any, said: Query, made: Any) -> str:
    """Return what a session says to a query: each value with its type, rows with all columns.

    `made` is its statement, None where it is none.
    """
    entity = schema.entities[said.of]
    if made is None:
        key = entity.keys[said.number]
        owner = session.get(entity.cls, key if len(key) > 1 else key[0])
        name = entity.refs[said.via][1] if said.kind == "one" else said.via
        if said.kind == "get" or owner is None:
            return within(session, lambda plain: repr(_shown(plain, owner)))
        return within(session, lambda plain: repr(_shown(plain, getattr(owner, name))))
    result = session.execute(made, execution_options=schema.options)
    if said.kind == "loaded" and said.number == 1:
        result = result.unique()
    rows = result.all()
    return within(session, lambda plain: _told(plain, said, rows))


def _told(session: Session, said: Query, rows: Any) -> str:
    if said.kind == "loaded":
        rows = [(each, getattr(each, said.via)) for (each,) in rows]
    return repr([tuple(_shown(session, value) for value in row) for row in rows])


def _shown(session: Session, value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(session, each) for each in value]
    mapper = getattr(type(value), "__mapper__", None)
    if mapper is None:
        return value
    # An object that is let go would be read anew: that must not depend on the garbage collector.
    session.info.setdefault("kept", []).append(value)
    names = [each.key for each in mapper.column_attrs]
    return (type(value).__name__, *(getattr(value, each) for each in names))

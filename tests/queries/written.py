"""Generated writes: small data that fits a schema, done by a session when it is their turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st
from sqlalchemy import and_, bindparam, delete, insert, inspect, literal, select, text, update
from sqlalchemy.dialects.mysql import insert as upsert_mysql
from sqlalchemy.dialects.postgresql import insert as upsert_postgresql
from sqlalchemy.dialects.sqlite import insert as upsert_sqlite
from sqlalchemy.orm import Session

from tests.queries.asked import beside, condition, conditions
from tests.queries.mapped import Entity, Field, Schema


class Write(NamedTuple):
    """A write. `values`: of fields; `where`: of bulk writes; `via`: a reference or relationship."""

    kind: str
    of: str
    key: tuple[Any, ...]
    values: dict[str, tuple[Any, ...]]
    where: list[Any]
    via: str = ""
    number: int = 0


# -- strategies ------------------------------------------------------------------------------------


def writes(entities: list[Entity]) -> st.SearchStrategy[Write]:
    """Draw writes of these entities."""
    return st.one_of([_writes_of(entity) for entity in entities])


def _writes_of(entity: Entity) -> st.SearchStrategy[Write]:
    kinds = [name for name, one in _KINDS.items() if one.fits(entity) for _ in range(one.weight)]
    every = [(f.name, v) for f in entity.fields.values() for v in f.values]
    mine = [(field.name, value) for field in entity.own for value in field.values]
    lists = [*entity.lists, *entity.links]
    where = conditions(entity, own=entity.joined)
    key = st.sampled_from((*entity.keys, *entity.keys[:3]))  # those are there at first

    @st.composite
    def drawn(draw: Any) -> Write:
        kind = draw(st.sampled_from(kinds))
        values = mine if entity.joined and _KINDS[kind].own else every
        via = {"append": lists, "take out": lists}.get(kind, [])
        if kind in _WITH_REF:
            via = list(entity.refs)
        if kind.startswith("link"):
            via = list(entity.links)
        return Write(
            kind,
            entity.name,
            draw(key),
            dict(draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))) if values else {},
            draw(where) if kind in _WITH_WHERE else [],
            draw(st.sampled_from(via)) if via else "",
            draw(st.integers(0, 2)),
        )

    return drawn()


# -- what each does --------------------------------------------------------------------------------


def write(schema: Schema, session: Session, said: Write) -> Any:
    """Do one write in a session, flushed; return what it returns, if it returns anything."""
    found = _KINDS[said.kind].do(schema, session, schema.entities[said.of], said)
    session.flush()
    return found


def _attributes(entity: Entity, values: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    return {
        name: one
        for each, value in values.items()
        for name, one in zip(entity.fields[each].attributes, value, strict=True)
    }


def _whole(entity: Entity, said: Write) -> dict[str, Any]:
    """Return the attributes of a new row: what was said; where something must be, the first."""
    must = {f.name: f.values[0] for f in entity.fields.values() if f.values[-1][0] is not None}
    return _named(entity, said.key) | _attributes(entity, {**must, **said.values})


def _named(entity: Entity, key: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(entity.key, key, strict=True))


def _get(session: Session, entity: Entity, key: tuple[Any, ...]) -> Any:
    found = session.get(entity.cls, key if len(key) > 1 else key[0])
    session.info.setdefault("kept", []).append(found)
    return found


def _is(table: Any, entity: Entity, key: tuple[Any, ...]) -> Any:
    return and_(*(table.c[name] == one for name, one in _named(entity, key).items()))


def _add(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    base = schema.entities[entity.base]
    if _get(session, base, said.key) is None:
        made = entity.cls(**_whole(entity, said))
        session.info["kept"].append(made)
        session.add(made)


def _set(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    found = _get(session, entity, said.key)
    if found is not None:
        for name, value in _attributes(entity, said.values).items():
            setattr(found, name, value)


def _merge(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    given = _named(entity, said.key) | _attributes(entity, said.values)
    if _get(session, entity, said.key) is not None:
        session.merge(entity.cls(**given))


def _remove(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    found = _get(session, entity, said.key)
    if found is not None:
        session.delete(found)


def _rekey(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    found = _get(session, entity, said.key)
    if found is not None:
        for name, value in _named(entity, entity.keys[said.number + 2]).items():
            setattr(found, name, value)


def _move(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    target, up = entity.refs[said.via]
    found = _get(session, entity, said.key)
    parent = _get(session, schema.entities[target], schema.entities[target].keys[said.number])
    if found is not None and parent is not None:
        setattr(found, up, parent)


def _append(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    _change_list(schema, session, entity, said, joins=True)


def _take_out(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    _change_list(schema, session, entity, said, joins=False)


def _change_list(
    schema: Schema, session: Session, entity: Entity, said: Write, *, joins: bool
) -> None:
    other = schema.entities[{**entity.lists, **entity.links}[said.via]]
    owner = _get(session, entity, said.key)
    member = _get(session, other, other.keys[said.number])
    if owner is None or member is None:
        return
    known = getattr(owner, said.via)
    if not isinstance(known, list):
        setattr(owner, said.via, member if joins else None)
    elif joins and member not in known:
        known.append(member)
    elif not joins and member in known:
        known.remove(member)


def _link_values(schema: Schema, entity: Entity, said: Write) -> dict[str, Any]:
    assert schema.links is not None
    other = schema.entities[entity.links[said.via]]
    ends = said.key, other.keys[said.number]
    first, second = ends if said.via == "linked_y" else ends[::-1]
    return dict(zip(schema.links.columns.keys(), (*first, *second), strict=True))


def _link(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    values = _link_values(schema, entity, said)
    session.execute(insert(schema.links).values(**values))


def _unlink(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    assert schema.links is not None
    values = _link_values(schema, entity, said)
    where = [schema.links.c[name] == value for name, value in values.items()]
    session.execute(delete(schema.links).where(*where[: len(where) - said.number % 2]))


def _link_set(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    assert schema.links is not None
    values = list(_link_values(schema, entity, said).items())
    where = [schema.links.c[name] == value for name, value in values[:-1]]
    session.execute(update(schema.links).where(*where).values(dict(values[-1:])))


def _core_add(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    values = _whole(entity, said) | entity.constant
    if said.number == 2 and schema.blueprint.tables[int(entity.base[1:])].key == "int":
        del values["id"]
    session.connection().execute(insert(entity.table).values(**values))


def _core_set(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    values = _attributes(entity, said.values)
    if values:
        where = _is(entity.table, entity, said.key)
        session.connection().execute(update(entity.table).where(where).values(**values))


def _core_remove(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    table = schema.entities[entity.base].table
    session.connection().execute(delete(table).where(_is(table, entity, said.key)))


def _many_add(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    second = said._replace(key=entity.keys[4])
    rows = [_whole(entity, each) for each in (said, second) if each.key != said.key or each is said]
    session.execute(insert(entity.cls), rows)


def _by_key(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    values = _attributes(entity, said.values)
    if values:
        given = [_named(entity, key) | values for key in (said.key, entity.keys[0])]
        session.execute(update(entity.cls), given if said.number else given[:1])


def _expression(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    field = next(each for each in entity.own if each.kind == "int")
    column = getattr(entity.cls, field.name)
    where = [condition(entity, each, entity.cls) for each in said.where if said.number]
    if not said.number:
        where = [getattr(entity.cls, n) == v for n, v in _named(entity, said.key).items()]
    session.execute(update(entity.cls).where(*where).values({field.name: column + 1}))


_SYNCHRONIZE = ("auto", "fetch", False)


def _bulk_set(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    values = _attributes(entity, said.values)
    if values:
        session.execute(
            update(entity.cls).where(*_where(entity, said)).values(**values),
            execution_options={"synchronize_session": _SYNCHRONIZE[said.number]},
        )


def _bulk_remove(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    session.execute(
        delete(entity.cls).where(*_where(entity, said)),
        execution_options={"synchronize_session": _SYNCHRONIZE[said.number]},
    )


def _where(entity: Entity, said: Write) -> list[Any]:
    return [condition(entity, each, entity.cls) for each in said.where]


def _returning(schema: Schema, session: Session, entity: Entity, said: Write) -> Any:
    keys = [entity.table.c[each] for each in entity.key]
    values = _attributes(entity, said.values)
    if said.number == 0:
        made: Any = insert(entity.table).values(**_whole(entity, said), **entity.constant)
    elif said.number == 1 and values:
        made = update(entity.cls).where(*_where(entity, said)).values(**values)
    else:
        made = delete(entity.cls).where(*_where(entity, said))
    return sorted(map(tuple, session.execute(made.returning(*keys)).all()), key=repr)


_INSERTS: dict[str, Any] = {
    "postgresql": upsert_postgresql,
    "sqlite": upsert_sqlite,
    "mysql": upsert_mysql,
}


def _upsert(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    make = _INSERTS[schema.engine.dialect.name]
    values = _attributes(entity, said.values) if said.number else {}
    given: Any = make(entity.table).values(**_whole(entity, said), **entity.constant)
    if make is upsert_mysql and values:
        given = given.on_duplicate_key_update({name: given.inserted[name] for name in values})
    elif make is upsert_mysql:
        given = given.prefix_with("IGNORE")
    elif values:
        changes = {name: given.excluded[name] for name in values}
        given = given.on_conflict_do_update(index_elements=list(entity.key), set_=changes)
    else:
        given = given.on_conflict_do_nothing()
    session.execute(given)


def _joined_set(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    """Set what a row of another table says; MariaDB may set something there, too."""
    values = _attributes(entity, said.values)
    parent, there, on = beside(schema, entity, said.via)
    field, made = parent.own[0], update(entity.cls)
    if schema.engine.dialect.name == "mysql" and there is parent.cls and said.number == 2:
        more = zip(field.attributes, field.values[1], strict=True)
        both = {entity.table.c[name]: value for name, value in values.items()}
        both |= {parent.table.c[name]: value for name, value in more}
        made, values = update(entity.table).values(both), {}
    made = made.values(**values)
    if said.number:
        made = made.where(_is(entity.table, entity, said.key))
    _joined(session, made, parent, there, on, _SYNCHRONIZE[said.number])


def _joined_remove(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    parent, there, on = beside(schema, entity, said.via)
    _joined(session, delete(entity.cls), parent, there, on, False)  # no MariaDB says which


def _joined(
    session: Session, made: Any, parent: Entity, there: Any, on: Any, synchronize: Any
) -> None:
    field = parent.own[0]
    is_so = condition(parent, ("=", field.name, field.values[0]), there)
    options = {"synchronize_session": synchronize}
    session.execute(made.where(on, is_so), execution_options=options)


def _text_of(entity: Entity, said: Write, field: Field | None) -> tuple[str, list[Any]]:
    """Return the WHERE of a raw statement and its parameters: by key, or by a field's value."""
    table = entity.table
    named = _named(entity, said.key)
    if field is not None and said.number:
        named = dict(zip(field.attributes, field.values[0], strict=True))
    parts = [f"{name} = :w_{name}" for name in named]
    bound = [bindparam(f"w_{name}", one, type_=table.c[name].type) for name, one in named.items()]
    return " AND ".join(parts), bound


def _raw_set(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    values = _attributes(entity, said.values)
    if values:
        where, bound = _text_of(entity, said, entity.own[0])
        sets = ", ".join(f"{name} = :s_{name}" for name in values)
        bound += [
            bindparam(f"s_{name}", one, type_=entity.table.c[name].type)
            for name, one in values.items()
        ]
        statement = text(f"UPDATE {entity.table.name} SET {sets} WHERE {where}")
        session.execute(statement.bindparams(*bound))


def _raw_remove(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    base = schema.entities[entity.base]
    where, bound = _text_of(base, said, next(iter(base.fields.values())))
    session.execute(text(f"DELETE FROM {base.table.name} WHERE {where}").bindparams(*bound))


def _raw_replace(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    values = _whole(entity, said) | entity.constant
    table = entity.table
    bound = [bindparam(name, one, type_=table.c[name].type) for name, one in values.items()]
    given = ", ".join(f":{name}" for name in values)
    verb = "INSERT" if schema.engine.dialect.name == "postgresql" else "REPLACE"
    statement = text(f"{verb} INTO {table.name} ({', '.join(values)}) VALUES ({given})")
    session.execute(statement.bindparams(*bound))


def _driver_set(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    name = entity.own[0].attributes[0]
    session.connection().exec_driver_sql(f"UPDATE {entity.table.name} SET {name} = {name}")
    nullable = [each for each in entity.own if each.values[-1][0] is None and each.kind != "ref"]
    for field in nullable[:1]:
        session.connection().exec_driver_sql(f"UPDATE {entity.table.name} SET {field.name} = NULL")


def _from_select(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    values = _whole(entity, said) | entity.constant
    table = entity.table
    chosen = [literal(one, type_=table.c[name].type).label(name) for name, one in values.items()]
    session.execute(insert(table).from_select(list(values), select(*chosen)))


def _bulk_mappings(schema: Schema, session: Session, entity: Entity, said: Write) -> None:
    if said.number:
        session.bulk_insert_mappings(inspect(entity.cls), [_whole(entity, said)])
    elif said.values:
        given = _named(entity, said.key) | _attributes(entity, said.values)
        session.bulk_update_mappings(inspect(entity.cls), [given])


class _Kind(NamedTuple):
    do: Callable[[Schema, Session, Entity, Write], Any]
    weight: int = 1
    fits: Callable[[Entity], Any] = lambda entity: True
    own: bool = False  # it may set only what lies in the table of its class


def _plain(entity: Entity) -> bool:
    return not entity.joined


def _refers(entity: Entity) -> Any:
    return _plain(entity) and entity.refs


def _has_own(entity: Entity) -> bool:
    return bool(entity.own)


_KINDS: dict[str, _Kind] = {
    "set": _Kind(_set, 5),
    "add": _Kind(_add, 3),
    "remove": _Kind(_remove, 2),
    "merge": _Kind(_merge),
    "new key": _Kind(_rekey, 1, lambda entity: len(entity.keys) >= 5),
    "move": _Kind(_move, 2, lambda entity: entity.refs),
    "append": _Kind(_append, 1, lambda entity: entity.lists or entity.links),
    "take out": _Kind(_take_out, 1, lambda entity: entity.lists or entity.links),
    "link": _Kind(_link, 1, lambda entity: entity.links),
    "link away": _Kind(_unlink, 1, lambda entity: entity.links),
    "link set": _Kind(_link_set, 1, lambda entity: entity.links),
    "core add": _Kind(_core_add, 1, _plain),
    "core set": _Kind(_core_set, 1, _has_own, own=True),
    "core remove": _Kind(_core_remove),
    "many add": _Kind(_many_add),
    "by key": _Kind(_by_key),
    "expression": _Kind(
        _expression, 1, lambda entity: any(each.kind == "int" for each in entity.own)
    ),
    "bulk set": _Kind(_bulk_set, 2, _has_own, own=True),
    "bulk remove": _Kind(_bulk_remove, 1, _plain),
    "returning": _Kind(_returning, 1, _plain),
    "upsert": _Kind(_upsert, 1, _plain),
    "joined set": _Kind(_joined_set, 1, _refers),
    "joined remove": _Kind(_joined_remove, 1, _refers),
    "raw set": _Kind(_raw_set, 1, _has_own, own=True),
    "raw remove": _Kind(_raw_remove),
    "raw replace": _Kind(_raw_replace, 1, _plain),
    "driver set": _Kind(_driver_set, 1, _has_own),
    "from select": _Kind(_from_select, 1, _plain),
    "mappings": _Kind(_bulk_mappings),
}
_WITH_REF = {"move", "joined set", "joined remove"}
_WITH_WHERE = {"expression", "bulk set", "bulk remove", "returning"}

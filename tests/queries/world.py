"""Schemas, queries and writes for the oracle: everything a Hypothesis example is made of.

A schema has an organisation, teams and heroes, whose foreign keys, indexes and `query_columns`
differ; it is mapped once and used by many examples. Queries and writes are small data, made into
statements of a schema when they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import (
    Engine,
    ForeignKey,
    MetaData,
    and_,
    delete,
    exists,
    func,
    insert,
    not_,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column, relationship

from sqlmodel_cache import cached


@dataclass(frozen=True)
class Schema:
    """One set of mapped classes."""

    base: Any
    Team: Any
    Hero: Any


_ON_DELETE = (None, "CASCADE", "SET NULL")
_COLUMNS = (None, ("team_id",), ("rank", "flag", "team_id"), ("code", "rank"), ())


def make_schema(number: int) -> Schema:
    """Map the classes of one variant."""
    on_delete, columns = _ON_DELETE[number % 3], _COLUMNS[number % 5]

    class Base(DeclarativeBase):
        metadata = MetaData()

    @cached(queries=True, query_columns=columns and tuple(c for c in columns if c == "rank"))
    class Team(Base):
        __tablename__ = f"team_{number}"
        id: Mapped[int] = mapped_column(primary_key=True)
        rank: Mapped[int | None] = mapped_column(index=True)
        name: Mapped[str]

    @cached(queries=True, query_columns=columns)
    class Hero(Base):
        __tablename__ = f"hero_{number}"
        id: Mapped[int] = mapped_column(primary_key=True)
        team_id: Mapped[int | None] = mapped_column(
            ForeignKey(f"team_{number}.id", ondelete=on_delete)
        )
        rank: Mapped[int | None] = mapped_column(index=number % 2 == 0)
        flag: Mapped[bool] = mapped_column(index=number % 4 == 1, default=False)
        code: Mapped[str] = mapped_column(index=True, default="a")
        size: Mapped[int] = mapped_column(default=0, onupdate=lambda: 7 if number % 4 == 3 else 0)
        team = relationship(Team)

    return Schema(Base, Team, Hero)


SCHEMAS = [make_schema(number) for number in range(6)]
IDS = st.integers(1, 5)
TEAMS = st.integers(1, 3)
SMALL = st.integers(0, 2)
CODES = st.sampled_from("abA")
MAYBE = st.none() | TEAMS

# -- queries ---------------------------------------------------------------------------------------

_CONDITIONS = st.deferred(
    lambda: st.one_of(
        st.tuples(st.just("team"), MAYBE),
        st.tuples(st.just("teams"), st.lists(TEAMS, max_size=3)),
        st.tuples(st.just("rank"), st.none() | SMALL),
        st.tuples(st.just("ranks"), st.lists(SMALL, max_size=2)),
        st.tuples(st.just("above"), SMALL),
        st.tuples(st.just("flag"), st.booleans()),
        st.tuples(st.just("code"), CODES),
        st.tuples(
            st.sampled_from(["and", "or", "not"]), st.lists(_CONDITIONS, min_size=1, max_size=2)
        ),
    )
)
QUERIES = st.tuples(
    st.sampled_from(
        ["rows", "page", "columns", "count", "groups", "top", "join", "outer", "names", "exists",
         "below", "self", "cte", "distinct", "teams", "window"]
    ),
    st.lists(_CONDITIONS, max_size=2),
    SMALL,
)  # fmt: skip


def _condition(schema: Schema, said: tuple[str, Any], hero: Any) -> Any:
    kind, value = said
    match kind:
        case "team":
            return hero.team_id == value
        case "teams":
            return hero.team_id.in_(value)
        case "rank":
            return hero.rank == value
        case "ranks":
            return hero.rank.in_(value)
        case "above":
            return hero.rank > value
        case "flag":
            return hero.flag == value if value else hero.flag.is_(False)
        case "code":
            return hero.code == value
    parts = [_condition(schema, part, hero) for part in value]
    return {"and": and_, "or": or_}[kind](*parts) if kind != "not" else not_(parts[0])


def query(schema: Schema, said: tuple[str, Any, int]) -> Any:
    """Return the statement of a query."""
    kind, conditions, number = said
    Hero, Team = schema.Hero, schema.Team  # noqa: N806
    where = [_condition(schema, each, Hero) for each in conditions]
    order = (Hero.id, Hero.rank.desc(), Hero.code)[number], Hero.id
    match kind:
        case "rows":
            return select(Hero).where(*where).order_by(*order)
        case "page":
            return select(Hero).where(*where).order_by(*order).limit(2).offset(number)
        case "columns":
            return select(Hero.id, Hero.code, Hero.flag).where(*where).order_by(*order)
        case "count":
            return select(func.count()).select_from(Hero).where(*where)
        case "groups":
            groups = select(Hero.team_id, func.count(Hero.id), func.sum(Hero.rank)).where(*where)
            return groups.group_by(Hero.team_id).order_by(Hero.team_id)
        case "top":
            best = select(func.max(Hero.rank)).where(*where).scalar_subquery()
            return select(Hero).where(Hero.rank == best).order_by(Hero.id)
        case "join":
            joined = select(Hero).join(Team, Hero.team_id == Team.id).where(Team.rank == number)
            return joined.where(*where).order_by(*order)
        case "outer":
            joined = select(Hero.id, Team.name).outerjoin(Team, Hero.team_id == Team.id)
            return joined.where(*where, Hero.team_id.in_([1, 2])).order_by(*order)
        case "names":
            joined = select(Team.name, Hero.code, Hero.rank).join(Hero, Hero.team_id == Team.id)
            return joined.where(*where).order_by(Hero.id)
        case "exists":
            has = exists().where(Hero.team_id == Team.id, *where)
            return select(Team).where(has).order_by(Team.id)
        case "below":
            ids = select(Hero.team_id).where(*where)
            return select(Team).where(Team.id.in_(ids)).order_by(Team.name, Team.id)
        case "self":
            other = aliased(Hero)
            pairs = select(Hero.id, other.id).join(other, Hero.rank == other.rank)
            return pairs.where(*where).order_by(Hero.id, other.id)
        case "cte":
            counts = select(Hero.team_id, func.count().label("n")).where(*where)
            cte = counts.group_by(Hero.team_id).cte()
            return select(Team.name, cte.c.n).join(cte, cte.c.team_id == Team.id).order_by(Team.id)
        case "distinct":
            return select(Hero.rank).where(*where).distinct().order_by(Hero.rank)
        case "teams":
            return select(Team).where(Team.rank == number).order_by(Team.id)
    over = func.row_number().over(partition_by=Hero.team_id, order_by=(Hero.rank, Hero.id))
    return select(Hero.id, over).where(*where).order_by(Hero.id)


# -- writes ----------------------------------------------------------------------------------------

_VALUES = st.fixed_dictionaries(
    {}, optional={"team_id": MAYBE, "rank": st.none() | SMALL, "flag": st.booleans(), "code": CODES}
)
_ONE_WRITE = st.one_of(
    st.tuples(st.just("add"), IDS, _VALUES),
    st.tuples(st.just("set"), IDS, _VALUES),
    st.tuples(st.just("set"), IDS, _VALUES),
    st.tuples(st.just("remove"), IDS, st.just({})),
    st.tuples(st.just("core set"), IDS, _VALUES),
    st.tuples(st.just("core remove"), IDS, st.just({})),
    st.tuples(st.just("core add"), IDS, _VALUES),
    st.tuples(st.just("many add"), IDS, _VALUES),
    st.tuples(st.just("expression"), IDS, st.just({})),
    st.tuples(st.just("bulk set"), SMALL, _VALUES),
    st.tuples(st.just("bulk remove"), SMALL, st.just({})),
    st.tuples(st.just("bulk by key"), IDS, _VALUES),
    st.tuples(st.just("upsert"), IDS, _VALUES),
    st.tuples(st.just("raw"), IDS, st.just({})),
    st.tuples(st.just("new key"), IDS, st.just({})),
    st.tuples(st.just("team add"), TEAMS, st.fixed_dictionaries({"rank": SMALL})),
    st.tuples(st.just("team set"), TEAMS, st.fixed_dictionaries({"rank": st.none() | SMALL})),
    st.tuples(st.just("team rename"), TEAMS, st.just({})),
    st.tuples(st.just("team remove"), TEAMS, st.just({})),
)
# What a session does: writes, each perhaps in a savepoint that may be rolled back; then the end.
TRANSACTIONS = st.tuples(
    st.lists(
        st.tuples(_ONE_WRITE, st.sampled_from(["", "", "keep", "drop"])), min_size=1, max_size=3
    ),
    st.sampled_from(["commit", "commit", "commit", "rollback"]),
    st.booleans(),  # it reads the queries itself before its end
)


def write(schema: Schema, session: Session, said: tuple[str, int, dict[str, Any]]) -> None:
    """Do one write in a session, flushed."""
    kind, number, values = said
    Hero, Team = schema.Hero, schema.Team  # noqa: N806
    values = dict(values)
    if kind in _OF_ROWS:
        _OF_ROWS[kind](schema, session, number, values)
    elif kind == "raw":
        session.execute(text(f"UPDATE {Hero.__tablename__} SET rank = 1 WHERE id = {number}"))
    elif kind == "expression":
        session.execute(update(Hero).where(Hero.id == number).values(rank=Hero.rank + 1))
    elif kind == "bulk set":
        if values:
            session.execute(update(Hero).where(Hero.rank == number).values(**values))
    elif kind == "bulk remove":
        session.execute(delete(Hero).where(Hero.rank == number))
    elif kind == "team add":
        if session.get(Team, number) is None:
            session.add(Team(id=number, name="n", **values))
    else:
        team = session.get(Team, number)
        if team is not None and kind == "team set":
            team.rank = values["rank"]
        elif team is not None and kind == "team rename":
            team.name += "x"
        elif team is not None:
            session.delete(team)
    session.flush()


def _add(schema: Schema, session: Session, number: int, values: dict[str, Any]) -> None:
    if session.get(schema.Hero, number) is None:
        session.add(schema.Hero(id=number, **values))


def _set(schema: Schema, session: Session, number: int, values: dict[str, Any]) -> None:
    hero = session.get(schema.Hero, number)
    for name, value in values.items() if hero is not None else ():
        setattr(hero, name, value)


def _remove(schema: Schema, session: Session, number: int, values: dict[str, Any]) -> None:
    hero = session.get(schema.Hero, number)
    if hero is not None:
        session.delete(hero)


def _core_set(schema: Schema, session: Session, number: int, values: dict[str, Any]) -> None:
    table = schema.Hero.__table__
    if values:
        session.connection().execute(update(table).where(table.c.id == number).values(**values))


def _core_remove(schema: Schema, session: Session, number: int, values: dict[str, Any]) -> None:
    table = schema.Hero.__table__
    session.connection().execute(delete(table).where(table.c.id == number))


def _core_add(schema: Schema, session: Session, number: int, values: dict[str, Any]) -> None:
    session.connection().execute(insert(schema.Hero.__table__).values(**values))


def _many_add(schema: Schema, session: Session, number: int, values: dict[str, Any]) -> None:
    session.execute(insert(schema.Hero), [values, values])


def _by_key(schema: Schema, session: Session, number: int, values: dict[str, Any]) -> None:
    if values:
        session.execute(update(schema.Hero), [{"id": number, **values}])


def _upsert(schema: Schema, session: Session, number: int, values: dict[str, Any]) -> None:
    statement = upsert(schema.Hero).values(id=number, **{"rank": 1, **values})
    statement = statement.on_conflict_do_update(
        index_elements=["id"], set_={"rank": statement.excluded.rank}
    )
    session.execute(statement)


def _new_key(schema: Schema, session: Session, number: int, values: dict[str, Any]) -> None:
    hero = session.get(schema.Hero, number)
    free = session.execute(select(func.max(schema.Hero.id)), execution_options={"cache": False})
    if hero is not None:
        hero.id = (free.scalar() or 0) + 1


_OF_ROWS: dict[str, Callable[[Schema, Session, int, dict[str, Any]], None]] = {
    "add": _add,
    "set": _set,
    "remove": _remove,
    "core set": _core_set,
    "core remove": _core_remove,
    "core add": _core_add,
    "many add": _many_add,
    "bulk by key": _by_key,
    "upsert": _upsert,
    "new key": _new_key,
}


# -- reading ---------------------------------------------------------------------------------------


def answer(session: Session, statement: Any, **options: Any) -> list[tuple[Any, ...]]:
    """Return what a statement finds, instances as the values of their columns."""
    return [
        tuple(map(_shown, row)) for row in session.execute(statement, execution_options=options)
    ]


def _shown(value: Any) -> Any:
    table = getattr(type(value), "__table__", None)
    if table is None:
        return value
    return (type(value).__name__, *(getattr(value, column.key) for column in table.columns))


def empty(schema: Schema, engine: Engine) -> None:
    """Remove every row, unseen by the library; then put a few there."""
    team, hero = schema.Team.__tablename__, schema.Hero.__tablename__
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        for statement in (
            f"DELETE FROM {hero}",
            f"DELETE FROM {team}",
            f"INSERT INTO {team} (id, rank, name) VALUES (1, 0, 'x'), (2, 1, 'y')",
            f"INSERT INTO {hero} (id, team_id, rank, flag, code, size) VALUES"
            " (1, 1, 0, 0, 'a', 0), (2, 1, 1, 1, 'b', 0), (3, 2, NULL, 0, 'A', 0),"
            " (4, NULL, 2, 1, 'a', 0)",
        ):
            cursor.execute(statement)
        connection.driver_connection.commit()  # type: ignore[union-attr]
    finally:
        connection.close()

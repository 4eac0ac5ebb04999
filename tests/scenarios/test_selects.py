"""`select(Model).where(primary key)` is served as a get is (B29's one exception)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlmodel
from sqlalchemy import (
    ForeignKey,
    String,
    and_,
    bindparam,
    create_engine,
    event,
    func,
    inspect,
    literal,
    not_,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.exc import (
    InvalidRequestError,
    MultipleResultsFound,
    NoResultFound,
    ResourceClosedError,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    defer,
    load_only,
    mapped_column,
    relationship,
    undefer,
    with_loader_criteria,
)
from sqlmodel.ext.asyncio.session import AsyncSession as SQLModelAsyncSession

from sqlmodel_cache import SQLModelCache, cached, get_many
from tests.equivalence.snapshot import snapshot
from tests.recording import Commands, stable_id
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import (
    Animal,
    Cat,
    Circle,
    Dog,
    Draft,
    Engineer,
    Fleeting,
    Hero,
    Memo,
    Note,
    Person,
    Seat,
    Shape,
    Team,
    Token,
    Town,
    Word,
)

CommandStats = Callable[[], AbstractContextManager[Commands]]

ONE_ROW: dict[str, Callable[[Any], Any]] = {
    "where": lambda pk: select(Hero).where(Hero.id == pk),
    "filter": lambda pk: select(Hero).filter(Hero.id == pk),
    "filter_by": lambda pk: select(Hero).filter_by(id=pk),
    "the other way round": lambda pk: select(Hero).where(pk == Hero.id),
    "the table's column": lambda pk: select(Hero).where(Hero.__table__.c.id == pk),  # type: ignore[attr-defined]
    "IN of one": lambda pk: select(Hero).where(Hero.id.in_([pk])),
    "sqlmodel": lambda pk: sqlmodel.select(Hero).where(Hero.id == pk),
    "literal": lambda pk: select(Hero).where(Hero.id == literal(pk, Hero.__table__.c.id.type)),  # type: ignore[attr-defined]
}


def one(world: World, statement: Any, **how: Any) -> Any:
    """Return what a statement finds in a new session: one instance or None, detached."""
    with world.session() as session:
        return session.scalars(statement, **how).one_or_none()


def hit(world: World, statement: Any, **how: Any) -> Any:
    """Return the same; it must send no SQL."""
    with world.no_sql():
        return one(world, statement, **how)


def miss(world: World, statement: Any, **how: Any) -> Any:
    """Return the same; it must send one SELECT."""
    with world.one_select():
        return one(world, statement, **how)


# Which statements


@pytest.mark.parametrize("spelling", ONE_ROW)
@on_sqlite
def test_a_select_by_key_fills_and_hits(world: World, spelling: str) -> None:
    """In each spelling: the first asks the database and stores, the second asks nobody else."""
    pk = world.store(Hero(name="Ann"))
    assert miss(world, ONE_ROW[spelling](pk)).name == "Ann"
    assert hit(world, ONE_ROW[spelling](pk)).name == "Ann"
    assert world.hit(Hero, pk).name == "Ann"
    models = world.stats().models["Hero"]
    assert (models.hits, models.misses, models.fills) == (2, 2, 1)  # Hero 0 was asked for first


def test_a_select_hits_what_a_get_stored(world: World) -> None:
    """One entry for both, on every database."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    assert hit(world, select(Hero).where(Hero.id == pk)).name == "Ann"


def test_a_committed_write_is_seen_by_the_next_select(world: World) -> None:
    """By the unit of work, and by an UPDATE."""
    pk = world.store(Hero(name="Ann"))
    statement = select(Hero).where(Hero.id == pk)
    one(world, statement)
    with world.session() as session:
        session.scalars(statement).one().name = "Bea"
        session.commit()
    assert miss(world, statement).name == "Bea"
    with world.session() as session:
        session.execute(update(Hero).where(Hero.id == pk).values(name="Cy"))
        session.commit()
    assert miss(world, statement).name == "Cy"
    assert hit(world, statement).name == "Cy"


@on_sqlite
def test_a_statement_that_is_kept_and_used_again(world: World) -> None:
    """A run leaves traces in the statement; it is recognised all the same."""
    pk = world.store(Hero(name="Ann"))
    statement = select(Hero).where(Hero.id == pk)
    miss(world, statement)
    hit(world, statement)
    str(statement)
    assert statement.selected_columns is not None
    hit(world, statement)
    hit(world, statement.execution_options(cache_ttl=7))
    miss(world, statement.order_by(Hero.name).where(Hero.power == 0))


@on_sqlite
def test_parameters_given_by_name(world: World) -> None:
    """`bindparam("pk")` takes its value from the call."""
    first, second = world.store(Hero(name="Ann"), Hero(name="Bea"))
    statement = select(Hero).where(Hero.id == bindparam("pk"))
    assert miss(world, statement, params={"pk": first}).name == "Ann"
    assert hit(world, statement, params={"pk": first}).name == "Ann"
    assert miss(world, statement, params={"pk": second}).name == "Bea"
    several = select(Hero).where(Hero.id.in_(bindparam("pks", expanding=True)))
    with world.session() as session, world.no_sql():
        found = session.scalars(several, {"pks": [second, first]}).all()
    assert [hero.name for hero in found] == ["Ann", "Bea"]


@pytest.mark.parametrize(
    "where",
    [
        lambda row, number: and_(Seat.row == row, Seat.number == number),
        lambda row, number: and_(Seat.number == number, Seat.row == row),
        lambda row, number: tuple_(Seat.row, Seat.number).in_([(row, number)]),
        lambda row, number: tuple_(Seat.number, Seat.row).in_([(number, row)]),
        lambda row, number: and_(Seat.line == row, and_(Seat.number == number)),
    ],
)
@on_sqlite
def test_composite_keys(world: World, where: Any) -> None:
    """Equalities in any order, or an IN of tuples; also by a synonym."""
    number = world.fresh
    world.store(Seat(row=1, number=number, name="aisle"), Seat(row=2, number=number))
    statement = select(Seat).where(where(1, number))
    assert miss(world, statement).name == "aisle"
    assert hit(world, statement).name == "aisle"
    assert world.hit(Seat, (1, number)).name == "aisle"
    miss(world, select(Seat).where(Seat.number == number, Seat.row > 1))


QUERIES: dict[str, Callable[[int], Any]] = {
    "another column": lambda pk: select(Hero).where(Hero.id == pk, Hero.power == 0),
    "or": lambda pk: select(Hero).where(or_(Hero.id == pk, Hero.id == -1)),
    "not": lambda pk: select(Hero).where(not_(Hero.id == -pk)).where(Hero.id == pk),
    "twice": lambda pk: select(Hero).where(Hero.id == pk, Hero.id == pk),
    "greater": lambda pk: select(Hero).where(Hero.id >= pk, Hero.id <= pk),
    "order_by": lambda pk: select(Hero).where(Hero.id.in_([pk])).order_by(Hero.name),
    "limit": lambda pk: select(Hero).where(Hero.id == pk).limit(1),
    "offset": lambda pk: select(Hero).where(Hero.id == pk).offset(0),
    "distinct": lambda pk: select(Hero).where(Hero.id == pk).distinct(),
    "group_by": lambda pk: select(Hero).where(Hero.id == pk).group_by(Hero.id),
    "having": lambda pk: select(Hero).where(Hero.id == pk).group_by(Hero.id).having(Hero.id > 0),
    "join": lambda pk: select(Hero).where(Hero.id == pk).outerjoin(Note, Note.id == Hero.id),
    "select_from": lambda pk: select(Hero).select_from(Hero).where(Hero.id == pk),
    "columns beside": lambda pk: select(Hero, Hero.name).where(Hero.id == pk),
    "columns only": lambda pk: select(Hero.id, Hero.name, Hero.power).where(Hero.id == pk),
    "a column": lambda pk: select(Hero.name).where(Hero.id == pk),
    "the table": lambda pk: select(Hero.__table__).where(Hero.id == pk),  # type: ignore[attr-defined]
    "count": lambda pk: select(func.count()).select_from(Hero).where(Hero.id == pk),
    "alias": lambda pk: (lambda h: select(h).where(h.id == pk))(aliased(Hero)),
    "another alias": lambda pk: (lambda h: select(Hero).where(h.id == pk, Hero.id == h.id))(
        aliased(Hero)
    ),
    "load_only": lambda pk: select(Hero).where(Hero.id == pk).options(load_only(Hero.name)),
    "defer": lambda pk: select(Hero).where(Hero.id == pk).options(defer(Hero.name)),
    "criteria": lambda pk: (
        select(Hero).where(Hero.id == pk).options(with_loader_criteria(Hero, Hero.name != "Bob"))  # type: ignore[arg-type]
    ),
    "for update": lambda pk: select(Hero).where(Hero.id == pk).with_for_update(),
    "hint": lambda pk: select(Hero).where(Hero.id == pk).with_statement_hint("", "oracle"),
    "prefix": lambda pk: select(Hero).where(Hero.id == pk).prefix_with("ALL"),
    "suffix": lambda pk: select(Hero).where(Hero.id == pk).suffix_with("-- x"),
    "labels": lambda pk: select(Hero).where(Hero.id == pk).set_label_style(_table_plus_column()),
    "text": lambda pk: select(Hero).where(text(f"id = {pk}")),
    "text too": lambda pk: select(Hero).where(Hero.id == pk, text("1 = 1")),
    "an expression": lambda pk: select(Hero).where(Hero.id == literal(pk) + 0),
    "a function": lambda pk: select(Hero).where(func.abs(Hero.id) == pk),
    "a subquery": lambda pk: select(Hero).where(
        Hero.id.in_(select(Hero.id).where(Hero.name == "Ann", Hero.id == pk))
    ),
    "as text": lambda pk: select(Hero).where(Hero.id == literal(str(pk), String)),
    "populate_existing": lambda pk: (
        select(Hero).where(Hero.id == pk).execution_options(populate_existing=True)
    ),
    "yield_per": lambda pk: select(Hero).where(Hero.id == pk).execution_options(yield_per=1),
    "schema": lambda pk: (
        select(Hero)
        .where(Hero.id == pk)
        .execution_options(schema_translate_map={"elsewhere": "nowhere"})
    ),
    "with a cte": lambda pk: (
        select(Hero)
        .where(Hero.id == pk)
        .add_cte(select(Note.id).where(Note.id == pk).cte("unused"))
    ),
    "correlate": lambda pk: select(Hero).where(Hero.id == pk).correlate(None),
    "from_statement": lambda pk: select(Hero).from_statement(select(Hero).where(Hero.id == pk)),
    "union": lambda pk: select(Hero).from_statement(
        select(Hero).where(Hero.id == pk).union(select(Hero).where(Hero.id == pk))
    ),
    "with_only": lambda pk: select(Hero).where(Hero.id == pk).with_only_columns(Hero.name),
    "no where": lambda pk: select(Hero),
}


def _table_plus_column() -> Any:
    from sqlalchemy import LABEL_STYLE_TABLENAME_PLUS_COL

    return LABEL_STYLE_TABLENAME_PLUS_COL


@pytest.mark.parametrize("name", QUERIES)
def test_b29_any_other_query_passes_through(
    make_world: Callable[..., World], commandstats: CommandStats, name: str
) -> None:
    """The same SQL and rows as without a cache, and nothing is asked of Redis or counted."""
    world = make_world("sync", "redis", "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    before = world.stats()
    statement = QUERIES[name](pk)
    with world.session() as session, commandstats() as commands, world.sql() as sent:
        found = session.execute(statement).all()
    assert commands == {}
    assert len(sent) == 1
    assert len(found) >= 1
    assert world.stats() == before
    SQLModelCache.reset()
    with world.session() as session, world.sql() as plain:
        session.execute(QUERIES[name](pk)).all()
    assert sent == plain


@on_sqlite
def test_the_model_and_its_neighbours(world: World) -> None:
    """Uncached models, Core tables, and columns of another class's are SQLAlchemy's alone."""
    pk = world.store(Note(name="n"))
    world.store(Hero(id=pk + 10_000, name="Ann"))
    before = world.stats()
    for _ in range(2):
        miss(world, select(Note).where(Note.id == pk))
    with world.session() as session, world.sql() as sent:
        session.execute(select(Note.__table__)).all()  # type: ignore[attr-defined]
        session.execute(text("SELECT 1"))
        session.execute(update(Note).where(Note.id == pk).values(name="m"))
    assert len(sent) == 3
    assert world.stats() == before


def test_switched_off_in_every_way(make_world: Callable[..., World]) -> None:
    """`cache=False` on statement, call, session and engine; `bypass()`; the innermost wins."""
    world = make_world("sync", "memory", "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    statement = select(Hero).where(Hero.id == pk)
    off = {"cache": False}
    miss(world, statement.execution_options(cache=False))
    miss(world, statement, execution_options=off)
    hit(world, statement.execution_options(cache=False), execution_options={"cache": True})
    with world.session(bind=world.engine.execution_options(cache=False)) as session:
        with world.one_select():
            session.scalars(statement).one()
        with world.no_sql():
            session.expunge_all()
            session.scalars(statement.execution_options(cache=True)).one()
    with SQLModelCache.bypass():
        miss(world, statement)
    assert world.stats().bypasses == {"cache_false": 3, "bypass_block": 1}


@on_sqlite
def test_the_ttl_of_a_statement(world: World) -> None:
    """`cache_ttl` on the statement stores where the model itself stores nothing."""
    pk = world.store(Fleeting(name="x"))
    statement = select(Fleeting).where(Fleeting.id == pk)
    miss(world, statement)
    miss(world, statement.execution_options(cache_ttl=60))
    hit(world, statement)


@on_sqlite
def test_asked_for_with_cache_true(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """`cache=True` on a select by key is no query that is "not cached yet"."""
    pk = world.store(Hero(name="Ann"))
    statement = select(Hero).where(Hero.id == pk).execution_options(cache=True)
    miss(world, statement)
    hit(world, statement)
    assert "query_cache" not in world.stats().bypasses
    assert not caplog.records


@on_sqlite
def test_before_configure_and_after_reset(world: World) -> None:
    """A select never raises for want of a configuration, and `reset()` gives the methods back."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    SQLModelCache.reset()
    assert not hasattr(Session.execute, "__wrapped__")
    for method in (Session.execute, Session.scalar, Session.scalars):
        assert method.__module__ == "sqlalchemy.orm.session"
        assert "sqlmodel_cache" not in method.__code__.co_filename
    miss(world, select(Hero).where(Hero.id == pk))


def test_somebody_else_wraps_the_method_too(make_world: Callable[..., World]) -> None:
    """Their wrapper survives `reset()`, ours inside it does nothing, and not twice after it."""
    world = make_world("sync", "memory", "sqlite")
    pk = world.store(Hero(name="Ann"))
    seen: list[Any] = []
    ours = Session.execute

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(args)
        return ours(self, *args, **kwargs)

    Session.execute = theirs  # type: ignore[method-assign, assignment]
    try:
        statement = select(Hero).where(Hero.id == pk)
        SQLModelCache.reset()
        assert Session.execute is theirs
        with world.session() as session, world.one_select():
            session.execute(statement).scalars().one()
        SQLModelCache.configure("memory://")
        for _ in range(2):
            with world.session() as session:
                session.execute(statement).scalars().one()
        assert (world.stats().hits, world.stats().misses) == (1, 1)
        assert len(seen) == 3
    finally:
        Session.execute = ours  # type: ignore[method-assign]
        SQLModelCache.reset()
    assert Session.execute.__module__ == "sqlalchemy.orm.session"
    assert not hasattr(Session.execute, "__wrapped__")


# What comes back


RESULTS: dict[str, Callable[[Any], Any]] = {
    "all": lambda r: [tuple(row) for row in r.all()],
    "one": lambda r: tuple(r.one()),
    "one_or_none": lambda r: r.one_or_none() and 1,
    "first": lambda r: r.first() and 1,
    "first, then closed": lambda r: (r.first() and 1, r.closed),
    "scalar": lambda r: r.scalar() is None,
    "scalar_one": lambda r: type(r.scalar_one()),
    "scalar_one_or_none": lambda r: type(r.scalar_one_or_none()),
    "scalars": lambda r: [type(each) for each in r.scalars()],
    "scalars.one": lambda r: type(r.scalars().one()),
    "scalars.unique": lambda r: [type(each) for each in r.scalars().unique().all()],
    "unique": lambda r: [type(row) for row in r.unique().all()],
    "mappings": lambda r: [(type(row), sorted(row)) for row in r.mappings().all()],
    "mappings.one": lambda r: sorted(r.mappings().one()),
    "by name": lambda r: [type(row.Hero) for row in r],
    "by key": lambda r: [type(row._mapping[Hero]) for row in r],
    "by text": lambda r: [type(row._mapping["Hero"]) for row in r],
    "fields": lambda r: [row._fields for row in r],
    "asdict": lambda r: [sorted(row._asdict()) for row in r],
    "no such name": lambda r: [row.Villain for row in r],
    "keys": lambda r: list(r.keys()),
    "columns": lambda r: [type(row) for row in r.columns(0)],
    "columns by name": lambda r: [len(row) for row in r.columns("Hero")],
    "columns by entity": lambda r: [len(row) for row in r.columns(Hero)],
    "partitions": lambda r: [[type(row) for row in part] for part in r.partitions(1)],
    "partitions of all": lambda r: [len(part) for part in r.partitions()],
    "scalars.partitions": lambda r: [len(part) for part in r.scalars().partitions(2)],
    "fetchone": lambda r: (bool(r.fetchone()), bool(r.fetchone()), r.closed),
    "fetchmany": lambda r: (len(r.fetchmany(1)), len(r.fetchmany(1)), r.closed),
    "fetchall": lambda r: (len(r.fetchall()), r.closed),
    "twice": lambda r: (len(r.all()), r.all()),
    "iterate": lambda r: len(list(r)),
    "yield_per": lambda r: [len(part) for part in r.yield_per(1).partitions()],
    "yield_per and all": lambda r: len(r.yield_per(5).all()),
    "yield_per and unique": lambda r: len(r.yield_per(1).unique().all()),
    "unique and yield_per": lambda r: len(r.unique().yield_per(1).all()),
    "freeze": lambda r: [type(row) for row in r.freeze()().all()],
    "freeze scalars": lambda r: [type(row) for row in r.scalars().freeze()().all()],
    "merge": lambda r: len(r.merge().all()),
    "with": lambda r: _inside(r),
    "close": lambda r: (r.close(), r.closed)[1],
    "closed": lambda r: (r.close(), r.all()),
    "open": lambda r: r.closed,
    "class": lambda r: type(r),
    "returns_rows": lambda r: getattr(r, "returns_rows", "no"),
    "rowcount": lambda r: getattr(r, "rowcount", "no"),
    "repr of a row": lambda r: [str(row).count("Hero") for row in r],
    "equal rows": lambda r: [row == tuple(row) for row in r],
}


def _inside(result: Any) -> Any:
    with result as inner:
        assert inner is result
        found = len(result.all())
    return found, result.closed


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_result_is_that_of_a_load(
    make_world: Callable[..., World], name: str, count: int
) -> None:
    """Every way to use a Result gives the same, errors included: no row, one, and two."""
    world = make_world("sync", "memory", "sqlite")
    pks = world.store(*(Hero(name=f"h{n}") for n in range(3)))[:count]
    statement = select(Hero).where(Hero.id.in_([*pks, -5]) if count != 1 else Hero.id == pks[0])
    for pk in pks:
        world.warm(Hero, pk)

    def outcome(**options: Any) -> Any:
        with world.session() as session:
            result = session.execute(statement, execution_options=options)
            try:
                return stable_id(_described(RESULTS[name](result)))
            except (
                AttributeError,
                InvalidRequestError,
                NoResultFound,
                MultipleResultsFound,
                ResourceClosedError,
            ) as error:
                return type(error), str(error)

    loaded = outcome(cache=False)
    assert outcome() == loaded
    if count == 1:
        with world.no_sql():
            outcome()


def _described(value: Any) -> Any:
    if isinstance(value, Hero):
        return "hero", value.id
    if isinstance(value, tuple | list):
        return type(value), [_described(each) for each in value]
    return value


@on_sqlite
def test_the_instance_is_that_of_a_load(world: World) -> None:
    """State, history, session and transaction: nothing tells a hit from a load."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    statement = select(Hero).where(Hero.id == pk)

    def seen(**options: Any) -> Any:
        with world.session() as session:
            hero = session.scalars(statement, execution_options=options).one()
            real = session if world.mode == "sync" else session._wrapped.sync_session
            return snapshot(real, hero)

    with world.no_sql():
        mine = seen()
    assert mine == seen(cache=False)


@pytest.mark.parametrize("name", ["execute", "scalars", "scalar", "exec"])
def test_each_method_of_sqlmodels_session(make_world: Callable[..., World], name: str) -> None:
    """`sqlmodel.Session` and its `exec`."""
    world = make_world("sync", "memory", "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    ways: dict[str, Callable[[Any], Any]] = {
        "exec": lambda session: session.exec(sqlmodel.select(Hero).where(Hero.id == pk)).one(),
        "scalars": lambda session: session.scalars(select(Hero).where(Hero.id == pk)).one(),
        "scalar": lambda session: session.scalar(select(Hero).where(Hero.id == pk)),
        "execute": lambda session: Session.execute(
            session, select(Hero).where(Hero.id == pk)
        ).scalar_one(),
    }
    with sqlmodel.Session(world.engine) as session, world.no_sql():
        assert ways[name](session).name == "Ann"


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_each_method_of_async_sessions(make_world: Callable[..., World], store: str) -> None:
    """`await session.execute`, `scalars`, `scalar`, `exec`; a stream goes to the database."""
    world = make_world("async", store, "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    statement = sqlmodel.select(Hero).where(Hero.id == pk)

    async def ask() -> None:
        async with AsyncSession(world.engine) as session:
            assert (await session.execute(statement)).scalar_one().name == "Ann"
        async with AsyncSession(world.engine) as session:
            assert (await session.scalars(statement)).one().name == "Ann"
        async with AsyncSession(world.engine) as session:
            assert (await session.scalar(statement)).name == "Ann"  # type: ignore[union-attr]
        async with SQLModelAsyncSession(world.engine) as exec_session:
            assert (await exec_session.exec(statement)).one().name == "Ann"

    async def stream() -> None:
        async with AsyncSession(world.engine) as session:
            result = await session.stream(statement)
            assert (await result.scalars().one()).name == "Ann"

    with world.no_sql():
        world.loop.run_until_complete(ask())
    with world.one_select():
        world.loop.run_until_complete(stream())


# In a session


@on_sqlite
def test_an_instance_that_is_here_already(world: World) -> None:
    """Loaded values stay as they are, also changed ones; what is expired is loaded."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    statement = select(Hero).where(Hero.id == pk)
    with world.session() as session:
        hero = session.get(Hero, pk)
        with world.no_sql():
            assert session.scalars(statement).one() is hero
        with session.no_autoflush:
            hero.name = "changed"
            with world.no_sql():
                assert session.scalars(statement).one() is hero
        assert hero.name == "changed"
        session.rollback()
        assert inspect(hero).expired
        with world.one_select():
            assert session.scalars(statement).one() is hero
            assert hero.name == "Ann"
        session.expire(hero, ["name"])
        with world.one_select():
            session.scalars(statement).one()
        with world.no_sql():
            assert hero.name == "Ann"


@on_sqlite
def test_an_instance_whose_row_is_gone(world: World) -> None:
    """Another's committed delete is seen, though the identity map still has the instance."""
    pk = world.store(Hero(name="Ann"))
    with world.session() as session:
        hero = session.get(Hero, pk)
        world.behind_the_back(f"DELETE FROM scenario_hero WHERE id = {pk}")
        SQLModelCache.invalidate(
            Hero, pk
        ) if world.mode == "sync" else world.loop.run_until_complete(
            SQLModelCache.ainvalidate(Hero, pk)
        )
        assert session.scalars(select(Hero).where(Hero.id == pk)).one_or_none() is None
        assert hero in session


@on_sqlite
def test_a_refresh_listener_hears_what_a_load_tells_it(world: World) -> None:
    """A load completes an instance that lacks something, and says so."""
    pk = world.store(Memo(title="t", body="b"))
    world.warm(Memo, pk)
    heard: list[Any] = []

    def on_refresh(memo: Any, context: Any, names: Any) -> None:
        heard.append(names)

    event.listen(Memo, "refresh", on_refresh)
    try:
        for option in ({"cache": False}, {}):
            with world.session() as session:
                session.get(Memo, pk)
                session.scalars(select(Memo).where(Memo.id == pk), execution_options=option).one()
    finally:
        event.remove(Memo, "refresh", on_refresh)
    assert len(heard) in (0, 2)


@on_sqlite
def test_own_writes_are_seen(world: World) -> None:
    """Flushed first, as by a load; then the touched row is the database's business."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    statement = select(Hero).where(Hero.id == pk)
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        with world.sql() as sent:
            assert session.scalars(statement).one().name == "Bea"
        assert [sql.split()[0] for sql in sent] == ["UPDATE", "SELECT"]
        session.expunge_all()
        assert session.scalars(statement).one().name == "Bea"
        session.rollback()
    assert hit(world, statement).name == "Ann"
    with world.session() as session:
        session.delete(session.get(Hero, pk))
        assert session.scalars(statement).one_or_none() is None
        new = Hero(name="new")
        session.add(new)
        session.flush()
        assert session.scalars(select(Hero).where(Hero.id == new.id)).one() is new
    assert sum(world.stats().bypasses.values()) == 4  # SQLite's driver has a transaction open


@on_sqlite
def test_autoflush_off(world: World) -> None:
    """`autoflush=False` on the statement or the call flushes nothing, hit or miss."""
    first, second = world.store(Hero(name="Ann"), Hero(name="Bea"))
    world.warm(Hero, first)
    for pk in (first, second):
        with world.session() as session, world.sql() as sent:
            session.add(Hero(name="pending"))
            statement = select(Hero).where(Hero.id == pk)
            session.scalars(statement, execution_options={"autoflush": False}).one()
            session.expunge_all()
        assert not sent.starting("INSERT")


@on_sqlite
def test_a_foreign_listener_is_asked(world: World) -> None:
    """Somebody's `do_orm_execute` may change the statement: the database answers."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)

    def hide(state: Any) -> None:
        if state.is_select:
            state.statement = state.statement.where(Hero.name != "Ann")

    event.listen(Session, "do_orm_execute", hide)
    try:
        assert miss(world, select(Hero).where(Hero.id == pk)) is None
    finally:
        event.remove(Session, "do_orm_execute", hide)
    assert world.stats().bypasses["do_orm_execute_hook"] == 1
    assert hit(world, select(Hero).where(Hero.id == pk)).name == "Ann"


def test_a_trusted_listener_that_executes_again(make_world: Callable[..., World]) -> None:
    """What a trusted listener runs itself is not looked up a second time."""
    world = make_world("sync", "memory", "sqlite", trust_orm_hooks=True)
    pk = world.store(Hero(name="Ann"))
    before = world.stats()

    def again(state: Any) -> Any:
        return state.invoke_statement()

    event.listen(Session, "do_orm_execute", again)
    try:
        assert miss(world, select(Hero).where(Hero.id == pk)).name == "Ann"
    finally:
        event.remove(Session, "do_orm_execute", again)
    after = world.stats()
    assert (after.misses - before.misses, after.fills - before.fills) == (1, 1)
    assert hit(world, select(Hero).where(Hero.id == pk)).name == "Ann"


def test_a_trusted_listener_with_a_result_of_its_own(make_world: Callable[..., World]) -> None:
    """It may return any result, which can be read once only: the caller reads it."""
    world = make_world("sync", "memory", "sqlite", trust_orm_hooks=True)
    pks = world.store(*(Town(name=f"t{n}") for n in range(2)))

    def frozen(state: Any) -> Any:
        return state.invoke_statement().freeze()()

    def other(state: Any) -> Any:
        return state.invoke_statement(execution_options={"prebuffer_rows": False})

    for listener in (frozen, other):
        event.listen(Session, "do_orm_execute", listener)
        try:
            for statement in (
                select(Town).where(Town.id == pks[0]),
                select(Town).where(Town.id.in_(pks)),  # type: ignore[union-attr]
                select(Town).where(Town.id.in_([-7, -8])),  # type: ignore[union-attr]
            ):
                with SQLModelCache.bypass(), world.session() as session:
                    wanted = [town.name for town in session.scalars(statement)]
                for _ in range(3):
                    with world.session() as session:
                        assert [town.name for town in session.scalars(statement)] == wanted
        finally:
            event.remove(Session, "do_orm_execute", listener)
        SQLModelCache.clear()
    for pk in pks:
        assert world.get(Town, pk) is not None


@on_sqlite
def test_a_miss_of_get_and_of_get_many_is_looked_up_once(world: World) -> None:
    """Their own SELECTs pass through the same methods of the session."""
    pks = world.store(Hero(name="Ann"), Hero(name="Bea"))
    before = world.stats().misses
    world.miss(Hero, pks[0])
    with world.session() as session:
        if world.mode == "sync":
            get_many(session, Hero, [pks[1]])
        else:
            session.run_sync(get_many, Hero, [pks[1]])
    assert world.stats().misses - before == 2
    assert world.stats().bypasses == {}


@on_sqlite
def test_a_session_that_cannot_be_read(world: World) -> None:
    """A failed flush is raised by the select, as without a cache."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as session:
        session.add(Hero(id=pk, name="again"))
        with pytest.raises(Exception, match=r"IntegrityError|UNIQUE"):
            session.scalars(select(Hero).where(Hero.id == pk))


@on_sqlite
def test_rows_that_do_not_exist(world: World) -> None:
    """An empty result; remembered where the model says so, and an insert ends it."""
    pk = world.store(Town(name="x"))
    with world.session() as session:
        session.delete(session.get(Town, pk))
        session.commit()
    statement = select(Town).where(Town.id == pk)
    assert miss(world, statement) is None
    assert hit(world, statement) is None
    world.store(Town(id=pk, name="back"))
    assert miss(world, statement).name == "back"


@on_sqlite
def test_keys_that_fit_without_loss_only(world: World) -> None:
    """Other values go to the database, which may or may not find the row."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    for value in (float(pk), True):
        miss(world, select(Hero).where(Hero.id == value))
    token = world.store(Token(name="t"))
    one(world, select(Token).where(Token.id == token))
    assert hit(world, select(Token).where(Token.id == token)).name == "t"


def test_text_keys_are_those_that_the_row_has(world: World) -> None:
    """`= 'ANN'` may find 'ann': only the row's own spelling is an entry."""
    lower = f"ann-{world.fresh}"
    world.store(Word(id=lower, name="x"))
    assert miss(world, select(Word).where(Word.id == lower)).name == "x"
    assert hit(world, select(Word).where(Word.id == lower)).name == "x"
    for _ in range(2):
        found = miss(world, select(Word).where(Word.id == lower.upper()))
        assert (found is not None) == (world.database == "mariadb")


@on_sqlite
def test_inheritance(world: World) -> None:
    """As get: the right class through its base, no row through a sibling."""
    cat = world.store(Cat(name="Tom", lives=9))
    world.warm(Animal, cat)
    assert type(hit(world, select(Animal).where(Animal.id == cat))) is Cat
    one(world, select(Cat).where(Cat.id == cat))
    assert hit(world, select(Cat).where(Cat.id == cat)).lives == 9
    assert one(world, select(Dog).where(Dog.id == cat)) is None
    person = world.store(Engineer(name="Ann", language="C"))
    one(world, select(Engineer).where(Engineer.id == person))
    assert hit(world, select(Engineer).where(Engineer.id == person)).language == "C"
    one(world, select(Person).where(Person.id == person))
    assert type(hit(world, select(Person).where(Person.id == person))) is Engineer
    world.store(Circle(id=int(world.fresh[:6], 16), name="c", radius=3))
    statement = select(Circle).where(Circle.id == int(world.fresh[:6], 16))
    one(world, statement)
    assert hit(world, statement).radius == 3
    assert one(world, select(Shape).where(Shape.id == int(world.fresh[:6], 16))) is None


@on_sqlite
def test_other_mappings(world: World) -> None:
    """Deferred columns stay deferred, versions are there, eager relationships are loaded."""
    memo = world.store(Memo(title="t", body="b"))
    statement = select(Memo).where(Memo.id == memo)
    one(world, statement)
    assert "body" not in vars(hit(world, statement))
    miss(world, statement.options(undefer(Memo.body)))
    draft = world.store(Draft(name="d"))
    one(world, select(Draft).where(Draft.id == draft))
    assert hit(world, select(Draft).where(Draft.id == draft)).version == 1
    team = world.store(Team(name="reds"))
    for selects in (2, 1):
        with world.session() as session, world.sql() as sent:
            found = session.scalars(select(Team).where(Team.id == team)).one()
            assert vars(found)["players"] == []
        assert len(sent) == selects


# IN


def test_in_is_one_round_trip_and_one_query(
    make_world: Callable[..., World], commandstats: CommandStats
) -> None:
    """All hits: one MGET and no SQL; a part of them: one SELECT for the rest, stored."""
    world = make_world("sync", "redis", "sqlite")
    pks = world.store(*(Hero(name=f"h{n}") for n in range(4)))
    world.warm(Hero, pks[0])
    statement = select(Hero).where(Hero.id.in_(pks))
    with world.session() as session, world.sql() as sent:
        found = session.scalars(statement).all()
        assert [hero.id for hero in found] == pks
    (only,) = sent
    assert only.count("?") == 3
    with world.session() as session, commandstats() as commands, world.no_sql():
        assert [hero.id for hero in session.scalars(statement)] == pks
    assert commands == {"mget": 1}


@on_sqlite
def test_in_with_every_kind_of_key(world: World) -> None:
    """Duplicates once, missing rows not at all, in the order of the keys."""
    pks = world.store(*(Hero(name=f"h{n}") for n in range(3)))
    statement = select(Hero).where(Hero.id.in_([pks[2], -1, pks[0], pks[2], pks[1]]))
    for _ in range(3):
        with world.session() as session:
            assert [hero.id for hero in session.scalars(statement)] == pks
    with world.session() as session:
        assert session.scalars(select(Hero).where(Hero.id.in_([]))).all() == []
        held = session.get(Hero, pks[1])
        session.expire(held)
        with world.sql() as sent:
            assert session.scalars(select(Hero).where(Hero.id.in_(pks))).all()[1] is held
        assert len(sent.starting("SELECT")) == 1
        with world.no_sql():
            assert held.name == "h1"


def test_in_with_text_keys(world: World) -> None:
    """Two spellings of one row are one row."""
    lower = f"ann-{world.fresh}"
    world.store(Word(id=lower, name="x"))
    world.warm(Word, lower)
    with world.session() as session:
        found = session.scalars(select(Word).where(Word.id.in_([lower, lower.upper()]))).all()
    assert [word.id for word in found] == [lower]


@on_sqlite
def test_in_with_a_touched_row(world: World) -> None:
    """What this transaction wrote comes from the database, the rest from the cache."""
    pks = world.store(*(Hero(name=f"h{n}") for n in range(3)))
    for pk in pks:
        world.warm(Hero, pk)
    with world.session() as session:
        session.execute(update(Hero).where(Hero.id == pks[1]).values(name="new"))
        found = session.scalars(select(Hero).where(Hero.id.in_(pks))).all()
        assert [hero.name for hero in found] == ["h0", "new", "h2"]


@on_sqlite
def test_a_row_whose_key_has_no_order(world: World) -> None:
    """Dates, composite keys: as their values are ordered."""
    number = world.fresh
    world.store(*(Seat(row=n, number=number) for n in (3, 1, 2)))
    keys = [(n, number) for n in (2, 3, 1)]
    statement = select(Seat).where(tuple_(Seat.row, Seat.number).in_(keys))
    for _ in range(2):
        with world.session() as session:
            assert sorted(seat.row for seat in session.scalars(statement)) == [1, 2, 3]
    with world.session() as session, world.no_sql():
        assert [seat.row for seat in session.scalars(statement)] == [1, 2, 3]


def test_a_joined_collection_insists_on_unique(sqlite_url: str) -> None:
    """Such a result is SQLAlchemy's own, hit or miss; one with a joined parent is ours."""

    class Local(DeclarativeBase):
        pass

    @cached
    class Crew(Local):
        __tablename__ = "crew"
        id: Mapped[int] = mapped_column(primary_key=True)
        sailors: Mapped[list[Any]] = relationship("Sailor", lazy="joined")

    @cached
    class Sailor(Local):
        __tablename__ = "sailor"
        id: Mapped[int] = mapped_column(primary_key=True)
        crew_id: Mapped[int] = mapped_column(ForeignKey("crew.id"))

    @cached
    class Cook(Local):
        __tablename__ = "cook"
        id: Mapped[int] = mapped_column(primary_key=True)
        sailor_id: Mapped[int] = mapped_column(ForeignKey("sailor.id"))
        sailor: Mapped[Any] = relationship("Sailor", lazy="joined")

    engine = create_engine(sqlite_url)
    Local.metadata.create_all(engine)
    SQLModelCache.configure("memory://")
    with Session(engine) as session:
        session.add(Crew(id=1, sailors=[Sailor(id=1), Sailor(id=2)]))
        session.add(Cook(id=1, sailor_id=2))
        session.commit()
    for _ in range(3):
        with Session(engine) as session:
            result = session.scalars(select(Crew).where(Crew.id == 1))
            with pytest.raises(InvalidRequestError, match="unique"):
                result.all()
        with Session(engine) as session:
            cook = session.scalars(select(Cook).where(Cook.id == 1)).one()
            assert "sailor" in vars(cook)
            assert cook.sailor.id == 2
    assert SQLModelCache.stats().models["Cook"].hits == 2
    engine.dispose()
    Local.registry.dispose()

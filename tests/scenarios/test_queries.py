"""Results of queries: what is answered, in which form, and what forgets it."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import sqlmodel
from sqlalchemy import (
    Integer,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import (
    Bundle,
    configure_mappers,
    joinedload,
    selectinload,
    with_loader_criteria,
)
from sqlalchemy.sql.functions import FunctionElement

from sqlmodel_cache import ConfigurationError, SQLModelCache
from sqlmodel_cache.orm.queries import results
from sqlmodel_cache.testing import FaultyTransport
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.query_models import (
    Agent,
    Base,
    Boss,
    Fact,
    Loner,
    Squad,
    Staff,
    Times,
    Tin,
    Truck,
    Vehicle,
    numbers,
    people,
)


@pytest.fixture
def base(world: World) -> int:
    """Return the first of a hundred keys that no other test uses; the tables are there."""
    return numbers(world)


def ask(world: World, statement: Any, **options: Any) -> list[Any]:
    """Return the rows that a new session finds."""
    with world.session() as session:
        return list(session.execute(statement, execution_options=options))


def learn(world: World, statement: Any, **options: Any) -> list[Any]:
    """Have a result and its rows cached, and prove it."""
    for _ in range(2):
        ask(world, statement, **options)
    with world.no_sql():
        return ask(world, statement, **options)


def names(rows: list[Any]) -> list[str]:
    """Return the names of the instances in rows of one."""
    return [row[0].name for row in rows]


def in_squad(number: int) -> Any:
    """Return the query of most tests."""
    return select(Agent).where(Agent.squad_id == number).order_by(Agent.name).limit(20)


# Entities


def test_a_list_then_its_rows(world: World, base: int) -> None:
    """The first read stores the list, the second the rows; the third sends no SQL."""
    people(world, base)
    with world.one_select():
        assert names(ask(world, in_squad(base))) == ["a", "b"]
    with world.one_select():
        assert names(ask(world, in_squad(base))) == ["a", "b"]
    with world.no_sql():
        assert names(ask(world, in_squad(base))) == ["a", "b"]


def test_members_come_and_go(world: World, base: int) -> None:
    """Inserted, moved in and out, deleted: the list is right, and another squad's stays."""
    people(world, base)
    other = in_squad(base + 1)
    learn(world, in_squad(base))
    learn(world, other)
    with world.session() as session:
        session.add(Agent(id=base + 4, squad_id=base, name="e"))
        session.commit()
    with world.no_sql():
        assert names(ask(world, other)) == ["c"]
    assert names(learn(world, in_squad(base))) == ["a", "b", "e"]
    with world.session() as session:
        session.get(Agent, base + 4).squad_id = base + 1
        session.commit()
    assert names(learn(world, in_squad(base))) == ["a", "b"]
    assert names(learn(world, other)) == ["c", "e"]
    with world.session() as session:
        session.delete(session.get(Agent, base + 1))
        session.commit()
    with world.no_sql():
        assert names(ask(world, other)) == ["c", "e"]
    assert names(ask(world, in_squad(base))) == ["a"]


def test_keys_are_exchanged(world: World, base: int) -> None:
    """A list of keys ends where a key becomes another row's, though no condition was set."""
    people(world, base)
    for squad in (base, base + 1):
        learn(world, in_squad(squad))
    with world.session() as session:
        a, c = session.get(Agent, base), session.get(Agent, base + 2)
        for agent, key in ((a, base + 9), (c, base), (a, base + 2)):
            agent.id = key
            session.flush()
        session.commit()
    assert names(ask(world, in_squad(base))) == ["a", "b"]
    assert names(ask(world, in_squad(base + 1))) == ["c"]


def test_an_update_elsewhere_leaves_the_list(world: World, base: int) -> None:
    """A column that the query does not use changes its row, not the list."""
    people(world, base)
    learn(world, in_squad(base))
    with world.session() as session:
        session.get(Agent, base).rank = 77
        session.commit()
    world.get(Agent, base)
    with world.no_sql():
        assert [row[0].rank for row in ask(world, in_squad(base))] == [77, 2]
    with world.session() as session:
        session.get(Agent, base).name = "z"
        session.commit()
    assert names(ask(world, in_squad(base))) == ["b", "z"]


@on_sqlite
@pytest.mark.parametrize(
    "write",
    [
        lambda n: update(Agent).where(Agent.rank == n).values(squad_id=n),
        lambda n: update(Agent).where(Agent.id == n + 3).values(squad_id=n),
        lambda n: update(Agent).where(Agent.id == n + 3).values(squad_id=literal(n) + 0),
        lambda n: delete(Agent).where(Agent.id == n),
        lambda n: delete(Agent).where(Agent.rank == 1, Agent.squad_id == n),
        lambda n: insert(Agent).values(id=n + 9, squad_id=n, name="n", rank=0),
        lambda n: text(f"UPDATE scenario_qagent SET squad_id = {n} WHERE id = {n + 3}"),
    ],
)
@pytest.mark.parametrize("way", ["session", "engine"])
def test_other_ways_to_write(
    world: World, base: int, write: Callable[[int], Any], way: str
) -> None:
    """Bulk, Core, expressions, text; through sessions and connections."""
    people(world, base)
    before = names(learn(world, in_squad(base)))
    if way == "session":
        with world.session() as session:
            session.execute(write(base))
            session.commit()
    else:
        with world.begin() as connection:
            connection.execute(write(base))
    after = names(ask(world, in_squad(base)))
    with world.plain() as session:
        found = session.execute(in_squad(base), execution_options={"cache": False})
        assert after == names(list(found)) != before


@on_sqlite
def test_sessions_share_no_objects(world: World, base: int) -> None:
    """Each has instances of its own; those that it holds are the answer as they are."""
    people(world, base)
    learn(world, in_squad(base))
    with world.session() as one, world.session() as two:
        held = one.get(Agent, base)
        held.rank = 5
        with one.no_autoflush:
            mine = one.scalars(in_squad(base)).all()
        theirs = two.scalars(in_squad(base)).all()
        assert mine[0] is held
        assert held.rank == 5
        assert not set(map(id, mine)) & set(map(id, theirs))


@on_sqlite
def test_expired_instances_are_refreshed(world: World, base: int) -> None:
    """As by a load, in one query for all that lack something."""
    people(world, base)
    learn(world, in_squad(base))
    with world.session() as session:
        held = session.get(Agent, base)
        session.commit()  # expires it
        with world.one_select():
            found = session.scalars(in_squad(base)).all()
        assert found[0] is held
        with world.no_sql():
            assert held.name == "a"


@on_sqlite
def test_eager_options(world: World, base: int) -> None:
    """`selectinload` of many-to-one comes out of the cache, too."""
    people(world, base)
    statement = in_squad(base).options(selectinload(Agent.squad))
    for _ in range(3):
        ask(world, statement)
    with world.no_sql():
        found = ask(world, statement)
        assert [row[0].squad.name for row in found] == ["red", "red"]
    assert found[0][0].squad is found[1][0].squad
    ask(world, in_squad(base).options(joinedload(Agent.squad)))


@on_sqlite
def test_hierarchies(world: World, base: int) -> None:
    """Subclasses in one table or two: rows of each class, and only those that were asked for."""
    world.store(
        Staff(id=base, name="s", batch=base),
        Boss(id=base + 1, name="b", batch=base),
        Vehicle(id=base, batch=base),
        Truck(id=base + 1, batch=base, load=7),
    )
    staff = select(Staff).where(Staff.batch == base).order_by(Staff.id)
    bosses = select(Boss).where(Boss.batch == base)
    trucks = select(Truck).where(Truck.load == 7, Truck.batch == base)
    assert [type(row[0]) for row in learn(world, staff)] == [Staff, Boss]
    assert [type(row[0]) for row in learn(world, bosses)] == [Boss]
    assert [row[0].load for row in learn(world, trucks)] == [7]
    with world.session() as session:
        session.add(Boss(id=base + 2, name="c", batch=base))
        session.add(Truck(id=base + 2, batch=base, load=7))
        session.commit()
    assert len(ask(world, staff)) == 3
    assert len(ask(world, bosses)) == 2
    assert len(ask(world, trucks)) == 2


# Columns


def test_rows_typed_exactly(world: World, base: int) -> None:
    """Columns and aggregates come back as from a load: values, types, names."""
    world.store(
        Fact(
            id=base, batch=base, price=Decimal("1.50"), day=dt.date(2024, 2, 29), told=True,
            moment=dt.datetime(2024, 1, 2, 3, 4, 5), ratio=0.5, note={"a": [1, None]},
        )
    )  # fmt: skip
    columns = (Fact.id, Fact.price, Fact.moment, Fact.day, Fact.told, Fact.ratio, Fact.note)
    statement = select(*columns, func.count().over().label("n")).where(Fact.batch == base)
    loaded = ask(world, statement, cache=False)
    ask(world, statement, cache=True)
    with world.no_sql():
        (row,) = ask(world, statement, cache=True)
    assert list(map(repr, row)) == list(map(repr, loaded[0]))
    assert (row.price, row._mapping[Fact.day], row._mapping["n"]) == (row[1], row[3], 1)
    assert row._fields == loaded[0]._fields
    assert type(row) is type(loaded[0])


@on_sqlite
def test_every_form_of_a_result(world: World, base: int) -> None:
    """scalars(), mappings(), unique(), one(), columns(), partitions(), keys: as of a load."""
    people(world, base)
    statement = select(Agent.name, Squad.name.label("squad"), Agent.rank + 1).join(Squad)
    statement = statement.where(Squad.id == base).order_by(Agent.name)
    forms: list[Callable[[Any], Any]] = [
        lambda result: result.all(),
        lambda result: result.keys(),
        lambda result: result.scalars().all(),
        lambda result: result.scalars("squad").unique().all(),
        lambda result: [dict(row) for row in result.mappings()],
        lambda result: result.unique().all(),
        lambda result: result.columns("squad", Agent.name).all(),
        lambda result: list(result.partitions(1)),
        lambda result: result.first(),
        lambda result: result.fetchmany(1),
        lambda result: [row.squad for row in result],
    ]
    learn(world, statement)
    for form in forms:
        with world.session() as session:
            loaded = form(session.execute(statement, execution_options={"cache": False}))
            with world.no_sql():
                hit = form(session.execute(statement))
        assert repr(hit) == repr(loaded)


@on_sqlite
def test_scalar_and_scalars(world: World, base: int) -> None:
    """The session's short ways, and SQLModel's `select`."""
    people(world, base)
    count = select(func.count(Agent.id)).where(Agent.squad_id == base)
    learn(world, count)
    with world.session() as session, world.no_sql():
        assert session.scalar(count) == 2
        assert session.scalars(count).one() == 2
    learn(world, sqlmodel.select(Agent.name).where(Agent.squad_id == base))


@on_sqlite
def test_no_row_is_an_answer(world: World, base: int) -> None:
    """An empty list, until a row comes."""
    assert learn(world, in_squad(base)) == []
    people(world, base)
    assert len(ask(world, in_squad(base))) == 2


@on_sqlite
def test_parameters_tell_results_apart(world: World, base: int) -> None:
    """By value and by type; also those that come with the call."""
    people(world, base)
    statement = select(Agent).where(Agent.rank == bindparam("rank"), Agent.squad_id == base)
    with world.session() as session:
        for rank, found in ((1, 1), (2, 1), (3, 0), (1, 1), (2, 1)):
            assert len(session.execute(statement, {"rank": rank}).all()) == found
    with world.session() as session, world.no_sql():
        assert session.execute(statement, {"rank": 1}).one()[0].name == "a"
    for value in (True, 1, 1.0, "1", Decimal(1)):
        said = select(literal(value)).select_from(Agent).where(Agent.id == base)
        for _ in range(2):
            (row,) = ask(world, said)
            assert repr(row[0]) == repr(ask(world, said, cache=False)[0][0])


# What forgets, in one transaction


@on_sqlite
def test_in_a_transaction_that_wrote(world: World, base: int) -> None:
    """Its own changes are seen; nobody else sees them, and nothing of them is stored."""
    people(world, base)
    learn(world, in_squad(base))
    with world.session() as session:
        session.add(Agent(id=base + 5, squad_id=base, name="q"))
        assert names(list(session.execute(in_squad(base)))) == ["a", "b", "q"]
        session.rollback()
        assert names(list(session.execute(in_squad(base)))) == ["a", "b"]
    assert names(ask(world, in_squad(base))) == ["a", "b"]
    counts = world.stats().models["Agent (queries)"]
    assert sum(counts.bypasses.values()) == 1


@on_sqlite
def test_savepoints(world: World, base: int) -> None:
    """What was rolled back to a savepoint changes nothing; what was kept does."""
    people(world, base)
    learn(world, in_squad(base))
    with world.session() as session:
        savepoint = world.savepoint(session)
        session.add(Agent(id=base + 5, squad_id=base, name="q"))
        session.flush()
        savepoint.rollback()
        savepoint = world.savepoint(session)
        session.add(Agent(id=base + 6, squad_id=base, name="r"))
        session.flush()
        savepoint.commit()
        session.commit()
    assert names(ask(world, in_squad(base))) == ["a", "b", "r"]


@on_sqlite
def test_related_tables(world: World, base: int) -> None:
    """A join depends on both tables, a subquery on what stands in it."""
    people(world, base)
    joined = select(Agent.name, Squad.name).join(Squad).where(Agent.squad_id == base)
    below = select(Squad).where(exists().where(Agent.squad_id == Squad.id, Agent.rank > base))
    below = below.where(Squad.id == base)
    assert len(learn(world, joined)) == 2
    learn(world, below)
    with world.session() as session:
        session.get(Squad, base).name = "green"
        session.commit()
    assert {row[1] for row in ask(world, joined)} == {"green"}
    with world.session() as session:
        session.get(Agent, base).rank = base + 1
        session.commit()
    assert names(ask(world, below)) == ["green"]


# What is not cached


class _Ticks(FunctionElement[int]):
    """Whatever its author makes of it, `utcnow()` for one."""

    type = Integer()
    inherit_cache = True


@compiles(_Ticks)
def _compile_ticks(element: Any, compiler: Any, **kwargs: Any) -> str:
    return "(SELECT count(*) FROM sqlite_master)"


@on_sqlite
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (lambda n: select(Agent.id, func.now()).where(Agent.squad_id == n), "query_statement"),
        (lambda n: select(Agent).where(text("1 = 1"), Agent.squad_id == n), "query_statement"),
        (lambda n: in_squad(n).with_for_update(), "query_statement"),
        (lambda n: select(Bundle("b", Agent.id)).where(Agent.squad_id == n), "query_statement"),
        (lambda n: select(Agent.id).where(Agent.rank < _Ticks()), "query_statement"),
        (lambda n: in_squad(n).execution_options(populate_existing=True), "query_statement"),
        (
            lambda n: in_squad(n).options(with_loader_criteria(Agent, Agent.rank > 0)),
            "loader_options",
        ),
        (lambda n: select(Agent.id).join(Loner, Loner.squad_id == Agent.squad_id), "query_cache"),
    ],
)
def test_bypasses(world: World, base: int, statement: Callable[[int], Any], reason: str) -> None:
    """Passed through, right, and counted with its reason."""
    people(world, base)
    for _ in range(2):
        with world.one_select():
            ask(world, statement(base))
    assert world.stats().models["Agent (queries)"].bypasses == {reason: 2}


@on_sqlite
def test_a_parameter_that_is_computed(world: World, base: int) -> None:
    """What it says when the result is looked up, it need not say when the database is asked."""
    people(world, base)
    said = iter(range(base, base + 100))
    statement = select(Agent.id).where(Agent.squad_id == bindparam("n", callable_=lambda: base))
    by_key = select(Agent).where(Agent.id == bindparam("n", callable_=lambda: next(said)))
    for _ in range(3):
        with world.one_select():
            ask(world, statement)
        with world.one_select():
            ask(world, by_key)


@on_sqlite
def test_types_with_arguments_of_their_own(world: World, base: int) -> None:
    """The same SQL and the same parameter, which two types send as two values."""
    people(world, base)
    ranks = Agent.squad_id == base
    once, never = (
        select(Agent.id).where(ranks, Agent.rank == type_coerce(1, Times(factor)))
        for factor in (1, 100)
    )
    found = learn(world, once)
    assert found
    assert ask(world, never) == []


@on_sqlite
def test_a_type_that_makes_a_value_of_none(world: World, base: int) -> None:
    """A row written with None is one of those with 0."""
    empty = select(Tin.id).where(Tin.level == 0, Tin.batch == base)
    assert learn(world, empty) == []
    tin = world.store(Tin(batch=base, level=None))
    assert ask(world, empty) == [(tin,)]


@on_sqlite
def test_what_somebody_says_it_depends_on(world: World, base: int) -> None:
    """`cache_depends` names the tables of what cannot be understood: any change ends the result."""
    people(world, base)
    statement = select(Agent.name).where(text(f"squad_id = {base}")).order_by(Agent.name)
    how: dict[str, Any] = {"cache_depends": [Agent, "scenario_qsquad"]}
    assert len(learn(world, statement, **how)) == 2
    with world.session() as session:
        session.get(Agent, base).rank = 99
        session.commit()
    with world.one_select():
        ask(world, statement, **how)
    learn(world, statement, **how)
    with world.session() as session:
        session.get(Squad, base).name = "other"
        session.commit()
    with world.one_select():
        ask(world, statement, **how)
    with world.one_select():
        ask(world, statement)
    for wrong, said in (([], "not valid"), ("team", "not valid"), (["no_table"], "no MetaData")):
        with pytest.raises(ConfigurationError, match=f"cache_depends.*{said}"):
            ask(world, statement, cache_depends=wrong)
    with world.one_select():
        ask(world, statement, cache_depends=[Loner])
    with world.one_select():
        ask(world, statement.with_for_update(), **how)


@on_sqlite
def test_models_that_must_be_asked(world: World, base: int) -> None:
    """`queries="asked"` waits for `cache=True`; `cache=False` is never cached."""
    statement = select(Fact.id).where(Fact.batch == base)
    for _ in range(3):
        with world.one_select():
            ask(world, statement)
    learn(world, statement, cache=True)
    learn(world, statement.execution_options(cache=True))
    with world.one_select():
        ask(world, statement, cache=False)
    both = select(Fact.id).join(Squad, Squad.id == Fact.batch).where(Squad.id == base)
    for _ in range(2):
        with world.one_select():
            ask(world, both)
    learn(world, both, cache=True)


@on_sqlite
def test_a_model_without_queries(world: World, base: int, caplog: pytest.LogCaptureFixture) -> None:
    """`cache=True` is answered by the database, and said once, with the remedy."""
    world.store(Loner(id=base, name="x", squad_id=1))
    statement = select(Loner).where(Loner.name == "x", Loner.id > base - 1)
    with caplog.at_level(logging.WARNING, "sqlmodel_cache"):
        for _ in range(2):
            with world.one_select():
                ask(world, statement, cache=True)
    (said,) = caplog.messages
    assert "select() of Loner" in said
    assert 'CacheConfig(queries="asked")' in said
    assert world.stats().models["Loner (queries)"].bypasses == {"query_cache": 2}


@on_sqlite
def test_what_is_too_large_is_not_stored(
    world: World, base: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows than a result may have are loaded each time."""
    people(world, base)
    monkeypatch.setattr(results, "ROWS_AT_MOST", 1)
    for _ in range(2):
        with world.one_select():
            assert len(ask(world, in_squad(base))) == 2


@on_sqlite
def test_ttl(world: World, base: int) -> None:
    """`cache_ttl` is that of the result; 0 stores nothing."""
    people(world, base)
    for _ in range(2):
        with world.one_select():
            ask(world, in_squad(base), cache_ttl=0)
    assert not world.backing.values()


@on_sqlite
def test_errors_are_the_databases(world: World, base: int) -> None:
    """A parameter that is missing is told by SQLAlchemy."""
    statement = select(Agent).where(Agent.rank == bindparam("rank"))
    with world.session() as session, pytest.raises(Exception, match="rank"):
        session.execute(statement)


@on_sqlite
def test_tables_are_told(world: World, base: int, caplog: pytest.LogCaptureFixture) -> None:
    """A select() of a plain Table is left alone; with `cache=True` the log says so."""
    people(world, base)
    table = Agent.__table__
    with caplog.at_level(logging.WARNING, "sqlmodel_cache"):
        for _ in range(2):
            with world.one_select():
                ask(world, select(table.c.id).where(table.c.squad_id == base), cache=True)
    assert len([said for said in caplog.messages if "no select() of a cached model" in said]) == 1


@on_sqlite
def test_conditions_by_or(world: World, base: int) -> None:
    """Alternatives depend on the values of each."""
    people(world, base)
    statement = select(Agent).where(or_(Agent.squad_id == base, Agent.squad_id.is_(None)))
    statement = statement.where(Agent.id.between(base, base + 99)).order_by(Agent.id)
    assert names(learn(world, statement)) == ["a", "b", "d"]
    with world.session() as session:
        session.add(Agent(id=base + 7, squad_id=base + 1, name="o"))
        session.commit()
    with world.no_sql():
        assert names(ask(world, statement)) == ["a", "b", "d"]
    with world.session() as session:
        session.get(Agent, base + 7).squad_id = None
        session.commit()
    assert names(ask(world, statement)) == ["a", "b", "d", "o"]


@on_sqlite
def test_purge_takes_results_along(world: World, base: int) -> None:
    """A result may hold values of a row: it goes with the row."""
    people(world, base)
    learn(world, select(Agent.name, Squad.name).join(Squad).where(Squad.id == base))
    if world.mode == "sync":
        SQLModelCache.purge(Squad, base)
    else:
        world.loop.run_until_complete(SQLModelCache.apurge(Squad, base))
    assert not [key for key in world.backing.values() if "~!r:" in key]


def test_what_commits_send(
    make_world: Callable[..., World], commandstats: Callable[[], Any]
) -> None:
    """Without `queries` what they always sent; with them the same trips, and one for old values."""
    configure_mappers()  # until then, any model may be in a collection
    world = make_world("sync", "redis", "sqlite")
    Base.metadata.create_all(world.outside)
    base = int(world.fresh[:6], 16) * 100 + 1_000_000
    people(world, base)
    world.store(Loner(id=base, name="x", squad_id=1))
    for model in (Loner, Agent):
        world.get(model, base)

    def sent(model: Any, **values: Any) -> Any:
        with world.session() as session:
            row = session.get(model, base)
            for name, value in values.items():
                setattr(row, name, value)
            with commandstats() as commands:
                session.commit()
        return commands

    alone = sent(Loner, squad_id=2)
    assert alone["evalsha"] == 2
    assert "mget" not in alone
    world.get(Agent, base)
    assert "mget" not in sent(Agent, rank=5)
    world.get(Agent, base)
    assert sent(Agent, squad_id=base + 1)["mget"] == 1


@on_sqlite
def test_invalidate_takes_results_along(world: World, base: int) -> None:
    """What changed a row behind the back changed its lists, too."""
    people(world, base)
    count = select(func.count()).select_from(Agent).where(Agent.id.between(base, base + 9))
    learn(world, in_squad(base))
    assert learn(world, count) == [(4,)]
    world.behind_the_back(f"DELETE FROM scenario_qagent WHERE id = {base}")
    if world.mode == "sync":
        SQLModelCache.invalidate(Agent, base)
    else:
        world.loop.run_until_complete(SQLModelCache.ainvalidate(Agent, base))
    assert names(ask(world, in_squad(base))) == ["b"]
    assert ask(world, count) == [(3,)]


def test_enabled_again_while_the_store_is_away(make_world: Callable[..., World]) -> None:
    """A model of the query could not begin anew: the database answers, and nothing is raised."""
    world = make_world("sync", "memory", "sqlite")
    Base.metadata.create_all(world.outside)
    SQLModelCache.configure(world.backing.transport, enabled=False)
    store = FaultyTransport(world.backing.transport)
    SQLModelCache.configure(store)
    world.get(Agent, 0)
    store.fail("release")
    with world.one_select():
        ask(world, select(Agent.name, Squad.name).join(Squad))
    assert world.stats().models["Agent (queries)"].bypasses == {"breaker_open": 1}

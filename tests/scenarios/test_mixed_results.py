"""Rows of instances together with others and with columns; aliases; unions: as from a load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlmodel
from sqlalchemy import and_, event, func, insert, inspect, select, text, union, union_all
from sqlalchemy.orm import Bundle, aliased, joinedload, with_polymorphic

from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.query_models import Agent, Boss, Loner, Squad, Staff, Truck, numbers, people


@pytest.fixture
def base(world: World) -> int:
    """Return the first of a hundred keys that no other test uses, of two squads and four agents."""
    base = numbers(world)
    people(world, base)
    return base


def shown(value: Any) -> Any:
    """Return a value, an instance as its class, identity and loaded attributes."""
    state = inspect(value, raiseerr=False)
    if not hasattr(state, "identity"):
        return value
    loaded = {name: shown(one) for name, one in state.dict.items() if not name.startswith("_")}
    return type(value).__name__, state.identity, loaded


def ask(world: World, statement: Any, **options: Any) -> list[Any]:
    """Return the rows that a new session finds."""
    with world.session() as session:
        found = session.execute(statement, execution_options=options)
        return [tuple(map(shown, row)) for row in found]


def learn(world: World, statement: Any) -> list[Any]:
    """Have a result and its rows cached, prove it, and that it is what a load gives."""
    for _ in range(2):
        ask(world, statement)
    with world.no_sql():
        found = ask(world, statement)
    assert found == ask(world, statement, cache=False)
    return found


def mine(statement: Any, base: int) -> Any:
    """Limit a query of agents to those of a test."""
    return statement.where(Agent.id.between(base, base + 99)).order_by(Agent.id)


Other = aliased(Agent, name="other")
Nameless = aliased(Agent)

MIXED: dict[str, Callable[[int], Any]] = {
    "two models": lambda n: mine(select(Agent, Squad).join(Squad), n),
    "outer": lambda n: mine(select(Agent, Squad).outerjoin(Squad), n),
    "none first": lambda n: mine(
        select(Squad, Agent).select_from(Agent).outerjoin(Squad), n
    ),
    "columns": lambda n: mine(select(Agent, Squad.name).join(Squad), n),
    "columns first": lambda n: mine(select(Agent.rank + 1, Squad.name, Agent).join(Squad), n),
    "named alike": lambda n: mine(select(Agent, Squad.name.label("Agent")).join(Squad), n),
    "aggregate": lambda n: (
        select(Squad, func.count(Agent.id).label("size")).join(Agent)
        .where(Squad.id.between(n, n + 99)).group_by(Squad.id).order_by(func.count(Agent.id).desc())
    ),
    "by label": lambda n: (
        select(Squad, func.count(Agent.id).label("size")).join(Agent)
        .where(Squad.id.between(n, n + 99)).group_by(Squad.id, Squad.name).order_by("size")
    ),
    "subquery": lambda n: mine(
        select(Agent, select(func.count(Squad.id)).where(Squad.id == n).scalar_subquery()), n
    ),
    "window": lambda n: mine(
        select(Agent, func.row_number().over(order_by=Agent.name)), n
    ),
    "twice": lambda n: mine(select(Agent, Agent), n),
    "itself and its column": lambda n: mine(select(Agent, Agent.name), n),
    "duplicates": lambda n: mine(select(Squad, Agent.squad_id).join(Agent), n),
    "distinct": lambda n: (
        select(Squad, Agent.squad_id).join(Agent).distinct()
        .where(Agent.id.between(n, n + 99)).order_by(Squad.id)
    ),
    "self join": lambda n: mine(
        select(Agent, Other).outerjoin(
            Other, and_(Other.rank == Agent.rank + 1, Other.id.between(n, n + 99))
        ), n
    ),
    "nameless alias": lambda n: mine(
        select(Nameless, Agent).join(Nameless, Nameless.squad_id == Agent.squad_id), n
    ).order_by(Nameless.id),
    "alias": lambda n: (
        select(Other).where(Other.id.between(n, n + 99)).order_by(Other.name)
    ),
    "none": lambda n: mine(select(Squad).select_from(Agent).outerjoin(Squad), n),
}  # fmt: skip

UNIONS: dict[str, Callable[[int], Any]] = {
    "columns": lambda n: (
        union(
            select(Agent.name).where(Agent.squad_id == n),
            select(Squad.name).where(Squad.id == n),
        ).order_by("name")
    ),
    "all": lambda n: union_all(
        select(Squad.id, Squad.name.label("n")).where(Squad.id == n),
        select(Agent.id, Agent.name).where(Agent.squad_id == n).order_by(Agent.id).limit(1),
    ),
    "from statement": lambda n: (
        select(Agent).from_statement(both(n).order_by(Agent.id))
    ),
    "from a select": lambda n: (
        select(Agent).from_statement(select(Agent).where(Agent.squad_id == n).order_by(Agent.id))
    ),
    "subquery": lambda n: select(whole := aliased(Agent, both(n).subquery())).order_by(whole.id),
    "cte": lambda n: select(
        whole := aliased(Agent, both(n).cte("whole")), func.row_number().over(order_by=whole.id)
    ),
}  # fmt: skip


def both(base: int) -> Any:
    """Return a union of two lists of agents."""
    return union(
        select(Agent).where(Agent.squad_id == base),
        select(Agent).where(Agent.rank == base),
    )


@pytest.mark.parametrize("kind", UNIONS)
def test_unions_as_from_a_load(world: World, base: int, kind: str) -> None:
    """Of columns or of instances: the third read sends no SQL; what changes a part ends it."""
    if world.database == "sqlite" and kind == "all":
        pytest.skip("SQLite has no LIMIT in a part of a union")
    statement = UNIONS[kind](base)
    before = learn(world, statement)
    with world.session() as session:
        session.get(Agent, base + 1).squad_id = base + 1
        session.get(Agent, base).name = "0"
        session.commit()
    assert ask(world, statement) == ask(world, statement, cache=False) != before


@pytest.mark.parametrize("kind", MIXED)
def test_as_from_a_load(world: World, base: int, kind: str) -> None:
    """The third read sends no SQL, and gives what a load gives."""
    assert learn(world, MIXED[kind](base))


FORMS: list[Callable[[Any], Any]] = [
    lambda result: result.all(),
    lambda result: result.unique().all(),
    lambda result: list(result.keys()),
    lambda result: result.scalars().all(),
    lambda result: result.scalars().unique().all(),
    lambda result: result.scalars(1).all(),
    lambda result: result.tuples().all(),
    lambda result: [list(row.items()) for row in result.mappings()],
    lambda result: [row._fields for row in result],
    lambda result: result.columns(1, 0).all(),
    lambda result: result.first(),
    lambda result: result.fetchmany(2),
    lambda result: list(result.partitions(1)),
    lambda result: [row._mapping[Agent] for row in result],
    lambda result: [type(row).__name__ for row in result],
    lambda result: type(result).__name__,
]


@on_sqlite
@pytest.mark.filterwarnings("ignore:The Result.tuples")  # of 2.1
@pytest.mark.parametrize("kind", ["outer", "columns", "self join", "nameless alias", "twice"])
def test_every_form_of_a_result(world: World, base: int, kind: str) -> None:
    """scalars(), tuples(), mappings(), unique(), keys, names: as of a load."""
    statement = MIXED[kind](base)
    learn(world, statement)
    for form in FORMS:
        with world.session() as session:
            loaded = outcome(session, form, statement, cache=False)
            with world.no_sql():
                assert outcome(session, form, statement) == loaded


@on_sqlite
def test_every_form_of_a_union(world: World, base: int) -> None:
    """Rows with the same names and objects as keys, whether it is a hit or not."""
    forms = [
        lambda result: result.all(),
        lambda result: list(result.keys()),
        lambda result: result.scalars().unique().all(),
        lambda result: [row._mapping[Agent.__table__.c.name] for row in result],
        lambda result: [row.name for row in result.unique()],
        lambda result: result.yield_per(2).unique().all(),
        lambda result: [dict(row) for row in result.mappings()],
        lambda result: result.scalar(),
    ]
    statement = UNIONS["columns"](base)
    learn(world, statement)
    for form in forms:
        with world.session() as session:
            loaded = outcome(session, form, statement, cache=False)
            with world.no_sql():
                assert outcome(session, form, statement) == loaded


def outcome(session: Any, form: Callable[[Any], Any], statement: Any, **options: Any) -> Any:
    """Return what a form of a result is, or the error that it raises."""
    try:
        return form(session.execute(statement, execution_options=options))
    except Exception as error:
        return type(error), str(error)


@on_sqlite
def test_sqlmodels_own(world: World, base: int) -> None:
    """`session.exec(select(Hero, Team))` of its tutorial."""
    statement = sqlmodel.select(Agent, Squad).join(Squad).where(Squad.id == base)
    learn(world, statement)
    with world.session() as session, world.no_sql():
        for agent, squad in session.execute(statement):
            assert agent.squad_id == squad.id
            assert agent.squad is squad  # from the identity map


@on_sqlite
def test_one_object_per_key(world: World, base: int) -> None:
    """In one session, also across elements; those that it holds are the answer as they are."""
    statement = MIXED["self join"](base)
    learn(world, statement)
    with world.session() as session:
        held = session.get(Agent, base + 1)
        held.name = "changed"
        with world.no_sql(), session.no_autoflush:
            rows = session.execute(statement).all()
        assert rows[0][1] is rows[1][0] is held
        assert held.name == "changed"


@on_sqlite
def test_expired_ones_are_refreshed(world: World, base: int) -> None:
    """As by a load; those of another model come from the cache."""
    statement = MIXED["two models"](base)
    learn(world, statement)
    with world.session() as session:
        held = session.get(Squad, base)
        session.commit()  # expires it
        refreshed: list[Any] = []

        def note(instance: Any, context: Any, attributes: Any) -> None:
            refreshed.append(instance)

        event.listen(Squad, "refresh", note)
        try:
            with world.one_select():
                rows = session.execute(statement).all()
        finally:
            event.remove(Squad, "refresh", note)
        assert rows[0][1] is held
        assert refreshed == [held]
        with world.no_sql():
            assert held.name == "red"


@on_sqlite
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (lambda n: mine(select(Agent, Bundle("b", Agent.id)), n), "query_statement"),
        (lambda n: select(with_polymorphic(Staff, "*")), "query_statement"),
        (lambda n: select(aliased(Truck)), "query_statement"),
        (lambda n: _same_row_twice(), "query_statement"),
        (lambda n: select(aliased(Squad, _shouted().subquery())), "query_statement"),
        (lambda n: select(Squad).from_statement(_shouted()), "query_statement"),
        (lambda n: select(Squad).from_statement(text("SELECT * FROM scenario_qsquad")),
         "query_statement"),
        (lambda n: mine(select(Agent, Squad).join(Squad), n).with_for_update(), "query_statement"),
        (lambda n: union(select(Squad.id, func.now()), select(Agent.id, func.now())),
         "query_statement"),
        (lambda n: union(select(Squad.id), select(Agent.id)).with_for_update(), "query_statement"),
        (lambda n: mine(select(Agent, Loner).join(Loner, Loner.squad_id == Agent.id), n),
         "query_cache"),
        (lambda n: union(select(Agent.id), select(Loner.id)), "query_cache"),
        (lambda n: mine(select(Agent, Squad).join(Squad), n).options(joinedload(Agent.squad)),
         "loader_options"),
    ],
)  # fmt: skip
def test_bypasses(world: World, base: int, statement: Callable[[int], Any], reason: str) -> None:
    """Passed through, and counted with their reason."""
    for _ in range(2):
        with world.one_select():
            ask(world, statement(base))
    (counts,) = [each.bypasses for name, each in world.stats().models.items() if each.bypasses]
    assert counts == {reason: 2}


def _same_row_twice() -> Any:
    boss = aliased(Boss)
    return select(Staff, boss).join(boss, boss.id == Staff.id)


def _shouted() -> Any:
    return select(Squad.id, func.upper(Squad.name).label("name"))


@on_sqlite
def test_hierarchies(world: World, base: int) -> None:
    """Each row as an instance of its class, together with others; an alias of one table, too."""
    world.store(
        Staff(id=base, name="s", batch=base),
        Boss(id=base + 1, name="b", batch=base),
        Truck(id=base, batch=base, load=7),
    )
    both = select(Staff, Agent.name).join(Agent, Agent.id == Staff.id).order_by(Staff.id)
    found = learn(world, both.where(Staff.batch == base))
    assert [row[0][0] for row in found] == ["Staff", "Boss"]
    other = aliased(Boss)
    (row,) = learn(world, select(other, Truck).join(Truck, Truck.batch == other.batch).where(
        other.batch == base
    ))  # fmt: skip
    assert (row[0][0], row[1][0], row[1][2]["load"]) == ("Boss", "Truck", 7)


@on_sqlite
def test_returning_is_no_query(world: World, base: int) -> None:
    """`from_statement(insert().returning())` writes each time, even of models that need not ask."""
    statement = insert(Squad).values(name="new").returning(Squad)
    with world.session() as session:
        for _ in range(3):
            session.execute(select(Squad).from_statement(statement))
        added = select(func.count()).select_from(Squad).where(Squad.name == "new")
        assert session.scalar(added, execution_options={"cache": False}) >= 3
        session.rollback()
    assert not any(each.bypasses for each in world.stats().models.values())


@on_sqlite
def test_rows_of_both_models_are_touched(world: World, base: int) -> None:
    """A column that the SQL does not use changes its row, not the result."""
    statement = MIXED["two models"](base)
    learn(world, statement)
    with world.session() as session:
        session.get(Squad, base).name = "pink"
        session.get(Agent, base).rank = 50
        session.commit()
    with world.one_select():  # the statement, which fills both
        found = ask(world, statement)
    with world.no_sql():
        assert ask(world, statement) == found
    assert found[0][0][2]["rank"] == 50
    assert found[0][1][2]["name"] == "pink"
    with world.session() as session:
        session.get(Agent, base + 1).squad_id = base + 1
        session.commit()
    assert [row[1][1] for row in learn(world, statement)] == [(base,), (base + 1,), (base + 1,)]

"""explain() of a select(): the same judgement as an execute, in words, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, func, or_, select, text, union
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, aliased, selectinload

from sqlmodel_cache import ConfigurationError, SQLModelCache
from sqlmodel_cache.transport import MemoryTransport
from tests.scenarios.query_models import Agent, Base, Boss, Fact, Loner, Squad, Staff

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from sqlmodel_cache.orm.operate.explanation import Explanation

explain = SQLModelCache.explain
IN_SQUAD = select(Agent).where(Agent.squad_id == 3).order_by(Agent.name)


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    """Return an engine whose database is known, with a cache, and with a few rows."""
    made = create_engine(f"sqlite:///{tmp_path / 'explained.sqlite3'}")
    Base.metadata.create_all(made)
    SQLModelCache.configure("memory://")
    with Session(made) as session:
        session.add_all([Squad(id=3, name="red"), Agent(id=1, name="a", squad_id=3)])
        session.commit()
        session.get(Squad, 3)
    yield made
    made.dispose()


def explained(engine: Engine, statement: Any, *args: Any, **how: Any) -> Explanation:
    """Explain a select() in a new session."""
    with Session(engine) as session:
        return explain(session, statement, *args, **how)


def test_a_miss_and_a_hit(engine: Engine, sql: Callable[[Engine], Any]) -> None:
    """Whether the result is there, and what ends it; nothing is stored or counted by asking."""
    before = SQLModelCache.stats()
    with sql(engine) as sent:
        found = explained(engine, IN_SQUAD)
    assert sent == []
    assert SQLModelCache.stats() == before
    assert (found.expected, found.ttl, found.namespace is not None) == ("miss", 300, True)
    with Session(engine) as session:
        session.scalars(IN_SQUAD).all()
    found = explained(engine, IN_SQUAD)
    assert str(found) == (
        "hit: Its result is in the cache.\n"
        "It ends with: rows that come to or leave scenario_qagent.squad_id = 3;"
        " updates of scenario_qagent.name."
    )
    with Session(engine) as session:
        session.add(Agent(id=2, name="b", squad_id=3))
        session.commit()
    assert explained(engine, IN_SQUAD).expected == "miss"


@pytest.mark.parametrize(
    ("statement", "depends"),
    [
        (
            select(Agent, Squad.name).join(Squad),
            ("rows of scenario_qagent inserted or deleted", "updates of scenario_qagent.squad_id",
             "rows of scenario_qsquad inserted or deleted", "updates of scenario_qsquad.id",
             "updates of scenario_qsquad.name"),
        ),
        (
            select(Agent.id).where(or_(Agent.squad_id.in_([1, 2]), Agent.squad_id.is_(None))),
            ("rows that come to or leave scenario_qagent.squad_id = 1",
             "rows that come to or leave scenario_qagent.squad_id = 2",
             "rows that come to or leave scenario_qagent.squad_id = None",
             "updates of scenario_qagent.id"),
        ),
        (
            union(select(Squad.name), select(Squad.name)),
            ("rows of scenario_qsquad inserted or deleted", "updates of scenario_qsquad.name"),
        ),
        (
            select(aliased(Squad)),
            ("rows of scenario_qsquad inserted or deleted",),
        ),
    ],
)  # fmt: skip
def test_what_it_depends_on(engine: Engine, statement: Any, depends: tuple[str, ...]) -> None:
    """Tables, columns and values, as the stamps are."""
    assert explained(engine, statement).depends == depends


@pytest.mark.parametrize(
    ("statement", "how", "reason", "because"),
    [
        (IN_SQUAD.with_for_update(), {}, "query_statement", "it takes locks"),
        (select(Agent.id, func.now()), {}, "query_statement", "the function now()"),
        (select(Agent).where(text("1")), {}, "query_statement", "'textclause'"),
        (
            select(Agent, Loner).join(Loner, Loner.squad_id == Agent.squad_id),
            {}, "query_cache", "scenario_qloner",
        ),
        (select(Loner.name), {}, "query_cache", "nobody asks for it"),
        (select(Loner.name), {"cache": True}, "query_cache", "queries of Loner are not cached"),
        (select(Fact.batch), {}, "query_cache", "nobody asks for it"),
        (IN_SQUAD, {"cache": False}, "cache_false", "cache=False"),
        (IN_SQUAD, {"yield_per": 5}, "query_statement", "'yield_per'"),
        (
            select(Agent, Squad).join(Squad).options(selectinload(Agent.squad)),
            {}, "loader_options", "more than loaders",
        ),
        (
            select(Staff, Boss).where(Staff.id == Boss.id),
            {}, "query_statement", "as instances of several classes",
        ),
    ],
)  # fmt: skip
def test_a_bypass(
    engine: Engine, statement: Any, how: dict[str, Any], reason: str, because: str
) -> None:
    """Its reason, what in the statement it is, and what to do."""
    found = explained(engine, statement, execution_options=how)
    assert (found.expected, found.reason) == ("bypass", reason)
    assert because in found.because
    if reason.startswith("query"):
        assert found.remedy
    with Session(engine) as session:
        session.execute(statement, execution_options=how).all()


def test_by_key_and_parameters(engine: Engine) -> None:
    """A select() by primary key is a get; parameters are those of execute()."""
    found = explained(engine, select(Squad).where(Squad.id == 3))
    assert found.expected == "hit"
    assert found.entry is not None
    assert "get_many()" in explained(engine, select(Squad).where(Squad.id.in_([3, 4]))).because
    named = select(Agent.id).where(Agent.squad_id == func.abs(0) + 1)
    assert explained(engine, named, {}).expected == "miss"


def test_what_is_no_such_select(engine: Engine) -> None:
    """Text, a plain Table; a session that would flush."""
    for other in (text("SELECT 1"), select(Agent.__table__)):
        assert explained(engine, other).expected == "uncached"
    with Session(engine) as session:
        session.add(Agent(id=9, name="z"))
        assert explain(session, IN_SQUAD).expected == "unknown"
    with pytest.raises(ConfigurationError):
        explain(object(), IN_SQUAD)
    SQLModelCache.configure(MemoryTransport())
    with Session(create_engine("sqlite://")) as session:
        assert explain(session, IN_SQUAD).expected == "unknown"
    SQLModelCache.reset()
    assert "configure()" in explained(engine, IN_SQUAD).because


async def test_under_async_session(async_engine: AsyncEngine) -> None:
    """`aexplain` takes the same."""
    SQLModelCache.configure("memory://")
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        await session.get(Squad, 3)
        found = await SQLModelCache.aexplain(session, IN_SQUAD)
    assert found.expected == "miss"
    assert found.depends

"""A project's own tests, run with every mapped class cached."""

from __future__ import annotations

import pytest

PROJECT = """
import logging

import pytest
from sqlalchemy import ForeignKey, create_engine, event, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, registry, relationship
from sqlalchemy import Column, Integer, Table
from sqlalchemy.pool import StaticPool


class Base(DeclarativeBase):
    pass


class Team(Base):
    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Hero(Base):
    __tablename__ = "hero"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    team_id: Mapped[int | None] = mapped_column(ForeignKey("team.id"))
    team: Mapped[Team | None] = relationship()


class Plain:
    pass


mappers = registry()
plain = Table("plain", mappers.metadata, Column("id", Integer, primary_key=True))
mappers.map_imperatively(Plain, plain)


@pytest.fixture(scope="module")
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    mappers.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Team(id=1, name="Preventers"), Hero(id=1, name="Deadpond", team_id=1)])
        session.commit()
    yield engine
    engine.dispose()


def name(engine):
    with Session(engine) as session:
        return session.get(Hero, 1).name
"""

TESTS = """
def test_reads_and_writes(engine):
    assert [name(engine) for _ in range(3)] == ["Deadpond"] * 3
    with Session(engine) as session:
        session.get(Hero, 1).name = "Spider-Boy"
        session.commit()
    assert [name(engine) for _ in range(3)] == ["Spider-Boy"] * 3


def test_behind_its_back(engine):
    driver = engine.raw_connection().driver_connection
    driver.execute("UPDATE hero SET name = 'Rusty-Man'")
    driver.commit()
    assert name(engine) == "Rusty-Man"


def test_imperative_and_absent(engine):
    with Session(engine) as session:
        assert session.get(Plain, 1) is None
        assert session.get(Hero, 404) is None


def test_log(engine, caplog):
    caplog.set_level(0)
    name(engine)
    assert [record for record in caplog.records if record.name.startswith("sqlmodel")] == []
"""

CLEARED = """
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.events import MapperEvents, SessionEvents


def test_removes_listeners():
    MapperEvents._clear()
    SessionEvents._clear()


def test_is_cached_all_the_same(engine):
    class Villain(Base):
        __tablename__ = "villain"
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Villain(id=1))
        session.commit()
    for _ in range(3):
        with Session(engine) as session:
            assert session.get(Villain, 1).id == 1
"""

DIFFERS = """
def test_counts_statements(engine):
    sent = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    for _ in range(2):
        name(engine)
    assert len([sql for sql in sent if sql.startswith("SELECT")]) == 2
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a project that knows nothing of a cache."""
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:asyncio\n")
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run it in a process of its own: the plug-in is there from the start."""
    return project.runpytest_subprocess(*arguments)


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_a_project_passes_and_was_really_cached(
    project: pytest.Pytester,
    store: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every class is opted in, each test has a cache of its own, and the summary counts."""
    if store == "redis":
        monkeypatch.setenv("SQLMODEL_CACHE_URL", request.getfixturevalue("redis_url"))
    project.makepyfile(PROJECT + TESTS)
    result = run(project, "-p", "sqlmodel_cache.testing.everywhere")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines_random(
        ["*sqlmodel_cache everywhere*", "3 models: hits=5 misses=* fills=* errors=0 lost=0"]
    )


def test_what_differs_fails(project: pytest.Pytester) -> None:
    """A test that counts statements sees that there are fewer; without the plug-in it passes."""
    project.makepyfile(PROJECT + DIFFERS)
    run(project).assert_outcomes(passed=1)
    run(project, "-p", "sqlmodel_cache.testing.everywhere").assert_outcomes(failed=1)


def test_a_project_may_remove_every_listener(project: pytest.Pytester) -> None:
    """SQLAlchemy's own suite does; the next test has them again, and new classes are seen."""
    project.makepyfile(PROJECT + CLEARED)
    result = run(project, "-p", "sqlmodel_cache.testing.everywhere")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(["*models: hits=2 *"])


def test_workers_are_added_up(project: pytest.Pytester) -> None:
    """With xdist, too, the summary has the counts of all."""
    project.makepyfile(PROJECT + TESTS)
    result = run(
        project, "-p", "sqlmodel_cache.testing.everywhere", "-n", "2", "--dist", "loadfile"
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines_random(["3 models: hits=5 *"])


def test_nothing_stays(project: pytest.Pytester) -> None:
    """After the session the library is as it was: for a pytest inside a pytest."""
    from sqlmodel_cache import _state

    project.makepyfile("def test_it(): pass")
    project.runpytest_inprocess("-p", "sqlmodel_cache.testing.everywhere").assert_outcomes(passed=1)
    assert (_state.everywhere, _state.active) == (None, None)

"""The plug-in as a project meets it: by its entry point, with pytest running inside pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What the tests below call models.py: a project of its own, with a metadata of its own.
PROJECT = """
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool
from sqlmodel_cache import CacheConfig, SQLModelCache


class Base(DeclarativeBase):
    pass


class Hero(Base):
    __tablename__ = "hero"
    __cache_config__ = CacheConfig()
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/test.sqlite3")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Hero(id=1, name="Deadpond"))
        session.commit()
    yield engine
    engine.dispose()


def name(engine):
    with Session(engine) as session:
        return session.get(Hero, 1).name

"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a project with strict markers, which fails for a marker that nobody registered."""
    pytester.makeini("[pytest]\naddopts = --strict-markers -p no:cacheprovider -p no:asyncio\n")
    return pytester


def run(project: pytest.Pytester, tests: str) -> pytest.RunResult:
    """Run a file of tests in this process."""
    project.makepyfile(PROJECT + tests)
    return project.runpytest_inprocess("-v")


def test_the_entry_point_names_the_plugin() -> None:
    """One module outside the package; every pytest of the environment loads it."""
    (found,) = {one.value for one in entry_points(group="pytest11", name="sqlmodel_cache")}
    assert found == "_sqlmodel_cache_pytest"


def test_start_up_imports_nothing_of_ours(tmp_path: Path) -> None:
    """In a project that does not use it the plug-in costs its own few lines."""
    (tmp_path / "conftest.py").write_text(
        "import sys\n"
        "def pytest_unconfigure(config):\n"
        "    assert config.pluginmanager.hasplugin('sqlmodel_cache')\n"
        "    ours = {'sqlalchemy', 'sqlmodel', 'sqlmodel_cache', 'redis', 'pydantic'}\n"
        "    print('IMPORTED', sorted(ours & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:hypothesispytest"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "IMPORTED []" in done.stdout, done.stdout + done.stderr


def test_nothing_is_autouse(project: pytest.Pytester) -> None:
    """A test that asks for nothing gets no cache."""
    result = run(
        project,
        """
        def test_unconfigured(engine):
            with pytest.raises(Exception, match="not configured"):
                name(engine)
        """.replace("\n        ", "\n"),
    )
    result.assert_outcomes(passed=1)


def test_the_fixture_is_a_fresh_cache_each_time(project: pytest.Pytester) -> None:
    """Memory, empty, with counts from zero, and gone afterwards."""
    result = run(
        project,
        """
        @pytest.mark.parametrize("again", [1, 2])
        def test_it(engine, sqlmodel_cache, again):
            assert sqlmodel_cache is SQLModelCache
            assert [name(engine), name(engine)] == ["Deadpond"] * 2
            assert (sqlmodel_cache.stats().hits, sqlmodel_cache.stats().misses) == (1, 1)

        def test_after():
            with pytest.raises(Exception, match="not configured"):
                SQLModelCache.get_config()
        """.replace("\n        ", "\n"),
    )
    result.assert_outcomes(passed=3)


def test_markers_change_the_settings(project: pytest.Pytester) -> None:
    """Those of the function win over those of its class and module."""
    result = run(
        project,
        """
        pytestmark = pytest.mark.sqlmodel_cache(default_ttl=5, key_prefix="module")

        @pytest.mark.sqlmodel_cache(default_ttl=7)
        def test_it(sqlmodel_cache):
            config = sqlmodel_cache.get_config()
            assert (config.default_ttl, config.key_prefix) == (7, "module")

        @pytest.mark.sqlmodel_cache(default_ttl="seven")
        def test_wrong(sqlmodel_cache):
            pass
        """.replace("\n        ", "\n"),
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ConfigurationError*default_ttl='seven'*"])


def test_with_and_without_cache_makes_two_tests(project: pytest.Pytester) -> None:
    """Also where the test names no fixture of ours, and crossed with other parameters."""
    result = run(
        project,
        """
        seen = []

        @pytest.fixture
        def first_name(engine):
            return name(engine)

        @pytest.mark.with_and_without_cache
        def test_plain(engine, first_name):
            assert name(engine) == first_name == "Deadpond"
            seen.append((SQLModelCache.get_config().enabled, SQLModelCache.stats().hits))

        @pytest.mark.with_and_without_cache
        @pytest.mark.parametrize("number", [1, 2])
        def test_crossed(engine, sqlmodel_cache, number):
            assert name(engine) == "Deadpond"
            seen.append(sqlmodel_cache.get_config().enabled)

        def test_seen():
            assert seen[:2] == [(True, 1), (False, 0)]
            assert sorted(seen[2:]) == [False, False, True, True]
            with pytest.raises(Exception, match="not configured"):
                SQLModelCache.get_config()
        """.replace("\n        ", "\n"),
    )
    result.assert_outcomes(passed=7)
    result.stdout.fnmatch_lines(["*test_plain*with_cache*", "*test_plain*without_cache*"])


def test_classes_and_modules_can_be_marked(project: pytest.Pytester) -> None:
    """Plain functions, methods and fixtures by name: each test of them is two."""
    result = run(
        project,
        """
        @pytest.mark.with_and_without_cache
        class TestMarked:
            def test_one(self, engine):
                assert name(engine) == "Deadpond"

            @pytest.mark.sqlmodel_cache(default_ttl=9)
            def test_two(self, sqlmodel_cache):
                assert sqlmodel_cache.get_config().default_ttl == 9

        def test_unmarked(engine):
            with pytest.raises(Exception, match="not configured"):
                name(engine)
        """.replace("\n        ", "\n"),
    )
    result.assert_outcomes(passed=5)


def test_async_tests_are_two_as_well(pytester: pytest.Pytester) -> None:
    """With pytest-asyncio, in a loop of their own."""
    pytester.makeini("[pytest]\nasyncio_mode = auto\naddopts = -p no:cacheprovider\n")
    pytester.makepyfile(
        PROJECT
        + """
@pytest.mark.with_and_without_cache
async def test_async(engine, sqlmodel_cache):
    assert [name(engine), name(engine)] == ["Deadpond"] * 2
    assert sqlmodel_cache.stats().hits == sqlmodel_cache.get_config().enabled
"""
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_assertions_and_counts_say_what_is_wrong(project: pytest.Pytester) -> None:
    """Each fixture, and the message of its failure."""
    result = run(
        project,
        """
        def test_right(engine, sqlmodel_cache, assert_cached, assert_not_cached, sql_count):
            assert_not_cached(Hero, 1, bind=engine)
            with sql_count(engine, exactly=1):
                name(engine)
            assert_cached(Hero, 1)
            with sql_count(engine) as sql:
                name(engine)
            assert sql == []

        def test_not(engine, sqlmodel_cache, assert_not_cached):
            name(engine)
            assert_not_cached(Hero, 1)

        def test_count(engine, sqlmodel_cache, sql_count):
            with sql_count(engine, exactly=0):
                name(engine)
        """.replace("\n        ", "\n"),
    )
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "*Hero is cached under this key; since configure(): hits=0 misses=1 fills=1 *",
            "*0 statements expected, 2 sent:*",
            "*SELECT hero.id*",
        ]
    )


def test_frozen_time_moves_past_a_ttl(project: pytest.Pytester) -> None:
    """With freezegun nobody waits for an entry to end."""
    pytest.importorskip("freezegun")
    result = run(
        project,
        """
        from datetime import timedelta
        from freezegun import freeze_time

        @pytest.mark.sqlmodel_cache(default_ttl=60)
        def test_it(engine, sqlmodel_cache, assert_cached, assert_not_cached):
            with freeze_time("2030-01-01") as clock:
                name(engine)
                clock.tick(timedelta(seconds=59))
                assert_cached(Hero, 1)
                clock.tick(timedelta(seconds=1))
                assert_not_cached(Hero, 1)
        """.replace("\n        ", "\n"),
    )
    result.assert_outcomes(passed=1)

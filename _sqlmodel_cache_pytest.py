"""The pytest plug-in: fixtures and markers, none of them in use unless a test asks for it.

A module beside the package, because pytest loads it at every start: to import anything below
`sqlmodel_cache` would import the package first, and SQLAlchemy and SQLModel with it. What does
the work is in `sqlmodel_cache.testing` and is imported when the first fixture is set up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlmodel_cache import SQLModelCache
    from sqlmodel_cache.testing import AssertCached, CountSQL

FIXTURE = "sqlmodel_cache"
TWICE = "with_and_without_cache"
MARKERS = (
    "sqlmodel_cache(**settings): what the fixture `sqlmodel_cache` gives to"
    " SQLModelCache.configure(), for example default_ttl=5; transport defaults to 'memory://'.",
    "with_and_without_cache: run the test twice, on a fresh cache and with the cache switched off.",
)

# Their assertions are there to be read when they fail. Now: a conftest may import them before
# anything is configured, and then it would be too late.
pytest.register_assert_rewrite("sqlmodel_cache.testing.contract")


def pytest_configure(config: pytest.Config) -> None:
    """Say which markers there are."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> None:
    """Let a test that is marked `with_and_without_cache` use the fixture, before all it asks for.

    Its other fixtures may open sessions, and must find the cache as the test does.
    """
    if collector.istestfunction(obj, name) and (
        collector.get_closest_marker(TWICE)
        or any(mark.name == TWICE for mark in getattr(obj, "pytestmark", ()))
    ):
        pytest.mark.usefixtures(FIXTURE)(obj)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make two tests of one that is marked `with_and_without_cache`."""
    if metafunc.definition.get_closest_marker(TWICE) and FIXTURE in metafunc.fixturenames:
        ids = ["with_cache", "without_cache"]
        metafunc.parametrize(FIXTURE, [True, False], ids=ids, indirect=True)


@pytest.fixture
def sqlmodel_cache(request: pytest.FixtureRequest) -> Iterator[type[SQLModelCache]]:
    """`SQLModelCache`, configured with a fresh memory transport; afterwards as it was before.

    `@pytest.mark.sqlmodel_cache(default_ttl=5)` changes what `configure()` is given.
    """
    from sqlmodel_cache.testing import temporary_cache

    settings: dict[str, object] = {}
    for marker in request.node.iter_markers(name="sqlmodel_cache"):
        settings = {**marker.kwargs, **settings}  # the closest marker comes first, and wins
    if not getattr(request, "param", True):
        settings["enabled"] = False
    with temporary_cache(**settings) as cache:
        yield cache


@pytest.fixture
def assert_cached() -> AssertCached:
    """`assert_cached(Hero, 1)` fails unless a get of that row would be a hit."""
    from sqlmodel_cache.testing import assert_cached

    return assert_cached


@pytest.fixture
def assert_not_cached() -> AssertCached:
    """`assert_not_cached(Hero, 1)` fails if a get of that row would be a hit."""
    from sqlmodel_cache.testing import assert_not_cached

    return assert_not_cached


@pytest.fixture
def sql_count() -> CountSQL:
    """Return what records the SQL that an engine, sync or async, sends while a block runs."""
    from sqlmodel_cache.testing import count_sql

    return count_sql

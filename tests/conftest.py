"""What every test gets: a library left unconfigured, Hypothesis profiles, recorders.

Async tests are plain `async def` functions: pytest-asyncio in auto mode, a loop per test.
Hypothesis runs the deterministic profile `ci` unless `--hypothesis-profile=long` is given.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from tests.recording import record_commands, record_sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.recording import Commands, Statements

pytest_plugins = ["tests.servers.fixtures", "pytester"]

_BUSY_MACHINE = [HealthCheck.too_slow]
settings.register_profile(
    "ci",
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=_BUSY_MACHINE,
)
settings.register_profile(
    "long", max_examples=5000, deadline=None, suppress_health_check=_BUSY_MACHINE
)
settings.load_profile("ci")


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """Leave no configuration of the library behind.

    That a process writes without one is said once: where, would be a matter of the tests' order.
    """
    if switch := sys.modules.get("sqlmodel_cache.orm.operate.switch"):
        vars(switch)["PAUSE"] = 3600.0  # the first lookup looks, and no other: tests count
    if state := sys.modules.get("sqlmodel_cache._state"):
        vars(state)["told_unconfigured"] = True
    yield
    if api := sys.modules.get("sqlmodel_cache.api"):
        api.SQLModelCache.reset()


@pytest.fixture
def key_prefix() -> str:
    """Return a key prefix that no other test uses, for a Redis that nobody flushes."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'test.sqlite3'}"


@pytest.fixture
def sql() -> Callable[[Engine | AsyncEngine], AbstractContextManager[Statements]]:
    """Return the recorder of what an engine sends.

    `with sql(engine) as statements:` makes a list that grows with every statement.
    """
    return record_sql


@pytest.fixture
def commandstats(redis_url: str) -> Callable[[], AbstractContextManager[Commands]]:
    """Return the recorder of what the Redis of `redis_url` executes.

    `with commandstats() as commands:` makes a dict of calls by command, filled at its end.
    """
    return partial(record_commands, redis_url)


@pytest.fixture
def no_sqlglot(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have raw SQL judged by its words, as where the extra `sql` is not installed."""
    from sqlmodel_cache.orm.writes import rawsql, texts

    monkeypatch.setattr(rawsql, "_parser", lambda: None)
    for judged in (rawsql._read, texts._only_reads):
        judged.cache_clear()
    yield
    for judged in (rawsql._read, texts._only_reads):
        judged.cache_clear()

"""Session fixtures for servers, and the one line that says what was not run for want of one.

Every worker of pytest-xdist is a session: it has a Redis and databases of its own. A server is
looked for when the first test asks for it.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, TypeVar

import psycopg
import pymysql
import pytest
import redis

from tests.servers.browser import Browser
from tests.servers.choice import AskedFor, Unavailable, given_url, wheels_only
from tests.servers.cluster import Cluster
from tests.servers.databases import (
    MARIADB_USUAL,
    MARIADB_VARIABLE,
    connect_mariadb,
    mariadb_database,
    postgres_database,
)
from tests.servers.postgres import VARIABLE as POSTGRES_VARIABLE
from tests.servers.postgres import PostgresServer, running_url
from tests.servers.redis_server import VARIABLE as REDIS_VARIABLE
from tests.servers.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
_SKIPPED = "no server: "


def obtain(server: str, provide: Callable[[], T]) -> T:
    """Return what `provide` does; the test fails, or is skipped, where there is no such server."""
    try:
        return provide()
    except (Unavailable, AskedFor) as error:
        failure = error
    # Outside of the handler, so that the report is one line and not three tracebacks.
    if isinstance(failure, AskedFor):
        pytest.fail(f"{server} was asked for: {failure}", pytrace=False)
    pytest.skip(f"{_SKIPPED}{server}: {failure}")


def _redis(stack: ExitStack) -> str:
    url = given_url(REDIS_VARIABLE)
    if url is None:
        return stack.enter_context(RedisServer()).url
    with redis.Redis.from_url(url) as client:
        try:
            client.ping()
        except redis.RedisError as error:
            raise AskedFor(f"{REDIS_VARIABLE}: {error}") from error
    return url


def _postgres(stack: ExitStack) -> str:
    url = given_url(POSTGRES_VARIABLE)
    try:
        if url is None:
            url = None if wheels_only() else running_url()
        if url is None:
            url = stack.enter_context(PostgresServer()).url
        return stack.enter_context(postgres_database(url))
    except psycopg.Error as error:
        raise AskedFor(f"{POSTGRES_VARIABLE}: {error}") from error


def _mariadb(stack: ExitStack) -> str:
    url = given_url(MARIADB_VARIABLE)
    if wheels_only():
        raise Unavailable("there is no wheel for it")
    try:
        connect_mariadb(url or MARIADB_USUAL).close()
        return stack.enter_context(mariadb_database(url or MARIADB_USUAL))
    except pymysql.Error as error:
        if url is not None:
            raise AskedFor(f"{MARIADB_VARIABLE}: {error}") from error
        raise Unavailable("none runs on port 3306") from error


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a Redis or Valkey. Nobody flushes it: use a key prefix of your own."""
    with ExitStack() as stack:
        yield obtain("Redis", lambda: _redis(stack))


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL (psycopg) of an empty PostgreSQL database."""
    with ExitStack() as stack:
        yield obtain("PostgreSQL", lambda: _postgres(stack))


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    """URL (pymysql) of an empty MariaDB database."""
    with ExitStack() as stack:
        yield obtain("MariaDB", lambda: _mariadb(stack))


@pytest.fixture(scope="module")
def redis_cluster() -> Iterator[Cluster]:
    """Yield a Redis Cluster of three nodes."""
    with ExitStack() as stack:
        yield obtain("Redis Cluster", lambda: stack.enter_context(Cluster()))


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Yield a headless Chromium with one page."""
    with closing(obtain("Chromium", Browser)) as made:
        yield made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was not run."""
    wanting: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple | list) else ""
        _, found, rest = str(reason).partition(_SKIPPED)
        wanting[rest.partition(":")[0]] += bool(found)
    if wanting := +wanting:
        parts = (f"{server} ({count} tests)" for server, count in sorted(wanting.items()))
        terminalreporter.write_line(
            "not run for want of a server: " + ", ".join(parts), yellow=True
        )

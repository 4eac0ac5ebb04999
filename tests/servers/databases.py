"""A database per test run, with a name of its own, dropped at the end.

The drivers are used directly: no engine, so nothing of the library under test is involved.
"""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING

import psycopg
import pymysql
from sqlalchemy import make_url

from tests.servers.postgres import libpq_url
from tests.servers.process import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

MARIADB_VARIABLE = "SQLMODEL_CACHE_TEST_MARIADB_URL"
MARIADB_USUAL = f"mysql+pymysql://root@{HOST}:3306"

_PLAIN = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_ASYNC = {"postgresql": "asyncpg", "mysql": "aiomysql", "mariadb": "aiomysql"}


def async_url(url: str) -> str:
    """Return the URL of the same database for an async driver."""
    return _with_driver(url, _ASYNC, "aiosqlite")


def plain_url(url: str) -> str:
    """Return the URL of the same database for a plain driver."""
    return _with_driver(url, _PLAIN, "pysqlite")


def _with_driver(url: str, drivers: dict[str, str], otherwise: str) -> str:
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    driver = drivers.get(backend, otherwise)
    return parsed.set(drivername=f"{backend}+{driver}").render_as_string(hide_password=False)


def _unique_name() -> str:
    return f"sqlmodel_cache_test_{os.getpid()}_{token_hex(4)}"


def _in_database(url: str, driver: str, name: str) -> str:
    parsed = make_url(url).set(drivername=driver, database=name)
    return parsed.render_as_string(hide_password=False)


@contextmanager
def postgres_database(server: str) -> Iterator[str]:
    """Make a database on `server`, yield its URL (psycopg), and drop it whoever still uses it."""
    name = _unique_name()
    with psycopg.connect(libpq_url(server), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            yield _in_database(server, "postgresql+psycopg", name)
        finally:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def connect_mariadb(url: str) -> pymysql.Connection[pymysql.cursors.Cursor]:
    """Return an autocommitting connection to the server; raises `pymysql.Error`."""
    parsed = make_url(url)
    return pymysql.connect(
        host=parsed.host or HOST,
        port=parsed.port or 3306,
        user=parsed.username or "root",
        password=parsed.password or "",
        connect_timeout=3,
        autocommit=True,
    )


@contextmanager
def mariadb_database(server: str) -> Iterator[str]:
    """Make a database on `server`, yield its URL (pymysql), and drop it whoever still uses it."""
    name = _unique_name()
    with closing(connect_mariadb(server)) as admin, admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        try:
            yield _in_database(server, "mysql+pymysql", name)
        finally:
            # An open transaction would block the drop for as long as it lives.
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (name,))
            for (connection,) in cursor.fetchall():
                cursor.execute(f"KILL {int(connection)}")
            cursor.execute(f"DROP DATABASE `{name}`")

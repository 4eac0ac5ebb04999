"""Where things are measured: a Redis of our own, a database in PostgreSQL, SQLite in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import psycopg
import redis
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.pool import StaticPool

from benchmarks.rows import fill_tables
from benchmarks.timing import Pace
from tests.servers.choice import AskedFor, Unavailable
from tests.servers.postgres import PostgresServer, libpq_url, running_url
from tests.servers.redis_server import RedisServer


@dataclass(frozen=True, slots=True)
class Place:
    """What the measure groups get. None: not to be had here."""

    pace: Pace
    sqlite: Engine
    redis_url: str | None
    postgres: Engine | None
    described: tuple[str, ...]

    def client(self, **options: Any) -> redis.Redis:
        """Return a client as anybody would make it."""
        assert self.redis_url is not None
        return redis.Redis.from_url(self.redis_url, **options)


@contextmanager
def opened(pace: Pace) -> Iterator[Place]:
    """Start what is to be had; end and drop it afterwards."""
    with ExitStack() as stack:
        sqlite = create_engine("sqlite://", poolclass=StaticPool)
        stack.callback(sqlite.dispose)
        fill_tables(sqlite)
        described = []
        redis_url = None
        with suppress(Unavailable, AskedFor):
            server = stack.enter_context(RedisServer())
            redis_url = server.url
            with server.client() as client:
                info: Any = client.info("server")
            described.append(f"Redis {info['redis_version']}, its own process on loopback TCP")
        postgres = None
        with suppress(Unavailable, AskedFor):
            url = stack.enter_context(_postgres_database())
            postgres = create_engine(url)
            stack.callback(postgres.dispose)
            fill_tables(postgres)
            with postgres.connect() as connection:
                number = connection.exec_driver_sql("SHOW server_version").scalar()
            where = "Unix socket" if "host" in postgres.url.query else "loopback TCP"
            described.append(f"PostgreSQL {number} on {where}, psycopg")
        yield Place(pace, sqlite, redis_url, postgres, tuple(described))


@contextmanager
def _postgres_database() -> Iterator[str]:
    """Make a database on a running server, or on one out of the wheel, and drop it at the end."""
    with ExitStack() as stack:
        server = running_url() or stack.enter_context(PostgresServer()).url
        name = f"sqlmodel_cache_bench_{os.getpid()}_{token_hex(3)}"
        with psycopg.connect(libpq_url(server), autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}"'.encode())
            try:
                url = make_url(server).set(drivername="postgresql+psycopg", database=name)
                yield url.render_as_string(hide_password=False)
            finally:
                admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())

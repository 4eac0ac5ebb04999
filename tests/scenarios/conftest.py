"""The worlds: `sync|async` x `memory|redis` x `sqlite|postgresql|mariadb`, and two tiers.

`world` runs a scenario in all of them; under `@on_sqlite` it takes only those on SQLite, for what
no database can change. Tables are made once per database; every test uses rows and keys of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine

from sqlmodel_cache import SQLModelCache
from tests.scenarios import backing
from tests.scenarios.harness import MODES, STORES, WORLDS, Database, World
from tests.scenarios.models import Hero, create_tables
from tests.servers.databases import async_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BACKINGS: dict[str, Callable[[str], backing.Backing]] = {
    "memory": lambda mode: backing.Memory(),
    "dict": backing.Dict,
    "faulty": backing.Faulty,
}


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Return the event loop of all async worlds; their connections live as long as it."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture(scope="session")
def databases(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    loop: asyncio.AbstractEventLoop,
) -> Iterator[Callable[[str], Database]]:
    """Return the function that opens a database by name, with every table in it."""
    opened: dict[str, Database] = {}

    def open_(name: str) -> Database:
        if name not in opened:
            opened[name] = _open(name, _url(name, request, tmp_path_factory))
        return opened[name]

    yield open_
    for database in opened.values():
        loop.run_until_complete(database.async_engine.dispose())
        database.engine.dispose()
        database.outside.dispose()


def _url(
    name: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    if name == "sqlite":
        folder: Path = tmp_path_factory.mktemp("scenarios")
        return f"sqlite:///{folder / 'scenarios.sqlite3'}"
    url: str = request.getfixturevalue("postgres_url" if name == "postgresql" else "mariadb_url")
    return url


def _open(name: str, url: str) -> Database:
    database = Database(
        name, create_engine(url), create_async_engine(async_url(url)), create_engine(url)
    )
    if name == "sqlite":
        for engine in (database.engine, database.async_engine.sync_engine, database.outside):
            event.listen(engine, "connect", _set_up_sqlite)
    create_tables(database.outside)
    return database


def _set_up_sqlite(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = OFF")  # no test pulls the plug
    cursor.close()


@pytest.fixture
def make_world(
    request: pytest.FixtureRequest,
    databases: Callable[[str], Database],
    loop: asyncio.AbstractEventLoop,
    key_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., World]]:
    """Return the function that sets up a world and configures the cache for it."""
    clients: list[backing.Redis] = []

    def make(mode: str, store: str, database: str, /, **settings: Any) -> World:
        made: backing.Backing
        if store in ("redis", "tiered"):
            kind = backing.Redis if store == "redis" else backing.Tiered
            made = kind(request.getfixturevalue("redis_url"), key_prefix)
            clients.append(made)
        else:
            made = _BACKINGS[store](mode)
        found = databases(database)
        SQLModelCache.configure(made.transport, key_prefix=key_prefix, **settings)
        if isinstance(made, backing.Tiered):
            made.copy_everything(monkeypatch)
        world = World(mode, found, made, loop)
        world.get(Hero, 0)  # an engine's first get asks the database who it is
        return world

    yield make
    SQLModelCache.reset()
    for client in clients:
        client.close()


@pytest.fixture(params=WORLDS, ids="-".join)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    """Set up every world."""
    return make_world(*request.param)


@pytest.fixture(params=list(product(MODES, (*STORES, "dict"))), ids="-".join)
def any_store(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """Return mode, store and database of the worlds on SQLite, a user's own transport included."""
    mode, store = request.param
    return mode, store, "sqlite"

"""Where programs run: a database, with plain sessions or with asynchronous ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sqlmodel_cache.transport import MemoryTransport
from tests.scenarios.harness import Waiting
from tests.servers.databases import async_url, plain_url

T = TypeVar("T")


class Plain:
    """A database with plain sessions. `outside` is an engine for those who look on.

    `snapshots`: what a transaction reads is what was there at its first statement.
    `one_writes`: who else would write waits. That is so in SQLite, and has to be where InnoDB locks
    gaps between rows: which, depends on what rows of the past are still there.
    """

    def __init__(self, url: str, settings: dict[str, Any]) -> None:
        self.outside = _outside(url)
        self._engine = create_engine(url, **settings)
        _set_up(self._engine)
        with self._engine.connect() as connection:
            self.snapshots = connection.get_isolation_level() == "REPEATABLE READ"
        name = self._engine.dialect.name
        self.one_writes = name == "sqlite" or (name == "mysql" and self.snapshots)

    def session(self) -> Any:
        """Return a new session."""
        return Session(self._engine)

    def transport(self) -> Any:
        """Return an empty store."""
        return MemoryTransport()

    def dispose(self) -> None:
        """Let everything go."""
        self._engine.dispose()
        self.outside.dispose()


class Async(Plain):
    """A database with asynchronous sessions, whose store is awaited."""

    def __init__(self, url: str, settings: dict[str, Any]) -> None:
        super().__init__(url, settings)
        self._loop = asyncio.new_event_loop()
        self._async_engine = create_async_engine(async_url(url), **settings)
        _set_up(self._async_engine.sync_engine)

    def session(self) -> Any:
        """Return a new session, used like a plain one but for what only `within` can do."""
        return Waiting(AsyncSession(self._async_engine), self._loop)

    def transport(self) -> Any:
        """Return an empty store."""
        return _Awaited()

    def dispose(self) -> None:
        """Let everything go."""
        self._loop.run_until_complete(self._async_engine.dispose())
        self._loop.close()
        super().dispose()


def place(url: str, level: str | None) -> Plain:
    """Return the place of a URL, whose driver says of which kind its sessions are.

    `level`: their isolation level, None for the database's own.
    """
    kind = Async if make_url(url).get_dialect().is_async else Plain
    return kind(plain_url(url), {} if level is None else {"isolation_level": level})


def within(session: Any, does: Callable[[Session], T]) -> T:
    """Do what may load attributes: an asynchronous session must be told that it waits."""
    found: T = session.run_sync(does) if isinstance(session, Waiting) else does(session)
    return found


class _Awaited:
    """A store that coroutines await; nobody can set its clock."""

    is_transport_pair = True
    blocks = True

    def __init__(self) -> None:
        self.sync = MemoryTransport()
        self.async_ = self

    async def perform(self, op: Any) -> Any:
        await asyncio.sleep(0)
        return self.sync.perform(op)


_QUICK = ("PRAGMA synchronous = OFF", "PRAGMA journal_mode = MEMORY")
_SET_UP = {
    "sqlite": ("PRAGMA foreign_keys = ON", *_QUICK),
    # Two sessions write at once: who would have to wait for a lock is told so.
    "postgresql": ("SET lock_timeout = '5ms'",),
    "mysql": ("SET innodb_lock_wait_timeout = 0",),
}
_SET_UP_OUTSIDE = {
    "sqlite": _QUICK,
    "postgresql": (),
    "mysql": ("SET foreign_key_checks = 0",),  # rows of one table refer to each other
}


def _outside(url: str) -> Engine:
    engine = create_engine(url)
    _at_connect(engine, _SET_UP_OUTSIDE[engine.dialect.name])
    return engine


def _set_up(engine: Engine) -> None:
    """Have no session wait; have SQLite keep foreign keys, and have savepoints in transactions."""
    _at_connect(engine, _SET_UP[engine.dialect.name])
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "savepoint")
    def begin(connection: Any, name: str) -> None:
        pooled = connection.connection
        if not pooled.driver_connection.in_transaction:  # it begins at the first write only
            pooled.cursor().execute("BEGIN IMMEDIATE")


def _at_connect(engine: Engine, statements: tuple[str, ...]) -> None:
    @event.listens_for(engine, "connect")
    def execute(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
        connection.commit()

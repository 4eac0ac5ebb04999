"""One scenario, many worlds: sync or async sessions, any store, any database.

A scenario is a plain function over a `World`. In an async world its session is an `AsyncSession`
all the same: `Waiting` sends each coroutine that a method returns to an event loop, and hands
out what comes back.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import isawaitable, ismethod
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, inspect, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from tests.recording import record_sql
from tests.servers.databases import async_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from sqlmodel_cache import Stats
    from tests.recording import Statements
    from tests.scenarios.backing import Backing


DATABASES = ("sqlite", "postgresql", "mariadb")
MODES = ("sync", "async")
STORES = ("memory", "redis")

# Copies in this process in front of Redis, of every model: no database can change what they do.
TIERED = tuple(product(MODES, ["tiered"], ["sqlite"]))
WORLDS = (*product(MODES, STORES, DATABASES), *TIERED)

# For a scenario that no database can change.
on_sqlite = pytest.mark.parametrize(
    "world", [*product(MODES, STORES, ["sqlite"]), *TIERED], ids="-".join, indirect=True
)


@dataclass(frozen=True)
class Database:
    """Engines of one database: the two that worlds use, and one for those who look on."""

    name: str
    engine: Engine
    async_engine: AsyncEngine
    outside: Engine


class Waiting:
    """An object of the asyncio extension, used from plain code."""

    def __init__(self, wrapped: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._wrapped = wrapped
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        return self._call(found) if ismethod(found) else found

    def __contains__(self, instance: object) -> bool:
        return instance in self._wrapped

    def __enter__(self) -> Any:
        return self._unwrap(self._loop.run_until_complete(self._wrapped.__aenter__()))

    def __exit__(self, *error: Any) -> Any:
        return self._loop.run_until_complete(self._wrapped.__aexit__(*error))

    def _call(self, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._unwrap(method(*args, **kwargs))

        return call

    def _unwrap(self, result: Any) -> Any:
        if result is self._wrapped:
            return self
        if hasattr(result, "__aenter__"):
            return Waiting(result, self._loop)
        if isawaitable(result):
            return self._unwrap(self._loop.run_until_complete(_awaited(result)))
        return result


async def _awaited(result: Any) -> Any:
    return await result


class World:
    """Where a scenario takes place.

    Attributes:
        mode: "sync" or "async".
        database: the name, "sqlite", "postgresql" or "mariadb".
        outside: an engine of the same database whose statements `sql()` does not record.
        backing: the cache's store, for those who look into it.
        fresh: hex digits for keys and unique values that no other test uses.
    """

    def __init__(
        self, mode: str, database: Database, backing: Backing, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.mode = mode
        self.database = database.name
        self.outside = database.outside
        self.backing = backing
        self.loop = loop
        self.fresh = uuid4().hex[:12]
        self.engine: Any = database.engine if mode == "sync" else database.async_engine

    # Sessions and connections of the program under test

    def session(self, **settings: Any) -> Any:
        """Return a new Session, or an AsyncSession that can be used like one."""
        bind = settings.pop("bind", self.engine)
        bind = getattr(bind, "_wrapped", bind)
        if self.mode == "sync":
            return Session(bind, **settings)
        return Waiting(AsyncSession(bind, **settings), self.loop)

    def plain(self) -> Session:
        """Return a plain Session of the program's, on its engine with the synchronous driver."""
        return Session(self.outside)

    def made_by(self, factory: Any) -> Any:
        """Return a session of a sessionmaker or async_sessionmaker."""
        return factory() if self.mode == "sync" else Waiting(factory(), self.loop)

    def savepoint(self, session: Any) -> Any:
        """Begin a savepoint now; return its transaction."""
        if self.mode == "sync":
            return session.begin_nested()
        begun = self.loop.run_until_complete(_awaited(session._wrapped.begin_nested()))
        return Waiting(begun, self.loop)

    def begun(self, connection: Any) -> Any:
        """Begin a connection's transaction now; return it."""
        if self.mode == "sync":
            return connection.begin()
        begun = self.loop.run_until_complete(_awaited(connection._wrapped.begin()))
        return Waiting(begun, self.loop)

    def begin(self) -> Any:
        """Return a context: a Core connection in a transaction, committed at the end."""
        return self.engine.begin() if self.mode == "sync" else self._waiting_engine().begin()

    def connect(self) -> Any:
        """Return a context: a Core connection."""
        return self.engine.connect() if self.mode == "sync" else self._waiting_engine().connect()

    def attribute(self, session: Any, instance: object, name: str) -> Any:
        """Return an attribute that may have to be loaded."""
        if self.mode == "sync":
            return getattr(instance, name)
        return session.run_sync(lambda _: getattr(instance, name))

    @contextmanager
    def another_engine(self, url: str | None = None, **settings: Any) -> Iterator[Any]:
        """Open an engine of the world's kind; without `url` for the same database."""
        if url is None:
            url = self.outside.url.render_as_string(hide_password=False)
        if self.mode == "sync":
            engine = create_engine(url, **settings)
            try:
                yield engine
            finally:
                engine.dispose()
        else:
            other = create_async_engine(async_url(url), **settings)
            try:
                yield other
            finally:
                self.loop.run_until_complete(other.dispose())

    def _waiting_engine(self) -> Waiting:
        return Waiting(self.engine, self.loop)

    # What can be seen

    def sql(self) -> AbstractContextManager[Statements]:
        """Record the statements that the world's engine sends inside the block."""
        return record_sql(self.engine)

    def row(self, model: Any, pk: Any) -> Any:
        """Return what another connection reads in the database: a mapping, or None."""
        table = model.__table__
        keys = pk if isinstance(pk, tuple) else (pk,)
        with self.outside.connect() as connection:
            where = [column == key for column, key in zip(table.primary_key, keys, strict=True)]
            return connection.execute(select(table).where(*where)).mappings().one_or_none()

    def store(self, *instances: Any) -> Any:
        """Commit new rows; return the primary key, or the list of them."""
        with self.session(expire_on_commit=False) as session:
            session.add_all(instances)
            session.commit()
        identities = [inspect(one).identity for one in instances]
        keys = [key[0] if len(key) == 1 else key for key in identities]
        return keys[0] if len(keys) == 1 else keys

    def behind_the_back(self, statement: str) -> None:
        """Commit a statement that the library cannot see, as psql would."""
        connection = self.outside.raw_connection()
        try:
            connection.cursor().execute(statement)
            connection.driver_connection.commit()  # type: ignore[union-attr]
        finally:
            connection.close()

    # Lookups, each in a session of its own

    def get(self, model: Any, pk: Any, **how: Any) -> Any:
        """Return what a get in a new session returns, detached."""
        with self.session() as session:
            return session.get(model, pk, **how)

    def hit(self, model: Any, pk: Any, **how: Any) -> Any:
        """Return what a get in a new session returns; it must send no SQL at all."""
        with self.sql() as sent:
            found = self.get(model, pk, **how)
        assert not sent, f"not a hit: {sent}"
        return found

    def miss(self, model: Any, pk: Any, **how: Any) -> Any:
        """Return what a get in a new session returns; it must ask the database, once."""
        with self.sql() as sent:
            found = self.get(model, pk, **how)
        assert len(sent.starting("SELECT")) == 1, f"not a miss: {sent}"
        assert len(sent) == 1, sent
        return found

    def warm(self, model: Any, pk: Any) -> Any:
        """Have a row cached, and prove it."""
        self.get(model, pk)
        return self.hit(model, pk)

    def stats(self) -> Stats:
        """Return the library's counts."""
        return SQLModelCache.stats()

    @contextmanager
    def one_select(self) -> Iterator[None]:
        """Hold the block to just one SELECT and nothing else."""
        with self.sql() as sent:
            yield
        assert len(sent) == 1, f"wanted one SELECT: {sent}"
        assert sent.starting("SELECT"), f"wanted one SELECT: {sent}"

    @contextmanager
    def no_sql(self) -> Iterator[None]:
        """Hold the block to no SQL at all."""
        with self.sql() as sent:
            yield
        assert not sent, f"wanted no SQL: {sent}"

"""Each peer as its documentation says to use it. Imports what only its own environment has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import models
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import loading
from sqlalchemy.orm.interfaces import UserDefinedOption
from sqlmodel import Session


class Peer:
    """No cache: `session.get`, and `commit`."""

    asynchronous = False
    packages: ClassVar[tuple[str, ...]] = ()

    def __init__(self, engine: Any, store: str) -> None:
        self.engine = engine

    async def start(self, store: str) -> None:
        """Do what has to be done on the loop."""

    def session(self) -> Any:
        """Return a new session."""
        return Session(self.engine)

    def get(self, session: Any, pk: int, **how: Any) -> Any:
        """Return a row."""
        return session.get(models.Row, pk, **how)

    def changed(self, pk: int) -> Any:
        """Do what a user has to do after the commit of a changed row."""


class AsyncPeer(Peer):
    """The same, of an `AsyncSession`."""

    asynchronous = True

    def session(self) -> Any:
        """Return a new session."""
        return AsyncSession(self.engine)


class Ours(Peer):
    """The library of this tree."""

    packages = ("sqlmodel-cache",)

    def __init__(self, engine: Any, store: str) -> None:
        from sqlmodel_cache import SQLModelCache

        super().__init__(engine, store)
        SQLModelCache.configure("memory://" if store == "memory" else store)


class OursAsync(Ours, AsyncPeer):
    """The same, async."""


class OfTheSameName(Peer):
    """The package that PyPI calls `sqlmodel-cache`."""

    packages = ("sqlmodel-cache",)

    def __init__(self, engine: Any, store: str) -> None:
        import redis

        from sqlmodel_cache import SQLModelCache
        from sqlmodel_cache.transport import RedisSyncTransport

        super().__init__(engine, store)
        SQLModelCache.configure(
            transport=RedisSyncTransport(redis.Redis.from_url(store)), default_ttl=300
        )


class Sqlacache(AsyncPeer):
    """`sqlacache`."""

    packages = ("sqlacache", "cashews")

    async def start(self, store: str) -> None:
        """Configure, and bind the engine."""
        from sqlacache import configure

        made = configure(
            backend="mem://" if store == "memory" else store,
            models={"models.Row": {"ops": "all", "timeout": 300}, "*": {"timeout": 300}},
        )
        await made.bind(self.engine)


class FromCache(UserDefinedOption):
    """On a statement: its result may come from the region."""

    propagate_to_loaders = False


class Dogpile(Peer):
    """dogpile.cache around `select()`, after SQLAlchemy's page on its "dogpile caching" recipe."""

    packages = ("dogpile.cache",)

    def __init__(self, engine: Any, store: str) -> None:
        from dogpile.cache import make_region

        super().__init__(engine, store)
        backend, arguments = "dogpile.cache.redis", {"url": store, "distributed_lock": True}
        if store == "memory":
            backend, arguments = "dogpile.cache.memory", {}
        self.region = make_region().configure(backend, expiration_time=300, arguments=arguments)

    def session(self) -> Any:
        """Return a new session that listens."""
        made = Session(self.engine)
        event.listen(made, "do_orm_execute", self._execute)
        return made

    def get(self, session: Any, pk: int, **how: Any) -> Any:
        """Return a row by a statement that may be cached."""
        statement = self._statement(pk)
        if how.get("with_for_update"):
            statement = statement.with_for_update()
        return session.execute(statement).scalar_one_or_none()

    def changed(self, pk: int) -> Any:
        """Invalidate what was cached of this row, by hand."""
        self.region.delete(self._key(self._statement(pk), {}))

    @staticmethod
    def _statement(pk: int) -> Any:
        return select(models.Row).where(models.Row.id == pk).options(FromCache())

    @staticmethod
    def _key(statement: Any, parameters: Any) -> str:
        made = statement._generate_cache_key()
        return " ".join([str(made.key), str(made.to_offline_string({}, statement, parameters))])

    def _execute(self, state: Any) -> Any:
        if not any(isinstance(option, FromCache) for option in state.user_defined_options):
            return None

        def load() -> Any:
            return state.invoke_statement().freeze()

        frozen = self.region.get_or_create(self._key(state.statement, state.parameters or {}), load)
        return loading.merge_frozen_result(state.session, state.statement, frozen, load=False)()


class Cashews(AsyncPeer):
    """`cashews` around `session.get`; its rows are merged into the caller's session."""

    packages = ("cashews",)

    async def start(self, store: str) -> None:
        """Set the cache up, and decorate the function that loads."""
        from cashews import Cache

        self.cache = Cache()
        if store == "memory":
            self.cache.setup("mem://")
        else:
            self.cache.setup(store, pickle_type="sqlalchemy")

        @self.cache(ttl="5m", key="row:{pk}")
        async def load(pk: int) -> Any:
            async with AsyncSession(self.engine) as session:
                return await session.get(models.Row, pk)

        self.load: Callable[[int], Any] = load

    async def get(self, session: Any, pk: int, **how: Any) -> Any:
        """Return a row; what is locked is not read through the cache."""
        if how:
            return await session.get(models.Row, pk, **how)
        found = await self.load(pk)
        return None if found is None else await session.merge(found, load=False)

    async def changed(self, pk: int) -> Any:
        """Forget the row, by hand."""
        await self.cache.delete(f"row:{pk}")


PEERS: dict[str, type[Peer]] = {
    "none": Peer,
    "none, async": AsyncPeer,
    "ours": Ours,
    "ours, async": OursAsync,
    "same name": OfTheSameName,
    "dogpile recipe": Dogpile,
    "sqlacache": Sqlacache,
    "cashews": Cashews,
}

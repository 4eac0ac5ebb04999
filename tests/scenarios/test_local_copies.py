"""Models with a `local_ttl`: copies in this process, and what other processes' commits do to them.

The other process is a cache of its own on the same Redis, carried by a factory; one test has a
real one.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import JSON, create_engine, event, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import (
    CacheConfig,
    ConfigurationError,
    SQLModelCache,
    _state,
    aget_many,
    get_by,
    get_many,
)
from sqlmodel_cache.keys import local_channel
from tests.servers.databases import async_url


class Base(DeclarativeBase):
    """Of the models of this file."""


class Near(Base):
    """Copied."""

    __tablename__ = "local_near"
    __cache_config__ = CacheConfig(ttl=300, local_ttl=200, unique=("name",), negative_ttl=60)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str] = mapped_column(default="near")
    data: Mapped[Any] = mapped_column(MutableDict.as_mutable(JSON), default=lambda: {"a": [1]})
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "near"}


class Nearer(Near):
    """A subclass that wants no copies: its rows are announced all the same, for its base."""

    __cache_config__ = CacheConfig(ttl=300)
    __mapper_args__ = {"polymorphic_identity": "nearer"}


class Far(Base):
    """Not copied."""

    __tablename__ = "local_far"
    __cache_config__ = CacheConfig(ttl=300)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Two:
    """Two processes' worth of caches over one Redis and one SQLite file."""

    def __init__(self, redis_url: str, url: str, prefix: str) -> None:
        self.url = f"{redis_url}{'&' if '?' in redis_url else '?'}local=1000"
        self.database = url
        self.engine = create_engine(url)
        event.listen(self.engine, "connect", _careless)
        Base.metadata.create_all(self.engine)
        with Session(self.engine) as session:
            session.add_all([Near(id=n, name=f"n{n}") for n in range(1, 6)])
            session.add_all([Nearer(id=9, name="n9"), Far(id=1, name="far")])
            session.commit()
        SQLModelCache.configure(self.url, key_prefix=prefix)
        self.prefix = prefix
        self.listen()
        self.other = create_engine(url)

    def listen(self) -> None:
        """Return when messages come."""
        assert _state.active.stores.local.wait_until_listening(local_channel(self.prefix), 20)

    @property
    def hits(self) -> int:
        """The reads that copies answered so far."""
        local = SQLModelCache.stats().local
        assert local is not None
        return local.hits

    def name(self, key: int = 1, model: type[Any] = Near) -> str | None:
        """Read a name in a session of its own."""
        with Session(self.engine) as session:
            found = session.get(model, key)
            return None if found is None else found.name

    def copied(self, key: int = 1, model: type[Any] = Near) -> bool:
        """Read often enough for a copy; tell whether the last read was answered by one."""
        for _ in range(3):
            self.name(key, model)
        before = self.hits
        self.name(key, model)
        return self.hits > before

    def becomes(self, condition: Callable[[], bool]) -> bool:
        """Tell whether something comes true once the message is here."""
        till = time.monotonic() + 20
        while not condition():
            if time.monotonic() > till:
                return False
            time.sleep(0.002)
        return True


def _careless(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture
def two(redis_url: str, sqlite_url: str, key_prefix: str) -> Iterator[Two]:
    """Set them up."""
    made = Two(redis_url, sqlite_url, key_prefix)
    yield made
    SQLModelCache.reset()
    made.engine.dispose()
    made.other.dispose()


def elsewhere(two: Two, statement: str) -> None:
    """Run a statement in another process, which has the cache configured by plain URL."""
    spawn = multiprocessing.get_context("spawn")
    plain = two.url.partition("?")[0]
    child = spawn.Process(target=_write, args=(plain, two.prefix, two.database, statement))
    child.start()
    child.join(60)
    assert child.exitcode == 0


def _write(redis_url: str, prefix: str, database: str, statement: str) -> None:
    SQLModelCache.configure(redis_url, key_prefix=prefix)
    with Session(create_engine(database)) as session:
        if statement == "row":
            session.get(Near, 1).name = "changed"  # type: ignore[union-attr]
        elif statement == "rows":
            session.execute(update(Near).values(kind="near", data={}))
        elif statement == "subclass":
            session.get_one(Nearer, 9).name = "changed"
        session.commit()
        if statement == "invalidate":
            SQLModelCache.invalidate(Near, 1, bind=session)
    SQLModelCache.reset()


def test_a_repeated_read_asks_nobody(two: Two, commandstats: Any) -> None:
    """No command at all; a model without local_ttl still asks Redis."""
    assert two.copied()
    assert not two.copied(model=Far)
    before = two.hits
    for _ in range(10):
        two.name()
    assert two.hits == before + 10
    assert SQLModelCache.stats().models["Near"].hits >= 10


def test_own_commits_are_seen_at_once(two: Two) -> None:
    """By row, in bulk, and by statement; a hundred times, as it is a race otherwise."""
    for number in range(100):
        assert two.name() is not None
        with Session(two.engine) as session:
            if number % 2:
                session.get_one(Near, 1).name = f"own {number}"
            else:
                session.execute(update(Near).where(Near.id == 1).values(name=f"own {number}"))
            session.commit()
        assert two.name() == f"own {number}"


def test_own_commits_are_seen_by_every_thread(two: Two) -> None:
    """S2 in this process: no read that starts after commit() returned is older."""
    done, stale, ended = 0, [], threading.Event()

    def read() -> None:
        while not ended.is_set():
            wanted = done
            name = two.name()
            if name is None or int(name) < wanted:
                stale.append((name, wanted))

    with Session(two.engine) as session:
        session.get_one(Near, 1).name = "0"
        session.commit()
    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(1, 60):
            with Session(two.engine) as session:
                session.get_one(Near, 1).name = str(number)
                session.commit()
            done = number
    finally:
        ended.set()
        for reader in readers:
            reader.join()
    assert not stale
    assert two.hits


def test_a_rolled_back_write_changes_nothing(two: Two) -> None:
    """Copies stay what everybody sees."""
    assert two.copied()
    with Session(two.engine) as session:
        session.get_one(Near, 1).name = "never"
        session.flush()
        assert two.name() == "n1"
        session.rollback()
    assert two.name() == "n1"


@pytest.mark.parametrize("how", ["row", "rows", "invalidate"])
def test_another_process_is_heard(two: Two, how: str) -> None:
    """A commit, a bulk statement and an explicit call of a process that keeps no copies itself."""
    assert two.copied()
    elsewhere(two, how)
    if how == "row":
        assert two.becomes(lambda: two.name() == "changed")
    else:
        before = SQLModelCache.stats().models["Near"].misses
        assert two.becomes(
            lambda: bool(two.name()) and SQLModelCache.stats().models["Near"].misses > before
        )


def test_writes_of_a_subclass_without_copies(two: Two) -> None:
    """get(Near, 9) copies what a commit through Nearer changes."""
    assert two.copied(9)
    assert not two.copied(9, Nearer)
    elsewhere(two, "subclass")
    assert two.becomes(lambda: two.name(9) == "changed")


def test_absent_rows_are_copied_until_they_are_inserted(two: Two) -> None:
    """A negative entry obeys the same rules."""
    assert two.copied(77)
    with Session(two.engine) as session:
        session.add(Near(id=77, name="new"))
        session.commit()
    assert two.name(77) == "new"


def test_unique_keys_are_copied_too(two: Two) -> None:
    """Pointer and row; a renamed row is not found by its old name."""

    def by(name: str) -> int | None:
        with Session(two.engine) as session:
            found = get_by(session, Near, name=name)
            return None if found is None else found.id

    for _ in range(4):
        assert by("n2") == 2
    before = two.hits
    assert by("n2") == 2
    assert two.hits == before + 2
    with Session(two.engine) as session:
        session.get_one(Near, 2).name = "moved"
        session.commit()
    assert by("n2") is None
    assert by("moved") == 2


def test_get_many_reads_copies_and_the_rest(two: Two) -> None:
    """In the order asked, and each from where it is."""
    assert two.copied(1)
    with Session(two.engine) as session:
        found = get_many(session, Near, [3, 1, 99, 2, 1])
        assert [None if one is None else one.id for one in found] == [3, 1, None, 2, 1]
    with Session(two.engine) as session:
        get_many(session, Near, [1, 2, 3, 99])
    before = two.hits
    with Session(two.engine) as session:
        get_many(session, Near, [1, 2, 3, 99])
    assert two.hits == before + 4


def test_no_two_sessions_share_what_can_be_changed(two: Two) -> None:
    """Mutable values are decoded for each session; instances are never shared."""
    assert two.copied()
    with Session(two.engine) as one, Session(two.engine) as another:
        mine, theirs = one.get_one(Near, 1), another.get_one(Near, 1)
        assert mine is not theirs
        mine.data["a"].append(2)
        mine.data["b"] = 1
        assert theirs.data == {"a": [1]}
        assert mine in one.dirty
        one.rollback()
    with Session(two.engine) as session:
        assert session.get_one(Near, 1).data == {"a": [1]}


async def test_async_sessions_share_the_copies(two: Two) -> None:
    """Without a command, and an own commit is seen at once."""
    assert two.copied()
    engine = create_async_engine(async_url(two.database))
    async with AsyncSession(engine) as session:
        before = two.hits
        assert (await session.get_one(Near, 1)).name == "n1"
        assert two.hits == before + 1
    async with AsyncSession(engine) as session:
        found = await aget_many(session, Near, [1, 2])
        assert [one and one.id for one in found] == [1, 2]
        (await session.get_one(Near, 1)).name = "async"
        await session.commit()
    assert two.name() == "async"
    async with AsyncSession(engine) as session:
        await session.get(Near, 1)
        before = two.hits
        loaded = await session.get(Near, 1, populate_existing=True)
        assert two.hits == before
        assert loaded is not None
    await SQLModelCache.ainvalidate(Near, bind=engine)
    await engine.dispose()


def test_invalidate_reaches_own_copies(two: Two) -> None:
    """A row, a model, everything: the next read asks the database."""
    for forget in (
        lambda: SQLModelCache.invalidate(Near, 1),
        lambda: SQLModelCache.invalidate(Near),
        SQLModelCache.clear,
    ):
        assert two.copied()
        misses = SQLModelCache.stats().models["Near"].misses
        forget()
        two.name()
        assert SQLModelCache.stats().models["Near"].misses == misses + 1


def test_reset_leaves_no_thread(two: Two) -> None:
    """And no connection; configuring again listens again."""
    names = [thread.name for thread in threading.enumerate()]
    assert "sqlmodel-cache-local" in names
    SQLModelCache.reset()
    names = [thread.name for thread in threading.enumerate()]
    assert "sqlmodel-cache-local" not in names
    SQLModelCache.configure(two.url, key_prefix=two.prefix)
    two.listen()
    assert two.copied()


def test_local_ttl_without_a_tier_says_so(
    redis_url: str, key_prefix: str, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once per model; in memory there is nothing to say."""
    engine = create_engine(sqlite_url)
    Base.metadata.create_all(engine)
    for url in ("memory://", redis_url):
        caplog.clear()
        SQLModelCache.configure(url, key_prefix=key_prefix)
        with Session(engine) as session:
            session.get(Near, 1)
            session.get(Near, 2)
        said = [r for r in caplog.records if "local_ttl has no effect" in r.getMessage()]
        assert len(said) == (url == redis_url)
        assert SQLModelCache.stats().local is None
    engine.dispose()


@pytest.mark.parametrize("value", [-1, 1.5, "5", True])
def test_a_wrong_local_ttl_is_refused(value: Any) -> None:
    """Naming model and field."""
    with pytest.raises(ConfigurationError, match=r"Wrong.*local_ttl"):
        CacheConfig(local_ttl=value).check("Wrong")


@pytest.mark.parametrize(
    "query", ["local=-1", "local=x", "local_bytes=5", "local=0&local_bytes=5", "local_bytes=0"]
)
def test_a_wrong_url_is_refused(query: str) -> None:
    """What bounds nothing is no setting."""
    with pytest.raises(ConfigurationError, match="local"):
        SQLModelCache.configure(f"redis://localhost:6379/0?{query}")


def test_local_0_keeps_no_copies(redis_url: str) -> None:
    """A deployment can switch off what its models ask for."""
    SQLModelCache.configure(f"{redis_url}?local=0")
    assert SQLModelCache.stats().local is None


def test_checks_look_past_the_copies(two: Two, commandstats: Any) -> None:
    """`verify` judges the store: a copy may lag behind, and nothing is wrong with it."""
    assert two.copied()
    SQLModelCache.configure(two.url, key_prefix=two.prefix, verify=1.0)
    two.listen()
    before = two.hits
    with commandstats() as commands:
        for _ in range(3):
            assert two.name() == "n1"
    assert commands["mget"] >= 3
    assert two.hits == before
    assert SQLModelCache.stats().verified == 3
    assert SQLModelCache.stats().inconsistent == 0

"""A forked child shares nothing with its parent: no connection, no lock, no thread, no backlog.

Children are real; what they see comes back through a pipe. `CLIENT ID` names a connection as the
server knows it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from sqlalchemy import NullPool
from sqlalchemy.orm import registry
from sqlmodel import Field, Session, SQLModel, create_engine

from sqlmodel_cache import CacheConfig, SQLModelCache
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol.ops import Get, Release, Reply
from sqlmodel_cache.protocol.write import Publication
from sqlmodel_cache.testing.contract.full import WRITER, store_row
from sqlmodel_cache.transport import RedisSyncTransport
from sqlmodel_cache.transport.backlog import Backlog
from sqlmodel_cache.transport.breaker import Breaker, State
from sqlmodel_cache.transport.drive import ask
from sqlmodel_cache.transport.flights import Flight, Flights
from sqlmodel_cache.transport.stores import Stores, open_stores
from sqlmodel_cache.transport.url import open_url
from tests.servers.redis_server import RedisServer
from tests.transports.stores import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlmodel_cache.transport.url import RedisPair

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def by_fork(work: Callable[[], Any]) -> Any:
    """Run `work` in a child of `os.fork`; return its result, or the repr of what it raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _tell(writing, work)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    return told


def by_multiprocessing(work: Callable[[], Any]) -> Any:
    """Do the same by `multiprocessing`, as worker pools do it."""
    reading, writing = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=_tell, args=(writing, work))
    process.start()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pickle.loads(pipe.read())
    process.join()
    assert process.exitcode == 0
    return told


def _tell(writing: int, work: Callable[[], Any]) -> None:
    signal.alarm(30)  # seconds: a deadlock is a child that tells nothing
    try:
        result = work()
    except BaseException as error:
        result = repr(error)
    os.write(writing, pickle.dumps(result))
    os.close(writing)


FORKS = pytest.mark.parametrize("forked", [by_fork, by_multiprocessing])


@pytest.fixture
def pair(redis_url: str) -> Iterator[RedisPair]:
    """Open a URL."""
    opened: Any = open_url(redis_url)
    yield opened
    opened.close()


def identity(pair: RedisPair) -> int:
    """Return the server's number of the connection that threads use here."""
    ((number,), _run) = pair.sync._send([("CLIENT", "ID")])
    return int(number)


async def aidentity(pair: RedisPair) -> int:
    """Return the server's number of the connection that tasks use here."""
    await pair.async_.get("x")
    tenant = pair.async_._tenants[asyncio.get_running_loop()]
    ((number,), _run) = await tenant.transport._send([("CLIENT", "ID")])
    return int(number)


@FORKS
@pytest.mark.parametrize("used", [False, True], ids=["configured", "used"])
def test_threads_of_both_have_connections_of_their_own(
    pair: RedisPair, space: KeySpace, forked: Any, used: bool
) -> None:
    """Opened or used before the fork; two prefork workers; the parent goes on with its own."""
    stores = open_stores(pair)
    before = identity(pair) if used else None
    pids = (os.getpid(), forked(os.getpid))
    assert pids[0] != pids[1]
    workers = [forked(lambda: (identity(pair), _round_trip(stores, space))) for _ in range(2)]
    after = identity(pair)
    assert [told[1] for told in workers] == [True, True]
    assert len({after, *(told[0] for told in workers)}) == 3
    assert before in (None, after)


def _round_trip(stores: Stores, space: KeySpace) -> bool:
    entry = space.entry(str(os.getpid()))
    stores.sync.perform(Get(entry))
    grant = store_row(Store(stores.sync), entry)
    reply: Reply = stores.sync.perform(Get(entry))
    return reply.epoch == grant.epoch and reply.value is not None


def test_a_child_closes_its_copies_and_its_parent_notices_nothing(
    pair: RedisPair, server: RedisServer
) -> None:
    """The server sees a parent's connection end when the parent ends it, and not before."""
    pair = open_url(server.url)  # type: ignore[assignment]
    number = identity(pair)
    go_reading, go_writing = os.pipe()
    ready_reading, ready_writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready_writing, b"x")
        os.read(go_reading, 1)
        os._exit(0)
    os.read(ready_reading, 1)
    with server.client() as client:
        assert identity(pair) == number
        pair.close()
        while str(number) in {one["id"] for one in client.client_list()}:
            time.sleep(0.01)
    os.write(go_writing, b"x")
    os.waitpid(child, 0)
    for end in (go_reading, go_writing, ready_reading, ready_writing):
        os.close(end)


@FORKS
def test_tasks_of_both_have_connections_of_their_own(
    pair: RedisPair, space: KeySpace, forked: Any
) -> None:
    """Forked while the parent's loop is open; afterwards that loop still hears its replies."""
    with asyncio.Runner() as runner:
        before = runner.run(aidentity(pair))
        childs = forked(lambda: _in_a_new_loop(pair))
        assert isinstance(childs, int)
        assert childs != before
        assert runner.run(aidentity(pair)) == before
        runner.run(pair.aclose())


def _in_a_new_loop(pair: RedisPair) -> int:
    with asyncio.Runner() as runner:
        number: int = runner.run(aidentity(pair))
        pair.close()  # the parent's loop is none of its business
        runner.run(pair.aclose())
    return number


async def test_a_fork_in_a_running_loop(pair: RedisPair) -> None:
    """As `multiprocessing` in a web application does: the child makes a loop of its own."""
    before = await aidentity(pair)
    childs = by_multiprocessing(lambda: _in_a_thread(lambda: _in_a_new_loop(pair)))
    assert isinstance(childs, int)
    assert childs != before
    assert await aidentity(pair) == before
    await pair.aclose()


def _in_a_thread(work: Callable[[], int]) -> int:
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def test_worker_threads_work_in_a_child(redis_url: str, space: KeySpace) -> None:
    """A synchronous transport under tasks: the child's threads are its own."""
    with redis.Redis.from_url(redis_url) as client:
        stores = open_stores(RedisSyncTransport(client))
        op = Get(space.entry("1"))
        assert asyncio.run(stores.async_.perform(op)) == Reply(None, None)
        told = by_fork(lambda: asyncio.run(stores.async_.perform(op)))
        assert told == Reply(None, None)


def test_locks_held_at_the_fork_are_free_in_the_child(pair: RedisPair, space: KeySpace) -> None:
    """Their holders are threads that the child does not have."""
    stores = open_stores(pair)
    backlog = Backlog(stores, lambda number: None)
    breaker: Breaker = stores.breaker
    entry = space.entry("1")
    identity(pair)
    pool, tasks = pair.sync._client.connection_pool, pair.async_
    with pair._lock, tasks._lock, backlog._lock, breaker._lock, pool._lock:
        told = by_fork(lambda: _all_work(pair, backlog, breaker, entry))
    assert told == (Reply(None, None), Reply(None, None), State.OPEN, 0)


def _all_work(pair: RedisPair, backlog: Backlog, breaker: Breaker, entry: Any) -> Any:
    replies = pair.sync.perform(Get(entry)), asyncio.run(_get(pair, entry))
    breaker.failed(breaker.admit(Get(entry)), "test")
    backlog.add(Release(WRITER, (entry,), ()), tried=True)
    backlog.close()
    return *replies, breaker.state, len(backlog)


async def _get(pair: RedisPair, entry: Any) -> Reply:
    reply: Reply = await pair.async_.perform(Get(entry))
    await pair.aclose()
    return reply


def test_a_backlog_is_its_parents(server: RedisServer, space: KeySpace) -> None:
    """The child has nothing to publish, and a worker of its own once it has."""
    pair = open_url(server.url)
    stores = open_stores(pair)
    lost: list[int] = []
    backlog = Backlog(stores, lost.append)
    entry, other = space.entry("1"), space.entry("2")
    server.stop()
    with pytest.raises(UnavailableError):
        ask(stores.sync.perform, Get(entry), stores.breaker)
    backlog.add(Release(WRITER, (entry,), ()), tried=True)
    assert backlog.holds(entry)
    assert by_fork(lambda: _backlog_in_a_child(backlog, other)) == (0, False, True)
    assert backlog.holds(entry)
    server.start()
    _until(lambda: len(backlog) == 0)
    with server.client() as client:  # a new server: it has counted nothing else
        assert client.info("commandstats")["cmdstat_del"]["calls"] == 1
        assert by_fork(lambda: _adds_and_waits(backlog, other)) == (0, [])
        assert client.info("commandstats")["cmdstat_del"]["calls"] == 2
    backlog.close()
    pair.close()
    assert lost == []


def _backlog_in_a_child(backlog: Backlog, other: Any) -> Any:
    size, speaks = len(backlog), backlog.speaks_for(Publication((other,), ()))
    backlog.add(Release(WRITER, (other,), ()), tried=True)
    worker = backlog._worker
    alive = isinstance(worker, threading.Thread) and worker.is_alive()
    return size, speaks, alive


def test_a_child_waits_for_no_flight_of_its_parents() -> None:
    """Its leader is a thread of the parent, or the child itself in the middle of a load."""
    flights = Flights()
    with flights.leading("key"):
        flight = flights.find("key")
        assert flight is not None
        with flight._lock:
            assert by_fork(lambda: _after_landing(flights, flight)) is None
    with flights.leading("key"):
        assert by_fork(lambda: _lands(flights)) is True


def _after_landing(flights: Flights, flight: Flight) -> Flight | None:
    flight.land()
    return flights.find("key")


def _lands(flights: Flights) -> bool:
    with flights.leading("key"):
        assert flights.find("key") is not None
        flights.after_fork()
    return flights.find("key") is None


def _adds_and_waits(backlog: Backlog, other: Any) -> Any:
    lost: list[int] = []
    backlog._on_lost = lost.append
    backlog.add(Release(WRITER, (other,), ()), tried=True)
    _until(lambda: len(backlog) == 0)
    return len(backlog), lost


@FORKS
def test_workers_forked_after_configure(
    redis_url: str, sqlite_url: str, key_prefix: str, forked: Any
) -> None:
    """A child reads what its parent stored, and its commit is seen by the parent."""

    class Base(SQLModel, registry=registry()):
        pass

    class Hero(Base, table=True):
        __cache_config__ = CacheConfig(ttl=300)
        id: int = Field(primary_key=True)
        name: str

    model: Any = Hero
    engine = create_engine(sqlite_url, poolclass=NullPool)
    Base.metadata.create_all(engine)
    SQLModelCache.configure(redis_url, key_prefix=f"{key_prefix}-{forked.__name__}")
    with Session(engine) as session:
        session.add(Hero(id=1, name="old"))
        session.commit()
    with Session(engine) as session:
        assert _hero(session, model).name == "old"
    assert forked(lambda: _reads_and_writes(engine, model)) == ("old", 1, 0)
    with Session(engine) as session:
        assert _hero(session, model).name == "new"
    assert SQLModelCache.stats().lost == 0


def _hero(session: Session, model: Any) -> Any:
    return session.get(model, 1)


def _reads_and_writes(engine: Any, model: Any) -> Any:
    hits = SQLModelCache.stats().hits
    with Session(engine) as session:
        hero = _hero(session, model)
        name = hero.name
        hits = SQLModelCache.stats().hits - hits
        hero.name = "new"
        session.commit()
    return name, hits, SQLModelCache.stats().errors


def _until(done: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not done():
        assert time.monotonic() < limit
        time.sleep(0.005)

"""What is particular to Redis: one MGET, lost scripts, a full server, a dead one."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, MagicMock

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from sqlmodel_cache.errors import ConfigurationError, UnavailableError
from sqlmodel_cache.protocol.ops import (
    Fence,
    Fenced,
    Fill,
    Get,
    GetMany,
    Granted,
    Release,
    Reply,
)
from sqlmodel_cache.testing.contract.full import LONG, WRITER, envelope, fill, lease, store_row
from sqlmodel_cache.transport import RedisAsyncTransport, RedisSyncTransport, commands
from sqlmodel_cache.transport.commands import EPOCH_LIFE
from sqlmodel_cache.transport.drive import ask
from sqlmodel_cache.transport.url import open_url
from tests.recording import record_commands
from tests.servers.redis_server import RedisServer
from tests.transports.stores import Store, opened, valkey_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlmodel_cache.keys import KeySpace


@pytest.fixture(params=["redis-sync", "redis-async"])
def own(request: pytest.FixtureRequest, server: RedisServer) -> Iterator[Store]:
    """Open a store on a server that nobody shares."""
    with opened(request.param, server.url) as store:
        yield store


def test_a_get_is_one_mget(own: Store, server: RedisServer, space: KeySpace) -> None:
    """One command in one round trip, for a hit and for a miss."""
    store_row(own, space.entry("1"))
    with record_commands(server.url) as commands:
        own.perform(Get(space.entry("1")))
        own.perform(Get(space.entry("2")))
    assert commands == {"mget": 2}


def test_a_hundred_rows_are_one_mget(own: Store, server: RedisServer, space: KeySpace) -> None:
    """Over all shards, on a server that is no Cluster."""
    entries = tuple(space.entry(str(number)) for number in range(100))
    own.perform(Get(entries[0]))
    with record_commands(server.url) as commands:
        assert len(own.perform(GetMany(entries))) == 100
    assert commands == {"mget": 1}


def test_scripts_are_called_by_digest(own: Store, server: RedisServer, space: KeySpace) -> None:
    """The source travels once."""
    store_row(own, space.entry("1"))
    with record_commands(server.url) as commands:
        store_row(own, space.entry("2"))
    assert commands["evalsha"] == 2
    assert "eval" not in commands


def test_lost_scripts_are_sent_again(own: Store, server: RedisServer, space: KeySpace) -> None:
    """SCRIPT FLUSH before a single command and before a pipeline."""
    entries = tuple(space.entry(str(number)) for number in range(300))
    store_row(own, entries[0])
    with server.client() as client:
        client.script_flush()
        store_row(own, entries[1])
        client.script_flush()
        own.perform(Fence(WRITER, entries, tuple(space), LONG))
        assert [own.perform(lease(entry)) for entry in entries[::50]] == [Fenced()] * 6
        client.script_flush()
        own.perform(Release(WRITER, entries, tuple(space)))
    assert isinstance(own.perform(lease(entries[299])), Granted)


def test_what_is_left_behind_expires(own: Store, server: RedisServer, space: KeySpace) -> None:
    """Locks live until their last deadline, values for their ttl, epochs long; nothing stays."""
    entry = space.entry("1")
    with server.client() as client:
        store_row(own, entry)
        own.perform(Fence(WRITER, (entry,), (entry.shard,), 90_000))
        own.perform(Fence("2" * 32, (entry,), (entry.shard,), 5_000))
        assert 80_000 < client.pttl(entry.lock) <= 90_000
        assert 80_000 < client.pttl(entry.shard.epoch_lock) <= 90_000
        own.perform(Release(WRITER, (entry,), (entry.shard,)))
        assert client.hgetall(entry.lock).keys() == {b"w:" + b"2" * 32}
        own.perform(Release("2" * 32, (entry,), (entry.shard,)))
        assert client.keys("*") == []
        grant = own.perform(lease(entry, duration=5_000))
        assert 0 < client.pttl(entry.lock) <= 5_000
        own.perform(fill(entry, grant, ttl=60_000))
        assert 50_000 < client.pttl(entry.value) <= 60_000
        assert client.pttl(entry.shard.epoch) > EPOCH_LIFE * 0.99
        assert all(client.pttl(key) > 0 for key in client.keys("*"))


def test_an_epoch_outlives_its_values(own: Store, server: RedisServer, space: KeySpace) -> None:
    """A lease renews an old epoch, and a long ttl stretches it."""
    entry = space.entry("1")
    with server.client() as client:
        store_row(own, entry)
        client.pexpire(entry.shard.epoch, 1_000)
        client.delete(entry.value)
        grant = own.perform(lease(entry))
        assert client.pttl(entry.shard.epoch) > EPOCH_LIFE * 0.99
        assert own.perform(fill(entry, grant, ttl=2 * EPOCH_LIFE)) is True
        assert client.pttl(entry.shard.epoch) > 1.99 * EPOCH_LIFE


def test_dead_writers_are_dropped_by_every_step(
    own: Store, server: RedisServer, space: KeySpace
) -> None:
    """A field whose deadline has passed does not stay in a lock that others keep alive."""
    entry = space.entry("1")
    epoch = b"e" * 12
    steps = (
        lease(entry),
        Fill(entry, "x", epoch, envelope(epoch), LONG),
        Fence(WRITER, (entry,), (), LONG),
        Release(WRITER, (entry,), ()),
    )
    with server.client() as client:
        for step in steps:
            client.hset(entry.lock, "w:dead", 1)
            own.perform(step)
            assert not client.hexists(entry.lock, "w:dead"), step
        whole = Fence(WRITER, (), tuple(space), LONG), Release(WRITER, (), tuple(space))
        for step in (lease(entry), *whole):
            client.hset(entry.shard.epoch_lock, "w:dead", 1)
            own.perform(step)
            assert not client.hexists(entry.shard.epoch_lock, "w:dead"), step


@pytest.mark.parametrize("lock", ["lock", "epoch_lock"])
def test_a_fill_looks_at_both_locks_itself(
    own: Store, server: RedisServer, space: KeySpace, lock: str
) -> None:
    """A writer that came in without taking the lease away (a restored dump) refuses fills too."""
    entry = space.entry("1")
    grant = own.perform(lease(entry))
    with server.client() as client:
        key = entry.lock if lock == "lock" else entry.shard.epoch_lock
        client.hset(key, "w:restored", 10**15)
    assert own.perform(fill(entry, grant)) is False
    assert own.perform(lease(entry)) == Fenced()


def test_keys_of_a_foreign_type_are_absent(
    own: Store, server: RedisServer, space: KeySpace
) -> None:
    """A list under our key is a miss, and is replaced."""
    entry = space.entry("1")
    with server.client() as client:
        client.rpush(entry.value, "not ours")
        client.rpush(entry.shard.epoch, "nor this")
    assert own.perform(Get(entry)) == Reply(None, None)
    store_row(own, entry)
    assert own.perform(Get(entry)).value is not None


@contextmanager
def _filled_up(server: RedisServer) -> Iterator[redis.Redis]:
    with server, server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        try:
            for number in range(100_000):
                client.set(f"ballast:{number}", b"x" * 200)
        except redis.exceptions.OutOfMemoryError:
            pass
        yield client


@pytest.mark.parametrize("build", [RedisServer, valkey_server])
def test_fences_pass_when_the_server_is_full(
    build: Callable[..., RedisServer], space: KeySpace
) -> None:
    """`noeviction` at its limit: writers get through, readers are told to fill nothing."""
    server = build("--maxmemory", "2mb" if build is RedisServer else "3mb")
    entries = tuple(space.entry(str(number)) for number in range(20))
    with _filled_up(server) as client, opened("redis-sync", server.url) as store:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("one more", b"x" * 200)
        assert store.perform(lease(entries[0])) == Fenced()
        store.perform(Fence(WRITER, entries, tuple(space), LONG))
        assert all(client.hexists(entry.lock, f"w:{WRITER}") for entry in entries)
        assert all(client.hexists(shard.epoch_lock, f"w:{WRITER}") for shard in space)
        store.perform(Release(WRITER, entries, tuple(space)))
        assert not client.exists(*(entry.lock for entry in entries))
        assert store.perform(Get(entries[0])) == Reply(None, None)


def test_a_full_server_refuses_a_fill_and_the_lease_is_free(
    server: RedisServer, own: Store, space: KeySpace
) -> None:
    """False, not an error: the breaker has nothing to do with it."""
    entry = space.entry("1")
    grant = own.perform(lease(entry))
    with server.client() as client:
        client.config_set("maxmemory", 1)
        assert own.perform(fill(entry, grant)) is False
        client.config_set("maxmemory", 0)
    assert isinstance(own.perform(lease(entry, "b" * 32)), Granted)


def test_a_killed_and_a_paused_server_are_unavailable_in_time(
    server: RedisServer, space: KeySpace
) -> None:
    """Within the time-outs of the clients that we build; afterwards they work again."""
    pair = open_url(f"{server.url}?socket_timeout=0.2&socket_connect_timeout=0.2")
    op = Get(space.entry("1"))

    async def ask_async() -> Any:
        return await pair.async_.perform(op)

    for ask_once in (lambda: pair.sync.perform(op), lambda: asyncio.run(ask_async())):
        assert ask_once() == Reply(None, None)
        server.pause()
        assert _seconds_to_fail(ask_once, op) < 0.6
        server.resume()
        assert ask_once() == Reply(None, None)
        server.kill()
        assert _seconds_to_fail(ask_once, op) < 0.6
        server.start()
        assert ask_once() == Reply(None, None)
    pair.close()


def _seconds_to_fail(ask_once: Callable[[], object], op: Get) -> float:
    begin = time.perf_counter()
    with pytest.raises(UnavailableError):
        ask(lambda _: ask_once(), op, None)
    return time.perf_counter() - begin


def test_a_client_handed_to_us_is_never_closed(redis_url: str, space: KeySpace) -> None:
    """It belongs to its owner."""
    with redis.Redis.from_url(redis_url) as client:
        transport = RedisSyncTransport(client)
        transport.perform(Get(space.entry("1")))
        del transport
        assert client.ping()


def test_clients_that_cannot_serve_are_refused() -> None:
    """Each message says what to do."""
    text = redis.Redis(decode_responses=True)
    with pytest.raises(ConfigurationError, match="without decode_responses"):
        RedisSyncTransport(text)
    with pytest.raises(ConfigurationError, match="use RedisSyncTransport"):
        RedisAsyncTransport(redis.Redis())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="use RedisAsyncTransport"):
        RedisSyncTransport(redis.asyncio.Redis())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="decode_responses"):
        RedisAsyncTransport(redis.asyncio.Redis(decode_responses=True))
    with pytest.raises(ConfigurationError, match=r"not str.*from_url"):
        RedisSyncTransport("redis://localhost")  # type: ignore[arg-type]


def test_a_client_like_one_is_taken_at_its_word() -> None:
    """A fake or a mock, sync or async."""
    client = MagicMock()
    client.get.return_value = b"value"
    assert RedisSyncTransport(client).get("key") == b"value"
    assert RedisAsyncTransport(AsyncMock(get_encoder=MagicMock())) is not None


@pytest.mark.parametrize("kind", ["redis-sync", "redis-async"])
def test_a_failing_pipeline_fails(server: RedisServer, space: KeySpace, kind: str) -> None:
    """An error that is not about scripts is not answered by sending them."""
    entries = tuple(space.entry(str(number)) for number in range(20))
    with opened(kind, server.url) as store, server.client() as client:
        store.perform(Fence(WRITER, entries[:1], (), LONG))
        client.set(entries[7].lock, "not a hash")
        with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
            store.perform(Fence(WRITER, entries, (), LONG))


def test_clients_of_old_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before redis-py 5 a cancelled call could leave its reply to the next caller."""
    monkeypatch.setattr(redis, "__version__", "4.6.0")
    with pytest.raises(ConfigurationError, match=r"4\.6\.0.*redis>=5"):
        RedisSyncTransport(redis.Redis())


def test_a_client_without_retries_meets_a_restarted_server(
    server: RedisServer, space: KeySpace
) -> None:
    """One failure, then a new connection, then the lost scripts."""
    with redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0)) as client:
        transport = RedisSyncTransport(client)
        assert isinstance(transport.perform(lease(space.entry("1"))), Granted)
        server.restart()
        answers = []
        for _ in range(2):
            try:
                answers.append(transport.perform(lease(space.entry("1"))))
            except redis.exceptions.ConnectionError:
                continue
        assert isinstance(answers[-1], Granted)


def test_no_script_uses_a_shebang_or_undeclared_keys() -> None:
    """A shebang would make a full server refuse fences; Cluster wants every key declared."""
    scripts = [item for item in vars(commands).values() if isinstance(item, commands.Script)]
    assert len(scripts) == 9
    for script in scripts:
        assert not script.source.startswith("#!")
        assert "KEYS" in script.source.partition("KEYS  ")[2]

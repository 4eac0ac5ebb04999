"""The stream of messages: who hears of a commit, and what happens while nobody does."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol.ops import Fence, Get, Release, Reply
from sqlmodel_cache.testing.contract.full import WRITER, store_row
from sqlmodel_cache.transport import RedisSyncTransport, TieredTransport, stream
from tests.coherence.proxy import HOST, Fault, Proxy
from tests.transports.stores import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlmodel_cache.keys import Entry
    from tests.servers.redis_server import RedisServer

LONG = 60_000  # milliseconds
PATIENCE = 20.0  # seconds, for what happens at once on an idle machine

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


@pytest.fixture
def local(key_prefix: str) -> KeySpace:
    """Keys whose values may be copied."""
    return KeySpace(key_prefix, "test", "hero", 300)


class Process:
    """What one process has: a client and its copies."""

    def __init__(self, url: str, listen: str | None = None) -> None:
        self.client = redis.Redis.from_url(url)
        self.listener = redis.Redis.from_url(listen or url, socket_timeout=5)
        self.tiers = TieredTransport(RedisSyncTransport(self.client), listen=self.listener)
        self.store = Store(self.tiers.sync)

    def listen(self, space: KeySpace) -> None:
        """Return when messages come."""
        assert self.tiers.wait_until_listening(space.shards[0].channel, PATIENCE)

    def has(self, entry: Entry) -> bool:
        """Tell whether there is a copy that may be used."""
        return self.tiers.find(entry) is not None

    def read(self, entry: Entry) -> Reply:
        """Read an entry."""
        found: Reply = self.store.perform(Get(entry))
        return found

    def close(self) -> None:
        """End everything."""
        self.tiers.rest()
        self.client.close()
        self.listener.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Return the function that makes a process."""
    made: list[Process] = []

    def start(url: str, listen: str | None = None) -> Process:
        made.append(Process(url, listen))
        return made[-1]

    yield start
    for one in made:
        one.close()


def eventually(condition: Callable[[], Any]) -> bool:
    """Tell whether something that another thread does happens."""
    till = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > till:
            return False
        time.sleep(0.002)
    return True


@pytest.mark.parametrize("step", ["fence", "release", "model fence", "model release"])
def test_another_process_hears_of_each_step(
    start: Any, redis_url: str, local: KeySpace, step: str
) -> None:
    """Fences and releases, of rows and of whole models, are told to all who listen."""
    here, there = start(redis_url), start(redis_url)
    here.listen(local)
    entry = local.entry("1")
    store_row(there.store, entry)
    here.read(entry)
    assert here.has(entry)
    touched = ((), (entry.shard,)) if "model" in step else ((entry,), ())
    kind = step.split()[-1]
    op = Fence(WRITER, *touched, LONG) if kind == "fence" else Release(WRITER, *touched)
    there.store.perform(op)
    assert eventually(lambda: not here.has(entry))
    assert here.read(entry).value is None or here.read(entry).epoch is None


def test_models_without_copies_are_not_announced(
    start: Any, redis_url: str, key_prefix: str, local: KeySpace
) -> None:
    """A commit publishes nothing that nobody can have copied."""
    plain = KeySpace(key_prefix, "test", "villain")
    writer = start(redis_url)
    with redis.Redis.from_url(redis_url) as client, client.pubsub() as heard:
        heard.subscribe(local.shards[0].channel)
        assert heard.get_message(timeout=PATIENCE)
        writer.store.perform(Fence(WRITER, (plain.entry("1"),), plain.shards, LONG))
        writer.store.perform(Release(WRITER, (plain.entry("1"),), plain.shards))
        writer.store.perform(Release(WRITER, (local.entry("1"),), ()))
        message = heard.get_message(timeout=PATIENCE)
        assert message is not None
        assert message["data"].decode() == local.entry("1").value


def test_nobody_listens_until_a_model_asks(
    start: Any, redis_url: str, key_prefix: str, local: KeySpace
) -> None:
    """No thread and no connection for models that keep no copies."""
    process = start(redis_url)
    plain = KeySpace(key_prefix, "test", "villain").entry("1")
    store_row(process.store, plain)
    process.read(plain)
    assert not [t for t in threading.enumerate() if t.name == "sqlmodel-cache-local"]
    process.read(local.entry("1"))
    assert [t for t in threading.enumerate() if t.name == "sqlmodel-cache-local"]
    process.tiers.rest()
    assert not [t for t in threading.enumerate() if t.name == "sqlmodel-cache-local"]


def test_a_killed_connection_empties(
    start: Any, server: RedisServer, local: KeySpace, caplog: pytest.LogCaptureFixture
) -> None:
    """All copies go, one line in the log says so, and the next line makes them again."""
    process = start(server.url)
    process.listen(local)
    entry = local.entry("1")
    store_row(process.store, entry)
    process.read(entry)
    with server.client() as client, caplog.at_level(logging.WARNING, "sqlmodel_cache"):
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert eventually(lambda: process.tiers.local_stats().emptied)
        assert process.tiers.local_stats().entries == 0
    process.listen(local)
    assert "no messages about local copies" in caplog.text
    process.read(entry)
    assert process.has(entry)


def test_what_was_read_while_nobody_listened_is_not_kept(
    start: Any, server: RedisServer, local: KeySpace
) -> None:
    """A read may span the break and the return of the stream."""
    process = start(server.url)
    entry = local.entry("1")
    store_row(process.store, entry)
    process.listen(local)
    steps = process.tiers.steps(Get(entry))
    reply = process.store.perform(Get(entry)) and RedisSyncTransport(process.client).perform(
        next(steps)
    )
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    assert eventually(lambda: process.tiers.local_stats().emptied)
    process.listen(local)
    with pytest.raises(StopIteration):
        steps.send(reply)
    assert not process.has(entry)


@pytest.mark.parametrize("fault", [Fault.BLACKHOLE, Fault.ONE_WAY])
def test_a_half_open_socket_is_noticed(
    start: Any,
    server: RedisServer,
    local: KeySpace,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
) -> None:
    """A PING without an answer: copies are unused, and emptied, though no error came."""
    monkeypatch.setattr(stream, "PING_EVERY", 0.2)
    monkeypatch.setattr(stream, "GOOD_FOR", 0.4)
    with Proxy(server.port) as proxy:
        process = start(server.url, f"redis://{HOST}:{proxy.port}/0")
        process.listen(local)
        entry = local.entry("1")
        store_row(process.store, entry)
        assert eventually(lambda: process.read(entry) and process.has(entry))
        proxy.fault = fault
        assert eventually(lambda: not process.has(entry))
        assert eventually(lambda: process.tiers.local_stats().emptied)
        process.read(entry)
        assert not process.has(entry)
        proxy.fault = Fault.NONE
        proxy.cut()
        process.listen(local)
        assert eventually(lambda: process.read(entry) and process.has(entry))
        process.tiers.rest()


def test_an_account_that_may_not_listen(
    start: Any, server: RedisServer, local: KeySpace, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps no copies, is told once, and its commits pass all the same."""
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "mute", "on", ">pw", "~*", "resetchannels", "+@all"
        )
    process = start(server.url.replace("redis://", "redis://mute:pw@"))
    entry = local.entry("1")
    store_row(process.store, entry)
    with caplog.at_level(logging.WARNING, "sqlmodel_cache"):
        process.read(entry)
        assert eventually(lambda: "+subscribe" in caplog.text)
        process.read(entry)
        assert not process.has(entry)
    process.store.perform(Fence(WRITER, (entry,), local.shards, LONG))
    process.store.perform(Release(WRITER, (entry,), local.shards))
    assert process.read(entry).value is None
    assert "pw" not in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_listens_by_itself(start: Any, redis_url: str, local: KeySpace) -> None:
    """It starts empty, hears of its parent's commits, and leaves the parent's line alone."""
    process, writer = start(redis_url), start(redis_url)
    process.listen(local)
    entry = local.entry("1")
    store_row(writer.store, entry)
    process.read(entry)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            empty = not process.has(entry)
            process.tiers.sync._store = RedisSyncTransport(redis.Redis.from_url(redis_url))
            process.listen(local)
            process.read(entry)
            os.write(writing, b"y" if empty and process.has(entry) else b"n")
            os.write(writing, b"y" if eventually(lambda: not process.has(entry)) else b"n")
        finally:
            os._exit(0)
    assert os.read(reading, 1) == b"y"
    assert process.has(entry)
    writer.store.perform(Release(WRITER, (entry,), ()))
    assert os.read(reading, 1) == b"y"
    os.waitpid(child, 0)
    assert eventually(lambda: not process.has(entry))
    os.close(reading)
    os.close(writing)


def test_two_prefixes_do_not_share_copies(start: Any, redis_url: str, local: KeySpace) -> None:
    """One TieredTransport listens for one prefix; what it cannot hear of it does not copy."""
    process = start(redis_url)
    process.listen(local)
    other = KeySpace("another-prefix", "test", "hero", 300).entry("1")
    store_row(process.store, other)
    process.read(other)
    assert not process.has(other)
    process.store.perform(Release(WRITER, (other,), (other.shard,)))


def test_the_delay_is_measured(start: Any, redis_url: str, local: KeySpace) -> None:
    """By what the stream itself takes to answer."""
    process = start(redis_url)
    process.listen(local)
    stats = process.tiers.local_stats()
    assert stats.listening
    assert 0 < stats.delay.p50 < PATIENCE
    assert stats.as_dict()["delay"]["count"] >= 1

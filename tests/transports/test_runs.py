"""Nothing that a server's predecessor held comes back to life.

The oracle is the raw content of the server: value and epoch match there, and yet it is a miss.
With `trust_failover=1` the same steps do return the old values.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol.ops import (
    Fence,
    Get,
    GetMany,
    Granted,
    Lease,
    Release,
    Reply,
)
from sqlmodel_cache.protocol.read import MISS, Hit, Patience, fill, lookup, new_epoch, peek
from sqlmodel_cache.testing.contract.full import LONG, WRITER, envelope, lease
from sqlmodel_cache.transport.drive import drive
from sqlmodel_cache.transport.runs import ANY, judged, run_in
from sqlmodel_cache.transport.url import open_url
from tests.servers.process import HOST
from tests.servers.redis_server import RedisServer
from tests.transports.proxy import Proxy
from tests.transports.stores import Store, valkey_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlmodel_cache.keys import Entry

KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
TRUST = pytest.mark.parametrize("trusting", [False, True], ids=["default", "trusting"])


@contextmanager
def asked(url: str, kind: str) -> Iterator[Store]:
    """Yield the store behind a URL as threads see it, or as tasks do."""
    pair = open_url(url)
    if kind == "sync":
        yield Store(pair.sync)
    else:
        with asyncio.Runner() as runner:
            yield Store(pair.async_, runner.run)
    pair.close()


def verify(value: bytes, epoch: bytes) -> object:
    """Return the body of an envelope of this epoch."""
    return value[14:] if value[2:14] == epoch else MISS


def seen(store: Store, entry: Entry) -> object:
    """Return the body of a hit, None for a miss."""
    outcome = drive(peek(entry, verify), store)
    return outcome.found if isinstance(outcome, Hit) else None


def put(store: Store, entry: Entry, body: bytes) -> object:
    """Read through, with a database that says `body`; return what the reader gets."""
    outcome = drive(lookup(entry, verify, Patience()), store)
    if isinstance(outcome, Hit):
        return outcome.found
    assert outcome.held is not None
    assert drive(fill(outcome.held, envelope(outcome.held.epoch, body), LONG), store)
    return body


def write(store: Store, entries: tuple[Entry, ...]) -> None:
    """Publish a commit that changed these rows."""
    store.perform(Fence(WRITER, entries, (), LONG))
    store.perform(Release(WRITER, entries, ()))


def good_at_rest(server: RedisServer, entry: Entry) -> bool:
    """Tell whether the server itself has an old value under the epoch that made it good."""
    with server.client() as client:
        value, epoch = client.mget(entry.value, entry.shard.epoch)
    return value is not None and epoch is not None and value[2:] == epoch + b"old"


@KINDS
@TRUST
def test_an_old_dump_brings_nothing_back(
    server: RedisServer, space: KeySpace, kind: str, trusting: bool
) -> None:
    """SAVE, a commit, a crash, a start from the dump: old rows are there and are not read."""
    entries = tuple(space.entry(str(number)) for number in range(40))
    with asked(f"{server.url}?trust_failover={int(trusting)}", kind) as store:
        for entry in entries:
            put(store, entry, b"old")
        with server.client() as client:
            client.save()
        write(store, entries)
        server.kill()
        server.start()
        assert all(good_at_rest(server, entry) for entry in entries)
        old = [entry for entry in entries if seen(store, entry) == b"old"]
        assert old == (list(entries) if trusting else [])
        many = store.perform(GetMany(entries))
        assert [reply.epoch is None for reply in many] == [not trusting] * 40
        now = [put(store, entry, b"new") for entry in entries]
        assert now == [b"old" if trusting else b"new"] * 40
        assert [seen(store, entry) for entry in entries] == now


@KINDS
def test_a_lease_does_not_hand_out_what_an_old_dump_brought(
    server: RedisServer, space: KeySpace, kind: str
) -> None:
    """Asked before anything else over the new connection, under the old run's name."""
    entry, token = space.entry("1"), "a" * 32
    with asked(server.url, kind) as store:
        put(store, entry, b"old")
        with server.client() as client:
            client.save()
        write(store, (entry,))
        server.kill()
        server.start()
        answer = store.perform(Lease(entry, token, new_epoch(), None, LONG))
        assert isinstance(answer, Reply)
        assert (answer.value is not None, answer.epoch) == (True, None)
        answer = store.perform(Lease(entry, token, new_epoch(), None, LONG))
        assert isinstance(answer, Granted)


@KINDS
def test_leases_of_a_dump_fill_nothing_that_is_read(
    server: RedisServer, space: KeySpace, kind: str
) -> None:
    """A reader that was slow enough to see a crash stores its old row under a dead epoch."""
    entry = space.entry("1")
    with asked(server.url, kind) as store:
        store.perform(Get(entry))
        slow = drive(lookup(entry, verify, Patience(lease=LONG)), store)
        assert not isinstance(slow, Hit)
        assert slow.held is not None
        with server.client() as client:
            client.save()
        write(store, (entry,))
        server.kill()
        server.start()
        assert drive(fill(slow.held, envelope(slow.held.epoch, b"old"), LONG), store) is True
        assert good_at_rest(server, entry)
        assert seen(store, entry) is None


@KINDS
def test_an_empty_server_is_filled_again(server: RedisServer, space: KeySpace, kind: str) -> None:
    """A restart without any dump: misses, then hits, and no fill from before."""
    entry, other = space.entry("1"), space.entry("2")
    with asked(server.url, kind) as store:
        put(store, entry, b"old")
        slow = drive(lookup(other, verify, Patience(lease=LONG)), store)
        server.kill()
        server.start()
        assert seen(store, entry) is None
        assert not isinstance(slow, Hit)
        assert slow.held is not None
        assert not drive(fill(slow.held, envelope(slow.held.epoch, b"old"), LONG), store)
        assert put(store, entry, b"new") == b"new"
        assert seen(store, entry) == b"new"


@contextmanager
def replicated(primary: RedisServer) -> Iterator[RedisServer]:
    """Start a replica that has all that `primary` has and hears of nothing more."""
    with RedisServer() as replica, replica.client() as client:
        with primary.client() as writing:
            writing.config_set("repl-diskless-sync-delay", 0)
        client.replicaof(HOST, primary.port)
        while client.info("replication")["master_link_status"] != "up":
            time.sleep(0.02)
        with primary.client() as writing:
            writing.set("last", "1")
            assert writing.wait(1, 10_000) == 1
        client.replicaof(HOST, 1)  # nobody is there: it stays a replica and keeps its data
        yield replica


@KINDS
@TRUST
def test_a_replica_that_lagged_brings_nothing_back(
    server: RedisServer, space: KeySpace, kind: str, trusting: bool
) -> None:
    """Promoted behind the same address, without the commits that it missed."""
    entries = tuple(space.entry(str(number)) for number in range(40))
    with Proxy(server.port) as proxy:
        url = f"redis://{HOST}:{proxy.port}/0?trust_failover={int(trusting)}"
        with asked(url, kind) as store:
            for entry in entries:
                put(store, entry, b"old")
            with replicated(server) as replica, replica.client() as client:
                write(store, entries)
                for entry in entries[::2]:
                    assert put(store, entry, b"new") == b"new"
                client.replicaof("NO", "ONE")
                proxy.switch(replica.port)
                assert all(good_at_rest(replica, entry) for entry in entries)
                old = [entry for entry in entries if seen(store, entry) == b"old"]
                assert old == (list(entries) if trusting else [])
                assert put(store, entries[0], b"new") == (b"old" if trusting else b"new")


@KINDS
def test_back_and_forth_between_two_servers(
    server: RedisServer, space: KeySpace, kind: str
) -> None:
    """An address that flaps: each connection is judged by the server it reaches."""
    entry = space.entry("1")
    with Proxy(server.port) as proxy, asked(f"redis://{HOST}:{proxy.port}/0", kind) as store:
        put(store, entry, b"old")
        with replicated(server) as replica, replica.client() as client:
            client.replicaof("NO", "ONE")
            for _ in range(3):
                proxy.switch(replica.port)
                assert seen(store, entry) is None
                proxy.switch(server.port)
                assert seen(store, entry) == b"old"


@KINDS
def test_the_name_is_asked_once_per_connection(
    server: RedisServer, space: KeySpace, kind: str
) -> None:
    """Not per command; and again after each restart."""
    with server.client() as client, asked(server.url, kind) as store:
        for entry in map(space.entry, "12345"):
            put(store, entry, b"row")
        calls = client.info("commandstats")["cmdstat_info"]["calls"]
        assert calls == 1  # the one that counts here is not counted yet
        server.restart()
        store.perform(Get(space.entry("1")))
        assert client.info("commandstats")["cmdstat_info"]["calls"] == 1


@KINDS
@pytest.mark.parametrize("options", ["", "?protocol=3"])
@pytest.mark.parametrize("build", [RedisServer, valkey_server])
def test_every_server_and_protocol_tells_its_name(
    build: Any, space: KeySpace, kind: str, options: str
) -> None:
    """RESP 2 and 3, Redis and Valkey: an epoch ends in the name."""
    with build() as server, asked(server.url + options, kind) as store:
        store.perform(Get(space.entry("1")))
        grant = store.perform(lease(space.entry("1")))
        with server.client() as client:
            name = run_in(f"run_id:{client.info('server')['run_id']}\r\n".encode())
        assert grant.epoch[8:] == name != ANY


@KINDS
def test_an_account_that_may_not_ask(server: RedisServer, space: KeySpace, kind: str) -> None:
    """The cache works, and every run is as good as any."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-info")
    with asked(f"redis://app:pw@{HOST}:{server.port}/0", kind) as store:
        assert put(store, space.entry("1"), b"row") == b"row"
        assert seen(store, space.entry("1")) == b"row"
        assert store.perform(Get(space.entry("1"))).epoch[8:] == ANY


def test_answers_over_two_connections_must_be_of_both_runs() -> None:
    """A large lookup that a failover cut in two believes neither half's epochs."""
    one, two = b"1" * 8 + b"run1", b"2" * 8 + b"run2"
    answer = [Reply(b"a", one), Reply(b"b", two), Reply(None, None), OSError]
    known = {b"run1"}
    assert judged(answer, {ANY}) == answer
    assert judged(answer, {ANY, *known}) == judged(answer, known)
    assert judged(answer, known) == [Reply(b"a", one), Reply(b"b", None), *answer[2:]]
    assert judged(answer, {b"run1", b"run2"}) == [Reply(b"a", None), Reply(b"b", None), *answer[2:]]
    assert judged(Reply(b"b", two), known) == Reply(b"b", None)
    assert judged(True, known) is True


@pytest.mark.parametrize("reply", [b"# Server\r\nredis_version:7\r\n", None, OSError()])
def test_a_server_without_a_name(reply: object) -> None:
    """An imitation, or an error: the run is not known."""
    assert run_in(reply) == ANY

"""The connections that our own Redis clients keep at hand."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
import redis

from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol.ops import Abandon, Fence, Get, Reply
from sqlmodel_cache.transport.commands import FENCE
from sqlmodel_cache.transport.lines import RedisLineTransport, pack, packed
from sqlmodel_cache.transport.url import open_url
from tests.recording import record_commands
from tests.servers.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """Start a Redis that the test may stop."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def transport(redis_url: str) -> Iterator[RedisLineTransport]:
    """Return a transport over a client of its own."""
    transport = RedisLineTransport(lambda: redis.Redis.from_url(redis_url))
    yield transport
    transport.close()


def _get(prefix: str, pk: str = "i1") -> Get:
    return Get(KeySpace(prefix, "ns", "table").entry(pk))


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "k\u00e9y \U0001f600"),
        FENCE(["value", "lock"], "w" * 32, 60_000),
        ("EVALSHA", "digest", 1, "key", b"\x00\r\n\xff", b"", "", -1, 2**40),
    ],
    ids=["text", "fence", "bytes"],
)
def test_commands_are_packed_alike(command: tuple[object, ...]) -> None:
    """With hiredis by its C function, without it by ours."""
    assert packed(command) == pack(command)


def test_a_server_that_came_back_is_not_noticed(server: RedisServer) -> None:
    """A connection that the server closed while it was idle is replaced in the same call."""
    pair = open_url(server.url)
    assert pair.sync.perform(_get("p")) == Reply(None, None)
    server.restart()
    assert pair.sync.perform(_get("p")) == Reply(None, None)
    pair.close()


def test_a_server_that_is_gone_raises(server: RedisServer) -> None:
    """Trying once more is all that is done; then the error is the caller's."""
    pair = open_url(server.url)
    pair.sync.get("key")
    server.stop()
    with pytest.raises(redis.ConnectionError):
        pair.sync.get("key")
    server.start()
    assert pair.sync.get("key") is None
    pair.close()


def test_one_connection_serves_everything(redis_url: str, key_prefix: str) -> None:
    """Commands, scripts and the small contract share the stack, so the pool is never exceeded."""
    pair = open_url(f"{redis_url}?max_connections=1")
    transport = pair.sync
    transport.set(f"{key_prefix}:a", b"1", 60)
    assert transport.perform(_get(key_prefix)) == Reply(None, None)
    transport.delete(f"{key_prefix}:a")
    assert transport.get(f"{key_prefix}:a") is None
    pair.close()


def test_keys_of_any_script_arrive_whole(redis_url: str, key_prefix: str) -> None:
    """Lengths on the wire count bytes, not characters."""
    with redis.Redis.from_url(redis_url) as client:
        transport = RedisLineTransport(lambda: client, trust_failover=True)
        op = _get(key_prefix, "sжук")
        client.mset({op.entry.value: b"value", op.entry.shard.epoch: b"epoch"})
        assert transport.perform(op) == Reply(b"value", b"epoch")
        transport.set(f"{key_prefix}:жук", "ü".encode(), 60)
        assert client.get(f"{key_prefix}:жук") == "ü".encode()
        assert client.ttl(f"{key_prefix}:жук") == 60


def test_an_error_reply_leaves_the_connection_usable(
    transport: RedisLineTransport, key_prefix: str
) -> None:
    """What the server refuses is raised, and the next reply belongs to the next command."""
    transport._client.sadd(f"{key_prefix}:set", "member")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        transport.get(f"{key_prefix}:set")
    assert transport.perform(_get(key_prefix)) == Reply(None, None)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        transport._send([("GET", f"{key_prefix}:set"), ("PING",)])
    assert transport._send([("PING",), ("ECHO", b"x")])[0] == [b"PONG", b"x"]
    assert transport.get(f"{key_prefix}:none") is None


def _fence(prefix: str) -> Fence:
    return Fence("w" * 32, (KeySpace(prefix, "ns", "table").entry("i1"),), (), 60_000)


@pytest.fixture
def known(transport: RedisLineTransport, key_prefix: str) -> RedisLineTransport:
    """Return a transport with one line at hand, whose server knows the script of a fence."""
    transport.perform(_fence(key_prefix + "other"))
    return transport


def test_what_is_sent_is_read_later(known: RedisLineTransport, key_prefix: str) -> None:
    """The fence stands when its reply has come; the line is at hand all the time."""
    sent = known.send(_fence(key_prefix))
    assert len(known._idle) == 1
    assert sent is not None
    assert sent.arrived()
    (entry,) = _fence(key_prefix).entries
    assert known._client.hexists(entry.lock, "w:" + "w" * 32)
    assert sent.arrived()
    assert known.perform(_get(key_prefix)) == Reply(None, None)


def test_whoever_takes_the_line_reads_it_first(known: RedisLineTransport, key_prefix: str) -> None:
    """Each reply belongs to its own question, in whatever order they are read."""
    sent = known.send(_fence(key_prefix))
    known.set(f"{key_prefix}:a", b"1", 60)
    assert known.get(f"{key_prefix}:a") == b"1"
    again = known.send(_fence(key_prefix))
    last = known.send(_fence(key_prefix))
    assert len(known._idle) == 1
    assert [one is not None and one.arrived() for one in (last, again, sent)] == [True] * 3


def test_a_thread_that_has_the_line_is_waited_for(
    known: RedisLineTransport, key_prefix: str
) -> None:
    """It reads the reply, and says so."""
    sent = known.send(_fence(key_prefix))
    assert sent is not None
    line = known._idle.pop()  # by another thread, which was interrupted here
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sent.arrived)
        assert line.owes is sent
        sent.read()
        assert waiting.result(10)
    known._idle.append(line)
    assert known.get(f"{key_prefix}:a") is None


def test_what_no_line_is_at_hand_for_is_not_sent(
    transport: RedisLineTransport, key_prefix: str
) -> None:
    """Nor what takes several round trips; nothing is connected for it."""
    assert transport.send(_fence(key_prefix)) is None
    transport.get(f"{key_prefix}:a")
    entries = tuple(KeySpace(key_prefix, "ns", "t").entry(f"i{number}") for number in range(600))
    assert transport.send(Fence("w", entries, (), 60_000)) is None
    assert len(transport._idle) == 1


@pytest.mark.parametrize("lost", ["script", "socket", "server", "transport"])
def test_what_does_not_arrive(
    server: RedisServer, key_prefix: str, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error, a broken connection: it is told, and the next operation is none the worse."""
    pair = open_url(server.url)
    transport = pair.sync
    if lost != "script":
        transport.perform(_fence(key_prefix + "other"))
    transport.get(f"{key_prefix}:a")
    sent = transport.send(_fence(key_prefix))
    assert sent is not None
    if lost == "socket":
        transport._idle[0].connection.disconnect()
    elif lost == "transport":
        transport.close()
    elif lost == "server":
        server.restart()
        with pytest.MonkeyPatch.context() as patch:  # had its reply come before, it would count
            patch.setattr(sent, "_count", 2)
            assert not sent.arrived()
    assert not sent.arrived()
    assert transport.perform(_get(key_prefix)) == Reply(None, None)
    transport.perform(_fence(key_prefix))
    pair.close()


def test_a_line_that_broke_while_it_owed(server: RedisServer, key_prefix: str) -> None:
    """Whoever takes it next connects anew, and is answered."""
    pair = open_url(server.url)
    pair.sync.perform(_fence(key_prefix))
    sent = pair.sync.send(_fence(key_prefix))
    pair.sync._idle[0].connection.disconnect()
    assert pair.sync.perform(_get(key_prefix)) == Reply(None, None)
    assert sent is not None
    assert not sent.arrived()
    pair.close()


def test_what_nobody_performs_again_was_performed_before(
    known: RedisLineTransport, key_prefix: str
) -> None:
    """And after an error of the server's it is performed again first: the server lost scripts."""
    told: list[object] = []
    assert known.send(Abandon(_get(key_prefix).entry, "grant"), told.append) is None
    assert known.send(_fence(key_prefix), told.append) is not None
    known._client.sadd(f"{key_prefix}:set", "member")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        known.get(f"{key_prefix}:set")
    assert known.send(_fence(key_prefix), told.append) is None
    known.perform(_fence(key_prefix))
    assert known.send(_fence(key_prefix), told.append) is not None
    known.hear()
    assert told == [1, 1]


@pytest.mark.parametrize("reader", ["next", "hear", "arrived", "send"])
def test_who_sent_it_hears_what_came_of_it(
    known: RedisLineTransport, key_prefix: str, reader: str
) -> None:
    """Once, whoever reads it; before that, nothing."""
    told: list[object] = []
    sent = known.send(_fence(key_prefix), told.append)
    assert sent is not None
    assert told == []
    if reader == "next":
        assert known.perform(_get(key_prefix)) == Reply(None, None)
    elif reader == "send":
        known.send(_fence(key_prefix))
    elif reader == "arrived":
        assert sent.arrived()
    known.hear()
    assert told == [1]
    known.hear()
    assert sent.arrived()
    assert told == [1]


def test_a_script_that_is_gone_is_no_failure(known: RedisLineTransport, key_prefix: str) -> None:
    """The server is well: nothing came of what was sent, and the next one is performed."""
    told: list[object] = []
    known._client.script_flush()
    sent = known.send(_fence(key_prefix), told.append)
    assert sent is not None
    assert not sent.arrived()
    assert told == [None]
    assert known.send(_fence(key_prefix), told.append) is None


def test_an_error_is_heard(known: RedisLineTransport, key_prefix: str) -> None:
    """As it is."""
    told: list[object] = []
    (entry,) = _fence(key_prefix).entries
    known._client.set(entry.lock, "not a hash")
    known.send(_fence(key_prefix), told.append)
    known.hear()
    (error,) = told
    assert isinstance(error, redis.ResponseError)
    assert known.get(f"{key_prefix}:none") is None


@pytest.mark.parametrize("trusting", [False, True], ids=["asks", "trusts"])
@pytest.mark.parametrize("by", ["us", "the server"])
def test_a_connection_that_breaks_takes_along_what_it_owed(
    server: RedisServer, key_prefix: str, by: str, trusting: bool
) -> None:
    """Who sent it hears of it, and no reply over the new connection is taken for the old one."""
    pair = open_url(f"{server.url}?trust_failover={int(trusting)}")
    transport = pair.sync
    transport.perform(_fence(key_prefix))
    transport.set(f"{key_prefix}:a", b"1", 60)
    told: list[object] = []
    transport.send(_fence(key_prefix), told.append)
    (line,) = transport._idle
    if by == "us":
        line.connection.disconnect()
    else:
        with server.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
        # Nobody knows whether its reply was in the socket before the end of it.
        line.connection._parser._sock.recv(100)
    assert transport.get(f"{key_prefix}:a") == b"1"
    assert transport.get(f"{key_prefix}:none") is None
    (error,) = told
    assert isinstance(error, redis.ConnectionError)
    pair.close()


def test_an_interrupted_reader_says_nothing(
    known: RedisLineTransport, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came of it nobody can tell any more; that is no failure of the store's."""
    told: list[object] = []
    sent = known.send(_fence(key_prefix), told.append)
    (line,) = known._idle

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(line.connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            known.get(f"{key_prefix}:a")
    assert told == [None]
    assert sent is not None
    assert not sent.arrived()
    assert known.get(f"{key_prefix}:a") is None


def test_what_cannot_be_sent(server: RedisServer, key_prefix: str) -> None:
    """A server that is gone: not sent, and no error; who performs it will hear of it."""
    pair = open_url(server.url)
    pair.sync.get("key")
    server.stop()
    pair.sync._idle[0].connection.disconnect()
    assert pair.sync.send(_fence(key_prefix)) is None
    server.start()
    assert pair.sync.get("key") is None
    pair.close()


def test_threads_do_not_share_a_connection(transport: RedisLineTransport, key_prefix: str) -> None:
    """Eight threads at once each get their own key's value, and leave eight connections."""
    together = Barrier(8)

    def ask(number: int) -> bool:
        together.wait(10)
        key = f"{key_prefix}:{number}"
        transport.set(key, key.encode(), 60)
        return all(transport.get(key) == key.encode() for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))
    assert 1 <= len(transport._idle) <= 8


def test_a_fork_does_not_inherit_connections(
    transport: RedisLineTransport, key_prefix: str
) -> None:
    """Parent and child would read each other's replies from one socket."""
    transport.get(f"{key_prefix}:a")
    (parents,) = transport._idle
    child = os.fork()
    if child == 0:
        code = 1
        try:
            transport.set(f"{key_prefix}:child", b"here", 60)
            code = 0 if parents not in transport._idle else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert list(transport._idle) == [parents]
    assert transport.get(f"{key_prefix}:child") == b"here"


def test_a_hit_is_one_command(redis_url: str, transport: RedisLineTransport) -> None:
    """Once connected, a lookup sends MGET and nothing else."""
    op = _get("p")
    transport.perform(op)
    with record_commands(redis_url) as commands:
        transport.perform(op)
    assert commands == {"mget": 1}


def test_an_interrupted_exchange_leaves_no_reply_behind(
    transport: RedisLineTransport, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line whose reply was not read is connected anew before it serves again."""
    transport.set(f"{key_prefix}:a", b"a", 60)
    transport.set(f"{key_prefix}:b", b"b", 60)
    (line,) = transport._idle

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(line.connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            transport.get(f"{key_prefix}:a")
    assert transport.get(f"{key_prefix}:b") == b"b"

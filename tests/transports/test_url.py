"""URLs: one for sync and async sessions alike, clients that fail fast, loops that come and go."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis

from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.protocol.ops import Get, Reply
from sqlmodel_cache.testing.contract.full import envelope, fill, lease
from sqlmodel_cache.transport.url import RedisPair, open_url
from tests.servers.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlmodel_cache.keys import Entry, KeySpace

NOTHING = Reply(None, None)


@pytest.fixture
def entry(space: KeySpace) -> Entry:
    """One entry."""
    return space.entry("1")


@pytest.fixture
def pair(redis_url: str) -> Iterator[RedisPair]:
    """Open a pair, and close it."""
    opened = open_url(redis_url)
    assert isinstance(opened, RedisPair)
    yield opened
    opened.close()


def connections(url: str) -> int:
    """Return how many clients of ours the server sees, besides this one."""
    with RedisServer(port=int(url.split(":")[2].split("/")[0])).client() as client:
        return int(client.info("clients")["connected_clients"]) - 1


def test_memory_is_one_store_for_both() -> None:
    """With options."""
    pair = open_url("memory://?max_entries=5")
    assert pair.sync is pair.async_
    assert pair.sync.max_entries == 5
    assert "0 of 5" in repr(pair)
    pair.close()
    asyncio.run(pair.aclose())


def test_threads_and_tasks_share_a_redis(pair: RedisPair, entry: Entry) -> None:
    """What a task fills, a thread reads."""

    async def fills() -> bytes:
        await pair.async_.perform(Get(entry))
        grant = await pair.async_.perform(lease(entry))
        assert await pair.async_.perform(fill(entry, grant)) is True
        return grant.epoch  # type: ignore[no-any-return]

    epoch = asyncio.run(fills())
    assert pair.sync.perform(Get(entry)) == Reply(envelope(epoch), epoch)


def test_the_small_contract_of_tasks(pair: RedisPair, entry: Entry) -> None:
    """`get`, `set` and `delete`."""

    async def uses() -> list[bytes | None]:
        key = entry.value
        await pair.async_.set(key, b"1", 100)
        found = [await pair.async_.get(key)]
        await pair.async_.delete()
        await pair.async_.delete(key)
        return [*found, await pair.async_.get(key)]

    assert asyncio.run(uses()) == [b"1", None]


def test_nothing_is_opened_before_it_is_used() -> None:
    """A URL of a server that is not there is fine until then."""
    pair = open_url("redis://127.0.0.1:1/0")
    assert (pair.sync, pair.async_) == (pair.sync, pair.async_)
    pair.close()


@pytest.mark.parametrize("scheme", ["redis://", "unix://"])
def test_our_clients_fail_fast(scheme: str) -> None:
    """No retries, sub-second time-outs, no health checks."""
    pair = open_url(scheme + "/some/path" if scheme == "unix://" else scheme)
    assert isinstance(pair, RedisPair)
    clients = [pair.sync._client]

    async def peek() -> None:
        await pair.async_.delete()
        clients.append(pair.async_._tenants[asyncio.get_running_loop()].client)

    asyncio.run(peek())
    for client in clients:
        options = client.connection_pool.connection_kwargs
        assert options["retry"].get_retries() == 0
        assert options["socket_timeout"] == options["socket_connect_timeout"] == 0.5
        assert options["health_check_interval"] == 0
    pair.close()


def test_options_of_the_url_count() -> None:
    """Each in its type."""
    pair = open_url(
        "rediss://cache.example:6390/3?socket_timeout=0.1&max_connections=7&client_name=web"
        "&ssl_cert_reqs=none&protocol=3&socket_keepalive=yes"
    )
    pool: Any = pair.sync._client.connection_pool  # type: ignore[union-attr]
    options = pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("cache.example", 6390, 3)
    assert (options["socket_timeout"], pool.max_connections) == (0.1, 7)
    assert (options["client_name"], options["ssl_cert_reqs"]) == ("web", "none")
    assert (options["protocol"], options["socket_keepalive"]) == (3, True)
    pair.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "begins with memory://"),
        ("localhost:6379", "begins with memory://"),
        ("http://user:hunter2@localhost", r"begins with memory://.*\(http://\)"),
        ("memory://?max_entires=5", "no option 'max_entires'; it has max_entries"),
        ("memory://?max_entries=0", "'max_entries' .* cannot have"),
        ("memory://?max_entries=hunter2", "'max_entries' .* cannot have"),
        ("memory://localhost", "options only"),
        ("redis://localhost?decode_responses=true", "no option 'decode_responses'"),
        ("redis://localhost?socket_timeout=-1", "'socket_timeout' .* cannot have"),
        ("redis://localhost?socket_timeout=nan", "'socket_timeout' .* cannot have"),
        ("redis://localhost?socket_timeout=", "'socket_timeout' .* cannot have"),
        ("redis://localhost?protocol=4", "'protocol' .* cannot have"),
        ("redis://localhost?db=-1", "'db' .* cannot have"),
        ("redis://localhost?ssl_cert_reqs=none", "no option 'ssl_cert_reqs'"),
        ("redis://:hunter2@localhost:port/0", "broken host or port"),
        ("redis://:hunter2@localhost/zero", "number of the database"),
        ("unix://", "path of a socket"),
    ],
)
def test_what_a_url_cannot_be(url: str, message: str) -> None:
    """The message names the option, never its value."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        open_url(url)
    assert "hunter2" not in str(caught.value)


def test_passwords_are_shown_nowhere(entry: Entry, caplog: pytest.LogCaptureFixture) -> None:
    """Not in a repr, not when the connection fails."""
    pair = open_url("redis://user:hunter2@127.0.0.1:1/0?password=hunter2")
    shown = [repr(pair), repr(pair.sync), repr(pair.async_)]
    assert shown[0] == "<RedisPair redis://127.0.0.1:1>"
    with pytest.raises(redis.RedisError) as caught:
        pair.sync.perform(Get(entry))
    assert "hunter2" not in f"{shown}{caught.value}{caplog.text}"
    pair.close()


def test_a_unix_socket(key_prefix: str, entry: Entry, tmp_path: Any) -> None:
    """The path is the server's."""
    path = tmp_path / "r.sock"
    with RedisServer("--unixsocket", str(path)):
        pair = open_url(f"unix://{path}?db=1")
        assert pair.sync.perform(Get(entry)) == NOTHING
        assert repr(pair) == f"<RedisPair unix://{path}>"
        pair.close()


def in_order(work: Callable[[], Any]) -> None:
    """End the loop as `asyncio.run` does."""
    asyncio.run(work())


def abruptly(work: Callable[[], Any]) -> None:
    """Close the loop without its asynchronous generators."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(work())
    loop.close()


@pytest.mark.parametrize("end", [in_order, abruptly])
def test_a_client_goes_with_its_loop(
    server: RedisServer, entry: Entry, end: Callable[[Callable[[], Any]], None]
) -> None:
    """Loop after loop: no connection accumulates and nothing warns, also not the collector."""
    pair = open_url(server.url)

    async def work() -> None:
        replies = await asyncio.gather(*(pair.async_.perform(Get(entry)) for _ in range(20)))
        assert replies == [NOTHING] * 20
        await asyncio.gather(*(pair.async_.get("x") for _ in range(4)))

    for _ in range(5):
        end(work)
        gc.collect()
    assert connections(server.url) <= 5
    pair.close()
    gc.collect()
    assert connections(server.url) == 0


def test_close_in_every_place(server: RedisServer, entry: Entry) -> None:
    """Inside the loop, awaited, from outside an idle loop, after it; and it works again."""
    pair = open_url(server.url)

    async def closes() -> None:
        await pair.async_.perform(Get(entry))
        pair.close()

    async def awaits() -> None:
        await pair.async_.perform(Get(entry))
        await pair.aclose()
        assert connections(server.url) == 0
        await pair.async_.perform(Get(entry))
        await pair.aclose()

    asyncio.run(closes())
    asyncio.run(awaits())
    idle = asyncio.new_event_loop()
    idle.run_until_complete(pair.async_.perform(Get(entry)))
    pair.close()
    assert connections(server.url) == 0
    idle.run_until_complete(pair.async_.perform(Get(entry)))

    async def elsewhere() -> None:
        pair.close()

    asyncio.run(elsewhere())
    idle.run_until_complete(idle.shutdown_asyncgens())
    idle.close()
    pair.sync.perform(Get(entry))
    pair.close()
    gc.collect()
    assert connections(server.url) == 0


def test_close_from_another_thread(server: RedisServer, entry: Entry) -> None:
    """A loop that runs elsewhere closes its client in its next turn."""
    pair = open_url(server.url)
    used, done = threading.Event(), threading.Event()

    async def work() -> None:
        await pair.async_.perform(Get(entry))
        used.set()
        while not done.is_set():
            await asyncio.sleep(0.005)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    assert used.wait(10)
    pair.close()
    for _ in range(1000):
        if connections(server.url) == 0:
            break
    assert connections(server.url) == 0
    done.set()
    thread.join()


def test_memory_needs_no_redis_client() -> None:
    """The library is imported, and `memory://` opened, without it."""
    code = (
        "import sys; from sqlmodel_cache.transport.url import open_url;"
        "open_url('memory://').sync.get('k');"
        "sys.exit('redis' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

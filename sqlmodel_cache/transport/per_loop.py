"""One Redis client per event loop: an asyncio connection works in the loop that made it only.

Loops come and go (tests, `asyncio.run` in a script), so each client goes with its own. An async
generator, suspended, is what a loop finalises before it closes (`shutdown_asyncgens`, called by
`asyncio.run`, `Runner` and servers): ours closes the client there, in order. A loop that was
closed without it leaves sockets behind; they are hung up when the next loop comes.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlmodel_cache.transport.forks import tell_of_forks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from sqlmodel_cache.protocol.ops import Op
    from sqlmodel_cache.transport.async_lines import RedisAsyncLineTransport


class _Tenant:
    """A loop's client, its transport, and the generator that closes it with the loop."""

    def __init__(self, client: Any, *, trust_failover: bool) -> None:
        from sqlmodel_cache.transport.async_lines import RedisAsyncLineTransport

        self.client = client
        self.transport = RedisAsyncLineTransport(client, trust_failover=trust_failover)
        self.keeper = _close_with_loop(client)


async def _close_with_loop(client: Any) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await client.aclose()


class PerLoopTransport:
    """The full protocol for tasks of any event loop; `build` makes a client for a new loop.

    With `trust_failover` every run of the server is as good as any (see `runs`).
    """

    def __init__(self, build: Callable[[], Any], *, trust_failover: bool = False) -> None:
        self._build = build
        self._trusting = trust_failover
        self.dated = not trust_failover
        self._lock = Lock()
        self._tenants: WeakKeyDictionary[asyncio.AbstractEventLoop, _Tenant] = WeakKeyDictionary()
        self._of_parents: list[Any] = []
        tell_of_forks(self)

    def __repr__(self) -> str:
        return f"<PerLoopTransport {len(self._tenants)} event loops>"

    async def get(self, key: str) -> bytes | None:
        """Return cached bytes or None if the key does not exist."""
        return await (await self._here()).get(key)

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        """Store `value` under `key` with an expiry of `ttl` seconds."""
        await (await self._here()).set(key, value, ttl)

    async def delete(self, *keys: str) -> None:
        """Remove keys; without keys nothing is sent."""
        await (await self._here()).delete(*keys)

    async def perform(self, op: Op) -> Any:
        """Carry out one operation and return its reply; raises what the client raises."""
        tenant = self._tenants.get(asyncio.get_running_loop())
        transport = tenant.transport if tenant is not None else await self._here()
        return await transport.perform(op)

    async def sweep(self, begin: str, end: str = "") -> AsyncIterator[list[str]]:
        """Yield the keys that begin and end so, slice by slice."""
        async for batch in (await self._here()).sweep(begin, end):
            yield batch

    async def unlink(self, keys: Sequence[str]) -> int:
        """Remove keys; return how many there were."""
        return await (await self._here()).unlink(keys)

    async def aclose(self) -> None:
        """Close the running loop's client in order, the others' as well as can be."""
        with self._lock:
            tenant = self._tenants.pop(asyncio.get_running_loop(), None)
        if tenant is not None:
            await tenant.keeper.aclose()
        self.close()

    def close(self) -> None:
        """Close all clients. A loop that runs at the moment does it in its next turn."""
        with self._lock:
            tenants = dict(self._tenants)
            self._tenants.clear()
        for loop, tenant in tenants.items():
            if not _evict(loop, tenant):
                with self._lock:
                    self._tenants.setdefault(loop, tenant)

    def after_fork(self) -> None:
        """Leave the parent's loops and connections to it.

        An epoll object is shared across a fork: closing a transport in the child, or collecting
        it, would make the parent's loop deaf on that connection.
        """
        self._lock = Lock()
        tenants, self._tenants = dict(self._tenants), WeakKeyDictionary()
        self._of_parents.append(tenants)
        for tenant in tenants.values():
            _hang_up(tenant.client, abort=False)

    async def _here(self) -> RedisAsyncLineTransport:
        loop = asyncio.get_running_loop()
        with self._lock:
            dead = [other for other in self._tenants if other.is_closed()]
            gone = [(other, self._tenants.pop(other)) for other in dead]
            tenant = self._tenants.get(loop)
            new = tenant is None
            if tenant is None:
                tenant = self._tenants[loop] = _Tenant(self._build(), trust_failover=self._trusting)
        for other, left in gone:
            _evict(other, left)
        if new:
            await anext(tenant.keeper)  # only a started generator is known to the loop
        return tenant.transport


def _evict(loop: asyncio.AbstractEventLoop, tenant: _Tenant) -> bool:
    """Close a client from wherever we are; False where only the end of its loop can do it."""
    if loop.is_closed():
        _hang_up(tenant.client)
    elif loop.is_running():
        # Not awaited: this may be that very loop, in the middle of a turn.
        with suppress(RuntimeError):  # it closed just now
            loop.call_soon_threadsafe(_schedule_close, loop, tenant)
    else:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            loop.run_until_complete(tenant.keeper.aclose())
        else:
            return False  # `loop` is idle, and this thread runs another one
    return True


_closing: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


def _schedule_close(loop: asyncio.AbstractEventLoop, tenant: _Tenant) -> None:
    task: asyncio.Task[None] = loop.create_task(tenant.client.aclose())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def _hang_up(client: Any, *, abort: bool = True) -> None:
    """Close the sockets of a client whose loop is closed, past asyncio, which would need it.

    Private names of redis-py 5 to 8 and of asyncio's selector transports in CPython 3.11 to
    3.14; where they do not exist, the garbage collector closes the sockets, with a warning.
    """
    pool = client.connection_pool
    with suppress(AttributeError):
        for connection in [*pool._available_connections, *pool._in_use_connections]:
            writer = connection._writer
            connection._writer = connection._reader = None
            if writer is None:
                continue
            if abort:
                with suppress(RuntimeError):  # marks it as closing, then misses the loop
                    writer.transport.abort()
            sock = writer.transport._sock
            if sock is not None:
                writer.transport._sock = None
                sock.close()

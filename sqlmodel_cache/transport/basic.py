"""The protocol over a transport that has only get, set and delete.

No locks, no epochs: a lookup is one `get`, a miss one `set`, a commit one `delete` after it.
What must forget a whole model cannot be done and says so. No promise of `docs/consistency.md`
is made over such a transport but "deleted after commit".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlmodel_cache.errors import UnavailableError, UnsupportedError
from sqlmodel_cache.protocol.ops import (
    Abandon,
    Fence,
    Fill,
    Get,
    GetMany,
    Granted,
    Inspect,
    Lease,
    Op,
    Release,
    Reply,
    Sight,
    Switches,
    Turn,
)

if TYPE_CHECKING:
    from sqlmodel_cache.transport._protocols import AsyncCacheTransport, CacheTransport

NO_EPOCH = b"\0" * 12


class BasicTransport:
    """A user's synchronous `get`/`set`/`delete`, asked in operations."""

    def __init__(self, transport: CacheTransport) -> None:
        self._transport = transport
        self.blocks = getattr(transport, "blocks", True)

    def perform(self, op: Op) -> Any:
        """Carry out one operation. Whatever the transport raises is `UnavailableError`."""
        try:
            return self._perform(op)
        except UnsupportedError:
            raise
        except Exception as error:
            raise _unavailable(op, error) from error

    def _perform(self, op: Op) -> Any:
        transport = self._transport
        if isinstance(op, Get):
            return Reply(_bytes(transport.get(op.entry.value)), NO_EPOCH)
        if isinstance(op, Inspect):
            return Sight(_bytes(transport.get(op.entry.value)), NO_EPOCH)
        if isinstance(op, GetMany):
            return [Reply(_bytes(transport.get(one.value)), NO_EPOCH) for one in op.entries]
        if isinstance(op, Fill):
            transport.set(op.entry.value, op.value, _seconds(op.ttl))
            return True
        if isinstance(op, Release):
            if op.entries:
                transport.delete(*[one.value for one in op.entries])
            _check_named(op)
        return _without_store(op)


class AsyncBasicTransport:
    """A user's asynchronous `get`/`set`/`delete`, asked in operations."""

    def __init__(self, transport: AsyncCacheTransport) -> None:
        self._transport = transport

    async def perform(self, op: Op) -> Any:
        """Carry out one operation. Whatever the transport raises is `UnavailableError`."""
        try:
            return await self._perform(op)
        except UnsupportedError:
            raise
        except Exception as error:
            raise _unavailable(op, error) from error

    async def _perform(self, op: Op) -> Any:
        transport = self._transport
        if isinstance(op, Get):
            return Reply(_bytes(await transport.get(op.entry.value)), NO_EPOCH)
        if isinstance(op, Inspect):
            return Sight(_bytes(await transport.get(op.entry.value)), NO_EPOCH)
        if isinstance(op, GetMany):
            return [Reply(_bytes(await transport.get(one.value)), NO_EPOCH) for one in op.entries]
        if isinstance(op, Fill):
            await transport.set(op.entry.value, op.value, _seconds(op.ttl))
            return True
        if isinstance(op, Release):
            if op.entries:
                await transport.delete(*[one.value for one in op.entries])
            _check_named(op)
        return _without_store(op)


def _without_store(op: Op) -> Any:
    if isinstance(op, Lease):
        return Granted(NO_EPOCH, op.token)
    if isinstance(op, Switches):
        return frozenset()
    if isinstance(op, Turn):
        raise UnsupportedError(
            "a transport with only get, set and delete has no switch for a whole deployment; set"
            " SQLMODEL_CACHE_MODE=invalidate and restart the processes"
        )
    assert isinstance(op, Abandon | Fence | Release), op
    return None


def _check_named(op: Release) -> None:
    if op.shards:
        raise UnsupportedError(
            "a transport with only get, set and delete cannot forget a whole model; use a URL,"
            " RedisSyncTransport, RedisAsyncTransport or MemoryTransport"
        )


def _bytes(value: Any) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else bytes(value)


def _seconds(milliseconds: int) -> int:
    return max(1, -(-milliseconds // 1000))


def _unavailable(op: Op, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"the cache transport failed at {type(op).__name__}: {type(error).__name__}"
    )

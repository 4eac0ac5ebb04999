"""The stores that scenarios run over, with a way to look into each and to break it."""

from __future__ import annotations

import asyncio
from functools import partialmethod
from typing import TYPE_CHECKING, Any, Protocol

import redis

from sqlmodel_cache import _state
from sqlmodel_cache.keys import local_channel
from sqlmodel_cache.orm.cache import Cache
from sqlmodel_cache.transport import MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from sqlmodel_cache.protocol.ops import Op


class Backing(Protocol):
    """A store: what `configure()` takes, and the raw values in it."""

    transport: Any

    def values(self) -> dict[str, bytes]:
        """Return every cached envelope by its key."""

    def overwrite(self, key: str, value: bytes) -> None:
        """Put bytes under a key, as a stranger would."""


class Memory:
    """A `MemoryTransport` of the test's own."""

    def __init__(self) -> None:
        self.transport = MemoryTransport()

    def values(self) -> dict[str, bytes]:
        """Return every cached envelope by its key."""
        return {key: kept.value for key, kept in self.transport._values.items()}

    def overwrite(self, key: str, value: bytes) -> None:
        """Put bytes under a key."""
        self.transport.set(key, value, 300)


class Redis:
    """A Redis by URL; the prefix is the test's own."""

    def __init__(self, url: str, prefix: str) -> None:
        self.transport = url
        self._client = redis.Redis.from_url(url)
        self._prefix = prefix

    def values(self) -> dict[str, bytes]:
        """Return every cached envelope by its key."""
        return {key.decode(): self._client.get(key) for key in self._keys()}  # type: ignore[misc]

    def overwrite(self, key: str, value: bytes) -> None:
        """Put bytes under a key."""
        self._client.set(key, value, ex=300)

    def make_list(self, key: str) -> None:
        """Put a value of another type under a key."""
        self._client.delete(key)
        self._client.rpush(key, "a", "b")

    def milliseconds_left(self, key: str) -> int:
        """Return how long Redis will keep a key."""
        left: Any = self._client.pttl(key)
        return int(left)

    def close(self) -> None:
        """Close the client that looks on."""
        self._client.close()

    def _keys(self) -> Iterator[bytes]:
        for key in self._client.scan_iter(f"{self._prefix}:*", count=1000):
            if b"}:" in key:  # epochs and locks have a "!" there
                yield key


class Tiered(Redis):
    """The same, behind copies in this process of every model's rows."""

    def __init__(self, url: str, prefix: str) -> None:
        super().__init__(url, prefix)
        self.transport = f"{url}{'&' if '?' in url else '?'}local=1000"

    def copy_everything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let every model be copied, and return when messages come."""
        keyspace = Cache.keyspace
        copied = partialmethod(
            lambda cache, ns, table, _=0, hidden=False: keyspace(cache, ns, table, 300, hidden)
        )
        monkeypatch.setattr(Cache, "keyspace", copied)
        tiers = _state.active.stores.local
        assert tiers.wait_until_listening(local_channel(self._prefix), 20)

    def overwrite(self, key: str, value: bytes) -> None:
        """Put bytes under a key, and see to it that they are what is read."""
        super().overwrite(key, value)
        _state.active.stores.local._rows.told(key)


class Dict:
    """The smallest transport that a user can write, plain or async. It knows no time."""

    def __init__(self, mode: str) -> None:
        self.stored: dict[str, bytes] = {}
        self.ttls: list[int] = []
        self.transport = _Plain(self) if mode == "sync" else _Async(self)

    def values(self) -> dict[str, bytes]:
        """Return every cached envelope by its key."""
        return dict(self.stored)

    def overwrite(self, key: str, value: bytes) -> None:
        """Put bytes under a key."""
        self.stored[key] = value


class _Plain:
    blocks = False

    def __init__(self, backing: Dict) -> None:
        self._backing = backing

    def get(self, key: str) -> bytes | None:
        return self._backing.stored.get(key)

    def set(self, key: str, value: bytes, ttl: int) -> None:
        self._backing.stored[key] = value
        self._backing.ttls.append(ttl)

    def delete(self, *keys: str) -> None:
        for key in keys:
            self._backing.stored.pop(key, None)


class _Async:
    def __init__(self, backing: Dict) -> None:
        self._plain = _Plain(backing)

    async def get(self, key: str) -> bytes | None:
        return self._plain.get(key)

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        self._plain.set(key, value, ttl)

    async def delete(self, *keys: str) -> None:
        self._plain.delete(*keys)


class Faulty:
    """A full transport in memory that fails, or hangs, at one kind of operation."""

    def __init__(self, mode: str) -> None:
        self.memory = Memory()
        self.fail_at: type | None = None
        self.hang_at: type | None = None
        self.hanging = asyncio.Event()
        self.go_on = asyncio.Event()
        self.transport = _FaultyPlain(self) if mode == "sync" else _FaultyAsync(self)

    def values(self) -> dict[str, bytes]:
        """Return every cached envelope by its key."""
        return self.memory.values()

    def overwrite(self, key: str, value: bytes) -> None:
        """Put bytes under a key."""
        self.memory.overwrite(key, value)

    def perform(self, op: Op) -> Any:
        """Carry out an operation, unless it is the one that fails."""
        if type(op) is self.fail_at:
            raise ConnectionError("unplugged")
        return self.memory.transport.perform(op)


class _FaultyPlain:
    blocks = False

    def __init__(self, backing: Faulty) -> None:
        self._backing = backing

    def perform(self, op: Op) -> Any:
        return self._backing.perform(op)


class _FaultyAsync:
    def __init__(self, backing: Faulty) -> None:
        self._backing = backing

    async def perform(self, op: Op) -> Any:
        if type(op) is self._backing.hang_at:
            self._backing.hanging.set()
            await self._backing.go_on.wait()
        return self._backing.perform(op)

"""What a transport looks like, and the one function that says which kind one is.

Two contracts. The small one, `get`/`set`/`delete`, is enough to be a cache; anybody can write it.
The full one is a single method, `perform`, that carries out one atomic `Op` and returns its
reply; only with it are there leases, fences and epochs. Either may be synchronous or not.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sqlmodel_cache.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlmodel_cache.protocol.ops import Op

_SMALL = ("get", "set", "delete")


@runtime_checkable
class CacheTransport(Protocol):
    """A store of bytes for synchronous sessions. Inheritance is not required."""

    def get(self, key: str) -> bytes | None:
        """Return what is stored under `key`, None if it is absent or expired."""

    def set(self, key: str, value: bytes, ttl: int) -> None:
        """Store `value` under `key` for `ttl` seconds."""

    def delete(self, *keys: str) -> None:
        """Remove keys; absent ones are no error, and no keys at all is nothing to do."""


@runtime_checkable
class AsyncCacheTransport(Protocol):
    """A store of bytes for asynchronous sessions. Inheritance is not required."""

    async def get(self, key: str) -> bytes | None:
        """Return what is stored under `key`, None if it is absent or expired."""

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        """Store `value` under `key` for `ttl` seconds."""

    async def delete(self, *keys: str) -> None:
        """Remove keys; absent ones are no error, and no keys at all is nothing to do."""


class OpTransport(Protocol):
    """A store that carries out the coherence protocol for synchronous callers."""

    def perform(self, op: Op) -> Any:
        """Carry out one operation (any but `Wait`) and return its reply, see `protocol.ops`."""


class AsyncOpTransport(Protocol):
    """A store that carries out the coherence protocol for asynchronous callers."""

    async def perform(self, op: Op) -> Any:
        """Carry out one operation (any but `Wait`) and return its reply, see `protocol.ops`."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What may be asked of a transport, and from where.

    `full`: it has `perform`. `serves_sync`, `serves_async`: who can call it directly; both only
    for a `TransportPair`. `blocks`: a synchronous call may wait for a network, so an event
    loop must hand it to a thread.
    """

    full: bool
    serves_sync: bool
    serves_async: bool
    blocks: bool


def classify(transport: object) -> Traits:
    """Tell which kind of transport any object is.

    Raises `ConfigurationError` if it is none: a method is missing, or only some are async.
    """
    if getattr(type(transport), "is_transport_pair", False):
        full = bool(getattr(transport, "full", True))
        return Traits(full, True, True, bool(getattr(transport, "blocks", True)))
    kind = type(transport).__name__
    small = {name: getattr(transport, name, None) for name in _SMALL}
    absent = [name for name, method in small.items() if not callable(method)]
    if type(transport).__module__.partition(".")[0] in ("redis", "valkey"):
        # It has get, set and delete: taken as it is, it would be a store without any promise.
        raise ConfigurationError(
            f"A {type(transport).__name__} client is not a transport by itself: pass"
            " RedisSyncTransport(client) or RedisAsyncTransport(client), or a URL."
        )
    # Asked of the class: a Mock instance has every attribute anybody asks for.
    full = callable(getattr(type(transport), "perform", None))
    if absent and not full:
        raise ConfigurationError(
            f"{kind} is not a cache transport: it has no {', '.join(absent)}. Pass an object with "
            "get(key), set(key, value, ttl) and delete(*keys), sync or async, or a URL such as "
            "'memory://' or 'redis://localhost:6379/0'."
        )
    methods = [method for name, method in small.items() if name not in absent]
    if full:
        methods.append(getattr(transport, "perform", None))
    waits = {_is_async(method) for method in methods}
    if len(waits) > 1:
        raise ConfigurationError(
            f"{kind} mixes async and plain methods: define them all with 'async def' or all "
            "with 'def'."
        )
    is_async = waits.pop()
    blocks = not is_async and getattr(transport, "blocks", True) is not False
    return Traits(full, not is_async, is_async, blocks)


def _is_async(method: object) -> bool:
    flags = getattr(getattr(method, "__code__", None), "co_flags", 0)
    if not isinstance(flags, int):
        return False  # an autospecced plain method: its code is a mock too, all of it true
    if inspect.iscoroutinefunction(method):
        return True
    return inspect.iscoroutinefunction(type(method).__call__)

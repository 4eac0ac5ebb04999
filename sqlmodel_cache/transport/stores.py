"""Whatever was given to `configure(transport)` -> one record that says how to ask it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Any

from sqlmodel_cache.transport._protocols import classify
from sqlmodel_cache.transport.basic import AsyncBasicTransport, BasicTransport
from sqlmodel_cache.transport.breaker import Breaker
from sqlmodel_cache.transport.threads import WorkerThreads
from sqlmodel_cache.transport.tiered import TieredTransport
from sqlmodel_cache.transport.url import RedisPair, open_url


@dataclass(frozen=True, slots=True)
class Stores:
    """One store, as it can be asked from threads (`sync`) and from tasks (`async_`).

    `blocks`: asking `sync` may wait for a network. `full`: leases, fences and epochs exist.
    `dated`: it tells the time, and whose time it is, and its values are no copies; `steady`: and
    nobody can set that clock. `cluster`: it is several servers, of which one may be away.
    """

    sync: Any
    async_: Any
    blocks: bool
    full: bool
    at_once: bool = field(init=False)  # `sync` never waits
    awaits: bool = field(init=False)  # `async_` is asked by a coroutine
    dated: bool = field(init=False)
    steady: bool = field(init=False)
    cluster: bool = field(init=False)
    breaker: Breaker = field(default_factory=Breaker)
    close: Callable[[], None] = field(default=lambda: None)
    aclose: Callable[[], Awaitable[None]] | None = None
    local: TieredTransport | None = None  # what keeps copies in this process
    sends: bool = False  # `sync` can send an operation without waiting for the reply

    def __post_init__(self) -> None:
        awaits = iscoroutinefunction(getattr(self.async_, "perform", None))
        object.__setattr__(self, "at_once", self.sync is not None and not self.blocks)
        object.__setattr__(self, "awaits", awaits)
        asked = [one for one in (self.sync, self.async_) if one is not None]
        dated = (
            self.full and self.local is None and all(getattr(one, "dated", True) for one in asked)
        )
        object.__setattr__(self, "dated", dated)
        object.__setattr__(self, "steady", getattr(self.sync, "steady", False))
        cluster = any(getattr(one, "cluster", False) for one in asked)
        object.__setattr__(self, "cluster", cluster)


def open_stores(transport: object) -> Stores:
    """Return how to ask `transport`: an object, or a URL that is opened here and closed by us.

    Raises ConfigurationError for what is neither.
    """
    if isinstance(transport, str):
        pair = open_url(transport)
        if isinstance(pair, RedisPair) and pair.local is not None:
            return _with_copies(pair, pair.local)
        return Stores(
            pair.sync,
            pair.async_,
            pair.blocks,
            True,
            close=pair.close,
            aclose=pair.aclose,
            sends=isinstance(pair, RedisPair),
        )
    if isinstance(transport, TieredTransport):
        tiers = transport
        return Stores(tiers.sync, tiers.async_, True, True, close=tiers.rest, local=tiers)
    traits = classify(transport)
    if traits.serves_sync and traits.serves_async:
        pair_: Any = transport
        return Stores(pair_.sync, pair_.async_, traits.blocks, traits.full)
    asked: Any = transport
    if not traits.full:
        asked = BasicTransport(asked) if traits.serves_sync else AsyncBasicTransport(asked)
    if traits.serves_sync:
        threads = WorkerThreads(asked, type(transport).__name__) if traits.blocks else None
        return Stores(asked, threads, traits.blocks, traits.full)
    return Stores(None, asked, True, traits.full)


def _with_copies(pair: RedisPair, bounds: Mapping[str, int]) -> Stores:
    tiers = TieredTransport(pair.sync, pair.async_, listen=pair.listener(), **bounds)

    def close() -> None:
        tiers.rest()
        pair.close()

    async def aclose() -> None:
        tiers.rest()
        await pair.aclose()

    return Stores(tiers.sync, tiers.async_, True, True, close=close, aclose=aclose, local=tiers)

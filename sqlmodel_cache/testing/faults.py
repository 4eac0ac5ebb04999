"""A transport that fails as scripted: around any other, for sync and async sessions.

Faults are met one operation at a time, in the order in which they were scripted; an operation that
no fault is for goes through. What fails does so as a network does, by an `OSError`: it is counted,
the breaker opens and the database answers, exactly as with a store that is really away.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Literal, TypeAlias

from sqlmodel_cache import _state
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.protocol.ops import (
    Abandon,
    Fence,
    Fill,
    Get,
    GetMany,
    Inspect,
    Lease,
    Op,
    Release,
    Switches,
    Turn,
)
from sqlmodel_cache.transport.breaker import Pass
from sqlmodel_cache.transport.stores import open_stores

Failure: TypeAlias = BaseException | type[BaseException]
Kind: TypeAlias = Literal["any", "get", "lease", "fill", "abandon", "fence", "release"]

_KINDS: Final[dict[type, str]] = {
    Get: "get",
    GetMany: "get",
    Inspect: "get",
    Lease: "lease",
    Fill: "fill",
    Abandon: "abandon",
    Fence: "fence",
    Release: "release",
    Switches: "switch",
    Turn: "switch",
}
_EVERY: Final = ("get", "lease", "fill", "abandon", "fence", "release")
_TELLING: Final = ("fill", "abandon", "fence", "release")  # a store can lose what it was told
_STORES_OWN: Final = object()


@dataclass(frozen=True, slots=True)
class _Step:
    """What happens in the place of one operation, in this order."""

    ask: Op | None
    wait: float = 0.0
    error: Failure | None = None
    reply: object = _STORES_OWN


@dataclass(slots=True)
class _Fault:
    """One line of the script. `left` is how many operations it is still for."""

    kinds: tuple[str, ...]
    left: float
    step: Callable[[Op], _Step]


class FaultyTransport:
    """Give it to `configure()` in the place of the transport or URL that it stands before.

    Operations have kinds. A read is a `get`; after a miss a `lease` and a `fill` (or an `abandon`,
    where there is nothing to store); a commit is a `fence` before it and a `release` after it. Of a
    transport with only `get`, `set` and `delete` the same are asked, of which its own methods see
    `get`, `fill` and `release`. "any" stands for all of them.

    Attributes:
        asked: the kinds of all operations so far, failed ones too, in their order.
    """

    is_transport_pair: Final = True
    blocks: Final = True  # it can be slow

    def __init__(self, inner: Any = "memory://") -> None:
        stores = open_stores(inner)
        self._faults: list[_Fault] = []
        self._lock = Lock()
        self.asked: list[str] = []
        self.full = stores.full
        self.sync = None if stores.sync is None else _Sync(self, stores.sync)
        self.async_ = _Async(self, stores.async_ or stores.sync)
        self.close = stores.close  # what was opened for a URL; a transport is its owner's

    def __repr__(self) -> str:
        return f"<FaultyTransport {len(self._faults)} faults to come>"

    def fail(
        self,
        kind: Kind = "any",
        *,
        times: float = 1,
        error: Failure = ConnectionError,
    ) -> None:
        """Let the next `times` operations of a kind raise `error`; the store is not asked.

        An OSError, a TimeoutError or an error of the Redis client, as those are what a store fails
        with; any other is what it would be from a transport: a defect that reaches the caller.
        """
        self._add(kind, times, lambda op: _Step(None, error=error))

    def delay(self, kind: Kind = "any", *, seconds: float, times: float = 1) -> None:
        """Let the next `times` operations of a kind take `seconds` longer, and then succeed."""
        if not seconds > 0:
            raise ConfigurationError(f"FaultyTransport: a delay of {seconds!r} seconds is none")
        self._add(kind, times, lambda op: _Step(op, wait=seconds))

    def drop_reply(self, kind: Kind = "any", *, times: float = 1) -> None:
        """Let the next `times` operations of a kind be carried out, and seem to have failed."""
        self._add(kind, times, lambda op: _Step(op, error=TimeoutError))

    def lose(self, kind: Kind = "fence", *, times: float = 1) -> None:
        """Let the next `times` operations of a kind seem to succeed, and have no effect.

        A lost fill is a value that was evicted at once; a lost fence lets readers fill while a
        writer commits; a lost release leaves the fence standing as a dead writer does. Reads
        (`get`, `lease`) tell the store nothing and cannot be lost.
        """
        self._add(kind, times, _losing, _TELLING)

    @contextmanager
    def partition(self) -> Iterator[None]:
        """Be out of reach while the block runs, then in reach again: every operation fails."""
        fault = _Fault(
            (*_EVERY, "switch"), float("inf"), lambda op: _Step(None, error=ConnectionError)
        )
        with self._lock:
            self._faults.insert(0, fault)
        try:
            yield
        finally:
            fault.left = 0
            self._close_breakers()

    def heal(self) -> None:
        """Forget every fault, and close the breaker that they opened: no test need wait for it."""
        with self._lock:
            self._faults.clear()
        self._close_breakers()

    def _add(
        self,
        kind: Kind,
        times: float,
        step: Callable[[Op], _Step],
        every: tuple[str, ...] = _EVERY,
    ) -> None:
        if kind != "any" and kind not in every:
            raise ConfigurationError(
                f"FaultyTransport: {kind!r} is no kind of operation; use 'any' or one of"
                f" {', '.join(map(repr, every))}"
            )
        if not times > 0:
            raise ConfigurationError(f"FaultyTransport: times={times!r} must be above 0")
        with self._lock:
            self._faults.append(_Fault(every if kind == "any" else (kind,), times, step))

    def _close_breakers(self) -> None:
        for cache in _state.live():
            if cache.config.transport is self:
                cache.stores.breaker.succeeded(Pass.FORCED)

    def meet(self, op: Op) -> _Step:
        """Note an operation, and return what the script has in its place. For our two faces."""
        kind = _KINDS[type(op)]
        with self._lock:
            if kind != "switch":  # asked when it is time: no script could count on it
                self.asked.append(kind)
            self._faults = [fault for fault in self._faults if fault.left > 0]
            for fault in self._faults:
                if kind in fault.kinds:
                    fault.left -= 1
                    return fault.step(op)
        return _Step(op)


def _losing(op: Op) -> _Step:
    if isinstance(op, Fill):
        return _Step(Abandon(op.entry, op.token), reply=True)  # the lease is spent all the same
    return _Step(None)


class _Sync:
    """What threads ask."""

    def __init__(self, owner: FaultyTransport, inner: Any) -> None:
        self._owner = owner
        self._inner = inner

    def perform(self, op: Op) -> Any:
        """Carry out one operation, or what the script has in its place."""
        step = self._owner.meet(op)
        if step.wait:
            time.sleep(step.wait)
        reply = None if step.ask is None else self._inner.perform(step.ask)
        if step.error is not None:
            raise step.error
        return reply if step.reply is _STORES_OWN else step.reply


class _Async:
    """What tasks ask; `inner` may be a synchronous one that does not block."""

    def __init__(self, owner: FaultyTransport, inner: Any) -> None:
        self._owner = owner
        self._inner = inner

    async def perform(self, op: Op) -> Any:
        """Carry out one operation, or what the script has in its place."""
        step = self._owner.meet(op)
        if step.wait:
            await asyncio.sleep(step.wait)
        reply = None if step.ask is None else self._inner.perform(step.ask)
        if inspect.isawaitable(reply):
            reply = await reply
        if step.error is not None:
            raise step.error
        return reply if step.reply is _STORES_OWN else step.reply

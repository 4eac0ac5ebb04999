"""From plain synchronous code to a store, whichever way round it is: SQLAlchemy's greenlet bridge.

Under `AsyncSession` this code runs inside `greenlet_spawn`; there one crossing carries a whole
protocol run. Outside, a synchronous transport is driven directly.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.orm._sqlalchemy import await_, in_greenlet
from sqlmodel_cache.transport.drive import adrive, asleep, drive

if TYPE_CHECKING:
    from sqlmodel_cache.protocol.read import Steps
    from sqlmodel_cache.transport.flights import Flight
    from sqlmodel_cache.transport.stores import Stores

T = TypeVar("T")

_finishing: set[asyncio.Task[Any]] = set()  # shielded runs: a task nobody holds may be collected


def reachable(stores: Stores) -> bool:
    """Tell whether the store can be asked from here."""
    return stores.sync is not None or in_greenlet()


def at_hand(stores: Stores) -> bool:
    """Tell whether the store can be asked right here, with no bridge to cross."""
    return stores.sync is not None and not (stores.blocks and in_greenlet())


def run(stores: Stores, steps: Steps[T]) -> T:
    """Run a protocol generator to its end. Raises UnavailableError."""
    sync = stores.sync
    if at_hand(stores):
        return drive(steps, sync, stores.breaker, sleep=_sleep)
    if not in_greenlet():
        raise UnavailableError("an async-only transport cannot be used by a plain Session")
    result: T = await_(adrive(steps, stores.async_ or sync, stores.breaker))
    return result


def run_shielded(stores: Stores, steps: Steps[T]) -> T:
    """Like `run`, but once begun it is finished, also if the waiting task is cancelled."""
    if not in_greenlet() or at_hand(stores):
        return run(stores, steps)
    result: T = await_(_finish(adrive(steps, stores.async_ or stores.sync, stores.breaker)))
    return result


def wait(flight: Flight, seconds: float) -> None:
    """Let somebody else of this process finish loading, at most `seconds`."""
    if in_greenlet():
        await_(flight.await_(seconds))
    else:
        flight.wait(seconds)


def _sleep(seconds: float) -> None:
    """Wait for another's fill; inside a greenlet that other may be a task of this very loop."""
    if in_greenlet():
        await_(asleep(seconds))
    else:
        time.sleep(seconds)


async def _finish(work: Any) -> Any:
    task = asyncio.ensure_future(work)
    _finishing.add(task)
    task.add_done_callback(_finishing.discard)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.exception()  # retrieved: the cancellation is what is reported
        raise

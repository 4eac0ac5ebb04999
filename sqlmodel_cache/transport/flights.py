"""Single flight within one process: while one loads a row, others of it wait, asking nobody.

It stands before the store's lease, which does the same between processes. Threads wait on an
event, tasks on a future of their own loop, both with a limit: a leader that takes longer delays
nobody for more than that. (After `singleflight` of Go's groupcache.)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlmodel_cache.transport.forks import tell_of_forks


class Flight:
    """One load in progress. `awaited`: somebody waits for it, or did."""

    __slots__ = ("_landed", "_lock", "_runway", "_thread", "_waiting", "awaited")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runway = threading.Lock()  # taken until the landing; an Event takes far longer
        self._runway.acquire()
        self._landed = False
        self._thread = threading.get_ident()
        self._waiting: list[asyncio.Future[None]] = []
        self.awaited = False

    def after_fork(self) -> None:
        """Forget who held the lock or waits: nobody of them is here."""
        self._lock = threading.Lock()
        self._waiting = []

    def wait(self, seconds: float) -> None:
        """Block this thread until the landing, at most `seconds` of real time."""
        if threading.get_ident() == self._thread:  # a listener that looks up what it is loading
            return
        self.awaited = True
        if self._runway.acquire(timeout=seconds):
            self._runway.release()  # for the next who waits

    async def await_(self, seconds: float) -> None:
        """Suspend this task until the landing, at most `seconds`."""
        landing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._landed:
                return
            self.awaited = True
            self._waiting.append(landing)
        await asyncio.wait((landing,), timeout=seconds)

    def land(self) -> None:
        """Let everybody go on."""
        with self._lock:
            self._landed = True
            waiting, self._waiting = self._waiting, []
        self._runway.release()
        for landing in waiting:
            with suppress(RuntimeError):  # its loop was closed: nobody waits there any more
                landing.get_loop().call_soon_threadsafe(_resolve, landing)


class Flights:
    """The loads in progress in this process, by key."""

    def __init__(self) -> None:
        self.flying: dict[str, Flight] = {}
        tell_of_forks(self)

    def after_fork(self) -> None:
        """Wait for nobody in a forked child: those who fly are threads of its parent."""
        for flight in self.flying.values():
            flight.after_fork()
        self.flying = {}

    def find(self, key: str) -> Flight | None:
        """Return the flight to wait for, if somebody here is loading this row."""
        return self.flying.get(key)

    @contextmanager
    def leading(self, key: str) -> Iterator[Flight]:
        """Lead the flight for `key`. A second leader of one key (a lease ran out) is alone."""
        flight = Flight()
        leads = self.flying.setdefault(key, flight) is flight
        try:
            yield flight
        finally:
            if leads:
                self.flying.pop(key, None)  # absent after a fork in mid-flight
            flight.land()


def _resolve(landing: asyncio.Future[None]) -> None:
    if not landing.done():
        landing.set_result(None)

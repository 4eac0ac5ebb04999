"""Invalidations that the store did not take, kept until it does.

What waits is a release, or of a COMMIT that nobody knows the outcome of, a fence: it may land yet.
Bounded: past `LIMIT` rows their names are given up for the epochs of their shards, of which
there are few. A daemon thread (a task, for an async-only store) retries while there is anything
to do and is gone afterwards. Until then this process does not believe what the store says of
these rows; others may, and `docs/consistency.md` says for how long. A forked child begins with
nothing: what waited at the fork is its parent's to publish.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sqlmodel_cache import clock
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import logger
from sqlmodel_cache.protocol.ops import Fence, Release
from sqlmodel_cache.protocol.read import Steps, new_token
from sqlmodel_cache.transport.drive import adrive, drive
from sqlmodel_cache.transport.forks import tell_of_forks

if TYPE_CHECKING:
    from sqlmodel_cache.keys import Entry, Shard
    from sqlmodel_cache.protocol.write import Publication
    from sqlmodel_cache.transport.stores import Stores

LIMIT: Final = 10_000  # rows; about 2 MB
FIRST_PAUSE: Final = 0.1  # seconds
LONGEST_PAUSE: Final = 5.0
REFUSAL: Final = 1.0  # seconds for which one failed fence speaks for those after it


class Backlog:
    """What one store still has to forget. `on_lost(number)` hears of what it never will."""

    def __init__(self, stores: Stores, on_lost: Callable[[int], object]) -> None:
        self._stores = stores
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self.waiting: list[Fence | Release] = []
        self._entries: set[Entry] = set()
        self._shards: set[Shard] = set()
        self._failed_at = 0.0
        self._failed: frozenset[Shard] = frozenset()  # shards of what failed then
        self._stop = threading.Event()
        self._worker: threading.Thread | asyncio.Task[None] | None = None
        tell_of_forks(self)

    def __len__(self) -> int:
        return len(self._entries) + len(self._shards)

    def holds(self, entry: Entry) -> bool:
        """Tell whether the store may still have an old value of this row."""
        return entry in self._entries or entry.shard in self._shards

    def speaks_for(self, publication: Publication) -> bool:
        """Tell whether a write failed a moment ago and waits: the next need not find out too.

        Without this every commit of an outage would wait for a time-out of its own. Of a Cluster
        one node may be down: there it says nothing of other shards.
        """
        if not self.waiting or clock.real() - self._failed_at >= REFUSAL:
            return False
        return not self._stores.cluster or not self._failed.isdisjoint(_shards_of(publication))

    def add(self, op: Fence | Release, *, tried: bool) -> None:
        """Keep what failed, and see to it that it is tried again.

        `tried`: the store was really asked just now.
        """
        with self._lock:
            if tried:
                self._failed_at = clock.real()
                self._failed = _shards_of(op)
            self.waiting.append(op)
            self._entries.update(op.entries)
            self._shards.update(op.shards)
            if len(self._entries) > LIMIT:
                self._give_up_names()
            self._start()

    def close(self) -> None:
        """Try once more, then report what is left as lost."""
        self._stop.set()
        worker = self._worker
        if isinstance(worker, threading.Thread) and worker is not threading.current_thread():
            worker.join(timeout=2 * LONGEST_PAUSE)
        elif isinstance(worker, asyncio.Task):
            worker.cancel()
        if len(self) and self._stores.sync is not None:
            with suppress(UnavailableError):
                drive(self._drain(), self._stores.sync)
        if left := len(self):
            self._on_lost(left)
            self._forget()

    async def aclose(self) -> None:
        """Like `close`, from an event loop: it runs on, and an async-only store is asked too."""
        if self._stores.sync is not None:
            await asyncio.to_thread(self.close)
            return
        self._stop.set()
        if isinstance(self._worker, asyncio.Task):
            self._worker.cancel()
        if len(self):
            with suppress(UnavailableError):
                await adrive(self._drain(), self._stores.async_)
        self.close()

    def after_fork(self) -> None:
        """Begin with nothing in a forked child, where the worker does not live either."""
        closed = self._stop.is_set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        if closed:
            self._stop.set()
        self._worker = None
        self._failed_at = 0.0
        self._forget()

    def _give_up_names(self) -> None:
        """Forget whole shards instead of rows. Their fences run out by themselves."""
        logger.error("%d invalidations wait: whole models are dropped instead", len(self._entries))
        self._shards.update(entry.shard for entry in self._entries)
        self._entries.clear()
        shards = tuple(self._shards)
        longest = max((op.duration for op in self.waiting if type(op) is Fence), default=0)
        self.waiting = [
            Fence(new_token(), (), shards, longest) if longest else Release(new_token(), (), shards)
        ]

    def _drain(self) -> Steps[None]:
        """Send everything; what was taken is not sent again, even if a later one fails.

        What fails goes behind the rest, which may be for another node; two in a row are enough.
        """
        failed = False
        while True:
            with self._lock:
                if not self.waiting:
                    self._forget()
                    return
                op = self.waiting[0]
            try:
                yield op
            except UnavailableError:
                with self._lock:
                    if self.waiting and self.waiting[0] is op:
                        self.waiting.append(self.waiting.pop(0))
                if failed or len(self.waiting) < 2:
                    raise
                failed = True
                continue
            failed = False
            with self._lock:
                if self.waiting and self.waiting[0] is op:
                    del self.waiting[0]

    def _forget(self) -> None:
        self.waiting.clear()
        self._entries.clear()
        self._shards.clear()

    def _start(self) -> None:
        if self._stop.is_set() or self._running():
            return
        if self._stores.sync is not None:
            self._worker = threading.Thread(
                target=self._retry, name="sqlmodel-cache-backlog", daemon=True
            )
            self._worker.start()
        else:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return  # the next failure inside a loop will start one
            self._worker = loop.create_task(self._aretry())

    def _running(self) -> bool:
        worker = self._worker
        if isinstance(worker, threading.Thread):
            return worker.is_alive()
        return worker is not None and not worker.done() and not worker.get_loop().is_closed()

    def _retry(self) -> None:
        for pause in _pauses():
            if self._stop.wait(pause):
                return
            try:
                drive(self._drain(), self._stores.sync, self._stores.breaker)
            except UnavailableError:
                continue
            if self._finished():
                return

    async def _aretry(self) -> None:
        for pause in _pauses():
            await asyncio.sleep(pause)
            try:
                await adrive(self._drain(), self._stores.async_, self._stores.breaker)
            except UnavailableError:
                continue
            if self._finished():
                return

    def _finished(self) -> bool:
        with self._lock:
            if self.waiting:
                return False
            self._worker = None
            return True


def _shards_of(op: Fence | Release | Publication) -> frozenset[Shard]:
    return frozenset((*op.shards, *(entry.shard for entry in op.entries)))


def _pauses() -> Iterable[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)

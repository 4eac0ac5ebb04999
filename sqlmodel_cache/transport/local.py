"""Copies of values inside one process, in front of a store that all processes share.

A copy may be kept only if nothing was heard of its shard between asking the store and keeping
the answer: whoever asks takes a `Ticket` first, and any message, or any write of this process,
makes it void. What was asked while nobody listened is never kept. And a copy is used only as
long as the stream of messages has answered a moment ago (`hear`): a process that was stopped,
or whose line is dead, reads the store again without anybody having to notice.

Invariants. All changes are made under one lock; `find` takes none. Forgetting a shard, or
everything, ends eras: whatever was kept or asked for in one is void with it, in one step.
Copies are bounded by number and by bytes, the least recently used go first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlmodel_cache import clock
from sqlmodel_cache.codec.envelope import ends_at
from sqlmodel_cache.codec.packing import PACKED
from sqlmodel_cache.latency import Histogram
from sqlmodel_cache.protocol.ops import Fence, Kept, Release, Reply
from sqlmodel_cache.stats import LocalStats
from sqlmodel_cache.transport.forks import tell_of_forks

if TYPE_CHECKING:
    from sqlmodel_cache.keys import Entry, Shard

MAX_ENTRIES: Final = 10_000
MAX_BYTES: Final = 64 * 2**20
_OVERHEAD: Final = 900  # bytes that a copy takes beside its value and what is decoded of it
_DECODED: Final = 3  # the same for each byte of its value; both measured with tracemalloc
_UNPACKED: Final = 4  # a guess
_MAX_SHARDS: Final = 65_536


class Era:
    """A shard, from one moment when all of it was forgotten to the next."""

    __slots__ = ("generation", "over", "writers")

    def __init__(self, writers: dict[str, float]) -> None:
        self.generation = 0  # counts what was heard of its rows
        self.over = False
        self.writers = writers  # of this process, and until when they may be at work

    def written(self, at: float) -> bool:
        """Tell whether a writer of this process is between its fence and its release."""
        for writer in [writer for writer, till in self.writers.items() if till <= at]:
            del self.writers[writer]
        return bool(self.writers)


Ticket: TypeAlias = tuple[Era, int]


class Copy(Kept):
    """A value, as it is kept here."""

    __slots__ = ("epoch", "era", "size")

    def __init__(
        self, value: bytes, till: float, till_frozen: float, epoch: bytes, era: Era
    ) -> None:
        super().__init__(value, till, till_frozen)
        self.epoch = epoch
        self.era = era
        weight = _DECODED * _UNPACKED if value[1] & PACKED else _DECODED
        self.size = _OVERHEAD + weight * len(value)


class LocalRows:
    """The copies of one process. Whoever feeds it with messages calls the last four methods."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self.after_fork()
        tell_of_forks(self)

    def __len__(self) -> int:
        return len(self._rows)

    def after_fork(self) -> None:
        """Begin with nothing, in a forked child too: nobody listens there yet."""
        self._lock = Lock()
        self._rows: OrderedDict[str, Copy] = OrderedDict()
        self._eras: dict[str, Era] = {}
        self._bytes = 0
        self._good_till = 0.0
        self._hits = self._emptied = 0
        self._delays = Histogram()

    def find(self, entry: Entry) -> Reply | None:
        """Return the copy of a value as the store would answer it, None if there is none."""
        found = self._rows.get(entry.value)
        if found is None:
            return None
        at = clock.real()
        if found.era.over or at >= self._good_till or at >= found.till:
            return None
        if clock.frozen() and clock.now() >= found.till_frozen:
            return None
        try:
            self._rows.move_to_end(entry.value)
        except KeyError:  # gone meanwhile, which is after we found it
            pass
        self._hits += 1
        return Reply(found.value, found.epoch, found)

    def ticket(self, shard: Shard) -> Ticket | None:
        """Return what it takes to keep a value that the store is asked for from now on."""
        if clock.real() >= self._good_till:
            return None
        with self._lock:
            era = self._era(shard.epoch)
            return era, era.generation

    def keep(self, entry: Entry, reply: Reply, ticket: Ticket | None) -> None:
        """Keep a copy of what the store answered, unless something was heard since `ticket`."""
        value, epoch = reply.value, reply.epoch
        if ticket is None or value is None or epoch is None or value[2:14] != epoch:
            return
        era, generation = ticket
        life = float(entry.shard.local_ttl)
        if (ends := ends_at(value)) is not None:  # by the clock of whoever filled it
            life = min(life, ends - clock.now())
        with self._lock:
            at = clock.real()
            late = era.over or era.generation != generation or at >= self._good_till
            if late or life <= 0 or era.written(at):
                return
            copy = Copy(value, at + life, clock.now() + life, epoch, era)
            self._drop(entry.value)
            self._rows[entry.value] = copy
            self._bytes += copy.size
            while len(self._rows) > self._max_entries or self._bytes > self._max_bytes:
                self._drop(next(iter(self._rows)))

    def drop(self, *entries: Entry) -> None:
        """Forget single values, and what is being asked of their shards."""
        with self._lock:
            for entry in entries:
                self._forget_row(entry.value, entry.shard.epoch)

    def fence(self, op: Fence) -> None:
        """Forget what this process is about to commit; keep nothing of it until `release`."""
        till = clock.real() + op.duration / 1000
        with self._lock:
            self._forget(op)
            for epoch in _epochs(op):
                self._era(epoch).writers[op.writer] = till

    def release(self, op: Fence | Release) -> None:
        """Forget what this process committed."""
        with self._lock:
            for epoch in _epochs(op):
                self._era(epoch).writers.pop(op.writer, None)
            self._forget(op)

    def stats(self) -> LocalStats:
        """Return the counts as they stand."""
        return LocalStats(
            hits=self._hits,
            entries=len(self._rows),
            bytes=self._bytes,
            emptied=self._emptied,
            listening=clock.real() < self._good_till,
            delay=self._delays.freeze(),
        )

    # Fed by the stream of messages

    def hear(self, till: float, delay: float) -> None:
        """Note that the stream answered after `delay` seconds; all is known until `till`."""
        self._good_till = till
        self._delays.add(delay)

    def told(self, key: str) -> None:
        """Forget what a writer names: the key of a value, or that of a whole shard's epoch."""
        brace = key.find("}") + 1
        with self._lock:
            if key[brace : brace + 1] == ":":
                self._forget_row(key, key[:brace] + "!epoch")
            else:
                self._end(key)

    def empty(self) -> None:
        """Forget everything, and keep nothing until `hear` is called again."""
        with self._lock:
            self._good_till = 0.0
            self._emptied += bool(self._rows)
            self._clear()

    @property
    def good_till(self) -> float:
        """Until when, by `clock.real()`, copies may be used."""
        return self._good_till

    # Under the lock

    def _era(self, epoch: str) -> Era:
        try:
            return self._eras[epoch]
        except KeyError:
            if len(self._eras) >= _MAX_SHARDS:
                self._clear()
            made = self._eras[epoch] = Era({})
            return made

    def _clear(self) -> None:
        at = clock.real()
        eras, self._eras = self._eras, {}
        for epoch, era in eras.items():
            era.over = True
            if era.written(at):
                self._eras[epoch] = Era(era.writers)
        self._rows.clear()
        self._bytes = 0

    def _forget(self, op: Fence | Release) -> None:
        for entry in op.entries:
            self._forget_row(entry.value, entry.shard.epoch)
        for shard in op.shards:
            self._end(shard.epoch)

    def _forget_row(self, key: str, epoch: str) -> None:
        era = self._eras.get(epoch)
        if era is not None:
            era.generation += 1
            self._drop(key)

    def _end(self, epoch: str) -> None:
        era = self._eras.get(epoch)
        if era is not None:
            era.over = True
            self._eras[epoch] = Era(era.writers)

    def _drop(self, key: str) -> None:
        copy = self._rows.pop(key, None)
        if copy is not None:
            self._bytes -= copy.size


def _epochs(op: Fence | Release) -> Iterable[str]:
    """Return the names of the shards that an operation writes, as far as copies of them exist."""
    shards = dict.fromkeys([*(entry.shard for entry in op.entries), *op.shards])
    return [shard.epoch for shard in shards if shard.local_ttl]

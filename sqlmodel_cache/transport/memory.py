"""The store inside one process: the Lua scripts' semantics on dictionaries.

Invariants. Every step but `Get` runs under one lock. `Get` takes none: it reads the value first
and the epoch afterwards, epochs are random and never return, so the pair it saw was true when it
read the value. Only values are evicted, least recently used first; a fence must stand until its
deadline, and a lease or an epoch that goes early merely costs a miss. Locks go when nothing live
is left in them.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from hashlib import sha1
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from sqlmodel_cache import clock
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.protocol.ops import (
    Abandon,
    Fence,
    Fenced,
    Fill,
    Get,
    GetMany,
    Granted,
    Inspect,
    Kept,
    Lease,
    Leased,
    LeaseReply,
    Op,
    Release,
    Reply,
    Sight,
    Switches,
    Turn,
)
from sqlmodel_cache.transport.forks import tell_of_forks
from sqlmodel_cache.transport.runs import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlmodel_cache.keys import Entry

logger = logging.getLogger("sqlmodel_cache")

DEFAULT_MAX_ENTRIES: Final = 10_000
_SWEEP_FROM: Final = 1024  # locks or epochs

_LEASE: Final = 0  # key of the lease in a lock; writers are strings
_NO_LEASE: Final = ("", "", float("-inf"))  # asked with, granted as, until
_NOTHING: Final = Kept(b"", 0.0, 0.0)
_FENCED: Final = Fenced()
_LEASED: Final = Leased()


class MemoryTransport:
    """A bounded cache of this process; serves threads and event loops alike.

    A forked child starts empty, and says so once in the log: it would not hear of its parent's
    commits, nor the parent of its.
    """

    blocks: Final = False  # never waits: an event loop may call it directly
    steady: Final = True  # nobody can set its clock

    _lock: Lock
    _values: OrderedDict[str, Kept]
    _locks: dict[str, dict[Any, Any]]
    _epochs: dict[str, bytes]
    _boards: dict[str, frozenset[str]]
    _sweep_at: int
    _last_made: int

    def __init__(self, max_entries: int = DEFAULT_MAX_ENTRIES) -> None:
        if type(max_entries) is not int or max_entries < 1:
            raise ConfigurationError(
                f"MemoryTransport(max_entries={max_entries!r}): it must be a positive int, the "
                f"number of values to keep (default {DEFAULT_MAX_ENTRIES})."
            )
        self.max_entries = max_entries
        self._forked = False
        self._empty()
        tell_of_forks(self)

    def __repr__(self) -> str:
        return f"<MemoryTransport {len(self._values)} of {self.max_entries} values>"

    def __len__(self) -> int:
        return len(self._values)

    # The small contract

    def get(self, key: str) -> bytes | None:
        """Return what is stored under `key`, None if it is absent or expired."""
        found = self._find(key)
        return None if found is None else found.value

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Store `value` under `key` for `ttl` seconds, of real time and of frozen time alike."""
        with self._lock:
            self._put(key, value, ttl)

    def delete(self, *keys: str) -> None:
        """Remove keys; absent ones are no error."""
        with self._lock:
            for key in keys:
                self._values.pop(key, None)

    def sweep(self, begin: str, end: str = "") -> Iterator[list[str]]:
        """Yield the keys of values and epochs that begin and end so."""
        with self._lock:
            keys = [*self._values, *self._epochs]
        if found := [key for key in keys if key.startswith(begin) and key.endswith(end)]:
            yield found

    def unlink(self, keys: Sequence[str]) -> int:
        """Remove values; return how many there were."""
        with self._lock:
            return sum(self._values.pop(key, None) is not None for key in keys)

    # The full contract

    def perform(self, op: Op) -> Any:
        """Carry out one operation at once and return its reply."""
        if type(op) is Get:
            return self._look(op.entry)
        return _STEPS[type(op)](self, op)

    def _look(self, entry: Entry) -> Reply:
        found = self._find(entry.value)
        epoch = self._epochs.get(entry.shard.epoch)
        return Reply(None, epoch) if found is None else Reply(found.value, epoch, found)

    def _find(self, key: str) -> Kept | None:
        found = self._values.get(key)
        if found is None:
            if self._forked:
                self._say_forked()
            return None
        if found.till <= clock.real() or (clock.frozen() and found.till_frozen <= clock.now()):
            return None
        try:
            self._values.move_to_end(key)
        except KeyError:  # gone meanwhile, which is after we found it
            pass
        return found

    def _get_many(self, op: GetMany) -> list[Reply]:
        with self._lock:
            return [self._look(entry) for entry in op.entries]

    def _inspect(self, op: Inspect) -> Sight:
        entry = op.entry
        with self._lock:
            at = self._milliseconds()
            found = self._values.get(entry.value) or _NOTHING
            left = found.till * 1000 - at
            if clock.frozen():
                left = min(left, (found.till_frozen - clock.now()) * 1000)
            locks = self._locks.get(entry.lock, {}), self._locks.get(entry.shard.epoch_lock, {})
            writers = [till - at for lock in locks for name, till in lock.items() if name != _LEASE]
            return Sight(
                found.value if left > 0 else None,
                self._epochs.get(entry.shard.epoch),
                _left(left),
                _left(max(writers, default=0.0)),
                _left(locks[0].get(_LEASE, _NO_LEASE)[2] - at),
                int(clock.steady() * 1e6),
            )

    def _lease(self, op: Lease) -> LeaseReply:
        entry = op.entry
        with self._lock:
            at = self._milliseconds()
            fenced = self._fenced(entry.lock, at)
            if self._fenced(entry.shard.epoch_lock, at) or fenced:
                return _FENCED
            value = self.get(entry.value)
            epoch = self._epochs.get(entry.shard.epoch)
            if epoch is not None and op.epoch[8:] not in (ANY, epoch[8:]):
                epoch = None  # of another run
            if (
                value is not None
                and epoch is not None
                and value[2:14] == epoch
                and sha1(value, usedforsecurity=False).hexdigest() != op.rejected
            ):
                return Reply(value, epoch)
            asked, grant, till = self._locks.get(entry.lock, {}).get(_LEASE, _NO_LEASE)
            made = self._microseconds()
            if till <= at:
                grant = f"{op.token}:{made}"
                lock = self._locks.setdefault(entry.lock, {})
                lock[_LEASE] = (op.token, grant, at + op.duration)
            elif asked != op.token:
                return _LEASED
            if epoch is None:
                clocked = (made % 2**32).to_bytes(4, "big")
                epoch = op.epoch[:4] + clocked + op.epoch[8:]
                self._epochs[entry.shard.epoch] = epoch
            self._sweep(at)
            return Granted(epoch, grant, int(grant.rpartition(":")[2]))

    def _fill(self, op: Fill) -> bool:
        entry = op.entry
        with self._lock:
            at = self._milliseconds()
            fenced = self._fenced(entry.lock, at)
            fenced = self._fenced(entry.shard.epoch_lock, at) or fenced
            _, grant, till = self._locks.get(entry.lock, {}).get(_LEASE, _NO_LEASE)
            if grant != op.token:
                return False
            self._drop(entry.lock, _LEASE)
            if till <= at or fenced or self._epochs.get(entry.shard.epoch) != op.epoch:
                return False
            return self._put(entry.value, op.value, op.ttl / 1000)

    def _abandon(self, op: Abandon) -> None:
        with self._lock:
            key = op.entry.lock
            if self._locks.get(key, {}).get(_LEASE, _NO_LEASE)[1] == op.token:
                self._drop(key, _LEASE)
            self._fenced(key, self._milliseconds())

    def _fence(self, op: Fence) -> None:
        with self._lock:
            at = self._milliseconds()
            for entry in op.entries:
                self._values.pop(entry.value, None)
                self._drop(entry.lock, _LEASE)
                self._add_writer(entry.lock, op, at)
            for shard in op.shards:
                self._epochs.pop(shard.epoch, None)
                self._add_writer(shard.epoch_lock, op, at)
            self._sweep(at)

    def _release(self, op: Release) -> None:
        with self._lock:
            at = self._milliseconds()
            for entry in op.entries:
                self._values.pop(entry.value, None)
                self._drop(entry.lock, _LEASE)
                self._drop(entry.lock, op.writer)
                self._fenced(entry.lock, at)
            for shard in op.shards:
                self._epochs.pop(shard.epoch, None)
                self._drop(shard.epoch_lock, op.writer)
                self._fenced(shard.epoch_lock, at)

    def _switches(self, op: Switches) -> frozenset[str]:
        return self._boards.get(op.board, frozenset())

    def _turn(self, op: Turn) -> None:
        with self._lock:
            names = self._boards.get(op.board, frozenset())
            self._boards[op.board] = names | {op.name} if op.off else names - {op.name}

    # Under the lock

    def _put(self, key: str, value: bytes, ttl: float) -> bool:
        self._values.pop(key, None)
        if ttl <= 0:
            return False
        self._values[key] = Kept(value, clock.real() + ttl, clock.now() + ttl)
        while len(self._values) > self.max_entries:
            self._values.popitem(last=False)
        return True

    def _fenced(self, key: str, at: float) -> bool:
        """Tell whether a writer in this lock has time left; drop those that have not."""
        lock = self._locks.get(key)
        if lock is None:
            return False
        over = [name for name, till in lock.items() if name != _LEASE and till <= at]
        for name in over:
            del lock[name]
        if not lock:
            del self._locks[key]
        return len(lock) > (_LEASE in lock)

    def _add_writer(self, key: str, op: Fence, at: float) -> None:
        self._locks.setdefault(key, {})[op.writer] = at + op.duration
        self._fenced(key, at)

    def _drop(self, key: str, name: object) -> None:
        lock = self._locks.get(key)
        if lock is not None and lock.pop(name, None) is not None and not lock:
            del self._locks[key]

    def _sweep(self, at: float) -> None:
        """Forget dead locks, and the oldest epochs; amortised over as many additions."""
        if len(self._locks) > self._sweep_at:
            for key in list(self._locks):
                self._fenced(key, at)
                lock = self._locks.get(key, {})
                if len(lock) == 1 and _LEASE in lock and lock[_LEASE][2] <= at:
                    del self._locks[key]
            self._sweep_at = max(_SWEEP_FROM, 2 * len(self._locks))
        while len(self._epochs) > max(_SWEEP_FROM, self.max_entries):
            del self._epochs[next(iter(self._epochs))]

    @staticmethod
    def _milliseconds() -> float:
        return clock.real() * 1000

    def _microseconds(self) -> int:
        """Return a number that never comes twice: it makes grants and epochs new."""
        self._last_made = max(self._last_made + 1, int(clock.steady() * 1e6))
        return self._last_made

    def _say_forked(self) -> None:  # on the first miss: an empty store begins with one
        self._forked = False
        logger.warning(
            "A MemoryTransport was forked: this process starts with an empty cache and will "
            "not hear of commits elsewhere. Processes that share rows need redis://."
        )

    def after_fork(self) -> None:
        """Start empty in a forked child."""
        self._empty()
        self._forked = True

    def _empty(self) -> None:
        self._lock = Lock()
        self._values = OrderedDict()
        self._locks = {}
        self._epochs = {}
        self._boards = {}
        self._sweep_at = _SWEEP_FROM
        self._last_made = 0


def _left(milliseconds: float) -> int | None:
    return round(milliseconds) if milliseconds > 0 else None


_STEPS: Final[dict[type, Callable[[MemoryTransport, Any], Any]]] = {
    GetMany: MemoryTransport._get_many,
    Inspect: MemoryTransport._inspect,
    Lease: MemoryTransport._lease,
    Fill: MemoryTransport._fill,
    Abandon: MemoryTransport._abandon,
    Fence: MemoryTransport._fence,
    Release: MemoryTransport._release,
    Switches: MemoryTransport._switches,
    Turn: MemoryTransport._turn,
}

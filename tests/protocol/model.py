"""The store, as a pure function: (what is there, operation) -> (reply, what is there then).

It holds one entry and its shard. There is no clock: a deadline passes by `Store.expired`, and
memory runs short by `Store.evicted`, whenever the explorer likes. It is written from the
docstrings of `protocol.ops`, and shares no line with a transport. A value is its epoch (one
letter) followed by the number of the commit that it shows (one byte).

`Rules` are the steps as they should be; a broken protocol overrides one of them.
"""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlmodel_cache.protocol.ops import (
    Abandon,
    Fence,
    Fenced,
    Fill,
    Get,
    Granted,
    Lease,
    Leased,
    Release,
    Reply,
)
from sqlmodel_cache.protocol.read import MISS

if TYPE_CHECKING:
    from collections.abc import Callable

NOBODY: frozenset[str] = frozenset()


class Store(NamedTuple):
    """Five keys: value, lock (lease and writers), epoch, epoch-lock (whole-model writers)."""

    value: bytes | None = None
    lease: str | None = None
    writers: frozenset[str] = NOBODY
    epoch: bytes | None = None
    whole: frozenset[str] = NOBODY

    @property
    def fenced(self) -> bool:
        """Tell whether a live writer stands in either lock."""
        return bool(self.writers or self.whole)

    def evicted(self, key: str) -> Store:
        """Return the store after `key` was evicted: value, lock, epoch or epoch-lock."""
        return {
            "value": self._replace(value=None),
            "lock": self._replace(lease=None, writers=NOBODY),
            "epoch": self._replace(epoch=None),
            "epoch-lock": self._replace(whole=NOBODY),
        }[key]

    def expired(self, who: str | None) -> Store:
        """Return the store after the deadline of writer `who`, or of the lease, passed."""
        if who is None:
            return self._replace(lease=None)
        return self._replace(writers=self.writers - {who}, whole=self.whole - {who})


class Fresh(NamedTuple):
    """What the store's own clock makes unique: names that occur nowhere else."""

    epoch: bytes
    grant: str


def encode(epoch: bytes, version: int) -> bytes:
    """Return the value that shows commit number `version`, filled under `epoch`."""
    return epoch + bytes([version])


def verify(value: bytes, epoch: bytes) -> object:
    """Return the version in `value`, or MISS if it belongs to another epoch."""
    return value[-1] if value[:-1] == epoch else MISS


def asked(grant: str) -> str:
    """Return the token that was asked for when `grant` was given."""
    return grant.partition(".")[0]


class Rules:
    """Each step's effect. `get` is what a reader sees, also at rest."""

    def __init__(self) -> None:
        self._steps: dict[type, Callable[[Store, Any, Fresh], tuple[object, Store]]] = {
            Get: lambda store, _, __: (self.get(store), store),
            Lease: self.lease,
            Fill: lambda store, op, _: self.fill(store, op),
            Abandon: lambda store, op, _: (None, self.abandon(store, op)),
            Fence: lambda store, op, _: (None, self.fence(store, op)),
            Release: lambda store, op, _: (None, self.release(store, op)),
        }

    def perform(self, store: Store, op: object, fresh: Fresh) -> tuple[object, Store]:
        """Carry out one operation."""
        return self._steps[type(op)](store, op, fresh)

    def get(self, store: Store) -> Reply:
        """MGET value epoch: the locks are not read."""
        return Reply(store.value, store.epoch)

    def lease(self, store: Store, op: Lease, fresh: Fresh) -> tuple[object, Store]:
        """Refuse to writers' keys, hand out a good value, keep another's lease, else grant."""
        if self.lease_is_fenced(store):
            return Fenced(), store
        seen = self.get(store)
        if (
            seen.value is not None
            and seen.epoch is not None
            and self.is_current(seen.value, seen.epoch)
            and sha1(seen.value).hexdigest() != op.rejected
        ):
            return seen, store
        if store.lease is not None and asked(store.lease) != op.token:
            return Leased(), store
        grant = store.lease or self.name_grant(op, fresh)
        epoch = store.epoch or self.mint(op, fresh)
        return Granted(epoch, grant), store._replace(lease=grant, epoch=epoch)

    def is_current(self, value: bytes, epoch: bytes) -> bool:
        """Tell whether a value was filled under this epoch."""
        return verify(value, epoch) is not MISS

    def lease_is_fenced(self, store: Store) -> bool:
        """Tell whether a lease is refused."""
        return store.fenced

    def name_grant(self, op: Lease, fresh: Fresh) -> str:
        """Return a name that no earlier grant had."""
        return fresh.grant

    def mint(self, op: Lease, fresh: Fresh) -> bytes:
        """Return an epoch that never was."""
        return fresh.epoch

    def fill(self, store: Store, op: Fill) -> tuple[bool, Store]:
        """Store if the lease is mine, the epoch unchanged and no writer there; spend the lease."""
        stored = self.fill_is_allowed(store, op)
        if store.lease == op.token:
            store = store._replace(lease=None)
        return stored, store._replace(value=op.value) if stored else store

    def fill_is_allowed(self, store: Store, op: Fill) -> bool:
        """Tell whether a fill may store."""
        return store.lease == op.token and store.epoch == op.epoch and not store.fenced

    def abandon(self, store: Store, op: Abandon) -> Store:
        """Give my lease back."""
        return store._replace(lease=None) if store.lease == op.token else store

    def fence(self, store: Store, op: Fence) -> Store:
        """Delete value and lease, or the epoch; add the writer."""
        if op.entries:
            store = store._replace(value=None, lease=None, writers=store.writers | {op.writer})
        if op.shards:
            store = store._replace(epoch=None, whole=store.whole | {op.writer})
        return store

    def release(self, store: Store, op: Release) -> Store:
        """Delete the same again, whatever is there; remove the writer."""
        if op.entries:
            store = store._replace(value=None, lease=None, writers=store.writers - {op.writer})
        if op.shards:
            store = store._replace(epoch=None, whole=store.whole - {op.writer})
        return store

"""Reading one entry: get -> hit, or lease -> SELECT -> fill.

The SELECT belongs to the caller, so a read is two generators with the database between them:
`lookup` ends in `Hit` or `Miss`, and a `Miss` that holds a lease must end in `fill` or `abandon`.
Leases follow "Scaling Memcache at Facebook" (Nishtala et al., NSDI 2013, section 3.2.1): they
stop both the stale set (the lease dies when a writer passes) and the herd (one reader fills).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from hashlib import sha1
from os import urandom
from typing import Any, Final, TypeAlias, TypeVar

from sqlmodel_cache.keys import Entry
from sqlmodel_cache.protocol.ops import (
    Abandon,
    Fenced,
    Fill,
    Get,
    GetMany,
    Granted,
    Lease,
    Leased,
    Op,
    Reply,
    Wait,
)

T = TypeVar("T")
Steps: TypeAlias = Generator[Op, Any, T]

MISS: Final = object()  # what a `Verify` answers for a value it cannot use

# (value, current epoch) -> the caller's reading of it, or MISS
Verify: TypeAlias = Callable[[bytes, bytes], object]


def new_token() -> str:
    """Return 128 random bits as hex: what a lease is asked with, or a writer id."""
    return urandom(16).hex()


def new_epoch() -> bytes:
    """Return a fresh epoch: 8 random bytes, then 4 that name the server's run (zero: unknown)."""
    return urandom(8) + b"\0\0\0\0"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a lease lives (milliseconds) and how long to wait for another's fill (seconds)."""

    lease: int = 5_000
    wait: float = 0.1
    step: float = 0.005


@dataclass(slots=True, unsafe_hash=True)
class Held:
    """A lease that is mine: the right to fill `entry` under `epoch`. `token` names the grant.

    `at` is the store's clock when it was given, in microseconds; None: not known.
    """

    entry: Entry
    token: str
    epoch: bytes
    at: int | None = None
    early: bool = False  # a good value is there meanwhile: nobody need wait for this fill


@dataclass(slots=True, unsafe_hash=True)
class Hit:
    """The entry is there; `found` is what `verify` made of it."""

    found: object


@dataclass(slots=True, unsafe_hash=True)
class Miss:
    """Read the database; then fill if there is a lease."""

    held: Held | None


def judge(reply: Reply, verify: Verify) -> tuple[object, str | None]:
    """Return (found or MISS, digest of the value if it is there but unusable)."""
    if reply.value is None or reply.epoch is None:
        return MISS, None
    found = verify(reply.value, reply.epoch)
    return found, rejection(reply) if found is MISS else None


def rejection(reply: Reply) -> str | None:
    """Return the digest of a value that was not usable, None if there was none."""
    if reply.value is None or reply.epoch is None:
        return None
    return sha1(reply.value, usedforsecurity=False).hexdigest()


def lookup(entry: Entry, verify: Verify, patience: Patience) -> Steps[Hit | Miss]:
    """Read `entry`, or obtain the right to fill it."""
    found, rejected = judge((yield Get(entry)), verify)
    if found is not MISS:
        return Hit(found)
    return (yield from after_miss(entry, verify, rejected, patience))


def peek(entry: Entry, verify: Verify) -> Steps[Hit | Miss]:
    """Read `entry` without wanting to fill it."""
    found, _ = judge((yield Get(entry)), verify)
    return Miss(None) if found is MISS else Hit(found)


def after_miss(
    entry: Entry, verify: Verify, rejected: str | None, patience: Patience
) -> Steps[Hit | Miss]:
    """Lease `entry`, waiting a bounded little while somebody else fills it."""
    token = new_token()
    left = patience.wait
    refusals = 0
    while True:
        answer = yield Lease(entry, token, new_epoch(), rejected, patience.lease)
        if isinstance(answer, Granted):
            return Miss(Held(entry, answer.token, answer.epoch, answer.at))
        if isinstance(answer, Fenced):
            return Miss(None)
        if isinstance(answer, Leased):
            if left <= 0:
                return Miss(None)
            yield Wait(patience.step)
            left -= patience.step
            answer = yield Get(entry)
        elif refusals == 2:  # values come in that cannot be read: somebody else's release
            return Miss(None)
        else:
            refusals += 1
        found, rejected = judge(answer, verify)
        if found is not MISS:
            return Hit(found)


def refresh(entry: Entry, found: object, seen: Reply, patience: Patience) -> Steps[Hit | Miss]:
    """Obtain the right to replace what was `found` in `seen`; if somebody else has it, it is a hit.

    Nobody waits. A writer in flight has deleted the value: then the database answers.
    """
    answer = yield Lease(entry, new_token(), new_epoch(), rejection(seen), patience.lease)
    if isinstance(answer, Granted):
        return Miss(Held(entry, answer.token, answer.epoch, answer.at, early=True))
    return Miss(None) if isinstance(answer, Fenced) else Hit(found)


def unchanged(seen: Mapping[Entry, Reply]) -> Steps[bool]:
    """Tell whether entries are just what they were `seen` to be, before a SELECT.

    Then all of their rows are of one moment with it. An entry that is there shows the last commit
    of its row: a writer who comes by deletes it before the COMMIT, and what is filled afterwards
    has another lease, so another date. So from before the SELECT until now nobody has committed,
    and what the SELECT would have read is what was seen.
    """
    replies = yield GetMany(tuple(seen))
    return bool(replies == list(seen.values()))


def fill(held: Held, value: bytes, ttl: int) -> Steps[bool]:
    """Store `value` for `ttl` milliseconds; False if a writer or the clock took the lease."""
    stored: bool = yield Fill(held.entry, held.token, held.epoch, value, ttl)
    return stored


def abandon(held: Held) -> Steps[None]:
    """Give the lease back: the row cannot be stored."""
    yield Abandon(held.entry, held.token)

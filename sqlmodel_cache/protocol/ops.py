"""What a transport can be asked, and what it answers.

An operation is one atomic step in the store. Durations are in milliseconds, as Redis has them.
A client that retries may have any operation executed twice, the second time after others have
passed; every one can bear it (`tests/protocol` replays each of them at each moment).

Records, never assigned to. Those of a hit are msgspec's, which are created in a third of the time.
Those of a miss and of a commit are not declared frozen, as that makes a dataclass three times as
slow to create.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    from sqlmodel_cache.keys import Entry, Shard


class Get(msgspec.Struct, frozen=True, gc=False):
    """Read value and epoch of one entry; answered by `Reply`."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class GetMany:
    """Read many entries in as few round trips as the store allows; answered by `list[Reply]`.

    `together`: what is there was there in one moment. Where it takes several steps, each is taken
    twice, and what has changed between counts as absent.
    """

    entries: tuple[Entry, ...]
    together: bool = False


@dataclass(frozen=True, slots=True)
class Inspect:
    """Look at everything the store has of one entry, changing nothing; answered by `Sight`."""

    entry: Entry


@dataclass(slots=True, unsafe_hash=True)
class Lease:
    """Ask for the right to fill one entry; answered by a `LeaseReply`.

    `token` is 32 random hex digits; `epoch` 12 bytes from which one is minted if none exists.
    Its last 4 name the server's run, which the transport writes there if it knows it. If they
    are not zero, an epoch that ends in others is none: it came back with an old dump.
    `rejected` is the SHA-1 hex digest of a value that the reader saw and could not use.

    What the store creates here is new each time, by its own clock, so that a late replay can
    bring nothing back to life: the grant is named `token` plus the store's microseconds (else
    a fill from before a commit would find its dead lease alive again), and a minted epoch has
    them, modulo 2**32 and big-endian, as its bytes 4 to 7 (else a deleted epoch would return,
    and every value under it). While a grant lives, its token is answered the same grant.
    """

    entry: Entry
    token: str
    epoch: bytes
    rejected: str | None
    duration: int


@dataclass(slots=True, unsafe_hash=True)
class Fill:
    """Store `value` if the lease is still mine and nothing was written; answered by bool.

    `token` is the grant's, `epoch` too. Stored or refused: if the lease was mine, it is spent.
    """

    entry: Entry
    token: str
    epoch: bytes
    value: bytes
    ttl: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Give a lease back unused, so that nobody waits for it. A lease not mine is left alone.

    `token` is the grant's.
    """

    entry: Entry
    token: str


@dataclass(slots=True, unsafe_hash=True)
class Fence:
    """Before COMMIT: delete values and leases, then block fills until `Release` or deadline."""

    writer: str
    entries: tuple[Entry, ...]
    shards: tuple[Shard, ...]
    duration: int


@dataclass(slots=True, unsafe_hash=True)
class Release:
    """After COMMIT: delete values and leases again, unconditionally, and lift my fence.

    For `shards`, "delete the value" means: delete the epoch, so that every value under it dies.
    """

    writer: str
    entries: tuple[Entry, ...]
    shards: tuple[Shard, ...]


@dataclass(frozen=True, slots=True)
class Switches:
    """Read which names stand on a switchboard; answered by `frozenset[str]`."""

    board: str


@dataclass(frozen=True, slots=True)
class Turn:
    """Put `name` on a switchboard (`off`), or take it away."""

    board: str
    name: str
    off: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Let `seconds` of real time pass. Performed by the driver, never by the store."""

    seconds: float


Op: TypeAlias = (
    Get | GetMany | Inspect | Lease | Fill | Abandon | Fence | Release | Switches | Turn | Wait
)


class Kept:
    """A value as a store inside this process keeps it: the bytes, and when they end.

    `memo` is for whoever reads them: what it made of just these bytes. It goes when they go.
    """

    __slots__ = ("memo", "till", "till_frozen", "value")

    def __init__(self, value: bytes, till: float, till_frozen: float) -> None:
        self.value = value
        self.till = till
        self.till_frozen = till_frozen
        self.memo: Any = None


class Reply(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What `Get` saw: the envelope and the current epoch, None where the key is absent.

    An epoch that was minted in another run of the server is None too, if the transport knows.
    `kept` comes from a store inside this process: where it has the value. Replies that saw the
    same are equal, wherever it is kept.
    """

    value: bytes | None
    epoch: bytes | None
    kept: Kept | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reply) and self._seen == other._seen

    def __hash__(self) -> int:
        return hash(self._seen)

    @property
    def _seen(self) -> tuple[bytes | None, bytes | None]:
        return self.value, self.epoch


@dataclass(frozen=True, slots=True)
class Sight:
    """What `Inspect` saw. Times that are left are in milliseconds, None where there is none.

    `left` is the life left to the value, `fenced` the time until the last writer's deadline (of
    the row or of the whole model), `leased` that of a reader's lease. `at` is the store's clock,
    in microseconds; None where it is not known which run of a server it belongs to.
    """

    value: bytes | None
    epoch: bytes | None
    left: int | None = None
    fenced: int | None = None
    leased: int | None = None
    at: int | None = field(default=None, compare=False)


@dataclass(slots=True, unsafe_hash=True)
class Granted:
    """The lease is mine; a fill must carry this epoch and this token, the name of the grant.

    `at` is the store's clock when it was given, as in `Sight`.
    """

    epoch: bytes
    token: str
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Leased:
    """Another reader is filling this entry."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """A writer is committing this entry: read the database and fill nothing."""


# A value of the current epoch appeared meanwhile: the answer to `Lease` is then a `Reply`.
LeaseReply: TypeAlias = Granted | Leased | Fenced | Reply

"""Names of everything in the store: `prefix:v1:{ns:table:shard}:pk`.

The braces are Redis Cluster's hash tag: all four keys that one atomic step touches lie in one
slot, while one model still spreads over `SHARDS` slots. `v1` is this layout; it changes only
with a release that invalidates both. Primary keys arrive here already encoded, injectively, by
`encode_pk`; nothing a user controls can reach the inside of the braces unescaped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import sha1
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LAYOUT = "v1"
SHARDS = 8  # a power of two, part of the layout

_EPOCH = re.compile(rf"(?P<head>[^{{}}]+:{LAYOUT}:{{[^:{{}}]+:(?P<table>[^:{{}}]+):\d+}})!epoch")
_VALUE = re.compile(
    rf"(?P<head>[^{{}}]+:{LAYOUT}:{{[^:{{}}]+:(?P<table>[^:{{}}]+):\w+}}):(?P<pk>.*)", re.DOTALL
)
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]")


def escape(part: str) -> str:
    """Return `part` in the alphabet of hash tags, injectively (`%` and two or more hex digits)."""
    return _UNSAFE.sub(lambda match: f"%{ord(match.group()):x};", part)


def label_of(value: str) -> str:
    """Return a name of an entry for logs, where no primary key may stand: ten hex digits.

    `value` is the key of its envelope.
    """
    return sha1(value.encode(), usedforsecurity=False).hexdigest()[:10]


def bulletin_board(prefix: str) -> str:
    """Return the key of the set of processes that publish their counts; the head of theirs.

    No namespace can be called so: `escape` leaves no `!`.
    """
    return f"{prefix}:{LAYOUT}:{{!stats}}"


def epochs(prefix: str) -> tuple[str, str]:
    """Return how the keys of all epochs under a prefix begin and end."""
    return f"{prefix}:{LAYOUT}:{{", "}!epoch"


def values(prefix: str) -> tuple[str, str]:
    """Return how the keys of all values under a prefix begin and end; others do so too."""
    return f"{prefix}:{LAYOUT}:{{", ""


def row_in(key: str) -> tuple[str, Entry | None]:
    """Return (table as `escape` has it, entry) if `key` is that of a value, else ("", None)."""
    found = _VALUE.fullmatch(key)
    if found is None:
        return "", None
    return found["table"], Entry(shard_called(found["head"]), found["pk"], key)


def shards_in(keys: Iterable[str]) -> Iterator[tuple[str, Shard]]:
    """Yield (table as `escape` has it, shard) of those keys that are epochs'."""
    for key in keys:
        found = _EPOCH.fullmatch(key)
        if found is not None:
            yield found["table"], shard_called(found["head"])


def switchboard(prefix: str) -> str:
    """Return the key of the hash that names what is switched off for everybody."""
    return f"{prefix}:{LAYOUT}:{{!switch}}"


def secrets_board(prefix: str) -> str:
    """Return the key of the hash of the secrets' fingerprints, by which processes hide keys."""
    return f"{prefix}:{LAYOUT}:{{!secrets}}"


def local_channel(prefix: str) -> str:
    """Return the channel on which writers say what copies in other processes must go.

    No namespace can be called so, see `bulletin_board`.
    """
    return f"{prefix}:{LAYOUT}:!local"


def shard_called(head: str) -> Shard:
    """Return a shard of which just the name is known: what becomes of it is told to everybody."""
    return Shard(head, local_ttl=1)


@dataclass(frozen=True, slots=True)
class Shard:
    """The slot-wide names of one shard of one model: where its epoch lives.

    `epoch` is the key of the random token that every value filled here must carry,
    `epoch_lock` the key of the hash of whole-model writers in flight.
    `local_ttl` is how many seconds a process may keep a copy of its own of a value, 0: not at
    all. Of a writer's shard: the longest that any class of the hierarchy allows.
    """

    head: str
    local_ttl: int = field(default=0, compare=False, repr=False)
    channel: str = field(init=False, compare=False, repr=False)
    epoch: str = field(init=False, compare=False, repr=False)
    epoch_lock: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel", f"{self.head.partition('{')[0]}!local")
        object.__setattr__(self, "epoch", self.head + "!epoch")
        object.__setattr__(self, "epoch_lock", self.head + "!epoch-lock")


class Entry(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The names of one cached row. Equal entries are the same row.

    `value` is the key of the envelope, and says all: no head of a shard begins another one.
    """

    shard: Shard
    pk: str
    value: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)

    @property
    def told(self) -> Entry:
        """The same entry; what becomes of it is told to every process."""
        return Entry(shard_called(self.shard.head), self.pk, self.value)

    @property
    def lock(self) -> str:
        """Key of the hash with the reader's lease and the writers in flight."""
        return f"{self.shard.head}!lock:{self.pk}"


class KeySpace:
    """All keys of one table in one namespace under one prefix. Built once, used per call."""

    def __init__(self, prefix: str, namespace: str, table: str, local_ttl: int = 0) -> None:
        head = f"{prefix}:{LAYOUT}:{{{escape(namespace)}:{escape(table)}:"
        self.namespace = namespace
        self.shards = tuple(Shard(f"{head}{number}}}", local_ttl) for number in range(SHARDS))
        # The same keys, for those who want to know what the store has.
        self.uncopied = KeySpace(prefix, namespace, table) if local_ttl else self

    def entry(self, pk: str) -> Entry:
        """Return the names for the row whose encoded primary key is `pk`."""
        shard = self.shards[crc32(pk.encode()) & (SHARDS - 1)]
        return Entry(shard, pk, f"{shard.head}:{pk}")

    def __iter__(self) -> Iterator[Shard]:
        return iter(self.shards)


class HiddenKeySpace(KeySpace):
    """The same for tables whose primary keys may not be seen: names are made of what hides them.

    `hider` is given what tells these keys from those of other tables.
    """

    def __init__(
        self,
        prefix: str,
        namespace: str,
        table: str,
        local_ttl: int,
        hider: Callable[[str], Callable[[str], str]],
    ) -> None:
        super().__init__(prefix, namespace, table, local_ttl)
        self._hide = hider(f"{prefix}:{escape(namespace)}:{escape(table)}")
        if local_ttl:
            self.uncopied = HiddenKeySpace(prefix, namespace, table, 0, hider)

    def entry(self, pk: str) -> Entry:
        """Return the names for a row: its shard tells nothing of its key either."""
        return super().entry(self._hide(pk))

"""Readers for single lookups: one remembers what it read, to be compared; one tells the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlmodel_cache import clock
from sqlmodel_cache.codec import unseal
from sqlmodel_cache.codec.envelope import Envelope
from sqlmodel_cache.events import Bypass, logger
from sqlmodel_cache.keys import label_of
from sqlmodel_cache.orm.model.reader import Reader
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.ops import Reply

if TYPE_CHECKING:
    from sqlmodel_cache.keys import Entry


class Watching(Reader):
    """A reader for one checked call: it remembers the bytes of what it read.

    `shadow`: the call is one of `mode="shadow"`, else one that `verify` drew.
    """

    def __init__(self, reader: Reader, *, shadow: bool) -> None:
        self.__dict__.update(reader.__dict__)
        self.keyspace = reader.keyspace.uncopied  # copies may lag behind, and nothing is wrong
        self.ahead = None
        self.stale_ttl = 0
        self.shadow = shadow
        self.seen: dict[str, Reply] = {}

    def read(self, entry: Entry, reply: Reply) -> object:
        """As `Reader.read`."""
        self.seen[entry.value] = reply
        return super().read(entry, reply)

    def verify(
        self, entry: Entry, value: bytes, epoch: bytes | None, *, soft: bool = False
    ) -> object:
        """As `Reader.verify`."""
        self.seen[entry.value] = Reply(value, epoch)
        return super().verify(entry, value, epoch, soft=soft)

    def count_found(self, begun: float, among: int = 1) -> None:
        """Count a lookup that found something: in shadow the store did not answer it."""
        if self.shadow:
            self.counters.bypass(Bypass.SHADOW)
        else:
            self.counters.hit(begun, among)

    def count_unsure(self) -> None:
        """Count one that cannot be compared."""
        if self.shadow:
            self.counters.shadow_unsure += 1


class Telling(Reader):
    """A reader that tells the story of each answer to the log, at DEBUG; no value, no key."""

    def __init__(self, reader: Reader) -> None:
        self.__dict__.update(reader.__dict__)

    def read(self, entry: Entry, reply: Reply) -> object:
        """As `Reader.read`."""
        if reply.value is None or reply.epoch is None:
            what = "nothing is stored" if reply.value is None else "no epoch is current"
            logger.debug("%s %s: a miss, %s", self.counters.name, label_of(entry.value), what)
            return read.MISS
        return self.verify(entry, reply.value, reply.epoch)

    def verify(
        self, entry: Entry, value: bytes, epoch: bytes | None, *, soft: bool = False
    ) -> object:
        """As `Reader.verify`."""
        found = super().verify(entry, value, epoch, soft=soft)
        envelope = unseal(entry.value, value, None, soft=True)
        age, by = "an unknown time", "nobody knows whom"
        if isinstance(envelope, Envelope):
            age, by = f"{max(0.0, clock.now() - envelope.stored_at):.1f} s", str(envelope.filled_by)
        logger.debug(
            "%s %s: %s, epoch %s, filled %s ago by %s",
            self.counters.name,
            label_of(entry.value),
            "a miss, unusable" if found is read.MISS else "a hit",
            "none" if epoch is None else epoch.hex(),
            age,
            by,
        )
        return found

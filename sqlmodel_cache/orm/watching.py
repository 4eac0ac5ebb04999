"""A reader for lookups that are to be compared with the database: it remembers what it read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlmodel_cache.events import Bypass
from sqlmodel_cache.orm.reader import Reader
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
        self.shadow = shadow
        self.seen: dict[str, Reply] = {}

    def read(self, entry: Entry, reply: Reply) -> object:
        """As `Reader.read`."""
        self.seen[entry.value] = reply
        return super().read(entry, reply)

    def verify(self, entry: Entry, value: bytes, epoch: bytes | None) -> object:
        """As `Reader.verify`."""
        self.seen[entry.value] = Reply(value, epoch)
        return super().verify(entry, value, epoch)

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

"""What the store has under one entry, for somebody who wants to know why. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlmodel_cache import clock
from sqlmodel_cache.codec import unseal
from sqlmodel_cache.codec.envelope import Envelope, Origin
from sqlmodel_cache.keys import label_of
from sqlmodel_cache.orm.model.reader import NO_ROW, Found
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.ops import Inspect, Sight

if TYPE_CHECKING:
    from sqlmodel_cache.keys import Entry
    from sqlmodel_cache.orm.model.reader import Reader
    from sqlmodel_cache.protocol.read import Steps


@dataclass(frozen=True, slots=True)
class EntryReport:
    """One entry of the store.

    Attributes:
        key: its key in the store.
        present: something is stored under it.
        usable: a read would be a hit.
        negative: it says that there is no such row.
        over: its TTL is over; it is of use only to who has it loaded again in the background.
        epoch_current: it was filled under the epoch that is current; None if nothing is present.
        age: seconds since it was filled, by this host's clock and that of the store or, where time
            was frozen, the filler; None: not known.
        ttl_left: seconds until the store drops it; None: not known.
        fenced: seconds for which a writer at work still bars fills; None: no writer is at work.
        leased: seconds for which a reader may still fill it; None: nobody is loading it.
        filled_by: process id, `number_of(host)`, and release; None: not known.
        values: the row's columns, None if it cannot be read. Not shown by repr or str.
    """

    key: str
    present: bool
    usable: bool
    negative: bool = False
    over: bool = False
    epoch_current: bool | None = None
    age: float | None = None
    ttl_left: float | None = None
    fenced: float | None = None
    leased: float | None = None
    filled_by: Origin | None = None
    values: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """What the log calls it, where no primary key may stand."""
        return label_of(self.key)

    def __str__(self) -> str:
        return " ".join(self._sentences())

    def _sentences(self) -> list[str]:
        said = [_STATES[self.present, self.usable, self.negative]]
        if self.over:
            said.append("Its TTL is over: who is given it has it loaded again in the background.")
        if self.epoch_current is False:
            said.append("Its epoch is no longer current: the model was forgotten since.")
        if self.age is not None:
            by = "" if self.filled_by is None else f" by {self.filled_by}"
            said.append(f"It was filled {self.age:.1f} s ago{by}.")
        if self.ttl_left is not None:
            said.append(f"It has {self.ttl_left:.1f} s left.")
        if self.fenced is not None:
            said.append(f"A writer is at work: for {self.fenced:.1f} s at most nothing is stored.")
        if self.leased is not None:
            said.append(f"Somebody is loading it, and has {self.leased:.1f} s left.")
        return said


_STATES = {  # present, usable, negative
    (False, False, False): "Nothing is stored.",
    (True, False, False): "What is stored cannot be used.",
    (True, True, False): "A usable row is stored.",
    (True, True, True): "It is stored that there is no such row.",
}


def look(reader: Reader, entry: Entry) -> Steps[EntryReport]:
    """Ask the store for everything that it has of `entry`."""
    sight: Sight = yield Inspect(entry)
    left, fenced, leased = map(_seconds, (sight.left, sight.fenced, sight.leased))
    if sight.value is None:
        return EntryReport(entry.value, False, False, fenced=fenced, leased=leased)
    current = sight.epoch is not None and sight.value[2:14] == sight.epoch
    envelope = unseal(entry.value, sight.value, None, soft=True)
    if not isinstance(envelope, Envelope):
        return EntryReport(entry.value, True, False, ttl_left=left, fenced=fenced, leased=leased)
    found: object = read.MISS
    if current:
        soft = bool(reader.stale_ttl)
        found = reader.quiet().verify(entry, sight.value, sight.epoch, soft=soft)
    return EntryReport(
        entry.value,
        present=True,
        usable=found is not read.MISS,
        negative=found is NO_ROW,
        over=envelope.is_over,
        epoch_current=current,
        age=max(0.0, clock.now() - envelope.stored_at),
        ttl_left=left,
        fenced=fenced,
        leased=leased,
        filled_by=envelope.filled_by,
        values=dict(found.hydrator.named(found.values)) if isinstance(found, Found) else None,
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000

"""Which entries a transaction with a snapshot may be given: those read before it began.

An entry that can be read now has seen no commit since it was filled, for a commit fences first.
So if its filler had read the row before my snapshot began, my snapshot has just this version:
nothing newer, as what was seen before is in it, and nothing older, as nobody has committed since.
That is as true of "there is no such row", which inserts fence, and of a row of several tables,
which one SELECT reads and each of whose writers fences. It is true while fences are: whatever
excuses S1 (a fence that was evicted, ran out or could not be set) excuses this.

"Before" is judged by one clock, the store's, and every error is put on the safe side:

- An entry is dated by its filler: the store's time in the grant of the lease, and what passed on
  the filler's own clock from before the lease was asked for until the row was there (`read_by`).
- The snapshot began not before its transaction's first statement was about to be sent. What the
  store's clock showed then, at least, is told by a `Sample`, a time of the store's received at a
  known moment of ours (`at_least`). Two are asked: one from well before the transaction, and one
  that came with the entry or after it. The lesser counts.

Two clocks that nobody sets run apart by less than `DRIFT`. If the store's is set once, no
matter when, which way and how far, one of the two samples is on the same side of that as the
entry's date, so an entry newer than the snapshot is never taken for an older one. If it is set
forward and back again within one transaction (and `LEAD` seconds before it), it may be; and if a
machine sleeps between the grant of its lease and its row, for no longer than a lease lives. That
is why snapshot hits have to be asked for. Samples and dates of another run of the server do not
count at all: it may have another clock.
"""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

DRIFT: Final = 0.001  # share by which two clocks may run apart
# Seconds, longer than a lease lives: so long before the snapshot the first sample must be taken,
# or the clock could have been set between the grant of a lease and it.
LEAD: Final = 6.0
KEPT: Final = 64  # samples of one run, `LEAD` seconds apart or more
_RUNS: Final = 64
_MICROSECONDS: Final = 1_000_000


class Sample(NamedTuple):
    """The store's clock showed `micros`, microseconds, not after `at`, seconds of our own."""

    at: float
    micros: int


def read_by(granted: int, seconds: float) -> int:
    """Return when a row had been read, at the latest, in microseconds of the store's clock.

    `granted` is that of its lease; `seconds` passed on the filler's clock since before it asked.
    """
    return granted + ceil(seconds * _MICROSECONDS * (1 + DRIFT)) + 1


def at_least(moment: float, known: Sample) -> float:
    """Return what the store's clock showed at `moment`, at the least; before or after `known`."""
    passed = moment - known.at
    rate = 1 - DRIFT if passed > 0 else 1 + DRIFT
    return known.micros + passed * _MICROSECONDS * rate


class StoreClock:
    """What a process has seen of the store's clock, for each run of its server.

    `steady`: nobody can set it, so one sample is enough.
    """

    def __init__(self, *, steady: bool = False) -> None:
        self._steady = steady
        self._runs: dict[bytes, tuple[Sample, ...]] = {}

    def note(self, run: bytes, sample: Sample) -> None:
        """Remember a sample, if the last one is not of just now. Serves threads."""
        known = self._runs.get(run, ())
        if known and sample.at < known[-1].at + LEAD:
            return
        if not known and len(self._runs) >= _RUNS:
            self._runs = {}
        self._runs[run] = (*known[1 - KEPT :], sample)

    def before(self, run: bytes, moment: float, now: Sample) -> float | None:
        """Return what the clock showed at `moment`, at the least; None if it cannot be told.

        `now` came with the entry in question, or after it.
        """
        if self._steady:
            return at_least(moment, now)
        for known in reversed(self._runs.get(run, ())):
            if known.at <= moment - LEAD:
                return min(at_least(moment, known), at_least(moment, now))
        return None

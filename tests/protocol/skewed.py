"""Every interleaving of a filler, a writer and a reader with a snapshot, under clocks that err.

Real time passes in ticks. The filler's and the reader's clock show something of their own, and
run slower or faster than the store's; the store's may be set, so often and to whatever the world
allows. Replies may take their time. The store is that of `model.py`, the dates and their comparison
are the library's own; a broken reader or filler overrides them.

A violation is a hit that is not just what the snapshot has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlmodel_cache.protocol.dating import DRIFT, Sample, StoreClock, read_by
from sqlmodel_cache.protocol.ops import Fence, Fill, Lease, Release
from sqlmodel_cache.protocol.read import MISS, Patience
from tests.protocol.actors import ENTRY
from tests.protocol.model import Fresh, Rules, Store, encode, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

TICK: Final = 3_000_000  # microseconds
LEASE: Final = Patience().lease * 1000  # microseconds
RUN: Final = b"run1"
_RULES: Final = Rules()
_FRESH: Final = Fresh(b"a", "r0.0")


class Violation(AssertionError):
    """A hit that the snapshot does not have, and a shortest way there."""


class State(NamedTuple):
    """Clocks in microseconds; `filler`, `writer` and `reader` count the steps taken."""

    ticks: int = 0
    clock: int = 1_000_000_000  # the store's
    mine: int = 77_000_000_000  # the reader's
    other: int = 5_000_000_000  # the filler's
    sets: int = 0
    store: Store = Store()
    version: int = 0
    filler: int = 0
    asked: int = 0
    granted: int = 0
    answered: int = 0
    row: int = 0
    date: int = 0
    writer: int = 0
    reader: int = 0
    shown: int = 0
    earlier: Sample | None = None
    began: float = 0.0
    snapshot: int = 0
    found: int | None = None
    found_date: int = 0


class Rightly:
    """How entries are dated and compared."""

    began_at = "statement"  # or "answer": when the reader notes the beginning
    strict = True  # the writer fences
    slow_replies = False  # a reply that takes its time only makes the right reckoning stricter

    def date(self, granted: int, asked: float, answered: float, now: float) -> int:
        """Return the date of an entry; all but `granted` are seconds of the filler's clock."""
        return read_by(granted, now - asked)

    def limit(self, earlier: Sample, began: float, now: Sample) -> float | None:
        """Return what a date must be below."""
        known = StoreClock()
        known.note(RUN, earlier)
        return known.before(RUN, began, now)


class World:
    """What the clocks may do. `drift`: of the filler's and of the reader's, against the store's."""

    def __init__(
        self,
        *,
        drift: tuple[float, float] = (0.0, 0.0),
        sets: tuple[int, ...] = (),
        times: int = 0,
        ticks: int = 4,
        fences_expire: bool = False,
    ) -> None:
        self._rates = tuple(round(TICK * (1 + share)) for share in drift)
        self._sets, self._times, self._ticks = sets, times, ticks
        self._fences_expire = fences_expire

    def explore(self, how: Rightly, *, only_newer: bool = False) -> tuple[int, int]:
        """Visit every state; return how many there are, and how many hits; raises Violation.

        `only_newer`: it is none to hit something older than the snapshot has.
        """
        start = State()
        came: dict[State, tuple[str, State] | None] = {start: None}
        level = [start]
        hits = 0
        while level:
            after: list[State] = []
            for state in level:
                for label, then in self._moves(state, how):
                    if then in came:
                        continue
                    came[then] = (label, state)
                    if then.reader == 7 and then.found is not None:
                        hits += 1
                        if then.found > then.snapshot or (
                            then.found < then.snapshot and not only_newer
                        ):
                            raise Violation("\n  ".join(_way(came, then)))
                    after.append(then)
            level = after
        return len(came), hits

    def _moves(self, state: State, how: Rightly) -> Iterator[tuple[str, State]]:
        if state.reader == 7 or (state.filler == 5 and state.store.value is None):
            return  # no hit will come of it
        if state.ticks < self._ticks:
            other, mine = self._rates
            yield (
                "tick",
                state._replace(
                    ticks=state.ticks + 1,
                    clock=state.clock + TICK,
                    mine=state.mine + mine,
                    other=state.other + other if state.other else 0,
                ),
            )
        if state.sets < self._times:
            for by in self._sets:
                yield (
                    f"the store's clock is set by {by / 1e6} s",
                    state._replace(clock=state.clock + by, sets=state.sets + 1),
                )
        if self._fences_expire and state.store.writers:
            yield "the fence runs out", state._replace(store=state.store.expired("w"))
        yield from _fill(state, how)
        yield from _write(state, how)
        yield from _read(state, how)


def _fill(state: State, how: Rightly) -> Iterator[tuple[str, State]]:
    """Ask for a lease, get it, read the row, date and store it."""
    step, after = state.filler, state._replace(filler=state.filler + 1)
    if step == 0:
        yield "filler: asks", after._replace(asked=state.other)
    elif step == 1:
        lease = Lease(ENTRY, "r0", b"?", None, LEASE // 1000)
        reply, store = _RULES.perform(state.store, lease, _FRESH)
        if store.lease is not None and store != state.store:
            yield f"filler: {reply}", after._replace(store=store, granted=state.clock)
    elif step == 2:
        if how.slow_replies:
            yield "filler: has its lease", after._replace(answered=state.other)
        else:
            yield from _fill(after._replace(answered=state.other), how)
    elif step == 3:
        yield f"filler: reads {state.version}", after._replace(row=state.version)
    elif step == 4:
        store = state.store
        if state.clock >= state.granted + LEASE:
            store = store.expired(None)
        date = how.date(state.granted, state.asked / 1e6, state.answered / 1e6, state.other / 1e6)
        fill = Fill(ENTRY, _FRESH.grant, _FRESH.epoch, encode(_FRESH.epoch, state.row), 300_000)
        stored, store = _RULES.perform(store, fill, _FRESH)
        yield (
            f"filler: Fill -> {stored}",
            after._replace(store=store, date=date, asked=0, granted=0, answered=0, row=0, other=0),
        )


def _write(state: State, how: Rightly) -> Iterator[tuple[str, State]]:
    step, after = state.writer, state._replace(writer=state.writer + 1)
    if step == 0:
        store = state.store
        if how.strict:
            _, store = _RULES.perform(store, Fence("w", (ENTRY,), (), 60_000), _FRESH)
        yield "writer: Fence" if how.strict else "writer: begins", after._replace(store=store)
    elif step == 1:
        yield "writer: COMMIT", after._replace(version=1)
    elif step == 2:
        _, store = _RULES.perform(state.store, Release("w", (ENTRY,), ()), _FRESH)
        yield "writer: Release", after._replace(store=store)


def _read(state: State, how: Rightly) -> Iterator[tuple[str, State]]:
    """Take a sample, begin, get the snapshot, look the entry up, and judge what came."""
    step, after = state.reader, state._replace(reader=state.reader + 1)
    mine = state.mine / 1e6
    if step == 0 and not how.slow_replies:
        yield "reader: sample", after._replace(reader=2, earlier=Sample(mine, state.clock))
    elif step == 0:
        yield "reader: sample", after._replace(shown=state.clock)
    elif step == 1:
        yield (
            "reader: has its sample",
            after._replace(earlier=Sample(mine, state.shown), shown=0),
        )
    elif step == 2:
        yield "reader: first statement", after._replace(began=mine)
    elif step == 3:
        late = how.began_at == "answer"
        yield (
            "reader: snapshot",
            after._replace(snapshot=state.version, began=-1.0 if late else state.began),
        )
    elif step == 4:
        then = after._replace(began=mine if state.began < 0 else state.began)
        if how.slow_replies:
            yield "reader: has its rows", then
        else:
            yield from _read(then, how)
    elif step == 5:
        seen = _RULES.get(state.store)
        found = MISS
        if seen.value is not None and seen.epoch is not None:
            found = verify(seen.value, seen.epoch)
        if isinstance(found, int):
            yield (
                f"reader: finds {found}",
                after._replace(shown=state.clock, found=found, found_date=state.date),
            )
    elif step == 6:
        assert state.earlier is not None
        limit = how.limit(state.earlier, state.began, Sample(mine, state.shown))
        if limit is not None and state.found_date < limit:
            yield "reader: hits", after


def _way(came: dict[State, tuple[str, State] | None], state: State) -> list[str]:
    steps = [f"it has {state.found}, and the snapshot {state.snapshot}"]
    while (before := came[state]) is not None:
        steps.append(before[0])
        state = before[1]
    return steps[::-1]


DRIFTS: Final = tuple(
    (filler * DRIFT * 0.99, reader * DRIFT * 0.99) for filler in (-1, 1) for reader in (-1, 1)
)
SETS: Final = (-40_000_000, 4_000_000)

"""The coherence protocol keeps S1, S2 and S3 in every state that can be reached.

What is explored, and what a violation is: `explore.py`. The generators are the library's own;
the store is `model.py`, which the transports are held to by tests of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from sqlmodel_cache.protocol.write import Publication
from tests.protocol.actors import ENTRY, Actor, ahead, bulk, hurrying, reading, row, writing
from tests.protocol.explore import FAULTS, Explorer, Violation
from tests.protocol.model import Rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlmodel_cache.keys import Entry, Shard


def both(*ids: str) -> Actor:
    """Return a writer that touches the row and, as a bulk statement would, its whole model."""
    return writing(*(Publication((ENTRY,), (ENTRY.shard,), writer=writer) for writer in ids))


def eventual(entries: tuple[Entry, ...], shards: tuple[Shard, ...]) -> Actor:
    """Return a writer under consistency="eventual"."""
    return writing(Publication(entries, shards, strict=False, writer="w0"))


# (readers, writers, faults left out, states at least: fewer means that the harness went blind)
WORLDS: Final[dict[str, tuple[int, Callable[[], list[Actor]], str, int]]] = {
    "two readers, a row writer, a bulk writer": (2, lambda: [row("w0"), bulk("w1")], "", 900_000),
    "three readers, a row writer": (3, lambda: [row("w0")], "replay evict abandon", 5_000),
    "three writers of one row": (
        1,
        lambda: [row("w0"), row("w1"), row("w2")],
        "lose ambiguous",
        50_000,
    ),
    "two bulk writers": (1, lambda: [bulk("w0"), bulk("w1")], "", 25_000),
    "a writer of row and model, and another": (1, lambda: [both("w0"), row("w1")], "", 25_000),
    "a writer of row and model, and a bulk writer": (
        1,
        lambda: [both("w0"), bulk("w1")],
        "",
        25_000,
    ),
    "a connection that commits twice": (1, lambda: [row("w0", "w1")], "", 10_000),
    "the same, and a bulk writer": (1, lambda: [row("w0", "w1"), bulk("w2")], "", 300_000),
}


@pytest.mark.parametrize("world", WORLDS)
def test_no_stale_read_anywhere(world: str, record_property: Callable[[str, object], None]) -> None:
    """Every interleaving, with every fault at every step: nothing older than a landed commit."""
    readers, writers, without, least = WORLDS[world]
    actors = [reading(f"r{number}") for number in range(readers)]
    states = Explorer(Rules(), actors, writers(), faults=FAULTS - {*without.split()}).run()
    record_property("states", states)
    print(f"\n{world}: {states} states")  # noqa: T201 - shown with -s
    assert states >= least


def unexcused(promise: str, *faults: str) -> Explorer:
    """Return an explorer that grants no exception for lost fences."""
    writers = [row("w0"), bulk("w1")]
    return Explorer(
        Rules(), [reading("r0")], writers, faults=faults, promise=promise, excused=False
    )


@pytest.mark.parametrize(
    ("fault", "step"), [("evict", "lock is evicted"), ("expire", "fence runs out")]
)
def test_the_exception_is_real(fault: str, step: str) -> None:
    """A fence that is lost before its COMMIT lands does let a reader in: S1 alone is excused."""
    with pytest.raises(Violation, match=step):
        unexcused("S1", fault).run()


def test_a_living_writer_makes_up_for_a_lost_fence() -> None:
    """Its Release deletes what came in, so nothing stale is read after commit() returned."""
    assert unexcused("S2", *FAULTS - {"lose"}).run() > 5_000


def test_eviction_of_a_fence_and_its_writers_death_are_too_much() -> None:
    """The documented exception to S3."""
    with pytest.raises(Violation, match="lock is evicted"):
        unexcused("S3", "evict").run()


@pytest.mark.parametrize("writer", [eventual((ENTRY,), ()), eventual((), (ENTRY.shard,))])
def test_eventual_keeps_s2_while_the_store_is_there(writer: Actor) -> None:
    """Without a fence nothing stale is read after commit() returned, unless its Release failed."""
    readers = [reading("r0"), reading("r1")]
    assert Explorer(Rules(), readers, [writer], faults=FAULTS - {"lose"}, promise="S2").run() > 1000
    for faults, promise in ((FAULTS - {"lose"}, "S1"), (FAULTS, "S2"), (FAULTS - {"lose"}, "S3")):
        with pytest.raises(Violation):
            Explorer(Rules(), readers, [writer], faults=faults, promise=promise).run()


def test_a_fence_that_went_ahead_and_the_usual_one() -> None:
    """Sent along with the flush, and once more under the same writer where more was touched."""
    for faults in (FAULTS, FAULTS - {"replay"}):
        writers = [ahead("w0"), bulk("w1")]
        assert Explorer(Rules(), [reading("r0")], writers, faults=faults).run() > 1_000


def hasty(promise: str, *faults: str) -> Explorer:
    """Return an explorer of commits that return before their Release is executed."""
    writers = [hurrying("w0"), bulk("w1")]
    return Explorer(
        Rules(), [reading("r0")], writers, faults=faults, promise=promise, excused=False
    )


def test_a_release_that_nobody_waits_for() -> None:
    """Sent and not awaited it breaks S2, but only where a fence can be lost."""
    kept = FAULTS - {"evict", "expire", "lose"}
    assert hasty("S2", *kept).run() > 1_000
    assert unexcused("S2", "evict", "expire").run() > 1_000  # one that is awaited
    for lost in ("evict", "expire"):
        with pytest.raises(Violation):
            hasty("S2", lost).run()

"""A snapshot is given just what it has: under clocks that err, and not with a rule less (S4)."""

from __future__ import annotations

import pytest

from sqlmodel_cache.protocol.dating import KEPT, LEAD, Sample, StoreClock, at_least
from tests.protocol.skewed import DRIFTS, SETS, Rightly, Violation, World


class TheGrantAlone(Rightly):
    """The row is taken to be as old as its lease."""

    def date(self, granted: int, asked: float, answered: float, now: float) -> int:
        return granted


class FromTheReply(Rightly):
    """The filler's watch is started when it has its lease."""

    slow_replies = True

    def date(self, granted: int, asked: float, answered: float, now: float) -> int:
        return super().date(granted, answered, answered, now)


class NoDriftOfTheFiller(Rightly):
    """The filler's watch is believed."""

    def date(self, granted: int, asked: float, answered: float, now: float) -> int:
        return granted + round((now - asked) * 1e6) + 1


class NoDriftOfTheReader(Rightly):
    """The reader's watch is believed."""

    def limit(self, earlier: Sample, began: float, now: Sample) -> float | None:
        return earlier.micros + (began - earlier.at) * 1e6


class BeganWithTheAnswer(Rightly):
    """The beginning is noted when the first statement was answered."""

    slow_replies = True
    began_at = "answer"


class OnlyTheSampleBefore(Rightly):
    """The time of the beginning is reckoned forward."""

    def limit(self, earlier: Sample, began: float, now: Sample) -> float | None:
        return at_least(began, earlier)


class OnlyTheSampleAfter(Rightly):
    """The time of the beginning is reckoned back."""

    def limit(self, earlier: Sample, began: float, now: Sample) -> float | None:
        return at_least(began, now)


class WithoutLead(Rightly):
    """The first sample may be of the last moment."""

    def limit(self, earlier: Sample, began: float, now: Sample) -> float | None:
        return min(at_least(began, earlier), at_least(began, now))


class Unfenced(Rightly):
    """Writers only delete after the COMMIT: eventual, or the store was away before it."""

    strict = False


SET_ONCE = World(sets=SETS, times=1, ticks=3)


@pytest.mark.parametrize("drift", DRIFTS, ids=str)
def test_s4_clocks_that_run_apart(drift: tuple[float, float]) -> None:
    """Whatever the clocks show, and however they drift: no other version than the snapshot's."""
    states, hits = World(drift=drift).explore(Rightly())
    assert states > 20_000
    assert hits > 50


def test_s4_a_clock_that_is_set_once() -> None:
    """At any moment, forward or back, by little or much."""
    states, hits = SET_ONCE.explore(Rightly())
    assert states > 50_000
    assert hits > 100


@pytest.mark.parametrize(
    ("how", "world"),
    [
        (NoDriftOfTheReader(), World(drift=DRIFTS[-1])),
        (BeganWithTheAnswer(), World()),
        (OnlyTheSampleBefore(), SET_ONCE),
        (OnlyTheSampleAfter(), SET_ONCE),
        (Unfenced(), World()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Rightly) else "",
)
def test_each_rule_is_needed(how: Rightly, world: World) -> None:
    """Without it, a snapshot is given what it does not have."""
    with pytest.raises(Violation):
        world.explore(how)


@pytest.mark.parametrize("drift", DRIFTS, ids=str)
def test_s4_nothing_newer_even_without_fences(drift: tuple[float, float]) -> None:
    """The store could not be asked at the commit: what is newer is dated right all the same."""
    assert World(drift=drift).explore(Unfenced(), only_newer=True)[1] > 50


@pytest.mark.parametrize(
    ("how", "drift"),
    [(TheGrantAlone(), (0, 0)), (FromTheReply(), (0, 0)), (NoDriftOfTheFiller(), DRIFTS[1])],
    ids=lambda value: type(value).__name__ if isinstance(value, Rightly) else "",
)
def test_what_the_fillers_watch_is_for(how: Rightly, drift: tuple[float, float]) -> None:
    """While fences stand, a lease from before a commit is dead, and its grant would date enough."""
    assert World(drift=drift).explore(how)[1] > 50
    how.strict = False
    with pytest.raises(Violation):
        World(drift=drift).explore(how, only_newer=True)


def test_what_the_lead_is_for() -> None:
    """Where no fence kills it, a lease may be older than a clock that is set before the sample."""
    how = WithoutLead()
    how.strict = False
    with pytest.raises(Violation):
        SET_ONCE.explore(how, only_newer=True)
    assert SET_ONCE.explore(Unfenced(), only_newer=True)[1] > 100


def test_why_it_has_to_be_asked_for() -> None:
    """A clock set forward and back within one transaction makes a new entry look old."""
    with pytest.raises(Violation, match="is set by") as caught:
        World(sets=(-4_000_000, 4_000_000), times=2, ticks=2).explore(Rightly())
    assert str(caught.value).count("is set by") == 2


def test_a_paused_writer_excuses_s4_as_it_does_s1() -> None:
    """Its fence ran out before its COMMIT: what was read meanwhile is stale until its release."""
    with pytest.raises(Violation, match="the fence runs out"):
        World(fences_expire=True).explore(Rightly())


def test_a_steady_clock_needs_one_sample() -> None:
    """That of the answer."""
    assert StoreClock().before(b"", 10.0, Sample(11.0, 5_000_000)) is None
    limit = StoreClock(steady=True).before(b"", 10.0, Sample(11.0, 5_000_000))
    assert limit == pytest.approx(3_999_000)


def test_samples_are_kept_for_long_transactions_and_no_longer() -> None:
    """One for each LEAD seconds, `KEPT` of them; the latest that is early enough is asked."""
    clock = StoreClock()
    for second in range(1000):
        clock.note(b"run1", Sample(float(second), second * 1_000_000))
    now = Sample(1000.0, 1_000_000_000)
    assert clock.before(b"run2", 999.0, now) is None
    assert clock.before(b"run1", 999.0 - KEPT * LEAD, now) is None
    limit = clock.before(b"run1", 999.0, now)
    assert limit is not None
    assert 998_980_000 < limit < 999_000_000

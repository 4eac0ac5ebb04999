"""What happened between two looks, from counts alone."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from sqlmodel_cache.dashboard.history import LENGTH, SPACING, History
from sqlmodel_cache.stats import ModelStats, Stats
from sqlmodel_cache.transport.bulletin import Report


def report(process: str, at: float, since: float = 0.0, **counts: Any) -> Report:
    """Return what a process published at a time."""
    model = ModelStats(**counts)
    stats = Stats(**counts, models=MappingProxyType({"Hero": model}))
    return Report(process, "host", 1, since, at, stats)


def test_the_first_look_begins() -> None:
    """What was counted before belongs to no interval."""
    assert History().note([report("a", 100, hits=50)], 0, 100) == ()


def test_an_interval_is_the_difference() -> None:
    """Rates per second of the process's own time; invalidations as they are."""
    history = History()
    history.note([report("a", 100, hits=50, misses=5, invalidations=7)], 0, 100)
    then = report("a", 110, hits=150, misses=10, invalidations=9, bypasses={"touched": 20})
    (one,) = history.note([then], 10, 110)
    assert (one.until, one.seconds) == (110, 10)
    assert (one.hits, one.misses, one.bypasses) == (10.0, 0.5, 2.0)
    assert one.invalidations == {"Hero": 2}


def test_looks_in_quick_succession_add_nothing() -> None:
    """However many browsers poll, an entry is at least SPACING long."""
    history = History()
    for at in (0, 1, 2, SPACING - 0.1):
        assert history.note([report("a", at)], at, at) == ()
    assert len(history.note([report("a", SPACING)], SPACING, SPACING)) == 1


def test_the_ring_is_bounded() -> None:
    """The oldest goes."""
    history = History()
    for number in range(LENGTH + 50):
        at = number * SPACING
        found = history.note([report("a", at, hits=number)], at, at)
    assert len(found) == LENGTH
    assert found[-1].until == at


def test_processes_come_and_go() -> None:
    """One that began meanwhile counts from its beginning, one that ended takes nothing along."""
    history = History()
    history.note([report("a", 100, hits=10), report("gone", 100, hits=1000)], 0, 100)
    now = [
        report("a", 110, hits=20),
        report("new", 110, since=105, hits=50),
        report("known late", 110, since=20, hits=9999),
    ]
    (one,) = history.note(now, 10, 110)
    assert one.hits == 1.0 + 10.0


def test_counts_that_begin_anew_are_no_negative_rate() -> None:
    """After another configure() under the same name."""
    history = History()
    history.note([report("a", 100, hits=1000, invalidations=10)], 0, 100)
    (one,) = history.note([report("a", 110, hits=3, invalidations=1)], 10, 110)
    assert one.hits == 0
    assert one.invalidations == {}


def test_a_report_that_is_not_new_waits() -> None:
    """A process that published nothing meanwhile is in the next interval, with its own time."""
    history = History()
    history.note([report("a", 100, hits=0)], 0, 100)
    assert history.note([report("a", 100, hits=0)], 10, 110)[-1].hits == 0
    assert history.note([report("a", 120, hits=40)], 20, 120)[-1].hits == 2.0


def test_a_forked_child_begins_anew() -> None:
    """Also where its parent held the lock."""
    history = History()
    history.note([report("a", 100)], 0, 100)
    history._lock.acquire()
    history.after_fork()
    assert history.note([report("a", 200)], 100, 200) == ()

"""The breaker, state by state, on a clock that the test moves."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.protocol.ops import Abandon, Fence, Fill, Get, GetMany, Lease, Release
from sqlmodel_cache.transport.breaker import Breaker, Pass, State

if TYPE_CHECKING:
    from sqlmodel_cache.keys import KeySpace


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    """Return the clock of `breaker`."""
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    """Return a closed breaker."""
    return Breaker(clock)


@pytest.fixture
def get(space: KeySpace) -> Get:
    """Return a lookup."""
    return Get(space.entry("1"))


FENCE, RELEASE = Fence("w", (), (), 1), Release("w", (), ())


def test_one_failure_opens(breaker: Breaker, get: Get) -> None:
    """The next lookup is refused at once."""
    assert breaker.admit(get) is Pass.NORMAL
    breaker.failed(Pass.NORMAL, "TimeoutError")
    assert breaker.state is State.OPEN
    with pytest.raises(UnavailableError, match="tried again"):
        breaker.admit(get)


def test_every_kind_of_lookup_is_refused_and_no_write(breaker: Breaker, space: KeySpace) -> None:
    """A fence that is skipped would leave other processes stale."""
    entry = space.entry("1")
    breaker.failed(Pass.NORMAL, "TimeoutError")
    lookups = (
        Get(entry),
        GetMany((entry,)),
        Lease(entry, "t", b"e" * 12, None, 1),
        Fill(entry, "t", b"e" * 12, b"", 1),
        Abandon(entry, "t"),
        "a plain get of somebody's transport",
    )
    for op in lookups:
        with pytest.raises(UnavailableError):
            breaker.admit(op)
    assert breaker.admit(FENCE) is Pass.FORCED
    assert breaker.admit(RELEASE) is Pass.FORCED


def test_after_the_cool_down_one_lookup_probes(breaker: Breaker, clock: Clock, get: Get) -> None:
    """The others are refused while it is under way."""
    breaker.failed(Pass.NORMAL, "TimeoutError")
    clock.seconds += 0.999
    with pytest.raises(UnavailableError):
        breaker.admit(get)
    clock.seconds += 0.001
    assert breaker.admit(get) is Pass.PROBE
    assert breaker.state is State.HALF_OPEN
    with pytest.raises(UnavailableError):
        breaker.admit(get)
    breaker.succeeded(Pass.PROBE)
    assert breaker.state is State.CLOSED
    assert breaker.admit(get) is Pass.NORMAL


def test_the_cool_down_doubles_up_to_half_a_minute(
    breaker: Breaker, clock: Clock, get: Get
) -> None:
    """1, 2, 4, 8, 16, 30, 30 seconds; and 1 again after a success."""
    breaker.failed(Pass.NORMAL, "TimeoutError")
    for seconds in (1, 2, 4, 8, 16, 30, 30):
        clock.seconds += seconds - 0.01
        with pytest.raises(UnavailableError):
            breaker.admit(get)
        clock.seconds += 0.01
        title = breaker.admit(get)
        assert title is Pass.PROBE
        breaker.failed(title, "TimeoutError")
    clock.seconds += 30
    breaker.succeeded(breaker.admit(get))
    breaker.failed(Pass.NORMAL, "TimeoutError")
    clock.seconds += 1
    assert breaker.admit(get) is Pass.PROBE


def test_failures_that_were_under_way_change_nothing(
    breaker: Breaker, clock: Clock, get: Get
) -> None:
    """A hundred threads may find out at once: still one second. Nor do failing writes count."""
    for _ in range(100):
        breaker.failed(Pass.NORMAL, "TimeoutError")
    for _ in range(100):
        breaker.failed(Pass.FORCED, "TimeoutError")
    clock.seconds += 1
    assert breaker.admit(get) is Pass.PROBE


def test_a_write_that_succeeds_closes(breaker: Breaker, get: Get) -> None:
    """It has shown that the store is back."""
    breaker.failed(Pass.NORMAL, "TimeoutError")
    breaker.succeeded(breaker.admit(FENCE))
    assert breaker.admit(get) is Pass.NORMAL


def test_a_write_that_fails_opens(breaker: Breaker) -> None:
    """Like any operation."""
    breaker.failed(breaker.admit(FENCE), "TimeoutError")
    assert breaker.state is State.OPEN


def test_a_success_from_before_the_outage_closes_nothing(breaker: Breaker) -> None:
    """It was admitted while everything was well, and may be older than the failure."""
    breaker.failed(Pass.NORMAL, "TimeoutError")
    breaker.succeeded(Pass.NORMAL)
    assert breaker.state is State.OPEN


def test_a_cancelled_probe_lets_the_next_one_probe(
    breaker: Breaker, clock: Clock, get: Get
) -> None:
    """At once, and without a longer cool-down."""
    breaker.failed(Pass.NORMAL, "TimeoutError")
    clock.seconds += 1
    breaker.dropped(breaker.admit(get))
    assert breaker.state is State.OPEN
    assert breaker.admit(get) is Pass.PROBE


def test_a_probe_that_never_reports_is_replaced(breaker: Breaker, clock: Clock, get: Get) -> None:
    """A thread killed in the middle does not keep the cache off for ever."""
    breaker.failed(Pass.NORMAL, "TimeoutError")
    clock.seconds += 1
    assert breaker.admit(get) is Pass.PROBE
    clock.seconds += 1
    assert breaker.admit(get) is Pass.PROBE


def test_a_late_probe_and_a_dropped_write_do_no_harm(breaker: Breaker) -> None:
    """Reports about what is settled are ignored."""
    breaker.succeeded(Pass.PROBE)
    breaker.dropped(Pass.PROBE)
    breaker.dropped(Pass.FORCED)
    assert breaker.state is State.CLOSED


def test_one_line_per_outage(
    breaker: Breaker, clock: Clock, get: Get, caplog: pytest.LogCaptureFixture
) -> None:
    """One when it begins and one when it is over, whatever happens in between."""
    with caplog.at_level(logging.INFO, "sqlmodel_cache"):
        for _ in range(3):
            breaker.failed(Pass.NORMAL, "ConnectionError")
            clock.seconds += 10
            breaker.failed(breaker.admit(get), "ConnectionError")
        clock.seconds += 10
        breaker.succeeded(breaker.admit(get))
        breaker.succeeded(Pass.FORCED)
    first, last = caplog.messages
    assert "ConnectionError" in first
    assert "back after 40.0 s" in last


def test_a_breaker_shows_its_state(breaker: Breaker) -> None:
    """In a traceback or a debugger."""
    breaker.failed(Pass.NORMAL, "TimeoutError")
    assert repr(breaker) == "<Breaker open>"


def test_threads_get_one_probe(clock: Clock, get: Get) -> None:
    """However many ask at the same moment."""
    breaker = Breaker(clock)
    breaker.failed(Pass.NORMAL, "TimeoutError")
    clock.seconds += 1
    start = threading.Barrier(16)
    titles: list[Pass] = []

    def work() -> None:
        start.wait()
        try:
            titles.append(breaker.admit(get))
        except UnavailableError:
            pass

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert titles == [Pass.PROBE]

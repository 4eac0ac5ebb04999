"""Histograms: cheap, mergeable, and never off by more than an eighth."""

from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlmodel_cache.latency import Histogram, Latency, add_up

DURATIONS = st.floats(min_value=1e-7, max_value=900.0)


def noted(*durations: float) -> Latency:
    """Return what a histogram makes of these."""
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    return histogram.freeze()


@given(DURATIONS)
def test_a_single_duration_is_known_to_an_eighth(seconds: float) -> None:
    """The scale has eight steps to the double at least."""
    assert noted(seconds).p50 == pytest.approx(seconds, rel=1 / 8)


@given(st.lists(DURATIONS, min_size=1, max_size=99).filter(lambda found: len(found) % 2))
def test_median_and_mean(durations: list[float]) -> None:
    """The median to an eighth; the mean exactly."""
    found = noted(*durations)
    assert found.p50 == pytest.approx(median(durations), rel=1 / 8)
    assert found.mean == pytest.approx(sum(durations) / len(durations))
    assert found.count == len(durations)


@given(st.lists(st.lists(DURATIONS, max_size=5), max_size=5))
def test_parts_add_up(parts: list[list[float]]) -> None:
    """Histograms of several processes are the histogram of all."""
    whole = noted(*(seconds for part in parts for seconds in part))
    together = add_up(noted(*part) for part in parts)
    assert dict(together.buckets) == dict(whole.buckets)
    assert together.total == pytest.approx(whole.total)


def test_percentiles_differ() -> None:
    """One in a hundred that takes long is the 99th percentile, not the median."""
    found = noted(*[0.001] * 98, 1.0, 1.0)
    assert found.p50 == pytest.approx(0.001, rel=1 / 8)
    assert found.p99 == pytest.approx(1.0, rel=1 / 8)


def test_nothing_noted() -> None:
    """An empty record answers zeros."""
    assert (Latency().mean, Latency().p50, Latency().p99) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seconds", [0.0, -0.001, 1e-10, 1e6], ids=str)
def test_no_duration_is_an_error(seconds: float) -> None:
    """A clock that stands still, and a night's sleep of a laptop, fall into the outer buckets."""
    assert noted(seconds).count == 1


@given(st.lists(DURATIONS, max_size=20), st.integers(10, 38))
def test_within_a_power_of_two_is_exact(durations: list[float], bits: int) -> None:
    """Prometheus' cumulative buckets lose nothing."""
    limit = 2**bits / 1e9
    expected = sum(int(seconds * 1e9) | 8 < 2**bits for seconds in durations)
    assert noted(*durations).within(limit) == expected

"""Cases measured side by side: each repeat gives every case one slice, in turn.

A ratio is the median of the ratios of neighbouring slices, so that what slows the whole machine
down for a while slows both sides. Its noise is half the distance between the quartiles of those
ratios. The garbage collector stays on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import repeat
from math import sqrt
from statistics import median
from time import perf_counter, thread_time


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to measure: `repeats` slices of each case, `slice_` seconds each."""

    repeats: int = 31
    slice_: float = 0.05


ON_CPU = thread_time
THOROUGH = Pace()
QUICK = Pace(repeats=9, slice_=0.02)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure. `run` does `of` operations, inside `around()`, which is not timed."""

    name: str
    run: Callable[[], object]
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    of: int = 1


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and half its 95 % confidence interval."""

    median: float
    noise: float


def compare(
    pace: Pace, *cases: Case, clock: Callable[[], float] = perf_counter
) -> list[list[float]]:
    """Return the seconds per operation of each slice of each case, in the order of `cases`.

    `clock`: `ON_CPU` for what waits for nobody, so that other processes do not count.
    """
    loops = [_calibrated(case, pace.slice_) for case in cases]
    taken: list[list[float]] = [[] for _ in cases]
    gc.collect()
    for number in range(pace.repeats):
        order = range(len(cases)) if number % 2 else reversed(range(len(cases)))
        for index in order:
            case = cases[index]
            with case.around():
                case.run()
                taken[index].append(_slice(case, loops[index], clock))
    return taken


def spread(values: Sequence[float]) -> Spread:
    """Return the median of `values` and how sure it is."""
    rank = max(0, int(len(values) / 2 - 0.98 * sqrt(len(values))))
    ordered = sorted(values)
    return Spread(median(values), (ordered[-1 - rank] - ordered[rank]) / 2)


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Return the spread of the pairwise ratios."""
    return spread([one / other for one, other in zip(above, below, strict=True)])


def difference(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Return the spread of the pairwise differences, in seconds."""
    return spread([one - other for one, other in zip(above, below, strict=True)])


def _slice(case: Case, loops: int, clock: Callable[[], float] = perf_counter) -> float:
    run = case.run
    begin = clock()
    for _ in repeat(None, loops):
        run()
    return (clock() - begin) / (loops * case.of)


def _calibrated(case: Case, slice_: float) -> int:
    with case.around():
        for _ in range(3):
            case.run()
        loops = 1
        while (took := _slice(case, loops) * loops * case.of) < slice_ / 4:
            loops *= 2
        return max(1, round(loops * slice_ / took))

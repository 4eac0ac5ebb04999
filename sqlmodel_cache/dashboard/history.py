"""What happened between two looks, for as long as the ring is.

Everything comes from differences of counts, so that nobody has to listen while nobody looks: an
observer would cost every hit. Each process's counts are divided by its own time, as processes
publish theirs at different moments.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from sqlmodel_cache.stats import ModelStats
from sqlmodel_cache.transport.bulletin import Report
from sqlmodel_cache.transport.forks import tell_of_forks

SPACING: Final = 10.0  # seconds between two entries: longer than between two reports of a process
LENGTH: Final = 360  # entries: an hour, if somebody looks all the time


@dataclass(frozen=True, slots=True)
class Interval:
    """What all processes did in the `seconds` before `until` (since 1970); rates are per second."""

    until: float
    seconds: float
    hits: float = 0.0
    misses: float = 0.0
    bypasses: float = 0.0
    invalidations: Mapping[str, int] = field(default_factory=dict)  # by model, not a rate


class History:
    """A ring of intervals, which grows when somebody looks."""

    def __init__(self) -> None:
        self.after_fork()
        tell_of_forks(self)

    def after_fork(self) -> None:
        """Begin anew in a forked child: what was seen so far is its parent's."""
        self._lock = Lock()
        self._ring: deque[Interval] = deque(maxlen=LENGTH)
        self._last: dict[str, Report] = {}
        self._at = self._wall = 0.0

    def note(self, reports: Sequence[Report], at: float, wall: float) -> tuple[Interval, ...]:
        """Take note of the counts as they stand, and return all intervals, the oldest first.

        `at` is the time by a clock that nobody sets, `wall` is what people call it.
        """
        with self._lock:
            if not self._last:
                self._keep(reports, at, wall)
            elif at - self._at >= SPACING:
                self._ring.append(self._between(reports, at, wall))
                self._keep(reports, at, wall)
            return tuple(self._ring)

    def _keep(self, reports: Sequence[Report], at: float, wall: float) -> None:
        self._last = {report.process: report for report in reports}
        self._at, self._wall = at, wall

    def _between(self, reports: Sequence[Report], at: float, wall: float) -> Interval:
        hits = misses = bypasses = 0.0
        invalidations = Counter[str]()
        for now in reports:
            began = now.since if now.since >= self._wall else None
            then = self._last.get(now.process)
            if then is None and began is None:
                continue  # it did this before anybody looked
            seconds = now.at - (then.at if then is not None else now.since)
            before = then.stats if then is not None else ModelStats()
            if seconds <= 0 or now.stats.reads < before.reads:
                continue  # nothing new; or counts that began anew under the same name
            hits += (now.stats.hits - before.hits) / seconds
            misses += (now.stats.misses - before.misses) / seconds
            bypasses += max(_bypasses(now.stats) - _bypasses(before), 0) / seconds
            known = then.stats.models if then is not None else {}
            for name, model in now.stats.models.items():
                earlier = known.get(name) or ModelStats()
                invalidations[name] += max(model.invalidations - earlier.invalidations, 0)
        return Interval(wall, at - self._at, hits, misses, bypasses, dict(+invalidations))


def _bypasses(stats: ModelStats) -> int:
    return sum(stats.bypasses.values())

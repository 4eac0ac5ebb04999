"""How long things take: histograms with fixed buckets on a logarithmic scale.

A histogram is one list of ints. A duration in nanoseconds goes into the bucket named by its
highest bit and the two below it (the layout of HdrHistogram, with two bits of precision), so that
adding takes a few integer operations, no lock and no memory, and any percentile is known to an
eighth of its value. Histograms of several processes add up bucket by bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from sqlmodel_cache import clock

_LONGEST: Final = 40  # bits of nanoseconds: 18 minutes; what takes longer counts as that
_SIZE: Final = 4 * (_LONGEST + 1)


class Histogram:
    """A running histogram. Bumped under the interpreter lock, like every counter."""

    __slots__ = ("_buckets", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0  # seconds
        self._buckets = [0] * _SIZE

    def add(self, seconds: float, times: int = 1) -> None:
        """Note a duration that was met `times` times."""
        nanoseconds = int(seconds * 1e9) | 8
        bits = nanoseconds.bit_length()
        bucket = bits << 2 | nanoseconds >> bits - 3 & 3 if bits <= _LONGEST else _SIZE - 1
        self._buckets[bucket] += times
        self.count += times
        self.total += seconds * times

    def freeze(self) -> Latency:
        """Return what was noted so far."""
        buckets = {bucket: n for bucket, n in enumerate(list(self._buckets)) if n}
        return Latency(sum(buckets.values()), self.total, MappingProxyType(buckets))


@dataclass(frozen=True, slots=True)
class Latency:
    """Durations of one kind, in seconds.

    `total` is their sum; `buckets` says how many fell into which bucket of the scale.
    """

    count: int = 0
    total: float = 0.0
    buckets: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def mean(self) -> float:
        """The mean, 0 if nothing was timed."""
        return self.total / self.count if self.count else 0.0

    @property
    def p50(self) -> float:
        """The median, to an eighth of its value; 0 if nothing was timed."""
        return self.percentile(0.50)

    @property
    def p99(self) -> float:
        """What 99 of 100 do not exceed, to an eighth of its value; 0 if nothing was timed."""
        return self.percentile(0.99)

    def percentile(self, share: float) -> float:
        """Return the duration that `share` (0 to 1) of all do not exceed."""
        left = share * self.count
        for bucket, number in sorted(self.buckets.items()):
            left -= number
            if left <= 0:
                return (_start_of(bucket) + _start_of(bucket + 1)) / 2e9
        return 0.0

    def within(self, seconds: float) -> int:
        """Return how many took at most `seconds`; exact where that is a power of 2 of 1 ns."""
        limit = seconds * 1e9
        return sum(n for bucket, n in self.buckets.items() if _start_of(bucket + 1) <= limit)

    def midpoints(self) -> Iterator[tuple[float, int]]:
        """Yield (seconds, how many) for each bucket in use."""
        for bucket, number in sorted(self.buckets.items()):
            yield (_start_of(bucket) + _start_of(bucket + 1)) / 2e9, number

    def as_dict(self) -> dict[str, Any]:
        """Return count, mean, p50 and p99; the latter three in seconds."""
        return {"count": self.count, "mean": self.mean, "p50": self.p50, "p99": self.p99}


def add_up(latencies: Iterable[Latency]) -> Latency:
    """Return the durations of all together."""
    count, total, buckets = 0, 0.0, dict[int, int]()
    for one in latencies:
        count += one.count
        total += one.total
        for bucket, number in one.buckets.items():
            buckets[bucket] = buckets.get(bucket, 0) + number
    return Latency(count, total, MappingProxyType(buckets))


class Timed:
    """A function that is called once; `seconds` is how long it took, None if it raised."""

    __slots__ = ("_function", "seconds")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.seconds: float | None = None

    def __call__(self) -> Any:
        """Call the function and take the time."""
        begun = clock.real()
        result = self._function()
        self.seconds = clock.real() - begun
        return result


def _start_of(bucket: int) -> int:
    """Return the shortest duration of a bucket, in nanoseconds."""
    bits, rest = divmod(bucket, 4)
    return (4 + rest) << bits - 3

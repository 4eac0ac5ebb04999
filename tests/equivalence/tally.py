"""Counts per column type of what a second get was: a hit, not stored, or a bypass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

HIT, NOT_STORED, BYPASS = OUTCOMES = ("hit", "not stored", "bypass")

PROPERTY = "equivalence"  # in the reports of pytest, which cross from workers to their master


class Tally:
    """The counts of one test."""

    def __init__(self) -> None:
        self.kinds: dict[str, Counter[str]] = {}
        self.reasons: Counter[str] = Counter()

    def count(self, kind: str, outcome: str, reason: str = "") -> None:
        """Count one value of a column of `kind`; `reason` says why it was no hit."""
        self.kinds.setdefault(kind, Counter())[outcome] += 1
        if reason:
            self.reasons[reason] += 1

    def require(self, share: float = 0.9, *, unstored: Iterable[str] = ()) -> None:
        """Fail below this share of hits, in all and for each kind that is not `unstored`."""
        assert self.kinds, "nothing was counted"
        excepted = set(unstored)
        total: Counter[str] = Counter()
        for kind, counts in self.kinds.items():
            if kind in excepted:
                assert counts[HIT] == 0, f"{kind} must not be stored"
                continue
            total.update(counts)
            found = counts[HIT] / counts.total()
            assert found >= share, f"{kind}: {found:.0%} hits, {dict(counts)}, {self.reasons}"
        assert total[HIT] >= share * total.total(), f"{dict(total)}, {self.reasons}"


def lines(kinds: Mapping[str, Mapping[str, int]], reasons: Mapping[str, int]) -> Iterable[str]:
    """Return the table that the terminal shows."""
    width = max(map(len, kinds))
    yield "hit equivalence".ljust(width) + "".join(f"{name:>12}" for name in OUTCOMES)
    for kind in sorted(kinds):
        yield kind.ljust(width) + "".join(f"{kinds[kind].get(name, 0):12}" for name in OUTCOMES)
    for reason, number in sorted(reasons.items()):
        yield f"  {number} times: {reason}"

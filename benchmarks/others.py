"""P4: what those pay who are not cached, and who have the row already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import median

from sqlmodel import Session

from benchmarks.hooks import configured, without
from benchmarks.place import Place
from benchmarks.report import Measured, sides
from benchmarks.rows import CachedRow, PlainRow
from benchmarks.timing import ON_CPU, Case, Spread, compare, difference, ratio


def measure(place: Place) -> Iterator[Measured]:
    """Yield both halves of P4."""
    # Two percent of a get is little: more and shorter slices than for the others.
    pace = replace(place.pace, repeats=7 * place.pace.repeats, slice_=place.pace.slice_ / 4)
    with configured("memory://"), Session(place.sqlite) as session:
        with_, bare = compare(
            pace,
            Case("with", lambda: session.get(PlainRow, 1)),
            Case("without", lambda: session.get(PlainRow, 1), around=without),
            clock=ON_CPU,
        )
    what = "get of an uncached model, SQLite in memory, with the library / without"
    yield Measured("P4a", what, ratio(with_, bare), sides(with_, bare), 1.02)
    with configured("memory://"), Session(place.sqlite) as session:
        kept = session.get(CachedRow, 1)
        with_, bare = compare(
            pace,
            Case("with", lambda: session.get(CachedRow, 1)),
            Case("without", lambda: session.get(CachedRow, 1), around=without),
            clock=ON_CPU,
        )
        assert kept in session
    added = difference(with_, bare)
    microseconds = Spread(added.median * 1e6, added.noise * 1e6)
    what = "identity-map hit, with the library - without"
    shown = f"{median(with_) * 1e6:.2f} - {median(bare) * 1e6:.2f} us"
    yield Measured("P4b", what, microseconds, shown, 2.0, unit="us")

"""How cost grows: with entries, models, columns, touched rows and processes, drawn into docs/.

The pictures show the medians of turns: every point of a picture gets one slice, in turn, so that
what slows the machine for a while slows all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import count, cycle
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from sqlalchemy import Column, Engine, Integer, String
from sqlalchemy.orm import DeclarativeBase
from sqlmodel import Session

from benchmarks.hooks import configured, without
from benchmarks.place import Place
from benchmarks.plot import Line, Picture
from benchmarks.report import Measured, Skipped
from benchmarks.rows import CachedRow
from benchmarks.timing import ON_CPU, QUICK, Case, Spread, compare
from benchmarks.workload import CachedItem, PlainItem, Round, fill_items, hired
from sqlmodel_cache import cached
from sqlmodel_cache.transport import MemoryTransport

TARGET = Path(__file__).parent.parent / "docs"
_PREFIX = "entry"


class Base(DeclarativeBase):
    """Of the models that are made here."""


def measure(place: Place) -> Iterator[Measured | Skipped]:
    """Draw each picture, and yield the last point of each over its first."""
    folder = TARGET
    if place.pace is QUICK:
        folder = TARGET.parent / "build"  # a try is not for the documentation
        folder.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        picture = draw(place)
        if isinstance(picture, Skipped):
            yield picture
            continue
        (folder / f"growth-{name}.svg").write_text(picture.svg())
        for line in picture.lines:
            first, last = line.points[0], line.points[-1]
            shown = " ".join(f"{x:g}: {y:.4g}" for x, y in line.points)
            what = f"{picture.title}, {line.name}: {last[0]:g} / {first[0]:g}"
            yield Measured("grow", what, Spread(last[1] / first[1], 0.0), shown, None)


def _entries(place: Place) -> Picture | Skipped:
    """Hits among ever more entries, in process and in Redis."""
    sizes = (1_000, 10_000) if place.pace is QUICK else (1_000, 10_000, 100_000, 1_000_000)
    store = MemoryTransport(max_entries=2 * sizes[-1])
    lines = [Line("in process", _among(place, store, sizes, store.set))]
    if place.redis_url is not None:
        with place.client() as raw:
            raw.flushdb()

            def put(key: str, value: bytes, ttl: int) -> None:
                pipe.set(key, value, ex=ttl)
                if len(pipe) == 1_000:
                    pipe.execute()

            with raw.pipeline(transaction=False) as pipe:
                lines.append(Line("Redis", _among(place, place.redis_url, sizes, put)))
                pipe.execute()
            raw.flushdb()
    return Picture("A hit among many entries", "entries in the store", "µs", lines)


def _among(
    place: Place, store: object, sizes: Sequence[int], put: Callable[[str, bytes, int], object]
) -> list[tuple[float, float]]:
    """Return the time of a hit for each size; sizes grow, so they cannot take turns."""
    points = []
    numbers = count()
    keys = range(1, 101)
    with configured(store):
        with Session(place.sqlite) as session:
            for key in keys:
                session.get(CachedRow, key)
        for size in sizes:
            while (number := next(numbers)) < size:
                put(f"{_PREFIX}:{number}", b"v" * 150, 3600)
            turn = cycle(keys)
            with Session(place.sqlite) as session:

                def hit() -> None:
                    session.get(CachedRow, next(turn))  # noqa: B023

                (times,) = compare(place.pace, Case("hit", hit), clock=_clock_of(store))
            points.append((size, median(times) * 1e6))
    return points


def _clock_of(store: object) -> Callable[[], float]:
    """Return the clock for hits of a store: what waits for nobody is measured on the processor."""
    return perf_counter if str(store).startswith("redis") else ON_CPU


def _models(place: Place) -> Picture:
    """Hits of one model after the other, and what SQLAlchemy's own get takes of them."""
    sizes = (1, 10) if place.pace is QUICK else (1, 10, 30, 100, 300)
    models = [_model(f"Model{number}", 10) for number in range(sizes[-1])]
    _store(place.sqlite, models)
    sides = {"in process": nullcontext, "uncached, SQLite in memory": without}
    cases = []
    with configured("memory://?max_entries=1000"), Session(place.sqlite) as session:
        for name, around in sides.items():
            for size in sizes:
                turn = cycle(models[:size])
                get = partial(_get_next, session, turn)
                cases.append(Case(f"{name} {size}", get, around=around))
        for model in models:
            session.get(model, 1)
        times = [median(each) * 1e6 for each in compare(place.pace, *cases, clock=ON_CPU)]
    hits, loads = times[: len(sizes)], times[len(sizes) :]
    lines = [
        Line(name, list(zip(sizes, each, strict=True)))
        for name, each in zip(sides, (hits, loads), strict=True)
    ]
    return Picture("A get in a program of many models", "models read in turn", "µs", lines)


def _get_next(session: Session, turn: Iterator[Any]) -> None:
    session.get(next(turn), 1)


def _columns(place: Place) -> Picture:
    """Hits of ever wider rows."""
    sizes = (1, 10) if place.pace is QUICK else (1, 10, 20, 40, 70, 100)
    models = [_model(f"Wide{size}", size) for size in sizes]
    _store(place.sqlite, models)
    lines = []
    stores = [("in process", "memory://"), ("Redis", place.redis_url)]
    for name, store in stores:
        if store is None:
            continue
        with configured(store), Session(place.sqlite) as session:
            cases = []
            for model in models:
                session.get(model, 1)
                cases.append(Case(model.__name__, lambda model=model: session.get(model, 1)))
            times = compare(place.pace, *cases, clock=_clock_of(store))
        points = [(size, median(each) * 1e6) for size, each in zip(sizes, times, strict=True)]
        lines.append(Line(name, points))
    return Picture("A hit of a wide row", "columns", "µs", lines, log=False)


def _touched(place: Place) -> Picture | Skipped:
    """Commit ever more rows, with the cache and without."""
    engine = place.postgres
    if engine is None or place.redis_url is None:
        return Skipped("grow", "no PostgreSQL or no Redis")
    sizes = (1, 10) if place.pace is QUICK else (1, 10, 50, 100, 200)
    score = count()
    with_, bare = [], []
    with configured(place.redis_url), Session(engine, expire_on_commit=False) as session:
        rows: list[Any] = [session.get(CachedRow, number) for number in range(1, sizes[-1] + 1)]
        for size in sizes:

            def change() -> None:
                number = next(score)
                for row in rows[:size]:  # noqa: B023
                    row.score = number
                session.commit()

            cached_, plain = compare(
                place.pace, Case("with", change), Case("without", change, around=without)
            )
            with_.append((size, median(cached_) * 1e3))
            bare.append((size, median(plain) * 1e3))
    lines = [Line("cached in Redis", with_), Line("uncached", bare)]
    return Picture("A commit of many rows", "changed rows", "ms", lines, log=False)


def _processes(place: Place) -> Picture | Skipped:
    """Have ever more processes read and write."""
    if place.postgres is None or place.redis_url is None:
        return Skipped("grow", "no PostgreSQL or no Redis")
    quick = place.pace is QUICK
    sizes = (1, 2) if quick else (1, 2, 4, 8)
    rows, seconds, repeats = (2_000, 0.3, 2) if quick else (100_000, 3.0, 5)
    fill_items(place.postgres, rows)
    url = place.postgres.url.render_as_string(hide_password=False)
    sides = {CachedItem: "cached in Redis", PlainItem: "uncached"}
    with hired(sizes[-1], url, place.redis_url, rows) as crew:
        crew.warm()
        crew.run(Round(CachedItem, reads=1.0, seconds=seconds))
        turns = [
            {
                (model, size): crew.run(Round(model, reads=0.99, seconds=seconds), size)
                for size in sizes
                for model in sides
            }
            for _ in range(repeats)
        ]
    lines = [
        Line(name, [(size, median(turn[model, size] for turn in turns)) for size in sizes])
        for model, name in sides.items()
    ]
    title = "Throughput of all processes, 99 % reads"
    return Picture(title, "processes", "operations per second", lines, log=False)


def _model(name: str, columns: int) -> Any:
    """Make a cached model: a key, and columns of ints and strings in turn."""
    body: dict[str, Any] = {
        "__tablename__": f"growth_{name.lower()}",
        "id": Column(Integer, primary_key=True),
    }
    for number in range(columns - 1):
        body[f"c{number}"] = Column(String if number % 2 else Integer)
    return cached(type(name, (Base,), body))


def _store(engine: Engine, models: Sequence[Any]) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for model in models:
            names = [column.name for column in model.__table__.columns if column.name != "id"]
            values = {name: 7 if number % 2 == 0 else "text" for number, name in enumerate(names)}
            session.add(model(id=1, **values))
        session.commit()


PICTURES: dict[str, Callable[[Place], Picture | Skipped]] = {
    "entries": _entries,
    "models": _models,
    "columns": _columns,
    "touched": _touched,
    "processes": _processes,
}

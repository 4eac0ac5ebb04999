"""The reads: pages of cities, popular ones far more often, each with and without the cache.

A page is what a request handler does: open a session, get a city, get its country, close. The
two ways alternate in small blocks over the same pages, so that a busy machine, or a page of the
database that is already in memory, favours neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from time import perf_counter
from typing import Any

from sqlalchemy import Engine, event
from sqlmodel import Session

from examples.demo.models import City, Country
from sqlmodel_cache import SQLModelCache

BLOCK = 200  # pages
READS_PER_PAGE = 2


@dataclass(slots=True)
class Cost:
    """What a number of reads took: seconds, and statements that reached the database."""

    reads: int = 0
    seconds: float = 0.0
    statements: int = 0

    @property
    def microseconds(self) -> float:
        """Per read."""
        return self.seconds * 1e6 / self.reads


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over the same pages, both ways."""

    plain: Cost
    cached: Cost
    hits: int

    @property
    def hit_rate(self) -> float:
        """Share of the reads of the cached way that needed no database, 0 to 1."""
        return self.hits / self.cached.reads


class StatementCounter:
    """Counts what `engine` sends to the database."""

    def __init__(self, engine: Engine) -> None:
        self.count = 0
        event.listen(engine, "before_cursor_execute", self._on_statement)

    def _on_statement(self, *_: Any) -> None:
        self.count += 1


def zipf(ids: list[int], number: int, seed: int, exponent: float = 0.99) -> list[int]:
    """Return `number` ids; the n-th of `ids` comes with a weight of 1 / n ** exponent."""
    weights = list(accumulate(1 / rank**exponent for rank in range(1, len(ids) + 1)))
    return Random(seed).choices(ids, cum_weights=weights, k=number)


def read_both_ways(
    engine: Engine,
    counter: StatementCounter,
    pages: list[int],
    progress: Callable[[int, int], None],
) -> Pass:
    """Read all `pages` both ways; `progress(done, total)` is called after each block."""
    plain, cached = Cost(), Cost()
    before = SQLModelCache.stats().hits
    for number, start in enumerate(range(0, len(pages), BLOCK)):
        block = pages[start : start + BLOCK]
        if number % 2:
            _read(engine, counter, block, cached)
        with SQLModelCache.bypass():
            _read(engine, counter, block, plain)
        if not number % 2:
            _read(engine, counter, block, cached)
        progress(start + len(block), len(pages))
    return Pass(plain, cached, SQLModelCache.stats().hits - before)


def _read(engine: Engine, counter: StatementCounter, pages: list[int], cost: Cost) -> None:
    statements = counter.count
    began = perf_counter()
    for city_id in pages:
        with Session(engine) as session:
            city = session.get_one(City, city_id)
            session.get_one(Country, city.country)
    cost.seconds += perf_counter() - began
    cost.statements += counter.count - statements
    cost.reads += READS_PER_PAGE * len(pages)

"""Processes that read and write rows of one table, the popular ones most, as requests do.

Keys follow Zipf's law with exponent 0.99 (YCSB's, Cooper et al., SoCC 2010), the ranks scattered
over the table. Each operation has a session of its own; a write is a get and a commit. The
processes live for the whole measurement and are told by pipe what to do next, so that rounds with
the cache and without it can take turns.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from bisect import bisect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, text
from sqlmodel import Field, Session, SQLModel

from benchmarks.hooks import without
from sqlmodel_cache import CacheConfig, CachedModel, SQLModelCache, warm

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from sqlalchemy import Engine

EXPONENT = 0.99
_AT_ONCE = 500  # rows that are warmed in a session of their own
_STRIDE = 7_368_787  # a prime: it scatters ranks over any table that is no multiple of it


class _Item(SQLModel):
    id: int | None = Field(default=None, primary_key=True)
    name: str
    price: int
    stock: int


class CachedItem(_Item, CachedModel, table=True):
    """What is read with the cache; nothing of it ends during a measurement."""

    __cache_config__ = CacheConfig(ttl=86_400)


class CopiedItem(_Item, CachedModel, table=True):
    """The same, with copies in each process."""

    __cache_config__ = CacheConfig(ttl=86_400, local_ttl=3_600)


class PlainItem(_Item, table=True):
    """The same, without the cache."""


CACHED = (CachedItem, CopiedItem)


@dataclass(frozen=True, slots=True)
class Round:
    """What every process does next: for `seconds`, with `reads` of 1 reading."""

    model: type[_Item]
    reads: float
    seconds: float


class Crew:
    """The processes. `run` gives operations per second, of all of them together."""

    def __init__(self, pipes: list[Connection]) -> None:
        self._pipes = pipes

    def run(self, what: Round, processes: int | None = None) -> float:
        """Have the first `processes` (None: all) work at once."""
        pipes = self._pipes[:processes]
        for pipe in pipes:
            pipe.send(what)
        return sum(pipe.recv() for pipe in pipes)

    def warm(self) -> None:
        """Have one of them put every row into the store, which is what a day's reading does."""
        self._pipes[0].send(_warm)
        self._pipes[0].recv()


def fill_items(engine: Engine, rows: int) -> None:
    """Make the tables with `rows` rows each, in PostgreSQL."""
    tables = [model.__table__ for model in (*CACHED, PlainItem)]  # type: ignore[attr-defined]
    SQLModel.metadata.create_all(engine, tables=tables)
    with engine.begin() as connection:
        for table in tables:
            connection.execute(
                text(
                    f"INSERT INTO {table.name} (name, price, stock)"
                    " SELECT 'item ' || n, n % 1000, n % 50 FROM generate_series(1, :rows) n"
                ),
                {"rows": rows},
            )
            connection.execute(text(f"ANALYZE {table.name}"))


@contextmanager
def hired(number: int, database: str, store: str, rows: int) -> Iterator[Crew]:
    """Start `number` processes; end them afterwards. Both URLs are complete."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    workers = []
    try:
        for seed in range(number):
            ours, theirs = context.Pipe()
            worker = context.Process(
                target=_work, args=(theirs, database, store, rows, seed), daemon=True
            )
            worker.start()
            pipes.append(ours)
            workers.append(worker)
        yield Crew(pipes)
    finally:
        for pipe in pipes:
            pipe.send(None)
        for worker in workers:
            worker.join(10)


def _work(pipe: Connection, database: str, store: str, rows: int, seed: int) -> None:
    chances = list(accumulate(1 / rank**EXPONENT for rank in range(1, rows + 1)))
    dice = random.Random(seed)
    engine = create_engine(database)
    SQLModelCache.configure(f"{store}?local={rows}")
    while (what := pipe.recv()) is not None:
        if what is _warm:
            pipe.send(_warm(engine, rows))
        elif what.model in CACHED:
            pipe.send(_round(engine, what, chances, dice))
        else:
            with without():
                pipe.send(_round(engine, what, chances, dice))
    SQLModelCache.reset()
    engine.dispose()


def _warm(engine: Engine, rows: int) -> int:
    stored = 0
    for model in CACHED:
        for start in range(1, 1 + rows, _AT_ONCE):
            with Session(engine) as session:
                stored += warm(session, model, range(start, min(start + _AT_ONCE, rows + 1)))
    assert stored == len(CACHED) * rows, f"{stored} rows were stored"
    return stored


def _round(engine: Engine, what: Round, chances: list[float], dice: random.Random) -> float:
    model: Any = what.model
    done = 0
    begin = now = time.perf_counter()
    while now < begin + what.seconds:
        rank = bisect(chances, dice.random() * chances[-1])
        key = 1 + rank * _STRIDE % len(chances)
        with Session(engine) as session:
            item = session.get(model, key)
            if dice.random() >= what.reads:
                item.stock += 1
                session.commit()
        done += 1
        now = time.perf_counter()
    return done / (now - begin)

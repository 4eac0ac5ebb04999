"""Several processes on one database and one Redis, and whether any of them saw something stale."""

from __future__ import annotations

import multiprocessing
from secrets import token_hex

from rich.console import Console

from examples.demo import report
from examples.demo.counter import fresh_table
from examples.demo.worker import Board, Job, work

ROWS = 24
PATIENCE = 60.0  # seconds until all processes are there, on a busy machine
ATTEMPTS = 3  # of the control, which depends on a race


def run(console: Console, redis: str, database: str, workers: int, seconds: float) -> bool:
    """Run and print both ways; return True if the library's had no stale read, by a seeing eye."""
    rows = max(ROWS, workers)
    with fresh_table(database, rows):
        with console.status(f"{workers} processes, {seconds:g} seconds"):
            each = _run(Job("library", database, redis, _prefix(), workers, rows, seconds))
        report.show_workers(console, each)
        for _ in range(ATTEMPTS):
            with console.status("the same with a naive cache"):
                control = _run(Job("naive", database, redis, _prefix(), workers, rows, seconds))
            if any(one["stale"] for one in control):
                break
    return report.show_verdict(console, each, control)


def _prefix() -> str:
    return f"demo-{token_hex(4)}"


def _run(job: Job) -> list[dict[str, int]]:
    """Start the processes of one job; return the counts of each. RuntimeError if one fails."""
    context = multiprocessing.get_context("spawn")
    board = Board.make(context, job)
    start = context.Barrier(job.workers, timeout=PATIENCE)
    processes = [
        context.Process(target=work, args=(number, job, board, start))
        for number in range(job.workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a worker process failed; its error stands above")
    return [board.of(number) for number in range(job.workers)]

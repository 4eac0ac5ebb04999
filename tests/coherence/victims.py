"""Writers that end, or stand still, at a named step of their commit, while others read.

A step is reached in a process of its own, by a signal that the process sends itself: nothing is
left to chance. Fences are shortened, so that they run out within the run.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from tests.coherence import run, steps, table, worker, writing
from tests.coherence.board import Board, Slot
from tests.coherence.settings import Settings
from tests.servers.databases import async_url

WAYS = (writing.flush, writing.bulk, writing.core, writing.savepoint)


def victim(settings: Settings, slot: int, ends: dict[str, int], seed: int, tasks: bool) -> None:
    """Write two rows and meet the signals of `ends`, by step. The entry point of a child."""
    rng = worker.prepare(settings, seed)
    board = Board(settings.board, settings.rows, settings.slots)
    rows = sorted(rng.sample(range(settings.rows), 2))
    way = rng.choice(WAYS)
    if not ends.keys().isdisjoint(steps.AHEAD):
        way = writing.flush
        rows = [row for row in range(settings.rows) if table.model_of(row) is table.Plain]
        rows = sorted(rng.sample(rows, 2))

    def write(session: Session) -> None:
        writing.write(session, Slot(board, slot), way, rows, commit=True)

    def arm() -> None:
        for step, number in ends.items():
            steps.arm(step, signal.Signals(number))

    async def write_in_task() -> None:
        engine = create_async_engine(async_url(settings.database))
        steps.watch_commits(engine.sync_engine, lambda: None, lambda: None)
        arm()
        async with AsyncSession(engine) as session:
            await session.run_sync(write)
        await engine.dispose()

    if tasks:
        asyncio.run(write_in_task())
        return
    engine = create_engine(settings.database)
    steps.watch_commits(engine, lambda: None, lambda: None)
    with Session(engine) as session:  # a fence is sent ahead over a line that is there
        session.get(table.model_of(rows[0]), rows[0])
    arm()
    with Session(engine) as session:
        write(session)
    engine.dispose()
    SQLModelCache.reset()


def start_victim(settings: Settings, ends: dict[str, int], seed: int, tasks: bool) -> Any:
    """Start a writer that has the last slot to itself."""
    arguments = (settings, settings.slots - 1, ends, seed, tasks)
    process = run.PROCESSES.Process(target=victim, args=arguments)
    process.start()
    return process


@dataclass(frozen=True, slots=True)
class Kills:
    """What a run with `kill -9` has shown."""

    by_step: dict[str, int]
    result: run.Result
    wrong_at_rest: list[str]


def kill_writers(settings: Settings, times: int, names: Sequence[str] = steps.STEPS) -> Kills:
    """Kill `times` writers at each step, among readers and writers that live on."""
    assert settings.fence is not None
    table.make_table(settings.database, settings.rows)
    settings.folder.mkdir(parents=True, exist_ok=True)
    board = Board.create(settings.board, settings.rows, settings.slots)
    by_step = dict.fromkeys(names, 0)
    began = time.monotonic()
    processes = run.start(settings)
    try:
        run.wait_until_ready(settings, board, processes)
        for number in range(times):
            for index, step in enumerate(names):
                tasks = number % 2 == 1 and step not in steps.IN_THREADS
                seed = settings.seed + number * 100 + index
                one = start_victim(settings, {step: signal.SIGKILL}, seed, tasks)
                one.join(run.START)
                by_step[step] += one.exitcode == -signal.SIGKILL
        time.sleep(2 * settings.fence / 1000)
    finally:
        run.finish(board, processes)
    result = run.result_of(settings, board, time.monotonic() - began, processes)
    return Kills(by_step, result, at_rest(settings))


def at_rest(settings: Settings) -> list[str]:
    """Return, with nobody writing, what is wrong: old values that stay, rows not cached again.

    Reconfigures the library in this process.
    """
    assert settings.fence is not None
    SQLModelCache.configure(settings.redis, key_prefix=settings.prefix)
    engine = create_engine(settings.database)
    wrong = []
    with engine.connect() as connection:
        true: dict[int, int] = {}
        for model in (table.Item, table.Plain):
            found = connection.execute(select(model.id, model.version))
            true |= {row: version for row, version in found if table.model_of(row) is model}
    for row in range(settings.rows):
        read: list[tuple[int, bool]] = []
        deadline = time.monotonic() + settings.fence / 1000 + 5
        while not any(hit for _, hit in read) and time.monotonic() < deadline:
            with Session(engine) as session:
                item = session.get(table.model_of(row), row)
                assert item is not None
                read.append((item.version, item.from_cache))
        if any(version != true[row] for version, _ in read):
            wrong.append(f"row {row} is {true[row]} and was read as {read}")
        if not any(hit for _, hit in read):
            wrong.append(f"row {row} is never cached again")
    SQLModelCache.reset()
    engine.dispose()
    return wrong


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that another process does; raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("another process did not do what it was to do")
        time.sleep(0.005)


def is_stopped(pid: int) -> bool:
    """Tell whether a process stands still (Linux)."""
    status = Path(f"/proc/{pid}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "T"

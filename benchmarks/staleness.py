"""How old a copy in a process can get: commits of one process, heard by another.

Both look at one monotonic clock, that of the machine. A copy is gone when the message of the
fence is there, which is sent before the COMMIT; a copy is stale from when `commit()` returned.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import create_engine
from sqlmodel import Session

from benchmarks.place import Place
from benchmarks.report import Measured, Skipped
from benchmarks.rows import LocalRow
from benchmarks.timing import QUICK, Spread
from sqlmodel_cache import SQLModelCache, _state
from sqlmodel_cache.keys import local_channel

PREFIX = "staleness"
PAUSE = 0.002  # seconds between two commits


def measure(place: Place) -> Iterator[Measured | Skipped]:
    """Yield the delay of messages, and how long copies outlive a commit."""
    if place.redis_url is None or place.postgres is None:
        yield Skipped("L1", "no Redis, or no PostgreSQL")
        return
    heard: list[float] = []
    SQLModelCache.configure(f"{place.redis_url}?local=1000", key_prefix=PREFIX)
    try:
        rows = _state.active.stores.local._rows
        told = rows.told

        def note(key: str) -> None:
            told(key)
            heard.append(time.monotonic())

        rows.told = note
        assert _state.active.stores.local.wait_until_listening(local_channel(PREFIX), 10)
        url = place.postgres.url.render_as_string(hide_password=False)
        commits = 300 if place.pace is QUICK else 3000
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        writer = context.Process(target=_write, args=(there, place.redis_url, url, commits))
        writer.start()
        times: list[tuple[float, float]] = here.recv()
        writer.join()
        time.sleep(0.1)  # the last message
    finally:
        SQLModelCache.reset()
    assert len(heard) == 2 * commits, (len(heard), commits)
    gone = heard[::2]  # the fence's; the release's message comes second
    delays = sorted((at - begun) * 1e6 for at, (begun, _) in zip(gone, times, strict=True))
    stale = sorted((at - done) * 1e6 for at, (_, done) in zip(gone, times, strict=True))
    yield _line("commit() called -> copy gone elsewhere, p50", delays, 0.5)
    yield _line("commit() called -> copy gone elsewhere, p99", delays, 0.99)
    yield _line("commit() returned -> copy gone elsewhere, p50 (negative: before)", stale, 0.5)
    yield _line("commit() returned -> copy gone elsewhere, p99", stale, 0.99)
    late = sum(one > 0 for one in stale)
    yield Measured(
        "L1", "copies that outlived commit()", Spread(late / commits, 0), f"{late}", None, "share"
    )


def _line(what: str, values: list[float], share: float) -> Measured:
    at = values[int(share * (len(values) - 1))]
    return Measured("L1", what, Spread(at, 0), f"{len(values)} commits", None, "us")


def _write(answer: Any, redis_url: str, url: str, commits: int) -> None:
    """Commit one changed row again and again; send when each commit was called and returned."""
    SQLModelCache.configure(redis_url, key_prefix=PREFIX)
    engine = create_engine(url)
    times = []
    with Session(engine) as session:
        row = session.get(LocalRow, 1)
        assert row is not None
        for number in range(1, commits + 1):
            row.points = number
            session.flush()
            begun = time.monotonic()
            session.commit()
            times.append((begun, time.monotonic()))
            time.sleep(PAUSE)
    answer.send(times)
    SQLModelCache.reset()
    engine.dispose()

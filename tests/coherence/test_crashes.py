"""Writers killed at each step of a commit, and writers that stand still past their fence."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from tests.coherence import table
from tests.coherence.board import Board
from tests.coherence.steps import STEPS
from tests.coherence.victims import is_stopped, kill_writers, start_victim, until

pytestmark = pytest.mark.timeout(180)

FENCE = 300  # milliseconds


def test_killed_writers(settings):
    """Two writers killed at each step: nothing stale is read, then or later; nothing is stuck."""
    kills = kill_writers(
        replace(settings, fence=FENCE, threads=(1,), tasks=(2,), deletions=False, idle=0.01), 2
    )
    assert kills.by_step == dict.fromkeys(STEPS, 2)
    assert kills.wrong_at_rest == []
    result = kills.result
    assert (result.stale_s1, result.stale_s2, result.errors) == (0, 0, 0), result.evidence
    assert result.stale_database == 0
    assert result.hits > 100


@pytest.fixture
def scene(settings):
    """Return settings of two rows, and what reads row 0: (version, whether from the cache)."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc to see that a process stands still")
    settings = replace(settings, rows=2, fence=FENCE, threads=(), tasks=())
    table.make_table(settings.database, 2)
    Board.create(settings.board, 2, settings.slots)
    SQLModelCache.configure(settings.redis, key_prefix=settings.prefix)
    engine = create_engine(settings.database)

    def read(**arguments: Any) -> tuple[int, bool]:
        with Session(engine) as session:
            item = session.get(table.Item, 0, **arguments)
            return item.version, item.from_cache

    assert [read(), read()] == [(1, False), (1, True)]
    yield settings, read
    engine.dispose()


@pytest.mark.parametrize("tasks", [False, True])
def test_paused_before_commit(scene, tasks):
    """A writer outlives its fence before COMMIT: the old row is filled, and gone at its release."""
    settings, read = scene
    writer = start_victim(settings, {"after fence": signal.SIGSTOP}, 1, tasks)
    until(lambda: is_stopped(writer.pid))
    assert read() == (1, False)
    until(lambda: read() == (1, True))  # its fence ran out; the row is still the old one
    os.kill(writer.pid, signal.SIGCONT)
    writer.join()
    assert writer.exitcode == 0
    assert [read(), read()] == [(2, False), (2, True)]


@pytest.mark.parametrize("tasks", [False, True])
def test_paused_after_commit(scene, tasks):
    """A writer outlives its fence after COMMIT: nobody reads the old row at any moment."""
    settings, read = scene
    writer = start_victim(settings, {"after COMMIT": signal.SIGSTOP}, 2, tasks)
    until(lambda: is_stopped(writer.pid))
    assert read() == (2, False)
    until(lambda: read() == (2, True))
    os.kill(writer.pid, signal.SIGCONT)
    writer.join()
    assert writer.exitcode == 0
    assert [read(), read()] == [(2, False), (2, True)]


def test_paused_then_killed(scene):
    """The documented limit: outlive the fence, commit, and die. The old row stays for its TTL."""
    settings, read = scene
    ends = {"after fence": signal.SIGSTOP, "after COMMIT": signal.SIGKILL}
    writer = start_victim(settings, ends, 3, False)
    until(lambda: is_stopped(writer.pid))
    until(lambda: read() == (1, True))
    os.kill(writer.pid, signal.SIGCONT)
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert read() == (1, True)
    with redis.Redis.from_url(settings.redis) as client:
        (key,) = client.keys(f"{settings.prefix}:*}}:*0")
        assert 0 < client.pttl(key) <= table.Item.__cache_config__.ttl * 1000
    fresh = {"execution_options": {"cache": False}}
    assert read(**fresh) == (2, False)


def test_killed_without_a_fence(scene):
    """The canary of this page: a naive writer killed after its COMMIT leaves the old row behind."""
    settings, read = scene
    naive = replace(settings, flaw="naive delete")
    writer = start_victim(naive, {"after COMMIT": signal.SIGKILL}, 4, False)
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert read() == (1, True)

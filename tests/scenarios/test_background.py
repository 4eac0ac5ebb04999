"""Work beside the callers: bounded, once for each key, and ended by `close`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar

from sqlmodel_cache import clock
from sqlmodel_cache.orm import background
from sqlmodel_cache.orm._sqlalchemy import await_, in_greenlet
from sqlmodel_cache.orm.background import ABREAST, WAITING, Background

TENANT: ContextVar[str] = ContextVar("tenant", default="")


def threads() -> int:
    """Return how many threads of ours there are."""
    return sum(thread.name == background._NAME for thread in threading.enumerate())


class Gate:
    """Work that waits until it may go on."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.done: list[str] = []

    def work(self, name: str) -> Callable[[], bool]:
        """Return work that notes its name."""

        def wait() -> bool:
            assert self.open.wait(20)
            self.done.append(name)
            return True

        return wait


def test_no_more_than_fits() -> None:
    """Two at once, so many in line, one for each key; the rest is dropped; no thread is left."""
    gate, made = Gate(), Background()
    for _ in range(2):
        for number in range(ABREAST + WAITING + 5):
            made.do(str(number), gate.work(str(number)), in_task=False)
    assert threads() == ABREAST
    gate.open.set()
    made.join()
    assert threads() == 0
    # What the threads had taken out of the line when it was full is a matter of their speed.
    assert WAITING <= len(gate.done) <= WAITING + ABREAST
    assert len(set(gate.done)) == len(gate.done)
    made.do("0", gate.work("again"), in_task=False)
    made.join()
    assert gate.done[-1] == "again"


def test_a_rest_after_a_failure() -> None:
    """For a second nothing is taken on."""
    made, done = Background(), []
    made.do("a", lambda: False, in_task=False)
    made.join()
    made.do("a", lambda: done.append("a"), in_task=False)
    made.join()
    assert not done
    made._rests_till = clock.real()
    made.do("a", lambda: done.append("a"), in_task=False)
    made.join()
    assert done == ["a"]


def test_close_drops_what_waits() -> None:
    """What is under way is waited for; nothing is taken on any more."""
    gate, made = Gate(), Background()
    for name in "abcd":
        made.do(name, gate.work(name), in_task=False)
    threading.Timer(0.05, gate.open.set).start()
    made.close()
    assert threads() == 0
    assert sorted(gate.done) in (["a"], ["a", "b"], ["b"])
    made.do("e", gate.work("e"), in_task=False)
    made.join()
    assert "e" not in gate.done


def test_threads_see_the_callers_context() -> None:
    """Engine hooks that go by a context variable find it there."""
    made, seen = Background(), []
    TENANT.set("blue")
    made.do("a", lambda: seen.append(TENANT.get()), in_task=False)
    made.join()
    assert seen == ["blue"]


async def test_tasks() -> None:
    """Two at once on this loop, in SQLAlchemy's greenlet; the rest in line."""
    made, done, at_once = Background(), [], [0, 0]

    def work(name: str) -> bool:
        assert in_greenlet()
        at_once[0] += 1
        at_once[1] = max(at_once)
        await_(asyncio.sleep(0))
        at_once[0] -= 1
        done.append(name)
        return True

    for name in "abcda":
        made.do(name, lambda name=name: work(name), in_task=True)
    await made.ajoin()
    assert sorted(done) == ["a", "b", "c", "d"]
    assert at_once[1] == ABREAST
    made.do("e", lambda: work("e"), in_task=True)
    await made.ajoin()
    assert done[-1] == "e"


async def test_aclose_cancels_tasks() -> None:
    """And waits for their end."""
    made, ended = Background(), []

    def work() -> bool:
        try:
            await_(asyncio.sleep(60))
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return True

    made.do("a", work, in_task=True)
    await asyncio.sleep(0)
    await made.aclose()
    assert ended == ["cancelled"]
    made.do("b", work, in_task=True)
    assert not made._keys


async def test_close_on_the_loop() -> None:
    """`reset()` in a coroutine cancels them, too."""
    made, ended = Background(), []

    def work() -> bool:
        try:
            await_(asyncio.sleep(60))
        finally:
            ended.append("over")
        return True

    made.do("a", work, in_task=True)
    await asyncio.sleep(0)
    made.close()
    for _ in range(5):
        await asyncio.sleep(0)
    assert ended == ["over"]


def test_a_forked_child_begins_with_nothing() -> None:
    """Its parent's threads are not there, and a lock may be held."""
    gate, made = Gate(), Background()
    made.do("a", gate.work("a"), in_task=False)
    parents = list(made._threads.workers)
    made._lock.acquire()
    made.after_fork()
    made.do("a", gate.work("child"), in_task=False)
    gate.open.set()
    made.join()
    assert "child" in gate.done
    for thread in parents:
        thread.join(1)

"""A little work beside the callers: in daemon threads or, for async engines, tasks of their loop.

Nobody waits for it, so it is bounded: at most `ABREAST` at once and `WAITING` in line, for each
loop and for the threads; one piece of work for each key; and none for a while after one failed.
What does not fit in is dropped: whoever needs it next will ask again. A thread lives as long as
there is work. `close` ends everything.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlmodel_cache import clock
from sqlmodel_cache.orm._sqlalchemy import greenlet_spawn
from sqlmodel_cache.transport.forks import tell_of_forks

ABREAST: Final = 2
WAITING: Final = 64
PAUSE: Final = 1.0  # seconds of rest after a failure
_NAME: Final = "sqlmodel_cache-background"
_GRACE: Final = 5.0  # seconds for which `close` waits for work under way


class _Line:
    """Work that waits, and the threads, or tasks of one loop, that do it."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[str, Callable[[], object]]] = deque()
        self.workers: set[Any] = set()


class Background:
    """The work beside the callers of one cache.

    Work is a plain function; in a task it runs in SQLAlchemy's greenlet. It returns whether it
    did what it was for, and raises nothing but a cancellation.
    """

    def __init__(self) -> None:
        self._closed = False
        self.after_fork()
        tell_of_forks(self)

    def after_fork(self) -> None:
        """Begin with nothing: threads and loops are the parent's."""
        self._lock = threading.Lock()
        self._keys: set[str] = set()
        self._rests_till = 0.0
        self._threads = _Line()
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()

    def do(self, key: str, work: Callable[[], object], *, in_task: bool) -> None:
        """Have `work` done soon, unless there is some for `key` already, or too much.

        `in_task`: on the loop that runs here. Threads see the caller's context variables too.
        """
        if key in self._keys or clock.real() < self._rests_till:
            return
        loop = asyncio.get_running_loop() if in_task else None
        with self._lock:
            line = self._threads
            if loop is not None:
                line = self._loops.setdefault(loop, _Line())
            if self._closed or key in self._keys or len(line.waiting) >= WAITING:
                return
            self._keys.add(key)
            if loop is None:
                work = partial(copy_context().run, work)
            line.waiting.append((key, work))
            if len(line.workers) < ABREAST:
                line.workers.add(self._thread(line) if loop is None else self._task(line, loop))

    def close(self) -> None:
        """End it. Threads are waited for, some seconds; tasks are cancelled."""
        self._cancel(self._end())

    async def aclose(self) -> None:
        """Like `close`, and wait for the tasks of this loop."""
        tasks = await asyncio.to_thread(self._end)
        self._cancel(tasks)
        here = [task for task in tasks if task.get_loop() is asyncio.get_running_loop()]
        await asyncio.gather(*here, return_exceptions=True)

    def join(self) -> None:
        """Wait until the threads have nothing left to do. For tests."""
        for thread in list(self._threads.workers):
            thread.join()

    async def ajoin(self) -> None:
        """Wait until the tasks of this loop have nothing left to do. For tests."""
        line = self._loops.get(asyncio.get_running_loop())
        if line is not None:
            await asyncio.gather(*line.workers)

    def _end(self) -> list[asyncio.Task[None]]:
        with self._lock:
            self._closed = True
            lines = [self._threads, *self._loops.values()]
            for line in lines:
                line.waiting.clear()
            threads = list(self._threads.workers)
            tasks = [task for line in lines[1:] for task in line.workers]
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(timeout=_GRACE)
        return tasks

    @staticmethod
    def _cancel(tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            with suppress(RuntimeError):  # the loop was closed, and its tasks with it
                task.get_loop().call_soon_threadsafe(task.cancel)

    def _thread(self, line: _Line) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(line,), name=_NAME, daemon=True)
        thread.start()
        return thread

    def _task(self, line: _Line, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        task = loop.create_task(self._arun(line), name=_NAME)
        task.add_done_callback(line.workers.discard)
        return task

    def _run(self, line: _Line) -> None:
        me = threading.current_thread()
        while (found := self._next(line, me)) is not None:
            key, work = found
            self._done(key, well=bool(work()))

    async def _arun(self, line: _Line) -> None:
        me = asyncio.current_task()
        while (found := self._next(line, me)) is not None:
            key, work = found
            well = False
            try:
                well = bool(await greenlet_spawn(work))
            finally:
                self._done(key, well=well)

    def _next(self, line: _Line, me: object) -> tuple[str, Callable[[], object]] | None:
        with self._lock:
            if line.waiting:
                return line.waiting.popleft()
            line.workers.discard(me)  # in the same step, so that no work is left lying
            return None

    def _done(self, key: str, *, well: bool) -> None:
        if not well:
            self._rests_till = clock.real() + PAUSE
        with self._lock:
            self._keys.discard(key)

"""The named steps of a commit, and what can be made to happen at each: a delay, or the end.

Hooks stand inside the library's own wrappers (a dialect's `do_commit` is wrapped before the library
wraps it) or around a transport's `perform`; the library knows nothing of them.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Final

import wrapt

from sqlmodel_cache.orm._sqlalchemy import await_, in_greenlet
from sqlmodel_cache.orm.queries import answer, instances
from sqlmodel_cache.orm.reads import lookup, together
from sqlmodel_cache.protocol.ops import Fence, Release
from sqlmodel_cache.transport.async_ import RedisAsyncTransport
from sqlmodel_cache.transport.lines import RedisLineTransport
from sqlmodel_cache.transport.owing import Sent
from tests.coherence.board import Slot

STEPS: Final = (
    "after flush",
    "fence sent ahead",
    "statement behind it",
    "before fence",
    "between fences",
    "after fence",
    "COMMIT sent",
    "after COMMIT",
    "between releases",
    "after release",
)

AHEAD: Final = ("fence sent ahead", "statement behind it")
IN_THREADS: Final = (*AHEAD, "COMMIT sent")  # which is psycopg's own; no task sends one ahead

_PENDING: Final = "coherence"
_FENCES: Final = {"before fence", "between fences", "after fence"}
_armed: dict[str, signal.Signals] = {}
_thread = threading.local()  # `ahead`: the fence of its present commit was sent ahead


def arm(step: str, number: signal.Signals = signal.SIGKILL) -> None:
    """Have this process send itself a signal when it next reaches `step`."""
    assert step in STEPS
    _armed[step] = number


def is_armed(step: str) -> bool:
    """Tell whether something is to happen at `step`."""
    return step in _armed


def reach(step: str) -> None:
    """Say that `step` is reached."""
    if _armed and step in _armed:
        os.kill(os.getpid(), _armed.pop(step))


def pause(seconds: float) -> None:
    """Let time pass, for other tasks too."""
    if in_greenlet():
        await_(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


def promise(session: Any, slot: Slot, versions: Iterable[tuple[int, int]]) -> None:
    """Note what the commit of `session`'s transaction will make visible."""
    session.connection().info[_PENDING] = (slot, tuple(versions))


def watch_commits(engine: Any, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Publish what each commit made visible as soon as the server's reply to COMMIT is in.

    Call it before the engine's first use: the library wraps what it finds. `before` runs between
    fence and COMMIT, `after` between the reply and the release.
    """

    def do_commit(commit: Any, dialect: Any, args: Any, kwargs: Any) -> None:
        connection = args[0]
        pending = connection.info.pop(_PENDING, None)
        before()
        if pending is not None and "COMMIT sent" in _armed:
            send_commit(connection)
            reach("COMMIT sent")
        commit(*args, **kwargs)
        if pending is not None:
            slot, versions = pending
            for row, version in versions:
                slot.replied(row, version)
            slot.count("ahead", vars(_thread).pop("ahead", False))
            reach("after COMMIT")
        after()

    wrapt.wrap_function_wrapper(engine.dialect, "do_commit", do_commit)


def send_commit(connection: Any) -> None:
    """Send COMMIT over a psycopg connection and wait for no reply."""
    server = connection.driver_connection.pgconn
    server.send_query(b"COMMIT")
    while server.flush():
        time.sleep(0)


def watch_transports(delay: Callable[[], None]) -> None:
    """Say which step is reached, and do fences and releases of several rows one after another.

    `delay` runs between a fence that is sent ahead and the statement.
    """
    transports: list[tuple[Any, Any]] = [
        (RedisLineTransport, _synchronous),
        (RedisAsyncTransport, _asynchronous),
    ]
    for cls, stepwise in transports:
        cls.perform = stepwise(cls.perform)
    send, arrived = RedisLineTransport.send, Sent.arrived

    @wraps(send)
    def sending(self: Any, op: Any, *heard: Any) -> Sent | None:
        if type(op) is not Fence:
            return send(self, op, *heard)
        if not _FENCES.isdisjoint(_armed):
            return None  # it is to be performed
        sent = send(self, op)
        if sent is not None:
            _thread.ahead = True
            reach("fence sent ahead")
            delay()
        return sent

    @wraps(arrived)
    def arriving(self: Sent) -> bool:
        reach("statement behind it")
        return arrived(self)

    RedisLineTransport.send = sending  # type: ignore[method-assign]
    Sent.arrived = arriving  # type: ignore[method-assign]


def _names(op: Any) -> tuple[str, str, str]:
    if type(op) is Fence:
        return "before fence", "between fences", "after fence"
    return "after COMMIT", "between releases", "after release"


def _first(op: Any) -> Any:
    if type(op) is Fence:
        return Fence(op.writer, op.entries[:1], (), op.duration)
    return Release(op.writer, op.entries[:1], ())


def _synchronous(perform: Any) -> Any:
    @wraps(perform)
    def stepwise(self: Any, op: Any) -> Any:
        if not _armed or type(op) not in (Fence, Release):
            return perform(self, op)
        before, between, after = _names(op)
        reach(before)
        if between in _armed and len(op.entries) > 1:
            perform(self, _first(op))
            reach(between)
        reply = perform(self, op)
        reach(after)
        return reply

    return stepwise


def _asynchronous(perform: Any) -> Any:
    @wraps(perform)
    async def stepwise(self: Any, op: Any) -> Any:
        if not _armed or type(op) not in (Fence, Release):
            return await perform(self, op)
        before, between, after = _names(op)
        reach(before)
        if between in _armed and len(op.entries) > 1:
            await perform(self, _first(op))
            reach(between)
        reply = await perform(self, op)
        reach(after)
        return reply

    return stepwise


def some_delay(rng: random.Random, share: float, longest: float) -> Callable[[], None]:
    """Return a hook that pauses in `share` of its calls, up to `longest` seconds."""

    def delay() -> None:
        if rng.random() < share:
            pause(rng.random() * longest)

    return delay


def delay_fills(delay: Callable[[], None]) -> None:
    """Have every reader dawdle between its SELECT and its fill."""
    settle = lookup.settle

    @wraps(settle)
    def dawdle(*arguments: Any, **named: Any) -> bool:
        delay()
        return settle(*arguments, **named)

    for module in (lookup, together, answer, instances):
        assert vars(module)["settle"] is settle
        vars(module)["settle"] = dawdle

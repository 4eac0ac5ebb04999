"""Step a protocol generator against a transport: the only place that waits.

`drive` for threads, `adrive` for tasks; the same loop twice, because `await` cannot be hidden.
Whatever a store throws becomes `UnavailableError` here and nowhere else, is noted by the breaker
and thrown into the generator at its `yield`, which may clean up. Cancellation is not a failure
and passes through untouched.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any, TypeVar

from sqlmodel_cache import clock
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.protocol.ops import Op, Wait
from sqlmodel_cache.transport.breaker import NORMAL
from sqlmodel_cache.transport.failures import (
    as_unavailable,
    explain,
    is_denied,
    is_moving,
    is_store_failure,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlmodel_cache.protocol.read import Steps
    from sqlmodel_cache.transport._protocols import AsyncOpTransport, OpTransport
    from sqlmodel_cache.transport.breaker import Breaker, Pass

T = TypeVar("T")


def drive(
    steps: Steps[T],
    transport: OpTransport,
    breaker: Breaker | None = None,
    *,
    sleep: Callable[[float], object] = time.sleep,
) -> T:
    """Run `steps` to its end and return its result.

    `sleep` takes seconds of real time. A caller in a greenlet of SQLAlchemy's passes one that
    awaits; then even a transport that does not block needs no other bridge.

    Raises `UnavailableError` unless `steps` catches it.
    """
    perform = transport.perform
    try:
        op = next(steps)
        while True:
            if type(op) is Wait:
                sleep(op.seconds)
                op = steps.send(None)
                continue
            try:
                reply = ask(perform, op, breaker)
            except UnavailableError as error:
                op = steps.throw(error)
            else:
                op = steps.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()


def ask(perform: Callable[[Op], Any], op: Op, breaker: Breaker | None) -> Any:
    """Have one operation performed by a synchronous transport; raises `UnavailableError`."""
    title = None if breaker is None else breaker.admit(op)
    try:
        reply = perform(op)
    except BaseException as error:
        raise_mapped(error, op, breaker, title)
        raise
    if breaker is not None and title is not None and title is not NORMAL:
        breaker.succeeded(title)
    return reply


async def adrive(
    steps: Steps[T],
    transport: AsyncOpTransport | OpTransport,
    breaker: Breaker | None = None,
) -> T:
    """Run `steps` to its end in a task; `transport` may also be a synchronous one.

    A synchronous one that blocks is asked in a worker thread.
    """
    perform = transport.perform
    awaits = inspect.iscoroutinefunction(perform)
    threads = not awaits and getattr(transport, "blocks", True)
    try:
        op = next(steps)
        while True:
            if type(op) is Wait:
                await asleep(op.seconds)
                op = steps.send(None)
                continue
            try:
                if awaits:
                    reply = await aask(perform, op, breaker)
                elif threads:
                    reply = await asyncio.to_thread(ask, perform, op, breaker)
                else:
                    reply = ask(perform, op, breaker)
            except UnavailableError as error:
                op = steps.throw(error)
            else:
                op = steps.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()


async def aask(perform: Callable[[Op], Any], op: Op, breaker: Breaker | None) -> Any:
    """Have one operation performed by an async transport; raises `UnavailableError`."""
    title = None if breaker is None else breaker.admit(op)
    task = asyncio.current_task()
    requests = 0 if task is None else task.cancelling()
    try:
        reply = await perform(op)
        # Before CPython 3.12 `wait_for`, under redis-py, can swallow a cancellation (bpo-37658).
        if task is not None and task.cancelling() > requests:
            raise asyncio.CancelledError
    except BaseException as error:
        raise_mapped(error, op, breaker, title)
        raise
    if breaker is not None and title is not None and title is not NORMAL:
        breaker.succeeded(title)
    return reply


def raise_mapped(
    error: BaseException, op: object, breaker: Breaker | None, title: Pass | None
) -> None:
    """Tell the breaker; raise `UnavailableError` for a failing store, else return."""
    failure = is_store_failure(error)
    if breaker is not None and title is not None:
        if is_denied(error):
            breaker.denied(title, explain(error))
        elif is_moving(error):
            breaker.succeeded(title)  # the other slots are where they were
        elif failure:
            breaker.failed(title, explain(error))
        else:
            breaker.dropped(title)
    if failure:
        raise as_unavailable(error, op) from None


async def asleep(seconds: float) -> None:
    """Let `seconds` of real time pass without blocking the event loop."""
    if clock.frozen():  # freezegun stops the loop's clock too: its timers never fire
        await asyncio.to_thread(time.sleep, seconds)
    else:
        await asyncio.sleep(seconds)

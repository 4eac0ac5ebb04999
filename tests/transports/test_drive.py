"""The drivers: replies in, failures in, waits performed, cancellation let through."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis.exceptions
import valkey.exceptions
from freezegun import freeze_time

from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.protocol.ops import Fence, Get, Release, Reply, Wait
from sqlmodel_cache.transport import MemoryTransport
from sqlmodel_cache.transport.breaker import Breaker, State
from sqlmodel_cache.transport.drive import adrive, drive

if TYPE_CHECKING:
    from sqlmodel_cache.keys import Entry, KeySpace
    from sqlmodel_cache.protocol.read import Steps


class Scripted:
    """A transport that answers, or raises, one thing after another."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[object] = []

    def perform(self, op: object) -> Any:
        self.asked.append(op)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class AsyncScripted(Scripted):
    """The same for tasks."""

    async def perform(self, op: object) -> Any:
        await asyncio.sleep(0)
        return super().perform(op)


class InThread(Scripted):
    """A synchronous transport met by a task; `blocks` is what an unknown one is taken to do."""


def run_sync(steps: Steps[Any], answers: tuple[object, ...], breaker: Breaker | None) -> Any:
    """Drive on a thread."""
    return drive(steps, Scripted(*answers), breaker)


def run_async(steps: Steps[Any], answers: tuple[object, ...], breaker: Breaker | None) -> Any:
    """Drive in a task, with an async transport."""
    return asyncio.run(adrive(steps, AsyncScripted(*answers), breaker))


def run_in_thread(steps: Steps[Any], answers: tuple[object, ...], breaker: Breaker | None) -> Any:
    """Drive in a task, with a transport that may block."""
    return asyncio.run(adrive(steps, InThread(*answers), breaker))


RUNS = [run_sync, run_async, run_in_thread]


@pytest.fixture(params=RUNS, ids=["sync", "async", "thread"])
def run(request: pytest.FixtureRequest) -> Any:
    """Each way to drive."""
    return request.param


@pytest.fixture
def entry(space: KeySpace) -> Entry:
    """One entry."""
    return space.entry("1")


def two_lookups(entry: Entry) -> Steps[list[object]]:
    """Ask twice, with a wait between."""
    first = yield Get(entry)
    waited = yield Wait(0.001)
    second = yield Get(entry)
    return [first, waited, second]


def forgiving(entry: Entry) -> Steps[str]:
    """Turn a failure into a result."""
    try:
        yield Get(entry)
    except UnavailableError as error:
        return str(error)
    return "fine"


FAILURES = [
    redis.exceptions.ConnectionError("refused by user:hunter2@host"),
    redis.exceptions.TimeoutError("hunter2"),
    redis.exceptions.ResponseError("WRONGTYPE hunter2"),
    redis.exceptions.OutOfMemoryError("hunter2"),
    valkey.exceptions.ConnectionError("hunter2"),
    OSError("hunter2"),
    TimeoutError("hunter2"),
    ConnectionResetError("hunter2"),
    UnavailableError("hunter2"),
    RuntimeError("Event loop is closed"),
]


def test_replies_go_in_and_the_result_comes_out(run: Any, entry: Entry) -> None:
    """A wait is answered None."""
    one, two = Reply(b"1", None), Reply(b"2", None)
    assert run(two_lookups(entry), (one, two), None) == [one, None, two]


def test_a_generator_without_steps(run: Any) -> None:
    """Nothing is asked."""

    def nothing() -> Steps[int]:
        return 7
        yield

    assert run(nothing(), (), None) == 7


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_failing_store_is_thrown_in_as_unavailable(
    run: Any, entry: Entry, failure: Exception
) -> None:
    """Named by class and operation; no text of the client's, which may hold a key or worse."""
    breaker = Breaker()
    told = run(forgiving(entry), (failure,), breaker)
    assert type(failure).__name__ in told
    assert "Get" in told
    assert "hunter2" not in told
    assert breaker.state is State.OPEN


def test_an_uncaught_failure_comes_out_without_its_cause(run: Any, entry: Entry) -> None:
    """A traceback in a log would print the client's text, and with it keys."""
    with pytest.raises(UnavailableError) as caught:
        run(two_lookups(entry), (Reply(None, None), OSError("hunter2")), None)
    assert caught.value.__suppress_context__


def test_a_bug_is_not_an_outage(run: Any, entry: Entry) -> None:
    """It comes out as it is, and the generator is closed."""
    closed = []

    def steps() -> Steps[None]:
        try:
            yield Get(entry)
        finally:
            closed.append(True)

    breaker = Breaker()
    with pytest.raises(ZeroDivisionError):
        run(steps(), (ZeroDivisionError(),), breaker)
    assert closed == [True]
    assert breaker.state is State.CLOSED


def test_an_open_breaker_refuses_without_asking(entry: Entry) -> None:
    """Lookups only; and a write that gets through closes it."""
    breaker = Breaker()
    transport = Scripted(OSError(), None)
    assert "OSError" in drive(forgiving(entry), transport, breaker)
    assert "is down" in drive(forgiving(entry), transport, breaker)
    assert len(transport.asked) == 1

    def writes() -> Steps[None]:
        yield Fence("w", (entry,), (), 1)

    drive(writes(), transport, breaker)
    assert breaker.state is State.CLOSED


async def test_an_open_breaker_refuses_tasks(entry: Entry) -> None:
    """The same in a task."""
    breaker = Breaker()
    transport = AsyncScripted(OSError(), None)
    assert "OSError" in await adrive(forgiving(entry), transport, breaker)
    assert "is down" in await adrive(forgiving(entry), transport, breaker)

    def writes() -> Steps[None]:
        yield Release("w", (entry,), ())

    await adrive(writes(), transport, breaker)
    assert breaker.state is State.CLOSED


async def test_cancellation_passes_through(entry: Entry) -> None:
    """It is no failure: the generator is closed, the breaker stays, nothing is mapped."""
    caught: list[type] = []
    asked = asyncio.Event()

    class Hanging:
        async def perform(self, _op: object) -> Any:
            asked.set()
            await asyncio.Event().wait()

    def steps() -> Steps[None]:
        try:
            yield Get(entry)
        except BaseException as error:
            caught.append(type(error))
            raise

    breaker = Breaker()
    task = asyncio.create_task(adrive(steps(), Hanging(), breaker))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert caught == [GeneratorExit]
    assert breaker.state is State.CLOSED


async def test_a_cancellation_that_the_client_swallowed_is_raised_again(entry: Entry) -> None:
    """`asyncio.wait_for` of CPython 3.11 does that under redis-py."""
    asked = asyncio.Event()

    class Swallowing:
        async def perform(self, _op: object) -> Any:
            asked.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return Reply(None, None)

    task = asyncio.create_task(adrive(two_lookups(entry), Swallowing()))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_probe_is_not_forgotten(entry: Entry) -> None:
    """The next lookup may probe."""
    seconds = 0.0
    breaker = Breaker(lambda: seconds)
    with pytest.raises(UnavailableError):
        await adrive(two_lookups(entry), AsyncScripted(OSError()), breaker)
    seconds = 1.0
    with pytest.raises(asyncio.CancelledError):
        await adrive(two_lookups(entry), AsyncScripted(asyncio.CancelledError()), breaker)
    replies = (Reply(None, None), Reply(None, None))
    await adrive(two_lookups(entry), AsyncScripted(*replies), breaker)
    assert breaker.state is State.CLOSED


def waits(seconds: float) -> Steps[None]:
    """Wait only."""
    yield Wait(seconds)


def test_waits_are_real_time(run: Any) -> None:
    """Also while the user's time is frozen, which stops an event loop's timers."""
    begin = time.perf_counter()
    run(waits(0.02), (), None)
    assert time.perf_counter() - begin >= 0.02
    with freeze_time("2030-01-01"):
        run(waits(0.005), (), None)


def test_a_caller_may_bring_its_own_sleep() -> None:
    """A greenlet awaits there."""
    slept: list[float] = []
    drive(waits(3600), MemoryTransport(), sleep=slept.append)
    assert slept == [3600]


async def test_memory_needs_no_thread(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task asks it directly; anything else that is synchronous goes to a worker."""
    threads: list[object] = []
    real = asyncio.to_thread

    async def watched(function: Any, *args: Any) -> Any:
        threads.append(function)
        return await real(function, *args)

    monkeypatch.setattr(asyncio, "to_thread", watched)
    replies = (Reply(None, None), Reply(None, None))
    assert await adrive(two_lookups(entry), MemoryTransport()) == [replies[0], None, replies[1]]
    assert threads == []
    await adrive(two_lookups(entry), InThread(*replies))
    assert len(threads) == 2

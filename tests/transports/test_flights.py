"""Single flight: whoever waits goes on at the landing, in threads and in tasks."""

from __future__ import annotations

import asyncio
import threading

from sqlmodel_cache.transport.flights import Flights


def test_nobody_flies():
    """Nothing to wait for."""
    assert Flights().find("k") is None


def test_threads_go_on_at_the_landing():
    """A thread that waits without end is let go by the landing."""
    flights = Flights()
    through = threading.Event()
    with flights.leading("k"):
        flight = flights.find("k")
        thread = threading.Thread(target=lambda: (flight.wait(60), through.set()))
        thread.start()
        assert not through.is_set()
    assert through.wait(10)
    thread.join()
    assert flights.find("k") is None


def test_a_limit_is_kept():
    """A leader that never lands delays nobody for longer."""
    flights = Flights()
    with flights.leading("k"):
        flight = flights.find("k")
        thread = threading.Thread(target=flight.wait, args=(0.01,))
        thread.start()
        thread.join(10)
        assert not thread.is_alive()


def test_one_does_not_wait_for_oneself():
    """A listener that looks up the row that is being loaded goes on at once."""
    flights = Flights()
    with flights.leading("k"):
        flights.find("k").wait(60)


def test_a_second_leader_changes_nothing():
    """The first one's followers wait for the first."""
    flights = Flights()
    with flights.leading("k"):
        first = flights.find("k")
        with flights.leading("k"):
            assert flights.find("k") is first
        assert flights.find("k") is first


async def test_tasks_go_on_at_the_landing():
    """Tasks of one loop wait without blocking it."""
    flights = Flights()
    with flights.leading("k"):
        waiting = [asyncio.create_task(flights.find("k").await_(60)) for _ in range(5)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)


async def test_landed_already():
    """Whoever found the flight just before it landed does not wait."""
    flights = Flights()
    with flights.leading("k"):
        flight = flights.find("k")
    await flight.await_(60)


def test_a_loop_that_is_gone():
    """A task whose loop was closed is nobody's business any more."""
    flights = Flights()

    async def give_up():
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        await flights.find("k").await_(60)

    with flights.leading("k"):
        try:
            asyncio.run(give_up())
        except asyncio.CancelledError:
            pass
    assert flights.find("k") is None

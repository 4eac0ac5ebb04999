"""The fill of a row that was loaded travels on its own: the reader does not wait for its reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
import redis
from sqlalchemy import event

from sqlmodel_cache import _state, get_many
from sqlmodel_cache.protocol.ops import Fill
from sqlmodel_cache.transport.breaker import NORMAL, Pass, State
from sqlmodel_cache.transport.flights import Flight
from sqlmodel_cache.transport.lines import RedisLineTransport
from tests.scenarios.harness import World
from tests.scenarios.models import Hero

MakeWorld = Callable[..., World]


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """Set up plain sessions over Redis, whose server knows the script of a fill."""
    world = make_world("sync", "redis", "sqlite")
    world.warm(Hero, world.store(Hero(name="Eve")))
    return world


@pytest.fixture
def fills(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return how each fill goes out, as it does."""
    told: list[str] = []
    perform, send = RedisLineTransport.perform, RedisLineTransport.send

    def performing(self: RedisLineTransport, op: Any) -> Any:
        if type(op) is Fill:
            told.append("awaited")
        return perform(self, op)

    def sending(self: RedisLineTransport, op: Any, heard: Any = None) -> Any:
        sent = send(self, op, heard)
        if type(op) is Fill and sent is not None:
            told.append("sent")
        return sent

    monkeypatch.setattr(RedisLineTransport, "perform", performing)
    monkeypatch.setattr(RedisLineTransport, "send", sending)
    return told


@contextmanager
def at_load(run: Callable[[], object]) -> Iterator[None]:
    """Run something when the block loads a row for the first time, between lease and fill."""
    left = [run]

    def listener(*_: Any) -> None:
        if left:
            left.pop()()

    event.listen(Hero, "load", listener)
    try:
        yield
    finally:
        event.remove(Hero, "load", listener)


def owed() -> list[Any]:
    """Return what connections still owe."""
    return [line.owes for line in _state.active.stores.sync._idle if line.owes is not None]


def test_nobody_waits_for_it(world: World, fills: list[str]) -> None:
    """Its reply is read by whoever asks next; the row is there."""
    pk = world.store(Hero(name="Ann"))
    world.miss(Hero, pk)
    assert fills == ["sent"]
    assert len(owed()) == 1
    assert world.hit(Hero, pk).name == "Ann"
    assert owed() == []


def test_counts_are_exact(world: World, fills: list[str]) -> None:
    """`stats()` has the reply read; a fill is counted and timed once."""
    before = world.stats()
    pk = world.store(Hero(name="Ann"))
    world.miss(Hero, pk)
    assert _state.active.tally.for_model("Hero").fills == before.fills
    after = world.stats()
    assert fills == ["sent"]
    assert after.fills == before.fills + 1
    assert after.latencies["fill"].count == before.latencies["fill"].count + 1
    assert world.stats().fills == after.fills
    assert after.errors == before.errors


def test_a_fill_that_a_writer_refuses(world: World, fills: list[str]) -> None:
    """A commit between the load and the fill takes the lease: nothing is stored or counted."""
    pk = world.store(Hero(name="Ann"))
    before = world.stats().fills

    def write() -> None:
        with world.session() as other:
            other.get(Hero, pk, execution_options={"cache": False}).name = "Bea"
            other.commit()

    with world.session() as session, at_load(write):
        assert session.get(Hero, pk).name == "Ann"
    assert fills == ["sent"]
    assert world.stats().fills == before
    assert world.miss(Hero, pk).name == "Bea"


def test_a_commit_right_behind_it(world: World, fills: list[str]) -> None:
    """The fence comes after the fill that is under way, and deletes it."""
    pk = world.store(Hero(name="Ann"))
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        session.commit()
    assert fills == ["sent"]
    assert world.miss(Hero, pk).name == "Bea"
    assert world.hit(Hero, pk).name == "Bea"


def test_who_waits_in_this_process_finds_it(world: World, fills: list[str]) -> None:
    """Where another thread waits for the row, the fill is awaited before that one goes on."""
    pk = world.store(Hero(name="Ann"))
    waits = Event()
    wait = Flight.wait

    def waiting(self: Flight, seconds: float) -> None:
        self.awaited = True
        waits.set()
        wait(self, 10)

    def load() -> None:
        pool.submit(follow)
        assert waits.wait(10)

    def follow() -> None:
        with world.plain() as session:
            found.append(session.get(Hero, pk).name)

    found: list[str] = []
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(Flight, "wait", waiting)
        hits = world.stats().hits
        with at_load(load):
            world.miss(Hero, pk)
    assert found == ["Ann"]
    assert fills == ["awaited"]
    assert world.stats().hits == hits + 1


def test_a_script_that_is_gone(world: World, fills: list[str]) -> None:
    """A server that forgot its scripts is told them again, and no fill is lost."""
    keys = world.store(*(Hero(name=name) for name in "ABC"))
    with redis.Redis.from_url(world.backing.transport) as client:
        client.script_flush()
    for pk in keys:
        world.miss(Hero, pk)
        world.hit(Hero, pk)
    assert fills == ["awaited", "sent", "sent"]
    assert world.stats().errors == 0


def test_a_script_that_goes_in_between(world: World, fills: list[str]) -> None:
    """Between lease and fill: this fill is lost, the next is awaited; the store is well."""
    first, second = world.store(Hero(name="Ann"), Hero(name="Bea"))
    before = world.stats().fills

    def forget() -> None:
        with redis.Redis.from_url(world.backing.transport) as client:
            client.script_flush()

    with at_load(forget):
        world.miss(Hero, first)
    assert world.stats().fills == before
    world.miss(Hero, second)
    assert fills == ["sent", "awaited"]
    assert world.hit(Hero, second).name == "Bea"
    assert world.stats().errors == 0
    assert _state.active.stores.breaker.state is State.CLOSED


def test_a_connection_that_breaks(world: World, fills: list[str]) -> None:
    """Before the reply was read: an error, but no outage; the next fill is awaited."""
    first, second = world.store(Hero(name="Ann"), Hero(name="Bea"))
    world.miss(Hero, first)
    (line,) = _state.active.stores.sync._idle
    line.connection.disconnect()
    assert world.get(Hero, first).name == "Ann"
    assert world.stats().errors == 1
    assert _state.active.stores.breaker.state is State.CLOSED
    assert world.miss(Hero, second).name == "Bea"
    assert world.hit(Hero, second).name == "Bea"
    assert fills == ["sent", "awaited"]
    assert world.stats().errors == 1


def test_a_server_that_hangs(
    world: World, fills: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No reply in time: an error, and an outage as for whoever waits for one."""
    pk = world.store(Hero(name="Ann"))
    world.miss(Hero, pk)
    (line,) = _state.active.stores.sync._idle

    def hanging() -> None:
        raise redis.TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(line.connection, "read_response", hanging)
        assert world.stats().errors == 1
    assert fills == ["sent"]
    assert _state.active.stores.breaker.state is State.OPEN
    assert world.miss(Hero, pk).name == "Ann"
    _state.active.stores.breaker.succeeded(Pass.FORCED)
    assert world.hit(Hero, pk).name == "Ann"


def test_a_server_that_refuses_it(world: World, fills: list[str]) -> None:
    """A key of another type under the lock: counted as an error, as if it had been awaited."""
    pk = world.store(Hero(name="Ann"))

    def spoil() -> None:
        with redis.Redis.from_url(world.backing.transport) as client:
            (lock,) = client.keys(f"*!lock:i{pk}")
            client.delete(lock)
            client.set(lock, "not a hash")

    with at_load(spoil):
        world.miss(Hero, pk)
    assert fills == ["sent"]
    assert world.stats().errors == 1
    assert _state.active.stores.breaker.state is State.OPEN


def test_while_the_store_is_left_alone(world: World, fills: list[str]) -> None:
    """The breaker decides about fills as about everything: none is sent."""
    pk = world.store(Hero(name="Ann"))
    breaker = _state.active.stores.breaker

    def fail() -> None:
        breaker.failed(NORMAL, "away")

    with at_load(fail):
        world.miss(Hero, pk)
    assert fills == []


def test_several_rows_are_awaited(world: World, fills: list[str]) -> None:
    """`get_many` tells how many it stored."""
    keys = world.store(Hero(name="Ann"), Hero(name="Bea"))
    with world.session() as session:
        get_many(session, Hero, keys)
    assert fills == ["awaited", "awaited"]


@pytest.mark.parametrize(
    ("mode", "store"), [("sync", "memory"), ("sync", "tiered"), ("async", "redis")]
)
def test_where_nothing_can_be_sent(
    make_world: MakeWorld, fills: list[str], mode: str, store: str
) -> None:
    """A store in this process, copies in front of Redis, and tasks: all as ever."""
    world = make_world(mode, store, "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.miss(Hero, pk)
    assert "sent" not in fills
    assert world.stats().fills == 1
    assert world.hit(Hero, pk).name == "Ann"

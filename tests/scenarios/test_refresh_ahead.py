"""Early refresh: one caller loads again what is about to end, and nobody notices.

Loads are said to take ten seconds, and the dice always fall so that a refresh is due that long
before the end: of a TTL of 100 seconds, at 90.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import Any

import pytest
from freezegun import freeze_time
from sqlalchemy import event

from sqlmodel_cache import _state, aget_many, get_many
from sqlmodel_cache.latency import Histogram
from sqlmodel_cache.orm.model import refreshing
from sqlmodel_cache.protocol.ops import Fence, Lease
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Brief, Fresh

NOON = dt.datetime(2031, 5, 4, 12, 0, 0)
MakeWorld = Callable[..., World]
SLOW = 10.0  # seconds


@pytest.fixture(autouse=True)
def dice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the draw be one mean duration of a load."""
    monkeypatch.setattr(refreshing, "draw", lambda: 1 - math.exp(-1))


def loads_take(seconds: float) -> None:
    """Say how long loads took so far."""
    counters = _state.active.tally.for_model("Fresh")
    counters.times["database"] = Histogram()
    counters.times["database"].add(seconds, times=1_000_000)


def at(seconds: float) -> dt.datetime:
    """Return the moment so long after noon."""
    return NOON + dt.timedelta(seconds=seconds)


@on_sqlite
def test_a_hit_near_its_end_is_loaded_again(world: World) -> None:
    """Before 90 seconds a hit, then one load, whose row lives for a whole TTL."""
    pk = world.store(Fresh(name="a"))
    with freeze_time(NOON) as time:
        world.miss(Fresh, pk)
        loads_take(SLOW)
        time.move_to(at(89))
        world.hit(Fresh, pk)
        time.move_to(at(91))
        world.behind_the_back(f"UPDATE scenario_fresh SET name = 'b' WHERE id = {pk}")
        assert world.miss(Fresh, pk).name == "b"
        assert world.hit(Fresh, pk).name == "b"
        time.move_to(at(91 + 89))
        world.hit(Fresh, pk)


@on_sqlite
def test_absence_is_looked_at_again(world: World) -> None:
    """A negative entry obeys the same rule."""
    with freeze_time(NOON) as time:
        assert world.get(Fresh, 999_999) is None
        loads_take(SLOW)
        with world.no_sql():
            assert world.get(Fresh, 999_999) is None
        time.move_to(at(91))
        with world.one_select():
            assert world.get(Fresh, 999_999) is None


@on_sqlite
def test_nobody_refreshes_before_loads_were_measured(world: World) -> None:
    """A process that has loaded nothing leaves it to others."""
    pk = world.store(Fresh(name="a"))
    with freeze_time(NOON) as time:
        world.miss(Fresh, pk)
        _state.active.tally.for_model("Fresh").times.clear()
        time.move_to(at(99))
        world.hit(Fresh, pk)


@on_sqlite
def test_without_the_setting_a_ttl_is_exact(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No dice are thrown for other models."""
    monkeypatch.setattr(refreshing, "draw", lambda: pytest.fail("drawn"))
    pk = world.store(Brief(name="b"))
    with freeze_time(NOON) as time:
        world.miss(Brief, pk)
        time.move_to(at(19.9))
        world.hit(Brief, pk)


@pytest.mark.parametrize("store", ["memory", "redis", "tiered"])
def test_others_go_on_hitting(make_world: MakeWorld, store: str) -> None:
    """While one caller loads, another hits, and neither waits nor loads."""
    world = make_world("sync", store, "sqlite")
    pk = world.store(Fresh(name="a"))
    seen: list[Any] = []

    def meanwhile(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "FROM scenario_fresh" in statement:
            before = world.stats().hits
            seen.append(world.get(Fresh, pk).name)
            assert world.stats().hits == before + 1

    with freeze_time(NOON) as time:
        world.miss(Fresh, pk)
        loads_take(SLOW)
        time.move_to(at(91))
        event.listen(world.engine, "before_cursor_execute", meanwhile)
        try:
            world.miss(Fresh, pk)
        finally:
            event.remove(world.engine, "before_cursor_execute", meanwhile)
    assert seen == ["a"]


@on_sqlite
def test_get_many_refreshes_what_is_due(world: World) -> None:
    """In the query that loads what is missing; the rest are hits."""
    old, young = world.store(Fresh(name="old"), Fresh(name="young"))
    ask: Any = get_many if world.mode == "sync" else aget_many

    def both(session: Any) -> Any:
        if world.mode == "sync":
            return ask(session, Fresh, [old, young])
        return world.loop.run_until_complete(ask(session._wrapped, Fresh, [old, young]))

    with freeze_time(NOON) as time:
        world.miss(Fresh, old)
        time.move_to(at(50))
        world.miss(Fresh, young)
        loads_take(SLOW)
        time.move_to(at(91))
        before = world.stats()
        with world.session() as session:
            assert [row.name for row in both(session)] == ["old", "young"]
        assert world.stats().hits == before.hits + 1
        assert world.stats().fills == before.fills + 1
        time.move_to(at(120))
        world.hit(Fresh, old)


@on_sqlite
def test_who_cannot_store_does_not_load(world: World) -> None:
    """A session that wrote stores nothing until its transaction ends."""
    pk, other = world.store(Fresh(name="a"), Fresh(name="b"))
    with freeze_time(NOON) as time:
        world.miss(Fresh, pk)
        loads_take(SLOW)
        time.move_to(at(91))
        with world.session() as session:
            session.add(Fresh(name="c"))
            session.flush()
            before = world.stats().misses
            assert session.get(Fresh, pk).name == "a"
            assert world.stats().misses == before
    assert other


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_store_that_fails_meanwhile(make_world: MakeWorld, mode: str) -> None:
    """What was found is good, and is returned."""
    world: Any = make_world(mode, "faulty", "sqlite")
    pk = world.store(Fresh(name="a"))
    with freeze_time(NOON) as time:
        world.miss(Fresh, pk)
        loads_take(SLOW)
        time.move_to(at(91))
        world.backing.fail_at = Lease
        world.hit(Fresh, pk)
        world.backing.fail_at = None


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_writer_in_flight_comes_first(make_world: MakeWorld, mode: str) -> None:
    """Between the read and the lease a commit began: the database answers, nothing is stored."""
    world: Any = make_world(mode, "faulty", "sqlite")
    pk = world.store(Fresh(name="a"))
    memory = world.backing.memory.transport
    perform = world.backing.perform

    def fenced(op: Any) -> Any:
        if type(op) is Lease:
            memory.perform(Fence("1" * 32, (op.entry,), (), 60_000))
        return perform(op)

    with freeze_time(NOON) as time:
        world.miss(Fresh, pk)
        loads_take(SLOW)
        time.move_to(at(91))
        world.backing.perform = fenced
        fills = world.stats().fills
        world.miss(Fresh, pk)
        assert world.stats().fills == fills

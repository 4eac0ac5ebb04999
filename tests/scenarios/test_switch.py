"""The switch of a deployment: what one process turns, every other one follows."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import select

from sqlmodel_cache import (
    ConfigurationError,
    SQLModelCache,
    UnavailableError,
    UnsupportedError,
    _state,
    get_many,
)
from sqlmodel_cache.orm.operate import switch
from sqlmodel_cache.testing import FaultyTransport
from tests.scenarios.harness import MODES, STORES, World
from tests.scenarios.models import Hero, Note, Town

Make = Callable[..., World]
WAYS = list(product(MODES, STORES))
ways = pytest.mark.parametrize(("mode", "store"), WAYS, ids=[f"{m}-{s}" for m, s in WAYS])
ROOT = Path(__file__).resolve().parents[2]


def turn(world: World, *models: type, off: bool) -> None:
    """Turn the switch in the way of the world."""
    if world.mode == "sync":
        (SQLModelCache.switch_off if off else SQLModelCache.switch_on)(*models)
    else:
        turned = SQLModelCache.aswitch_off if off else SQLModelCache.aswitch_on
        world.loop.run_until_complete(turned(*models))


def time_passes() -> None:
    """Have this process look again with its next lookup, as it does after some seconds."""
    _state.active.switch.due = 0.0


def elsewhere(redis_url: str, prefix: str, call: str) -> None:
    """Call something in another process of the deployment, which has used no database."""
    code = (
        "from sqlmodel_cache import SQLModelCache\n"
        "from tests.scenarios.models import Hero\n"
        f"SQLModelCache.configure({redis_url!r}, key_prefix={prefix!r})\n"
        f"SQLModelCache.{call}\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@ways
def test_off_and_on(make_world: Make, mode: str, store: str) -> None:
    """Off is the database's; on begins anew."""
    world = make_world(mode, store, "sqlite")
    pk = world.store(Hero(name="Ann"))
    town = world.store(Town(name="Ulm"))
    world.warm(Hero, pk)
    world.warm(Town, town)
    turn(world, Hero, off=True)
    before = world.backing.values()
    for _ in range(2):
        world.miss(Hero, pk)
    world.hit(Town, town)
    assert world.backing.values() == before  # nothing was stored
    assert world.stats().models["Hero"].bypasses == {"switched_off": 2}
    turn(world, Hero, off=False)
    world.miss(Hero, pk)
    world.hit(Hero, pk)
    world.hit(Town, town)  # it was not off, and its epochs stand


@ways
def test_off_goes_on_invalidating(make_world: Make, mode: str, store: str) -> None:
    """A commit while it is off drops what is stored."""
    world = make_world(mode, store, "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    turn(world, off=True)
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        session.commit()
    assert world.backing.values() == {}
    turn(world, off=False)
    assert world.miss(Hero, pk).name == "Bea"
    assert world.hit(Hero, pk).name == "Bea"


@pytest.mark.parametrize("mode", MODES)
def test_another_process_turns_it(
    make_world: Make,
    redis_url: str,
    key_prefix: str,
    caplog: pytest.LogCaptureFixture,
    mode: str,
) -> None:
    """The others follow at a lookup, when it is time to look; both ways, with a line each."""
    world = make_world(mode, "redis", "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    elsewhere(redis_url, key_prefix, "switch_off(Hero)")
    world.hit(Hero, pk)  # not yet
    with caplog.at_level(logging.WARNING, "sqlmodel_cache"):
        time_passes()
        world.get(Hero, pk)
        world.miss(Hero, pk)
        world.miss(Hero, pk)
        elsewhere(redis_url, key_prefix, "switch_on()")
        world.miss(Hero, pk)
        time_passes()
        world.miss(Hero, pk)  # on again, and empty
        world.hit(Hero, pk)
    assert [line.split(":")[0] for line in caplog.messages] == [
        "The cache was switched off for the whole deployment",
        "The cache was switched on again for the whole deployment",
    ]


def test_a_new_process_finds_it_off(make_world: Make, redis_url: str, key_prefix: str) -> None:
    """With its first lookup."""
    elsewhere(redis_url, key_prefix, "switch_off()")
    world = make_world("sync", "redis", "sqlite")  # reads a Hero that is not there
    pk = world.store(Hero(name="Ann"))
    world.miss(Hero, pk)
    world.miss(Hero, pk)
    assert world.stats().bypasses["switched_off"] == 2


def test_it_costs_one_command_now_and_then(
    make_world: Make, commandstats: Callable[[], Any]
) -> None:
    """A hit sends nothing more, but for one in some seconds; off sends nothing else at all."""
    world = make_world("sync", "redis", "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with commandstats() as commands:
        for _ in range(3):
            world.hit(Hero, pk)
    assert commands == {"mget": 3}
    time_passes()
    with commandstats() as commands:
        for _ in range(3):
            world.hit(Hero, pk)
    assert commands == {"mget": 3, "hgetall": 1}
    SQLModelCache.switch_off()
    with commandstats() as commands:
        for _ in range(3):
            world.miss(Hero, pk)
    assert commands == {}


def test_every_way_to_read_looks(make_world: Make) -> None:
    """get_many and a select() look too."""
    world = make_world("sync", "memory", "sqlite")
    one, two = world.store(Hero(name="Ann"), Hero(name="Bea"))
    reads: list[Callable[[Any], Any]] = [
        lambda session: get_many(session, Hero, [one, two]),
        lambda session: session.execute(select(Hero).where(Hero.id == one)).all(),
        lambda session: session.get(Hero, two),
    ]
    for read in reads:
        time_passes()
        with world.session() as session:
            read(session)
        assert _state.active.switch.due > 0


def test_it_is_looked_at_within_five_seconds() -> None:
    """The promise of `switch_off`; the tests' own pause is longer."""
    code = "from sqlmodel_cache.orm.operate import switch; assert switch.PAUSE <= 5"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
    assert switch.PAUSE > 5


def test_everything_is_more_than_a_model(make_world: Make) -> None:
    """A model stays off with everything; `switch_on()` takes back all."""
    world = make_world("sync", "memory", "sqlite")
    pk = world.store(Hero(name="Ann"))
    SQLModelCache.switch_off()
    SQLModelCache.switch_off(Hero)
    SQLModelCache.switch_on(Hero)
    world.miss(Hero, pk)
    world.miss(Hero, pk)
    SQLModelCache.switch_off(Hero)
    SQLModelCache.switch_on()
    world.miss(Hero, pk)
    world.hit(Hero, pk)


@pytest.mark.parametrize("mode", MODES)
def test_a_store_that_is_away(make_world: Make, mode: str) -> None:
    """Nobody can be told, which is said; reads come from the database, and nothing changes."""
    world = make_world(mode, "memory", "sqlite")
    pk = world.store(Hero(name="Ann"))
    faulty = FaultyTransport()
    SQLModelCache.configure(faulty)
    world.warm(Hero, pk)
    with faulty.partition():
        with pytest.raises(UnavailableError, match="SQLMODEL_CACHE_MODE=invalidate"):
            turn(world, off=True)
        time_passes()
        world.miss(Hero, pk)
    world.hit(Hero, pk)
    turn(world, off=True)
    world.miss(Hero, pk)
    turn(world, off=False)
    world.miss(Hero, pk)
    world.hit(Hero, pk)


def test_a_store_that_forgot(make_world: Make, key_prefix: str) -> None:
    """A switch that is lost with the store is on; so the store, empty, is coherent."""
    world = make_world("sync", "redis", "sqlite")
    pk = world.store(Hero(name="Ann"))
    SQLModelCache.switch_off(Hero)
    world.backing._client.delete(_state.active.switch.board)  # type: ignore[attr-defined]
    time_passes()
    world.miss(Hero, pk)
    world.hit(Hero, pk)


def test_a_small_transport_has_no_switch(make_world: Make) -> None:
    """Explicit calls say so; reads never ask for it."""
    world = make_world("sync", "dict", "sqlite")
    with pytest.raises(UnsupportedError, match="SQLMODEL_CACHE_MODE"):
        SQLModelCache.switch_off()
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)


def test_a_transport_that_does_not_know_the_question(
    make_world: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody's own full transport of before: said once, and asked no more."""

    class Older:
        blocks = False
        asked: ClassVar[list[type]] = []

        def perform(self, op: Any) -> Any:
            self.asked.append(type(op))
            if type(op).__name__ == "Switches":
                raise KeyError(op)
            return inner.perform(op)

    world = make_world("sync", "memory", "sqlite")
    pk = world.store(Hero(name="Ann"))
    inner = world.backing.transport
    with caplog.at_level(logging.WARNING, "sqlmodel_cache"):
        SQLModelCache.configure(Older())
        world.warm(Hero, pk)
        world.hit(Hero, pk)
    assert [one.__name__ for one in Older.asked].count("Switches") == 1
    assert len(caplog.messages) == 1


def test_what_is_no_cached_model(make_world: Make) -> None:
    """Refused by name; nothing is turned."""
    make_world("sync", "memory", "sqlite")
    with pytest.raises(ConfigurationError, match="Note"):
        SQLModelCache.switch_off(Hero, Note)
    assert _state.active.switch.off == frozenset()


def test_explain_says_who(make_world: Make) -> None:
    """And how to take it back."""
    world = make_world("sync", "memory", "sqlite")
    pk = world.store(Hero(name="Ann"))
    SQLModelCache.switch_off(Hero)
    with world.session() as session:
        told = SQLModelCache.explain(session, Hero, pk)
    assert told.reason == "switched_off"
    assert "switch_on" in str(told)

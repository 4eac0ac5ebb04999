"""How long an entry lives: the same on every transport, exact, and by the caller's clock."""

from __future__ import annotations

import datetime as dt
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from freezegun import freeze_time
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from sqlmodel_cache import ConfigurationError, cached_sessionmaker
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Brief, Fleeting, Hero, Town, Wavering

NOON = dt.datetime(2031, 5, 4, 12, 0, 0)
MakeWorld = Callable[..., World]
Where = tuple[str, str, str]


def _lives_exactly(world: World, model: Any, pk: int, seconds: int, **how: Any) -> None:
    """Fill at noon; the entry must be there just before its time is over, and not after."""
    with freeze_time(NOON) as time:
        world.miss(model, pk, **how)
        time.move_to(NOON + dt.timedelta(seconds=seconds) - dt.timedelta(milliseconds=1))
        world.hit(model, pk)
        time.move_to(NOON + dt.timedelta(seconds=seconds))
        world.miss(model, pk, execution_options={"cache_ttl": 0})


def test_ttl_of_the_configuration(make_world: MakeWorld, any_store: Where) -> None:
    """Without any other word `default_ttl` counts."""
    world = make_world(*any_store, default_ttl=100)
    _lives_exactly(world, Hero, world.store(Hero(name="Ann")), 100)


def test_ttl_of_the_model_beats_the_configuration(make_world: MakeWorld, any_store: Where) -> None:
    """`CacheConfig.ttl` comes before `default_ttl`."""
    world = make_world(*any_store, default_ttl=100)
    _lives_exactly(world, Brief, world.store(Brief(name="b")), 20)


def test_ttl_of_the_call_beats_both(make_world: MakeWorld, any_store: Where) -> None:
    """`cache_ttl` comes first, be it shorter or longer."""
    world = make_world(*any_store, default_ttl=100)
    for seconds in (5, 500):
        pk = world.store(Brief(name="b"))
        _lives_exactly(world, Brief, pk, seconds, execution_options={"cache_ttl": seconds})


def test_ttl_is_what_the_store_is_told(make_world: MakeWorld) -> None:
    """In real time the store's own expiry decides, and it is given the exact TTL."""
    world: Any = make_world("sync", "dict", "sqlite", default_ttl=100)
    world.get(Hero, world.store(Hero(name="Ann")))
    world.get(Brief, world.store(Brief(name="b")))
    pk = world.store(Brief(name="b"))
    world.get(Brief, pk, execution_options={"cache_ttl": 7})
    assert world.backing.ttls == [100, 20, 7]


def test_ttl_in_redis_is_exact(make_world: MakeWorld) -> None:
    """The key expires after just the TTL, in milliseconds."""
    world: Any = make_world("sync", "redis", "sqlite")
    world.get(Brief, world.store(Brief(name="b")))
    (key,) = world.backing.values()
    assert 18_000 < world.backing.milliseconds_left(key) <= 20_000


@pytest.mark.parametrize("layer", ["call", "session", "engine", "factory"])
@on_sqlite
def test_ttl_layers_of_execution_options(world: World, layer: str) -> None:
    """An option counts wherever it is set."""
    pk = world.store(Hero(name="Ann"))
    with freeze_time(NOON) as time:
        with _session_with(world, layer, {"cache_ttl": 9}) as session:
            how = {"execution_options": {"cache_ttl": 9}} if layer == "call" else {}
            session.get(Hero, pk, **how)
        time.move_to(NOON + dt.timedelta(seconds=8))
        world.hit(Hero, pk)
        time.move_to(NOON + dt.timedelta(seconds=9))
        world.miss(Hero, pk)


@on_sqlite
def test_ttl_of_the_innermost_layer_wins(world: World) -> None:
    """Call before session, session before engine."""
    engine = world.engine.execution_options(cache_ttl=1)
    first, second = world.store(Hero(name="Ann"), Hero(name="Bea"))
    with freeze_time(NOON) as time:
        with world.session(bind=engine) as session:
            session.get(Hero, first, execution_options={"cache_ttl": 9})
        with world.session(bind=engine) as session:
            session.get(Hero, second)
        time.move_to(NOON + dt.timedelta(seconds=2))
        world.hit(Hero, first)
        world.miss(Hero, second)


@pytest.mark.parametrize("layer", ["call", "engine", "factory"])
@on_sqlite
def test_cache_false_at_every_layer(world: World, layer: str) -> None:
    """And an inner `cache=True` lifts an outer `cache=False`."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with _session_with(world, layer, {"cache": False}) as session:
        how = {"execution_options": {"cache": False}} if layer == "call" else {}
        with world.one_select():
            session.get(Hero, pk, **how)
    if layer != "call":
        with _session_with(world, layer, {"cache": False}) as session, world.no_sql():
            session.get(Hero, pk, execution_options={"cache": True})


def _session_with(world: World, layer: str, options: dict[str, Any]) -> Any:
    bind = world.engine
    if layer == "factory":
        make: Any = sessionmaker if world.mode == "sync" else async_sessionmaker
        settings = {"ttl" if key == "cache_ttl" else key: value for key, value in options.items()}
        return world.made_by(cached_sessionmaker(make(bind), **settings))
    if layer == "session":
        if "execution_options" not in inspect.signature(Session).parameters:
            pytest.skip("sessions have execution options from SQLAlchemy 2.1 on")
        return world.session(execution_options=options)
    return world.session(bind=bind.execution_options(**options) if layer == "engine" else bind)


def test_ttl_of_zero_stores_nothing(make_world: MakeWorld, any_store: Where) -> None:
    """Of the call, of the model, and of the configuration."""
    world = make_world(*any_store)
    pk = world.store(Hero(name="Ann"))
    world.miss(Hero, pk, execution_options={"cache_ttl": 0})
    world.miss(Hero, pk, execution_options={"cache_ttl": 0})
    fleeting = world.store(Fleeting(name="f"))
    world.miss(Fleeting, fleeting)
    world.miss(Fleeting, fleeting)
    assert world.backing.values() == {}
    world = make_world(*any_store, default_ttl=0)
    world.miss(Hero, pk)
    world.miss(Hero, pk)
    assert world.backing.values() == {}


@on_sqlite
def test_ttl_of_zero_in_a_call_still_reads(world: World) -> None:
    """`cache_ttl` is for what the call stores; what is there may be used."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    world.hit(Hero, pk, execution_options={"cache_ttl": 0})


@on_sqlite
def test_ttl_of_a_model_of_zero_and_a_call_that_wants_more(world: World) -> None:
    """The call's word counts for a model that stores nothing by itself."""
    pk = world.store(Fleeting(name="f"))
    world.miss(Fleeting, pk, execution_options={"cache_ttl": 60})
    assert world.hit(Fleeting, pk).name == "f"


def test_ttl_a_refill_reads_what_changed_meanwhile(make_world: MakeWorld, any_store: Where) -> None:
    """What was written outside of the library is seen when the TTL is over."""
    world = make_world(*any_store)
    pk = world.store(Brief(name="old"))
    with freeze_time(NOON) as time:
        world.warm(Brief, pk)
        world.behind_the_back(f"UPDATE scenario_brief SET name = 'new' WHERE id = {pk}")
        assert world.hit(Brief, pk).name == "old"
        time.tick(21)
        assert world.miss(Brief, pk).name == "new"
        assert world.hit(Brief, pk).name == "new"


def test_negative_ttl_is_its_own(make_world: MakeWorld, any_store: Where) -> None:
    """An absent row is forgotten after `negative_ttl`, whatever the other TTLs are."""
    world = make_world(*any_store, default_ttl=3)
    pk = int(world.fresh[:7], 16)
    with freeze_time(NOON) as time:
        assert world.miss(Town, pk) is None
        time.move_to(NOON + dt.timedelta(seconds=59))
        assert world.hit(Town, pk) is None
        time.move_to(NOON + dt.timedelta(seconds=60))
        assert world.miss(Town, pk) is None


@on_sqlite
def test_negative_ttl_and_a_row_that_comes_from_outside(world: World) -> None:
    """After the negative TTL a row that the library never saw written is found."""
    pk = int(world.fresh[:7], 16)
    with freeze_time(NOON) as time:
        world.get(Town, pk)
        world.behind_the_back(f"INSERT INTO scenario_town (id, name) VALUES ({pk}, 'Rome')")
        assert world.hit(Town, pk) is None
        time.tick(61)
        assert world.miss(Town, pk).name == "Rome"


def test_jitter_stays_within_its_bounds(make_world: MakeWorld) -> None:
    """With jitter 0.5 of 100 seconds, lives lie between 50 and 100, and differ."""
    world: Any = make_world("sync", "dict", "sqlite")
    keys = world.store(*(Wavering(name="w") for _ in range(60)))
    with world.session() as session:
        for pk in keys:
            session.get(Wavering, pk)
    assert len(world.backing.ttls) == 60
    assert 50 <= min(world.backing.ttls) < 65
    assert 85 < max(world.backing.ttls) <= 100
    assert len(set(world.backing.ttls)) > 10


def test_without_jitter_lives_are_exact(make_world: MakeWorld) -> None:
    """No jitter unless the model asks for it."""
    world: Any = make_world("sync", "dict", "sqlite")
    for pk in world.store(*(Brief(name="b") for _ in range(10))):
        world.get(Brief, pk)
    assert world.backing.ttls == [20] * 10


@pytest.mark.parametrize("value", [-1, "5", 1.5, True, None])
@on_sqlite
def test_a_ttl_that_is_none_is_refused(world: World, value: object) -> None:
    """Anything but a whole number of seconds is a ConfigurationError."""
    pk = world.store(Hero(name="Ann"))
    with pytest.raises(ConfigurationError, match="cache_ttl"):
        world.get(Hero, pk, execution_options={"cache_ttl": value})
    with pytest.raises(ConfigurationError, match="cache="):
        world.get(Hero, pk, execution_options={"cache": "no"})

"""Bytes that must be gone: purge in every namespace, and a limit on every TTL."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from freezegun import freeze_time
from sqlalchemy import event, select

from sqlmodel_cache import ConfigurationError, SQLModelCache, UnsupportedError, _state
from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol.ops import Fence
from tests.scenarios.harness import MODES, STORES, World
from tests.scenarios.models import Hero, Member, Note, Town

Make = Callable[..., World]
WAYS = list(product(MODES, STORES))
ways = pytest.mark.parametrize(("mode", "store"), WAYS, ids=[f"{m}-{s}" for m, s in WAYS])


def purge(world: World, model: type, *keys: Any) -> int:
    """Purge in the way of the world."""
    if world.mode == "sync":
        return SQLModelCache.purge(model, *keys)
    return world.loop.run_until_complete(SQLModelCache.apurge(model, *keys))


@ways
def test_a_model_is_purged(make_world: Make, mode: str, store: str) -> None:
    """Its values are gone, others stand; what is there is stored again when read."""
    world = make_world(mode, store, "sqlite")
    heroes = world.store(*[Hero(name=f"h{n}") for n in range(30)])
    town = world.store(Town(name="Ulm"))
    for pk in heroes:
        world.get(Hero, pk)
    world.warm(Town, town)
    assert purge(world, Hero) == 30
    assert len(world.backing.values()) == 1
    world.hit(Town, town)
    world.miss(Hero, heroes[0])
    world.hit(Hero, heroes[0])
    assert purge(world, Hero) == 1


@ways
def test_a_row_is_purged_with_all_pointers(make_world: Make, mode: str, store: str) -> None:
    """Keys that hold an address go too; the other rows stay."""
    world = make_world(mode, store, "sqlite")
    one, two = world.store(Member(email=f"a{world.fresh}"), Member(email=f"b{world.fresh}"))
    for letter in "ab":
        with world.session() as session:
            email = f"{letter}{world.fresh}"
            assert session.execute(select(Member).where(Member.email == email)).all()
    for pk in (one, two):
        world.get(Member, pk)
    assert len(world.backing.values()) == 4
    assert purge(world, Member, one) == 3
    (left,) = world.backing.values()
    assert world.fresh not in left
    world.hit(Member, two)
    world.miss(Member, one)


@ways
def test_other_namespaces_are_purged_too(
    make_world: Make, key_prefix: str, mode: str, store: str
) -> None:
    """Rows of tenants that this process has never met."""
    world = make_world(mode, store, "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    (key,) = world.backing.values()
    text = key.partition("}:")[2]
    space = KeySpace(key_prefix, "another tenant", "scenario_hero")
    for entry in (space.entry(text), space.entry("i999999")):
        world.backing.overwrite(entry.value, b"bytes")
    assert purge(world, Hero, pk) == 2
    assert purge(world, Hero) == 1
    assert world.backing.values() == {}


@ways
def test_who_loaded_before_stores_nothing_after(make_world: Make, mode: str, store: str) -> None:
    """A purge while a reader is between its SELECT and its fill."""
    world = make_world(mode, store, "sqlite")
    pk = world.store(Hero(name="Ann"))
    for keys in ((pk,), ()):
        with world.session() as session:
            plain = session.sync_session if mode == "async" else session
            seen: list[int] = []

            def during(*_: Any, keys: Any = keys, seen: Any = seen) -> None:
                seen.append(SQLModelCache.purge(Hero, *keys))

            event.listen(plain, "loaded_as_persistent", during)
            assert session.get(Hero, pk).name == "Ann"
        assert seen == [0]
        assert world.backing.values() == {}


@pytest.mark.parametrize("store", STORES)
def test_locks_of_writers_are_left_alone(make_world: Make, store: str) -> None:
    """A fence is no value: a purge during a commit lets nobody store the old row."""
    world = make_world("sync", store, "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    (key,) = world.backing.values()
    (namespace,) = {n for site in _state.active.sites for n in site.namespaces}
    entry = _state.active.keyspace(namespace, "scenario_hero").entry(key.partition("}:")[2])
    _state.active.stores.sync.perform(Fence("w" * 32, (entry,), (), 60_000))
    SQLModelCache.purge(Hero)
    world.miss(Hero, pk)
    assert world.backing.values() == {}


def test_a_key_with_braces_in_it_is_its_own(make_world: Make) -> None:
    """What a user calls a row cannot look like another model's key."""
    world = make_world("sync", "redis", "sqlite")
    space = KeySpace(SQLModelCache.get_config().key_prefix, "n", "scenario_town")
    entry = space.entry("s}:{n:scenario_hero:1}:i1")
    world.backing.overwrite(entry.value, b"bytes")
    assert SQLModelCache.purge(Hero) == 0
    assert SQLModelCache.purge(Town) == 1


def test_what_cannot_be_purged(make_world: Make) -> None:
    """A model without entries, and a store that cannot look through its keys."""
    make_world("sync", "memory", "sqlite")
    with pytest.raises(ConfigurationError, match="Note"):
        SQLModelCache.purge(Note)
    make_world("sync", "dict", "sqlite")
    with pytest.raises(UnsupportedError, match="look through"):
        SQLModelCache.purge(Hero)


@ways
def test_max_ttl_limits_every_ttl(make_world: Make, mode: str, store: str) -> None:
    """Of a model, a call, a ghost."""
    with freeze_time("2026-01-01") as time:
        world = make_world(mode, store, "sqlite", default_ttl=300, max_ttl=10)
        pk, town = world.store(Hero(name="Ann"), Town(name="Ulm"))
        world.get(Hero, pk, execution_options={"cache_ttl": 200})
        world.hit(Hero, pk)
        world.warm(Town, town + 1000)  # there is none, for 60 s as its model says
        time.tick(10.5)
        world.miss(Hero, pk)
        world.miss(Town, town + 1000)
        if mode == "sync":
            with world.session() as session:
                assert SQLModelCache.explain(session, Hero, pk + 1).ttl == 10


def test_max_ttl_that_cannot_be() -> None:
    """As any number of seconds."""
    with pytest.raises(ConfigurationError, match="max_ttl"):
        SQLModelCache.configure("memory://", max_ttl=-1)

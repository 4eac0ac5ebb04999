"""`warm`: rows in the cache before anybody asks for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from sqlmodel_cache import ConfigurationError, SQLModelCache, awarm, warm
from tests.recording import Commands
from tests.scenarios.harness import World
from tests.scenarios.models import Hero, Note, Town

CommandStats = Callable[[], AbstractContextManager[Commands]]


def warmed(world: World, model: Any, keys: Any) -> int:
    """Warm in a session of its own."""
    with world.session() as session:
        if world.mode == "sync":
            return warm(session, model, keys)
        return int(world.loop.run_until_complete(awarm(session._wrapped, model, keys)))


def test_rows_are_stored_once(world: World) -> None:
    """One query for what is missing; the number is that of rows stored."""
    pks = world.store(*(Hero(name=f"h{n}") for n in range(4)))
    world.warm(Hero, pks[0])
    with world.one_select():
        assert warmed(world, Hero, (pk for pk in [*pks, pks[1]])) == 3
    with world.no_sql():
        assert warmed(world, Hero, pks) == 0
    assert [world.hit(Hero, pk).name for pk in pks] == ["h0", "h1", "h2", "h3"]


def test_what_is_not_there(world: World) -> None:
    """A missing row is stored only where absence is remembered."""
    assert warmed(world, Hero, [-1]) == 0
    assert warmed(world, Town, [-1]) == 1
    assert world.hit(Town, -1) is None


def test_switched_off(make_world: Callable[..., World]) -> None:
    """Nothing is stored inside `bypass()`."""
    world = make_world("sync", "memory", "sqlite")
    pk = world.store(Hero(name="Ann"))
    with SQLModelCache.bypass():
        assert warmed(world, Hero, [pk]) == 0
    assert warmed(world, Hero, [pk]) == 1


def test_through_redis(make_world: Callable[..., World], commandstats: CommandStats) -> None:
    """One MGET asks for all."""
    world = make_world("sync", "redis", "sqlite")
    pks = world.store(*(Hero(name=f"h{n}") for n in range(4)))
    assert warmed(world, Hero, pks) == 4
    with commandstats() as commands:
        assert warmed(world, Hero, pks) == 0
    assert commands == {"mget": 1}


def test_wrong_calls(make_world: Callable[..., World]) -> None:
    """Uncached models, keys of another form, the wrong kind of session, no configuration."""
    world = make_world("async", "memory", "sqlite")
    with world.session() as session:
        real = session._wrapped
        with pytest.raises(ConfigurationError, match=r"await awarm"):
            warm(real, Hero, [1])
        with pytest.raises(ConfigurationError, match=r"with a Session write warm"):
            world.loop.run_until_complete(awarm(real.sync_session, Hero, [1]))
        with pytest.raises(ConfigurationError, match=r"Note\): the model is not cached"):
            warmed(world, Note, [1])
        with pytest.raises(ConfigurationError, match="Hero: a key does not have the form"):
            warmed(world, Hero, [(1, 2)])
        SQLModelCache.reset()
        with pytest.raises(ConfigurationError, match="not configured"):
            warmed(world, Hero, [1])

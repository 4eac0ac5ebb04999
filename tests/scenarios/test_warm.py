"""`warm`: rows in the cache before anybody asks for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy.orm import aliased, defer
from sqlmodel import col, select

from sqlmodel_cache import ConfigurationError, SQLModelCache, awarm, warm
from sqlmodel_cache.orm.reads.warming import AT_ONCE
from tests.recording import Commands
from tests.scenarios.harness import World
from tests.scenarios.models import Engineer, Hero, Manager, Note, Person, Seat, Town

CommandStats = Callable[[], AbstractContextManager[Commands]]


def warmed(world: World, *what: Any) -> int:
    """Warm in a session of its own."""
    with world.session() as session:
        if world.mode == "sync":
            return warm(session, *what)
        return int(world.loop.run_until_complete(awarm(session._wrapped, *what)))


def test_rows_are_stored_once(world: World) -> None:
    """One query for what is missing; the number is that of rows stored."""
    pks = world.store(*(Hero(name=f"h{n}") for n in range(4)))
    world.warm(Hero, pks[0])
    with world.one_select():
        assert warmed(world, Hero, (pk for pk in [*pks, pks[1]])) == 3
    with world.no_sql():
        assert warmed(world, Hero, pks) == 0
    assert [world.hit(Hero, pk).name for pk in pks] == ["h0", "h1", "h2", "h3"]


def test_rows_of_a_select(world: World) -> None:
    """Those that it selects are stored, whatever its order, limit and options."""
    pks = world.store(*(Hero(name=f"h{n}") for n in range(4)))
    world.warm(Hero, pks[3])
    ours = select(Hero).where(col(Hero.id).in_(pks))
    chosen = ours.where(Hero.name != "h0").distinct().order_by(col(Hero.name).desc())
    with world.sql() as sent:
        assert warmed(world, chosen.limit(2).options(defer(col(Hero.power)))) == 1
    assert len(sent) == 2
    with world.no_sql():
        assert [world.hit(Hero, pk).name for pk in pks[2:]] == ["h2", "h3"]
    assert warmed(world, chosen) == 1
    assert warmed(world, chosen.where(Hero.name == "nobody")) == 0
    assert warmed(world, ours) == 1


def test_many_rows(make_world: Callable[..., World]) -> None:
    """However many there are: no statement takes the keys of all."""
    world = make_world("sync", "memory", "sqlite")
    pks = world.store(*(Hero(name=f"h{n}") for n in range(2 * AT_ONCE + 1)))
    with world.sql() as sent:
        assert warmed(world, select(Hero).where(col(Hero.id).in_(pks))) == len(pks)
    assert len(sent) == 1 + 3
    with world.no_sql():
        assert warmed(world, Hero, pks) == 0


def test_a_session_that_is_in_use(make_world: Callable[..., World]) -> None:
    """Its transaction and what it holds stay; of the snapshot of one, nothing is stored."""
    world = make_world("sync", "memory", "postgres")
    first, second = world.store(Hero(name="Ann"), Hero(name="Bea"))
    with world.session() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        ann = session.get(Hero, first)
        ann.power = 7
        with world.sql() as sent:
            assert warm(session, select(Hero).where(Hero.id == second)) == 0
        assert sent.starting("UPDATE")
        assert session.in_transaction()
        session.commit()
        assert warm(session, Hero, [second]) == 1
        assert ann in session
    with world.session() as session:
        assert warm(session, Hero, [first]) == 1
        assert not session.in_transaction()
    assert world.hit(Hero, first).power == 7


def test_rows_of_inheritance_and_composite_keys(make_world: Callable[..., World]) -> None:
    """A select of a subclass, and one of a key of two columns."""
    world = make_world("sync", "memory", "sqlite")
    pks = world.store(Manager(name="m", budget=1), Engineer(name="e", language="c"))
    assert warmed(world, select(Manager).where(Manager.id.in_(pks))) == 1
    assert warmed(world, select(Person).where(Person.id.in_(pks))) == 1
    seat = world.store(Seat(row=1, number="two", name="a"))
    assert warmed(world, select(Seat).where(Seat.number == "two")) == 1
    assert world.hit(Seat, seat).name == "a"


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
        for what in (
            (select(Hero, Note),),
            (select(col(Hero.name)),),
            (select(aliased(Hero)),),
            ("Hero", [1]),
            (select(Hero), [1]),
        ):
            with pytest.raises(ConfigurationError, match=r"give it a model and keys, or a select"):
                warmed(world, *what)
        with pytest.raises(ConfigurationError, match=r"Note\): the model is not cached"):
            warmed(world, select(Note))
        with pytest.raises(ConfigurationError, match="Hero: NoneType is no list of primary keys"):
            warmed(world, Hero)
        SQLModelCache.reset()
        with pytest.raises(ConfigurationError, match="not configured"):
            warmed(world, Hero, [1])

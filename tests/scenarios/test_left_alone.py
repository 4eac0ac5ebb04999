"""What the cache has no business with (B29, B30)."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import perf_counter
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.recording import Commands
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Hero, Note

CommandStats = Callable[[], AbstractContextManager[Commands]]

# B29: queries


def test_b29_a_query_sees_the_database(world: World) -> None:
    """A query for a cached model reads rows, not the cache, and stores nothing."""
    pk, cold = world.store(Hero(name="cached"), Hero(name="cold"))
    world.warm(Hero, pk)
    world.behind_the_back(f"UPDATE scenario_hero SET name = 'stored' WHERE id = {pk}")
    before = world.backing.values()
    with world.session() as session:
        with world.one_select():
            query = select(Hero).where(Hero.id.in_([pk, cold])).order_by(Hero.id)
            found = session.scalars(query).all()
        assert [hero.name for hero in found] == ["stored", "cold"]
        assert session.get(Hero, pk).name == "stored"
    assert world.backing.values() == before


def test_b29_a_query_asks_redis_nothing(
    make_world: Callable[..., World], commandstats: CommandStats
) -> None:
    """Not one command for a query, an attribute's refresh, or a scalar."""
    world = make_world("sync", "redis", "sqlite")
    pk = world.store(Hero(name="Ann"))
    with world.session() as session, commandstats() as commands:
        hero = session.scalars(select(Hero).where(Hero.id == pk, Hero.power == 0)).one()
        session.expire(hero)
        assert hero.name == "Ann"
        assert session.scalar(select(Hero.power).where(Hero.id == pk)) == 0
    assert commands == {}


@on_sqlite
def test_b29_the_same_sql_with_and_without_the_cache(world: World) -> None:
    """A miss sends the SELECT that SQLAlchemy sends; no column more, no clause."""
    pk = world.store(Hero(name="Ann"))
    with world.sql() as missed:
        world.get(Hero, pk)
    with world.sql() as plain:
        world.get(Hero, pk, execution_options={"cache": False})
    assert missed == plain


# B30: models that did not opt in


def test_b30_an_uncached_model_asks_redis_nothing(
    make_world: Callable[..., World], commandstats: CommandStats
) -> None:
    """Reads, writes and commits of it leave the server alone."""
    world = make_world("sync", "redis", "sqlite")
    pk = world.store(Note(name="n"))
    with commandstats() as commands, world.session() as session:
        session.get(Note, pk).name = "m"
        session.commit()
        session.delete(session.get(Note, pk))
        session.commit()
    assert commands == {}


@on_sqlite
def test_b30_an_uncached_model_is_read_as_ever(world: World) -> None:
    """Each get is a SELECT, nothing is counted or stored."""
    pk = world.store(Note(name="n"))
    before = world.stats()
    assert world.miss(Note, pk).name == "n"
    assert world.miss(Note, pk).name == "n"
    assert world.stats() == before
    assert world.backing.values() == {}


def test_b30_a_hit_is_one_round_trip(
    make_world: Callable[..., World], commandstats: CommandStats
) -> None:
    """One MGET, and nothing before or after it."""
    world = make_world("sync", "redis", "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with commandstats() as commands:
        world.hit(Hero, pk)
    assert commands == {"mget": 1}


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_b30_overhead_of_an_uncached_get(make_world: Callable[..., World], store: str) -> None:
    """Below two microseconds, measured where a get is cheapest: in the identity map."""
    world = make_world("sync", store, "sqlite")
    pk = world.store(Note(name="n"))
    bare: Any = Session.get.__wrapped__  # type: ignore[attr-defined]
    with world.session() as session:
        note = session.get(Note, pk)
        assert bare(session, Note, pk) is note
        ours, theirs = _fastest(lambda: session.get(Note, pk), lambda: bare(session, Note, pk))
    assert ours - theirs < 2e-6, f"{(ours - theirs) * 1e6:.2f} us"


def _fastest(*calls: Callable[[], object]) -> list[float]:
    """Return the seconds of one call of each, the best of many rounds taken in turn."""
    best = [float("inf")] * len(calls)
    tracer = sys.gettrace()
    sys.settrace(None)  # coverage would count the library's lines, and time its own counting
    gc.disable()
    try:
        for _ in range(60):
            for position, call in enumerate(calls):
                begun = perf_counter()
                for _ in range(200):
                    call()
                best[position] = min(best[position], (perf_counter() - begun) / 200)
    finally:
        gc.enable()
        sys.settrace(tracer)
    return best

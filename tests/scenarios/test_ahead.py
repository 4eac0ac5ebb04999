"""B12, asynchronously: a hit needs no greenlet, and whatever may wait for a database has one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.transport.breaker import State
from tests.scenarios.harness import STORES
from tests.scenarios.models import Hero, Player, Team, Town

if TYPE_CHECKING:
    from tests.scenarios.harness import World


@pytest.fixture(params=STORES)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    """Set up the asynchronous worlds."""
    return make_world("async", request.param, "sqlite")


@pytest.fixture
def greenlets(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Give what was run in a greenlet, SQLAlchemy's and ours."""
    ran: list[object] = []

    def spawn(function: Any, *args: Any, **kwargs: Any) -> Any:
        ran.append(function)
        return real(function, *args, **kwargs)

    real = _sqlalchemy.greenlet_spawn
    monkeypatch.setattr("sqlalchemy.ext.asyncio.session.greenlet_spawn", spawn)
    monkeypatch.setattr(_sqlalchemy, "greenlet_spawn", spawn)
    return ran


def hit(world: World, model: Any, pk: Any) -> None:
    """Have a row in the store."""
    world.get(model, pk)
    world.hit(model, pk)


def test_b12_a_hit_makes_no_greenlet(world: World, greenlets: list[object]) -> None:
    """Neither does the ghost of a row that is not there."""
    pk = world.store(Hero(name="h"))
    hit(world, Hero, pk)
    world.get(Town, 987_654)
    with world.session() as session:
        greenlets.clear()
        with world.sql() as sql:
            assert session.get(Hero, pk).name == "h"
            assert session.get(entity=Town, ident=987_654) is None
        assert greenlets == []
        assert sql == []


def test_b12_a_miss_goes_on_from_where_it_stands(world: World, greenlets: list[object]) -> None:
    """It asks the store once for the value, and in one greenlet for all the rest."""
    pk = world.store(Hero(name="h"))
    with world.session() as session:
        greenlets.clear()
        assert session.get(Hero, pk).name == "h"
        assert len(greenlets) == 1
    stats = SQLModelCache.stats()
    assert (stats.misses - 1, stats.fills) == (1, 1)  # the world's own look at row 0 is one too
    world.hit(Hero, pk)


def test_b12_pending_changes_are_flushed_first(world: World) -> None:
    """As by any load: what was changed here is read from the database afterwards."""
    pk, other = world.store(Hero(name="h", power=1), Hero(name="o"))
    hit(world, Hero, pk)
    hit(world, Hero, other)
    with world.session() as session:
        session.get(Hero, pk).power = 2
        with world.sql() as sql:
            session.get(Hero, other)
        assert any(text.startswith("UPDATE") for text in sql)
        session.rollback()


@pytest.mark.parametrize("target", ["class", "session"])
def test_b12_a_listener_may_wait(world: World, target: str) -> None:
    """Whoever listens to a load runs in a greenlet, after a hit as after a SELECT."""
    pk = world.store(Hero(name="h"))
    hit(world, Hero, pk)
    seen: list[object] = []

    def on_load(*arguments: object) -> None:
        _sqlalchemy.await_(asyncio.sleep(0))
        seen.append(_sqlalchemy.in_greenlet())

    with world.session() as session:
        where: Any = Hero if target == "class" else session._wrapped.sync_session
        name = "load" if target == "class" else "loaded_as_persistent"
        event.listen(where, name, on_load)
        try:
            with world.sql() as sql:
                assert session.get(Hero, pk).name == "h"
        finally:
            event.remove(where, name, on_load)
    assert (sql, seen) == ([], [True])


@pytest.mark.parametrize("hook", ["get", "get_bind", "after_transaction_create", "patch"])
def test_b12_a_hook_runs_in_a_greenlet(
    world: World, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that overrides a method of the session, or patches it after us."""
    pk = world.store(Hero(name="h"))
    hit(world, Hero, pk)
    seen: list[bool] = []

    def note() -> None:
        _sqlalchemy.await_(asyncio.sleep(0))
        seen.append(True)

    class Own(Session):
        if hook == "get":

            def get(self, *args: Any, **kwargs: Any) -> Any:
                note()
                return super().get(*args, **kwargs)

        if hook == "get_bind":

            def get_bind(self, *args: Any, **kwargs: Any) -> Any:
                note()
                return super().get_bind(*args, **kwargs)

    if hook == "after_transaction_create":
        event.listen(Own, hook, lambda session, transaction: note())
    if hook == "patch":
        ours = Session.get
        monkeypatch.setattr(Session, "get", lambda *a, **k: (note(), ours(*a, **k))[1])
    with world.session(sync_session_class=Own) as session:
        assert session.get(Hero, pk).name == "h"
    assert seen


def test_b12_somebody_who_is_here_already(world: World) -> None:
    """The identity map comes first, and an expired instance is refreshed."""
    pk = world.store(Hero(name="h"))
    hit(world, Hero, pk)
    with world.session() as session:
        hero = session.get(Hero, pk)
        assert session.get(Hero, pk) is hero
        session.expire(hero)
        assert session.get(Hero, pk) is hero
        assert hero.name == "h"


def test_b12_arguments_take_the_usual_way(world: World) -> None:
    """Each of them may want a database."""
    pk = world.store(Hero(name="h"))
    hit(world, Hero, pk)
    for arguments in (
        {"populate_existing": True},
        {"with_for_update": True},
        {"execution_options": {"cache": False}},
    ):
        with world.session() as session, world.sql() as sql:
            assert session.get(Hero, pk, **arguments).name == "h"
        assert any(text.startswith("SELECT") for text in sql)
    with world.session() as session, pytest.raises(TypeError, match=r"get.*ident"):
        session.get(Hero)


def test_b12_relationships_after_a_hit(world: World) -> None:
    """An instance made ahead of the greenlet loads the rest of itself like any other."""
    team = world.store(Team(name="t"))
    pk = world.store(Player(name="p", team_id=team))
    hit(world, Player, pk)
    with world.session() as session:
        player = session.get(Player, pk)
        assert world.attribute(session, player, "team").name == "t"


def test_b12_a_crowd(world: World) -> None:
    """A hundred sessions in one turn: each gets its own row, and one cancelled harms nobody."""
    rows = dict.fromkeys(world.store(*(Hero(name="h", power=n) for n in range(100))))
    for pk in rows:
        hit(world, Hero, pk)

    async def get(pk: int) -> tuple[int, str]:
        async with AsyncSession(world.engine) as session:
            found = await session.get(Hero, pk)
            assert found is not None
            return found.id or 0, found.name

    async def all_of_them() -> list[Any]:
        tasks = [asyncio.create_task(get(pk)) for pk in rows]
        await asyncio.sleep(0)
        tasks[50].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with world.sql() as sql:
        found = world.loop.run_until_complete(all_of_them())
    wanted = [(pk, "h") for pk in rows]
    assert found[:50] + found[51:] == wanted[:50] + wanted[51:]
    assert isinstance(found[50], asyncio.CancelledError) or found[50] == wanted[50]
    assert sql == []


def test_b12_a_failed_journey_counts_once(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its passengers reads the database; the breaker hears of one failure."""
    world = make_world("async", "redis", "sqlite")
    pks = world.store(*(Hero(name="h", power=n) for n in range(20)))
    for pk in pks:
        hit(world, Hero, pk)
    (tenant,) = _active().stores.async_._tenants.values()

    async def lose(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        raise ConnectionError

    async def get(pk: int) -> str:
        async with AsyncSession(world.engine) as session:
            found = await session.get(Hero, pk)
            assert found is not None
            return found.name

    async def all_of_them() -> list[str]:
        transport = tenant.transport
        transport._under_way += 1  # nobody goes ahead alone
        try:
            return await asyncio.gather(*map(get, pks))
        finally:
            transport._under_way -= 1

    monkeypatch.setattr(tenant.transport, "_send", lose)
    before = SQLModelCache.stats().errors
    assert world.loop.run_until_complete(all_of_them()) == ["h"] * 20
    assert _active().stores.breaker.state is State.OPEN
    assert SQLModelCache.stats().errors == before + 20


def test_b12_the_first_lookup_of_an_engine(world: World) -> None:
    """It asks the database who it is, which takes a connection, and so a greenlet."""
    pk = world.store(Hero(name="h"))
    with world.another_engine() as engine:
        for _ in range(2):
            with world.session(bind=engine) as session:
                assert session.get(Hero, pk).name == "h"


def test_b12_what_stands_in_their_place() -> None:
    """Both methods keep their signatures and names, and are plain functions."""
    for cls in (Session, AsyncSession):
        method: Any = cls.get
        assert inspect.isfunction(method)
        assert inspect.signature(method) == inspect.signature(method.__wrapped__)
        assert method.__qualname__ == f"{cls.__name__}.get"
    assert inspect.iscoroutinefunction(AsyncSession.get)


def _active() -> Any:
    from sqlmodel_cache import _state

    return _state.active

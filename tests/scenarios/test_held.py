"""What comes along with a hit, where the session holds some of it already: as after a load.

The SELECT of an eager loader completes the instances that it meets: attributes that are expired or
were left out, and relationships below them (B9, B10, B22).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey, String, event, inspect, select
from sqlalchemy.orm import (
    Mapped,
    immediateload,
    joinedload,
    lazyload,
    load_only,
    mapped_column,
    relationship,
    selectinload,
)

from sqlmodel_cache import cached
from tests.scenarios.harness import MODES, World, on_sqlite
from tests.scenarios.models import Base


@cached
class Port(Base):
    """Where captains are at home."""

    __tablename__ = "scenario_port"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    captains: Mapped[list[Captain]] = relationship(back_populates="port")


@cached
class Captain(Base):
    """Commands ships; the port comes on access, and so does the chart."""

    __tablename__ = "scenario_captain"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    port_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_port.id"))
    chart_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_chart.id"))
    port: Mapped[Port | None] = relationship(back_populates="captains")
    chart: Mapped[Chart | None] = relationship()


class Chart(Base):
    """What captains have; not cached."""

    __tablename__ = "scenario_chart"
    id: Mapped[int] = mapped_column(primary_key=True)


class Cook(Base):
    """Not cached; at home somewhere, too, which comes along."""

    __tablename__ = "scenario_cook"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    port_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_port.id"))
    port: Mapped[Port | None] = relationship(lazy="selectin")


@cached(queries=True)
class Ship(Base):
    """Brings its captain along, and its cook."""

    __tablename__ = "scenario_ship"
    id: Mapped[int] = mapped_column(primary_key=True)
    captain_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_captain.id"))
    cook_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_cook.id"))
    fleet_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_fleet.id"))
    captain: Mapped[Captain | None] = relationship(lazy="selectin")
    cook: Mapped[Cook | None] = relationship(lazy="joined")


@cached
class Fleet(Base):
    """Brings its ships along."""

    __tablename__ = "scenario_fleet"
    id: Mapped[int] = mapped_column(primary_key=True)
    ships: Mapped[list[Ship]] = relationship(lazy="selectin", order_by="Ship.id")


@pytest.fixture
def pk(world: World) -> int:
    """Return the key of a fleet of two ships with one captain and one cook of one port: of each."""
    pk = int(world.fresh[:6], 16) * 10
    world.store(Port(id=pk, name="port"), Chart(id=pk))
    world.store(
        Captain(id=pk, name="captain", port_id=pk, chart_id=pk),
        Cook(id=pk, name="cook", port_id=pk),
    )
    world.store(Fleet(id=pk))
    ships = (Ship(id=pk + n, captain_id=pk, cook_id=pk, fleet_id=pk) for n in (0, 1))
    world.store(*ships)
    return pk


def _partly(session: Any, pk: int) -> Any:
    captain = session.get(Captain, pk)
    session.expire(captain, ["name"])
    return captain


def _expired(session: Any, pk: int) -> Any:
    captain = session.get(Captain, pk)
    session.expire(captain)
    return captain


def _cook_partly(session: Any, pk: int) -> Any:
    cook = session.get(Cook, pk)
    session.expire(cook, ["name", "port"])
    return cook


def _port_partly(session: Any, pk: int) -> Any:
    ship = session.get(Ship, pk)
    session.expire(ship.cook.port, ["name"])
    return ship


def _port_partly_in_the_end(session: Any, pk: int) -> Any:
    cook = session.get(Cook, pk)
    session.expire(cook.port, ["name"])
    return cook


def _ship_without(session: Any, pk: int) -> Any:
    return session.get(Ship, pk, options=[lazyload(Ship.captain), lazyload(Ship.cook)])


def _fleet_and_captain(session: Any, pk: int) -> Any:
    fleet = session.get(Fleet, pk)
    session.expire(fleet.ships[1].captain, ["name"])
    return fleet


def _port_and_captain(session: Any, pk: int) -> Any:
    port = session.get(Port, pk)
    session.expire(port.captains[0], ["name"])
    return port


HELD: dict[str, Callable[[Any, int], Any]] = {
    "nothing": lambda session, pk: None,
    "all of it": lambda session, pk: session.get(Captain, pk),
    "less": lambda session, pk: session.get(Captain, pk, options=[load_only(Captain.id)]),
    "partly expired": _partly,
    "expired": _expired,
    "one that is not cached": _cook_partly,
    "one further down": _port_partly_in_the_end,
    "the whole way": _port_partly,
    "one without relationships": _ship_without,
    "the beginning": _fleet_and_captain,
    "another beginning": _port_and_captain,
}

BELOW = [selectinload(Ship.captain).selectinload(Captain.port), lazyload(Ship.cook)]
JOINED = [joinedload(Ship.captain).joinedload(Captain.port), lazyload(Ship.cook)]
AT_ONCE = [immediateload(Ship.captain), lazyload(Ship.cook)]
CHARTS = [selectinload(Port.captains).selectinload(Captain.chart)]


def _ships(pk: int) -> Any:
    return select(Ship).where(Ship.id.between(pk, pk + 9)).order_by(Ship.id)


# What to call on a session, and with what.
ASKED: dict[str, Callable[[int], tuple[Any, ...]]] = {
    "get": lambda pk: (Ship, pk),
    "get with options": lambda pk: (Ship, pk, BELOW),
    "get with joins": lambda pk: (Ship, pk, JOINED),
    "get at once": lambda pk: (Ship, pk, AT_ONCE),
    "get with a collection": lambda pk: (Port, pk, CHARTS),
    "collection": lambda pk: (Fleet, pk),
    "by key": lambda pk: (select(Ship).where(Ship.id == pk),),
    "list": lambda pk: (_ships(pk).options(lazyload(Ship.cook)),),
    "list with options": lambda pk: (_ships(pk).options(*BELOW),),
    "collections": lambda pk: (select(Fleet).where(Fleet.id == pk),),
}


def seen(world: World, pk: int, held: str, asked: str, **options: Any) -> Any:
    """Return all that a new session has after it held something and asked for something."""
    how = {"execution_options": options} if options else {}
    with world.session() as session:
        plain = session if world.mode == "sync" else session._wrapped

        def run(sync: Any) -> Any:
            kept = HELD[held](sync, pk)
            kept = kept, _ask(sync, how, *ASKED[asked](pk))
            return sorted(
                (type(each).__name__, inspect(each).identity, _loaded(each)) for each in sync
            )

        return run(plain) if world.mode == "sync" else session.run_sync(run)


def _ask(session: Any, how: Any, what: Any, pk: Any = None, options: Any = None) -> Any:
    if pk is None:
        return session.scalars(what, **how).unique().all()
    return session.get(what, pk, options=options, **how)


def _loaded(instance: Any) -> Any:
    """Return the attributes of an instance that are loaded, without loading any."""
    values = inspect(instance).dict
    return sorted((name, str(values[name])[:30]) for name in values if not name.startswith("_"))


@pytest.mark.parametrize(
    "world", [(m, "memory", "sqlite") for m in MODES], ids="-".join, indirect=True
)
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("held", HELD)
def test_b10_as_after_a_load(world: World, pk: int, held: str, asked: str) -> None:
    """Which attributes of which instances are loaded, after a miss, and after each later hit."""
    for _ in range(3):
        seen(world, pk, "nothing", asked)
    assert world.stats().hits
    truth = seen(world, pk, held, asked, cache=False)
    assert seen(world, pk, held, asked) == truth


@on_sqlite
def test_b10_what_lacks_nothing_needs_no_sql(world: World, pk: int) -> None:
    """A captain who is held already, or was just found, is not loaded again."""
    options = [lazyload(Ship.cook)]
    for _ in range(2):
        world.get(Ship, pk, options=options)
    with world.session() as session, world.no_sql():
        captain = session.get(Captain, pk)
        assert session.get(Ship, pk, options=options).captain is captain


@on_sqlite
def test_b10_one_select_for_all_that_lack_something(world: World, pk: int) -> None:
    """Of each relationship, as in a load."""
    world.store(Captain(id=pk + 1, name="other"))
    world.store(Ship(id=pk + 2, captain_id=pk + 1))
    statement = select(Ship).where(Ship.id.between(pk, pk + 9)).options(lazyload(Ship.cook))
    for _ in range(3):
        with world.session() as session:
            session.scalars(statement).all()
    with world.session() as session:
        captains = [session.get(Captain, pk + n) for n in (0, 1)]
        for captain in captains:
            session.expire(captain, ["name"])
        with world.one_select():
            session.scalars(statement).all()
        assert ["name" in vars(captain) for captain in captains] == [True, True]


@on_sqlite
def test_b10_listeners_to_refresh_hear_of_it(world: World, pk: int) -> None:
    """A load that meets an instance with anything unloaded says so to them."""
    heard: list[Any] = []

    def note(instance: Any, context: Any, attributes: Any) -> None:
        heard.append(inspect(instance).identity)

    event.listen(Captain, "refresh", note)
    try:
        for how in ({"cache": False}, {}, {}, {}):
            heard.clear()
            seen(world, pk, "all of it", "get", **how)
            assert heard == [(pk,)], how
    finally:
        event.remove(Captain, "refresh", note)

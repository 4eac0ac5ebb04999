"""What those who listen to `load` see of an instance: the same after a hit as after a load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, inspect, select
from sqlalchemy.orm import Mapper, Session

from sqlmodel_cache import SQLModelCache, aget_many, get_many
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.relation_models import Cart, Country, Parcel, Sticker

_Seen = tuple[str, int, tuple[str, ...]]


@contextmanager
def _listening(by: str) -> Iterator[list[_Seen]]:
    """Collect class, key and loaded relationships of what is announced inside the block."""
    seen: list[_Seen] = []

    def note(instance: Any) -> None:
        state = inspect(instance)
        every = (prop.key for prop in state.mapper.relationships)
        seen.append(
            (type(instance).__name__, instance.id, tuple(sorted(state.dict.keys() & every)))
        )

    def on_load(instance: Any, _context: Any) -> None:
        note(instance)

    def on_persistent(_session: Any, instance: Any) -> None:
        note(instance)

    target: Any = {"mapper": Mapper, "class": Parcel, "session": Session}[by]
    name, listener = (
        ("loaded_as_persistent", on_persistent)
        if by == "session"
        else (
            "load",
            on_load,
        )
    )
    event.listen(target, name, listener)
    try:
        yield seen
    finally:
        event.remove(target, name, listener)


def _get(world: World, session: Any, keys: list[int]) -> Any:
    return [session.get(Parcel, key) for key in keys]


def _get_many(world: World, session: Any, keys: list[int]) -> Any:
    if world.mode == "sync":
        return get_many(session, Parcel, keys)
    return world.loop.run_until_complete(aget_many(session._wrapped, Parcel, keys))


def _select(world: World, session: Any, keys: list[int]) -> Any:
    return session.scalars(select(Parcel).where(Parcel.id.in_(keys))).all()


def _select_each(world: World, session: Any, keys: list[int]) -> Any:
    return [session.scalars(select(Parcel).where(Parcel.id == key)).one() for key in keys]


def _unique(world: World, session: Any, keys: list[int]) -> Any:
    return [session.scalars(select(Parcel).where(Parcel.code == key)).one() for key in keys]


def _stored(world: World) -> list[int]:
    keys = []
    for _ in range(2):
        countries = world.store(*(Country(name=str(number)) for number in range(4)))
        ids = dict(zip(("one_id", "two_id", "three_id", "four_id"), countries, strict=True))
        keys.append(world.store(Parcel(**ids)))
        with world.plain() as session:
            session.get(Parcel, keys[-1]).code = keys[-1]
            session.add(Sticker(parcel_id=keys[-1]))
            session.commit()
    return keys


@on_sqlite
@pytest.mark.parametrize("read", [_get, _get_many, _select, _select_each, _unique])
@pytest.mark.parametrize("by", ["mapper", "class", "session"])
def test_b10_joins_and_subqueries_are_in_place(
    world: World, by: str, read: Callable[[World, Any, list[int]], Any]
) -> None:
    """And neither what has a SELECT after the row's, nor what comes on access."""
    keys = _stored(world)
    with _listening(by) as loads, SQLModelCache.bypass(), world.session() as session:
        read(world, session, keys)
    for _ in range(3):
        with world.session() as session:
            read(world, session, keys)
    before = world.stats().models["Parcel"].hits
    with _listening(by) as hits, world.session() as session:
        found = read(world, session, keys)
    assert world.stats().models["Parcel"].hits == before + 2
    assert sorted(hits) == sorted(loads)
    parcels = [seen for seen in hits if seen[0] == "Parcel"]
    assert parcels == [("Parcel", key, ("joined", "labels", "queried")) for key in keys]
    eager = {"joined", "queried", "labels", "selected", "at_once", "stickers"}
    assert all(eager <= vars(parcel).keys() for parcel in found)


@on_sqlite
def test_b10_each_is_announced_where_a_load_announces_it(world: World) -> None:
    """What is joined before the row that it is joined to, what has a SELECT of its own after it."""
    key = _stored(world)[0]
    for _ in range(3):
        with world.session() as session:
            session.get(Parcel, key)
    with _listening("mapper") as hits, world.session() as session, world.sql():
        parcel = session.get(Parcel, key)
        names = {parcel.joined.id: "joined", parcel.queried.id: "queried", key: "itself"}
        names |= {parcel.selected.id: "selected", parcel.at_once.id: "at once"}
    order = [names[pk] for kind, pk, _ in hits if kind != "Sticker"]
    assert set(order[:2]) == {"joined", "queried"}
    assert order[2] == "itself"
    assert set(order[3:]) == {"selected", "at once"}


@on_sqlite
def test_b10_what_comes_along_is_announced_whole_too(world: World) -> None:
    """The parcels of a cart, fetched together, with what they bring in place."""
    one, two = _stored(world)
    cart = world.store(Cart(first_id=one, second_id=two))
    for _ in range(3):
        with world.session() as session:
            session.get(Cart, cart)
            session.get(Parcel, one)
            session.get(Parcel, two)
    with _listening("mapper") as loads, SQLModelCache.bypass(), world.session() as session:
        session.get(Cart, cart)
    before = world.stats().models["Parcel"].hits
    with _listening("mapper") as hits, world.session() as session:
        session.get(Cart, cart)
    assert world.stats().models["Parcel"].hits == before + 2
    assert sorted(hits) == sorted(loads)
    assert hits[0] == ("Cart", cart, ())

"""`hero.team` from the cache: lazy loads that are lookups by key (B9, B10, B22)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import with_loader_criteria

from sqlmodel_cache import SQLModelCache
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.relation_models import (
    Book,
    City,
    Company,
    Country,
    Cover,
    House,
    Owner,
    Quarter,
    Shelf,
)


def _bypasses(world: World, reason: str) -> int:
    return world.stats().bypasses.get(reason, 0)


def test_b10_a_cached_target_needs_no_sql(world: World) -> None:
    """First a miss that fills, then hits; a commit elsewhere is seen by the next access."""
    country = world.store(Country(name="A"))
    city = world.store(City(name="c", country_id=country))
    quarter = world.store(Quarter(name="q", city_id=city))
    world.get(Quarter, quarter)
    world.get(City, city)
    world.get(Country, country)
    with world.session() as session:
        found = session.get(Quarter, quarter)
        with world.sql() as sent:
            town = world.attribute(session, found, "city")
        assert [s for s in sent if "scenario_quarter" in s] == sent  # the collection alone
        assert town is session.get(City, city)
        assert vars(town)["country"].name == "A"
    with world.session() as session:
        session.get(City, city).name = "d"
        session.commit()
    with world.session() as session:
        assert world.attribute(session, session.get(Quarter, quarter), "city").name == "d"


@on_sqlite
def test_b10_a_miss_is_filled(world: World) -> None:
    """One SELECT, then none; each access counts as a lookup of the target."""
    shelf = world.store(Shelf(room=int(world.fresh[:6], 16), place=2, name="s"))
    book = world.store(Book(room=shelf[0], place=2))
    for selects in (1, 0):
        with world.session() as session:
            found = session.get(Book, book)
            with world.sql() as sent:
                assert world.attribute(session, found, "shelf").name == "s"
            assert len(sent) == selects
    stats = world.stats().models["Shelf"]
    assert (stats.hits, stats.misses, stats.fills) == (1, 1, 1)


@on_sqlite
def test_b10_the_loaded_object_is_as_after_a_load(world: World) -> None:
    """Persistent, unmodified, with the load path and options that a load leaves."""
    country = world.store(Country(name="A"))
    city = world.store(City(name="c", country_id=country))
    quarter = world.store(Quarter(name="q", city_id=city))
    seen = []
    for _ in range(3):
        with world.session() as session:
            found = session.get(Quarter, quarter)
            state = inspect(world.attribute(session, found, "city"))
            seen.append((
                state.persistent, state.modified, str(state.load_path), state.load_options,
                set(state.dict), state.unloaded, inspect(found).modified,
            ))  # fmt: skip
    assert seen[0] == seen[1] == seen[2]
    assert world.stats().models["City"].hits > 0


@on_sqlite
def test_b10_one_to_one_by_foreign_key(world: World) -> None:
    """From the side that has the key it is a lookup, from the other side a query."""
    shelf = world.store(Shelf(room=int(world.fresh[:6], 16), place=1, name="s"))
    book = world.store(Book(room=shelf[0], place=1))
    cover = world.store(Cover(book_id=book))
    world.warm(Book, book)
    with world.session() as session:
        found = session.get(Cover, cover)
        with world.no_sql():
            assert world.attribute(session, found, "book").id == book
    with world.session() as session, world.one_select():
        assert world.attribute(session, session.get(Book, book), "cover").id == cover


@on_sqlite
def test_b10_the_identity_map_comes_first(world: World) -> None:
    """An object that the session has, modified or not, is the answer, and no lookup."""
    shelf = world.store(Shelf(room=int(world.fresh[:6], 16), place=3, name="s"))
    book = world.store(Book(room=shelf[0], place=3))
    world.warm(Shelf, shelf)
    world.warm(Book, book)
    with world.session(autoflush=False) as session:
        mine = session.get(Shelf, shelf)
        mine.name = "mine"
        hits = world.stats().models["Shelf"].hits
        with world.no_sql():
            found = session.get(Book, book)
            assert world.attribute(session, found, "shelf") is mine
        assert world.stats().models["Shelf"].hits == hits


@on_sqlite
def test_b22_a_target_written_in_this_transaction(world: World) -> None:
    """Flushed changes, deletions and inserts of the target are seen; the cache is not asked."""
    shelf = world.store(Shelf(room=int(world.fresh[:6], 16), place=4, name="s"))
    cover = world.store(Book(room=shelf[0], place=4))
    world.warm(Shelf, shelf)
    with world.session() as session:
        session.get(Shelf, shelf).name = "new"
        session.flush()
        session.expunge_all()
        assert world.attribute(session, session.get(Book, cover), "shelf").name == "new"
        session.rollback()
    with world.session() as session:
        session.add(Shelf(room=shelf[0], place=5, name="pending"))
        book = session.get(Book, cover)
        book.place = 5
        assert world.attribute(session, book, "shelf").name == "pending"  # autoflush
        session.rollback()


@on_sqlite
def test_b10_a_changed_foreign_key(world: World) -> None:
    """After a flush or not, the attribute follows the column as it does without a cache."""
    room = int(world.fresh[:6], 16)
    world.store(Shelf(room=room, place=6, name="six"), Shelf(room=room, place=7, name="seven"))
    pk = world.store(Book(room=room, place=6))
    for place in (6, 7):
        world.warm(Shelf, (room, place))
    with world.session(autoflush=False) as session:
        book = session.get(Book, pk)
        book.place = 7
        with world.no_sql():
            assert world.attribute(session, book, "shelf").name == "seven"
        book.place = None
        session.expire(book, ["shelf"])
        assert world.attribute(session, book, "shelf") is None


@on_sqlite
def test_b10_a_pending_parent(world: World) -> None:
    """`enable_relationship_loading`: loaded, and nothing is flushed for it."""
    room = int(world.fresh[:6], 16)
    world.store(Shelf(room=room, place=8, name="s"))
    world.warm(Shelf, (room, 8))
    with world.session() as session:
        plain = session.sync_session if world.mode == "async" else session
        book = Book(room=room, place=8)
        plain.enable_relationship_loading(book)
        with world.no_sql():
            assert world.attribute(session, book, "shelf").name == "s"
        session.expunge_all()


@on_sqlite
def test_b06_an_expired_parent_and_target(world: World) -> None:
    """The parent's row comes from the database, its target from the cache; a refresh does not."""
    room = int(world.fresh[:6], 16)
    shelf, pk = (room, 9), None
    world.store(Shelf(room=room, place=9, name="s"))
    pk = world.store(Book(room=room, place=9))
    world.warm(Shelf, shelf)
    with world.session() as session:
        book = session.get(Book, pk, execution_options={"cache": False})
        session.commit()
        with world.one_select():
            assert world.attribute(session, book, "shelf").name == "s"
    with world.session() as session:
        book = session.get(Book, pk, execution_options={"cache": False})
        world.behind_the_back(f"UPDATE scenario_shelf SET name = 'x' WHERE room = {room}")
        session.refresh(book, ["shelf"])
        assert book.shelf.name == "x"


@on_sqlite
@pytest.mark.parametrize("where", ["call", "session", "block"])
def test_b10_no_cache(world: World, where: str) -> None:
    """Asked for by the session or a block it holds for lazy loads; by a get, for that get."""
    room = int(world.fresh[:6], 16)
    world.store(Shelf(room=room, place=1, name="s"))
    pk = world.store(Book(room=room, place=1))
    world.warm(Shelf, (room, 1))
    options = {"cache": False}
    bind = world.engine
    if where == "session":
        bind = world.engine.execution_options(**options)
    with world.session(bind=bind) as session:
        book = session.get(Book, pk, execution_options=options)
        with world.sql() as sent:
            if where == "block":
                with SQLModelCache.bypass():
                    assert world.attribute(session, book, "shelf").name == "s"
            else:
                assert world.attribute(session, book, "shelf").name == "s"
        assert len(sent) == (0 if where == "call" else 1)


@on_sqlite
def test_b09_criteria_stay_with_the_parent(world: World) -> None:
    """`with_loader_criteria` on the query that loaded the parent goes on to its lazy loads."""
    room = int(world.fresh[:6], 16)
    world.store(Shelf(room=room, place=1, name="hidden"))
    pk = world.store(Book(room=room, place=1))
    world.warm(Shelf, (room, 1))
    with world.session() as session:
        criteria = with_loader_criteria(Shelf, Shelf.name != "hidden")
        book = session.get(Book, pk, options=[criteria])
        with world.one_select():
            assert world.attribute(session, book, "shelf") is None
    assert _bypasses(world, "loader_options") == 2


@on_sqlite
def test_b10_other_conditions_are_queries(world: World) -> None:
    """A `primaryjoin` that is more than a key is the database's business, and right."""
    owner = world.store(Owner(name="quiet"))
    house = world.store(House(owner_id=owner))
    world.warm(Owner, owner)
    with world.session() as session:
        found = session.get(House, house)
        with world.one_select():
            assert world.attribute(session, found, "loud") is None
        with world.no_sql():
            assert world.attribute(session, found, "owner").name == "quiet"


@on_sqlite
def test_b10_raise_raises(world: World) -> None:
    """`lazy="raise"` and `"raise_on_sql"` do not depend on what is cached."""
    owner = world.store(Owner(name="o"))
    house = world.store(House(owner_id=owner))
    world.warm(Owner, owner)
    for name in ("never", "unasked"):
        with world.session() as session:
            found = session.get(House, house)
            with pytest.raises(InvalidRequestError, match="is not available due to lazy"):
                world.attribute(session, found, name)


@on_sqlite
def test_b12_the_target_may_be_of_a_subclass(world: World) -> None:
    """The right class; and none where the row is of the base only."""
    owner, company = world.store(Owner(name="o"), Company(name="c"))
    one, two = world.store(House(owner_id=owner), House(owner_id=company))
    for _ in range(2):
        with world.session() as session:
            first, second = session.get(House, one), session.get(House, two)
            assert type(world.attribute(session, second, "owner")) is Company
            assert type(world.attribute(session, first, "owner")) is Owner
        with world.session() as session:
            first, second = session.get(House, one), session.get(House, two)
            assert world.attribute(session, first, "company") is None
            assert type(world.attribute(session, second, "company")) is Company


@on_sqlite
def test_b21_a_dangling_key_is_remembered(world: World) -> None:
    """A negative entry answers None; an insert ends it."""
    nobody = int(world.fresh[:6], 16) + 10_000
    house = world.store(House(owner_id=nobody))
    for selects in (1, 0):
        with world.session() as session:
            found = session.get(House, house, execution_options={"cache": selects == 0})
            with world.sql() as sent:
                world.get(House, house)
                assert world.attribute(session, found, "owner") is None
        assert len(sent.starting("SELECT")) == selects + (selects == 1)
    world.store(Owner(id=nobody, name="late"))
    with world.session() as session:
        assert world.attribute(session, session.get(House, house), "owner").name == "late"


def test_awaitable_attributes(make_world: Any) -> None:
    """`await book.awaitable_attrs.shelf` goes the same way."""
    from sqlalchemy.ext.asyncio import AsyncAttrs

    world = make_world("async", "memory", "sqlite")
    room = int(world.fresh[:6], 16)
    world.store(Shelf(room=room, place=1, name="s"))
    pk = world.store(Book(room=room, place=1))
    world.warm(Shelf, (room, 1))
    world.warm(Book, pk)

    class Awaitable(AsyncAttrs):
        def __init__(self, instance: Any) -> None:
            self.instance = instance

        @property
        def shelf(self) -> Any:
            return self.instance.shelf

    with world.session() as session, world.no_sql():
        found = session.get(Book, pk)

        async def read() -> Any:
            return await Awaitable(found).awaitable_attrs.shelf

        assert world.loop.run_until_complete(read()).name == "s"

"""A get in any state of a session: the same instance, or the same exception, as without a cache."""

# ruff: noqa: D401  (what is done here reads as what is so)
from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache
from tests.equivalence.arena import Arena, Target
from tests.equivalence.exactly import differences
from tests.equivalence.scripts import outcome
from tests.equivalence.snapshot import session_facts, snapshot


class Base(DeclarativeBase):
    pass


class Ship(Base):
    __tablename__ = "ship"
    __cache_config__ = CacheConfig(ttl=300)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    mate_id: Mapped[int | None]


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


SHIP = Target(Ship, 1)
SAVEPOINTS = ("SAVEPOINT", "ROLLBACK TO", "RELEASE")
Way = Callable[[Session, Target], Any]
Situation = Callable[[Session, Way], Any]


@pytest.fixture
def arena(sqlite_url: str) -> Iterator[Arena]:
    """Return ships 1 and 2, note 1, and a cache that knows both ships."""
    engine = create_engine(sqlite_url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Ship(id=1, name="Argo", mate_id=2), Ship(id=2, name="Beagle")])
        session.add(Note(id=1, text="a"))
        session.commit()
    SQLModelCache.configure("memory://")
    arena = Arena(engine)
    arena.fill(SHIP)
    arena.fill(Target(Ship, 2))
    yield arena
    engine.dispose()


def seen_by(session: Session, way: Way, target: Target = SHIP) -> Any:
    """Return the instance as a snapshot, or what was raised."""
    found = outcome(lambda: way(session, target))
    return found if isinstance(found, str) else snapshot(session, found)


def after_a_failed_flush(session: Session, way: Way) -> Any:
    """The transaction waits for a rollback."""
    session.add(Note(id=1, text="b"))
    failed = outcome(session.flush)
    return failed.split("\n")[0], seen_by(session, way)


def after_a_failed_flush_in_a_savepoint(session: Session, way: Way) -> Any:
    """Only the savepoint waits for a rollback."""
    nested = session.begin_nested()
    session.add(Note(id=1, text="b"))
    outcome(session.flush)
    inside = seen_by(session, way)
    nested.rollback()
    return inside, seen_by(session, way)


def with_an_autoflush_that_fails(session: Session, way: Way) -> Any:
    """The flush before the get raises."""
    session.add(Note(id=1, text="b"))
    return str(seen_by(session, way)).split("\n")[0], session_facts(session)


def with_something_to_flush(session: Session, way: Way) -> Any:
    """Pending and changed objects are flushed first."""
    session.add(Note(id=2, text="b"))
    session.get_one(Note, 1).text = "c"
    return seen_by(session, way)


def without_autoflush(session: Session, way: Way) -> Any:
    """Nothing is flushed."""
    session.add(Note(id=2, text="b"))
    with session.no_autoflush:
        return seen_by(session, way)


def inside_a_savepoint(session: Session, way: Way) -> Any:
    """The savepoint's end leaves the same behind."""
    with session.begin_nested() as nested:
        inside = way(session, SHIP)
        seen = snapshot(session, inside)
        nested.rollback()
    return seen, snapshot(session, inside)


def after_closing(session: Session, way: Way) -> Any:
    """A closed session begins anew."""
    first = way(session, SHIP)
    session.close()
    return inspect(first).detached, seen_by(session, way)


def after_everything_was_forgotten(session: Session, way: Way) -> Any:
    """The identity map is weak: a second get is another instance."""
    way(session, SHIP)
    gc.collect()
    facts = session_facts(session)
    return facts, seen_by(session, way)


def inside_after_commit(session: Session, way: Way) -> Any:
    """No SQL can be emitted there."""
    seen: list[Any] = []
    session.connection()
    event.listen(session, "after_commit", lambda _: seen.append(seen_by(session, way)))
    session.commit()
    return seen


def inside_before_commit(session: Session, way: Way) -> Any:
    """What is found there is expired by the commit."""
    seen: list[Any] = []
    session.connection()
    event.listen(session, "before_commit", lambda _: seen.append(way(session, SHIP)))
    session.commit()
    return snapshot(session, seen[0])


def inside_a_flush(session: Session, way: Way) -> Any:
    """A get from within `before_flush` does not flush again."""
    seen: list[Any] = []
    event.listen(session, "before_flush", lambda *_: seen.append(seen_by(session, way)))
    session.add(Note(id=3, text="d"))
    session.flush()
    return seen


def inside_a_load_event(session: Session, way: Way) -> Any:
    """The listener of one load gets another row."""
    seen: list[Any] = []

    def on_load(_: Session, instance: Any) -> None:
        if isinstance(instance, Ship) and instance.mate_id is not None:
            seen.append(way(session, Target(Ship, instance.mate_id)))

    event.listen(session, "loaded_as_persistent", on_load)
    found = way(session, SHIP)
    return snapshot(session, found), [snapshot(session, mate) for mate in seen]


def of_a_row_deleted_here(session: Session, way: Way) -> Any:
    """A deleted object, before and after its flush."""
    ship = way(session, SHIP)
    session.delete(ship)
    with session.no_autoflush:
        same = session.get(Ship, 1) is ship
    session.flush()
    return same, session.get(Ship, 1), session_facts(session)


def with_an_expired_instance(session: Session, way: Way) -> Any:
    """An expired instance is refreshed by the database."""
    ship = way(session, SHIP)
    session.expire(ship)
    return session.get(Ship, 1) is ship, snapshot(session, ship)


SITUATIONS = [
    after_a_failed_flush, after_a_failed_flush_in_a_savepoint, with_an_autoflush_that_fails,
    with_something_to_flush, without_autoflush, inside_a_savepoint, after_closing,
    after_everything_was_forgotten, inside_after_commit, inside_before_commit, inside_a_flush,
    inside_a_load_event, of_a_row_deleted_here, with_an_expired_instance,
]  # fmt: skip


def compared(arena: Arena, situation: Situation, session_of: Callable[[], Any]) -> list[str]:
    """Run a situation with loads and with hits; return the differences but for the SELECTs."""
    seen = []
    for way in (arena.load, arena.any_way):
        with session_of() as session:
            arena.sent.clear()
            found = situation(session, way)
            session.rollback()
            # A savepoint is sent with the first statement inside, which a hit does without.
            writes = [
                sql for sql in arena.sent if not sql[0].startswith(("SELECT ship.", *SAVEPOINTS))
            ]
            seen.append((found, writes))
    return list(differences(*seen))


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda each: each.__name__)
def test_situations(situation: Situation, arena: Arena) -> None:
    """The session and the exceptions are what they are without a cache."""
    assert compared(arena, situation, arena.session) == []


def plainly(session: Session, way: Way) -> Any:
    """Just a get, twice."""
    return seen_by(session, way), session_facts(session), seen_by(session, way)


@pytest.mark.parametrize(
    "options",
    [{"autobegin": False}, {"autoflush": False}, {"expire_on_commit": False}],
    ids=str,
)
def test_session_options(options: dict[str, Any], arena: Arena) -> None:
    """Sessions made with other options."""
    assert compared(arena, plainly, lambda: arena.session(**options)) == []


def test_session_that_is_closed_for_good(arena: Arena) -> None:
    """`close_resets_only=False`: a closed session refuses a hit as it refuses a load."""

    def closed(session: Session, way: Way) -> Any:
        session.close()
        return seen_by(session, way)

    assert compared(arena, closed, lambda: arena.session(close_resets_only=False)) == []


def test_session_on_a_connection(arena: Arena) -> None:
    """A session that joined somebody's transaction leaves it alone."""
    seen = []
    for way in (arena.load, arena.hit):
        with arena.engine.connect() as connection:
            outer = connection.begin()
            with Session(connection) as session:
                found = seen_by(session, way)
                session.commit()
            seen.append((found, outer.is_active))
            outer.rollback()
    assert list(differences(*seen)) == []


def test_session_on_a_connection_whose_transaction_is_over(arena: Arena) -> None:
    """Its savepoint-less outer transaction was rolled back: a get says what a load says."""
    seen = []
    for way in (arena.load, arena.any_way):
        with arena.engine.connect() as connection:
            outer = connection.begin()
            session = Session(connection)
            session.connection()
            outer.rollback()
            seen.append(seen_by(session, way))
            session.close()
    assert list(differences(*seen)) == []


def test_session_on_a_closed_connection(arena: Arena) -> None:
    """A hit does not come through a connection that is closed."""
    seen = []
    for way in (arena.load, arena.any_way):
        connection = arena.engine.connect()
        connection.close()
        with Session(connection) as session:
            seen.append(seen_by(session, way))
    assert list(differences(*seen)) == []


def test_these_rows_were_hits(arena: Arena) -> None:
    """The comparisons above compare something: a plain second get sends no SQL."""
    with arena.session() as session:
        assert arena.hit(session, SHIP).name == "Argo"

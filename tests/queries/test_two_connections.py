"""Two transactions at once on real servers: what one loaded is not what the other left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import ForeignKey, MetaData, create_engine, delete, func, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import SQLModelCache, cached
from sqlmodel_cache.orm.queries import old, stamps
from sqlmodel_cache.transport import MemoryTransport
from tests.queries import world


class Base(DeclarativeBase):
    """Base of the models below."""

    metadata = MetaData()


@cached(queries=True)
class Crew(Base):
    """What sailors belong to."""

    __tablename__ = "queries_crew"
    id: Mapped[int] = mapped_column(primary_key=True)


@cached(queries=True)
class Sailor(Base):
    """Somebody who changes crews."""

    __tablename__ = "queries_sailor"
    id: Mapped[int] = mapped_column(primary_key=True)
    crew_id: Mapped[int] = mapped_column(ForeignKey("queries_crew.id"))
    age: Mapped[int] = mapped_column(default=0)


@pytest.fixture(
    params=[
        ("postgres_url", "READ COMMITTED"),
        ("mariadb_url", "READ COMMITTED"),
        ("mariadb_url", "REPEATABLE READ"),
    ],
    ids="-".join,
)
def engine(request: pytest.FixtureRequest, key_prefix: str) -> Iterator[Any]:
    """Return an engine of a server, with three crews and two sailors in it."""
    name, level = request.param
    made = create_engine(request.getfixturevalue(name), isolation_level=level)
    Base.metadata.drop_all(made)
    Base.metadata.create_all(made)
    SQLModelCache.configure(MemoryTransport(), key_prefix=key_prefix, namespace=uuid4().hex)
    with Session(made) as session:
        session.add_all([Crew(id=number) for number in (1, 2, 3)])
        session.flush()
        session.add_all([Sailor(id=1, crew_id=1), Sailor(id=2, crew_id=2)])
        session.commit()
    yield made
    Base.metadata.drop_all(made)
    made.dispose()


def crew(engine: Any, number: int) -> list[int]:
    """Return who is in a crew, by a cached query; twice, so that the second is a hit."""
    statement = select(Sailor).where(Sailor.crew_id == number).order_by(Sailor.id)
    found = []
    for _ in range(3):
        with Session(engine) as session:
            found = [sailor.id for sailor in session.scalars(statement)]
    return found


def size(engine: Any, number: int) -> Any:
    """Return how many are in a crew, by a cached query."""
    statement = select(func.count(Sailor.id)).where(Sailor.crew_id == number)
    with Session(engine) as session:
        return session.scalar(statement)


def _everything(engine: Any) -> list[Any]:
    return [(crew(engine, n), size(engine, n)) for n in (1, 2, 3)]


@contextmanager
def _moved_meanwhile(engine: Any, *, cached: bool = True) -> Iterator[tuple[Session, Sailor]]:
    """Yield a session and what it loaded: a row that another transaction has moved since; commit.

    `cached`: as it is now, it is cached again.
    """
    with Session(engine) as one:
        sailor = one.get_one(Sailor, 1)  # from the cache: no snapshot begins
        with Session(engine) as two:
            two.get_one(Sailor, 1).crew_id = 2
            two.commit()
        if cached:
            _everything(engine)
        yield one, sailor
        one.commit()


def _move(engine: Any) -> None:
    with _moved_meanwhile(engine) as (_, sailor):
        sailor.crew_id = 3


def _move_returning(engine: Any) -> None:
    """Do it by a statement that says afterwards which rows it moved."""
    with _moved_meanwhile(engine) as (one, _):
        changes = update(Sailor).where(Sailor.age == 0).values(crew_id=3)
        if engine.dialect.name == "postgresql":
            changes = changes.returning(Sailor.id)
        one.execute(changes)
        _everything(engine)


def _delete_returning(engine: Any) -> None:
    with _moved_meanwhile(engine) as (one, _):
        one.execute(delete(Sailor).where(Sailor.crew_id == 2).returning(Sailor))
        _everything(engine)


def _delete(engine: Any) -> None:
    with _moved_meanwhile(engine, cached=False) as (one, sailor):
        one.delete(sailor)


def _both_insert(engine: Any) -> None:
    with Session(engine) as one, Session(engine) as two:
        one.add(Sailor(id=8, crew_id=1))
        one.flush()
        two.add(Sailor(id=9, crew_id=1))
        two.flush()
        _everything(engine)
        one.commit()
        _everything(engine)
        two.commit()


def _read_in_between(engine: Any) -> None:
    """Read between a flush and its commit, by others."""
    with Session(engine) as one:
        one.get(Sailor, 1).crew_id = 3
        one.flush()
        before = _everything(engine)
        assert before[0] == ([1], 1)
        one.commit()


def _back_and_forth(engine: Any) -> None:
    with Session(engine) as one:
        sailor = one.get(Sailor, 1)
        sailor.crew_id = 3
        one.flush()
        sailor.crew_id = 1
        one.flush()
        sailor.crew_id = 2
        one.commit()


WRITES = [
    _move,
    _move_returning,
    _delete,
    _delete_returning,
    _both_insert,
    _read_in_between,
    _back_and_forth,
]


@pytest.mark.parametrize("write", WRITES)
def test_lists_after_concurrent_writers(engine: Any, write: Callable[[Any], None]) -> None:
    """Each list is what the database has, at once and at rest."""
    _everything(engine)
    write(engine)
    for _ in range(2):
        seen = _everything(engine)
        with Session(engine) as session:
            for number, (members, count) in enumerate(seen, start=1):
                where = select(Sailor.id).where(Sailor.crew_id == number).order_by(Sailor.id)
                truth = [row[0] for row in world.answer(session, where, cache=False)]
                assert (members, count) == (truth, len(truth))


def test_values_that_were_loaded_are_no_evidence(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If what a session had loaded were taken for the old value, the move would be missed."""
    from_history = [stamps.value("queries_sailor", "crew_id", "i1")]
    monkeypatch.setattr(old, "_granted", lambda *_: from_history)
    _everything(engine)
    _move(engine)
    assert 1 in crew(engine, 2)


def test_the_old_value_comes_out_of_the_cache(engine: Any) -> None:
    """A row that is cached is moved without a word to the queries of other crews."""
    _everything(engine)
    with Session(engine) as session:
        session.get(Sailor, 1).crew_id = 3
        session.commit()
    hits = SQLModelCache.stats().models["Sailor (queries)"].hits
    assert crew(engine, 2) == [2]
    assert SQLModelCache.stats().models["Sailor (queries)"].hits == hits + 3


@pytest.mark.parametrize("what", ["update", "delete"])
def test_a_statement_that_returns_its_rows_forgets_just_their_lists(engine: Any, what: str) -> None:
    """Where they were is looked up under their locks; other crews hear nothing of it."""
    if what == "update" and engine.dialect.name != "postgresql":
        pytest.skip("MariaDB has no UPDATE ... RETURNING")
    _everything(engine)
    with Session(engine) as session:
        if what == "update":
            changes = update(Sailor).where(Sailor.id + 0 == 1).values(crew_id=3)
            session.execute(changes.returning(Sailor.id))
        else:
            session.execute(delete(Sailor).where(Sailor.id + 0 == 1).returning(Sailor.id))
        session.commit()
    hits = SQLModelCache.stats().models["Sailor (queries)"].hits
    assert crew(engine, 2) == [2]
    assert SQLModelCache.stats().models["Sailor (queries)"].hits == hits + 3
    assert crew(engine, 1) == []
    assert crew(engine, 3) == ([1] if what == "update" else [])

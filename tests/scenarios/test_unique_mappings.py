"""Unique keys of mappings that are more than one class over one table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache, cached, get_by


class Base(DeclarativeBase):
    """A registry of its own."""


@cached(unique=("code",), negative_ttl=60)
class Staff(Base):
    """The base of a hierarchy over two tables."""

    __tablename__ = "staff"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    code: Mapped[int] = mapped_column(unique=True)
    __mapper_args__: Any = {"polymorphic_on": "kind", "polymorphic_identity": "staff"}


class Pilot(Staff):
    """A second table with a unique key of its own."""

    __tablename__ = "pilot"
    __cache_config__ = CacheConfig(unique=("code", "licence"), negative_ttl=60)
    id: Mapped[int] = mapped_column(ForeignKey("staff.id"), primary_key=True)
    licence: Mapped[int] = mapped_column("licence_no", unique=True)
    __mapper_args__: Any = {"polymorphic_identity": "pilot"}


class Clerk(Staff):
    """A sibling."""

    __mapper_args__: Any = {"polymorphic_identity": "clerk"}


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    """Configure memory, and make the tables."""
    engine = create_engine(sqlite_url)
    Base.metadata.create_all(engine)
    SQLModelCache.configure("memory://")
    with Session(engine) as session:
        session.add(Pilot(id=1, code=7, licence=70))
        session.add(Clerk(id=2, code=8))
        session.commit()
    yield engine
    engine.dispose()


def find(engine: Engine, model: type[Any], **values: Any) -> tuple[Any, int]:
    """Return what `get_by` finds, and the number of statements that it took."""
    sent: list[str] = []

    def listener(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", listener)
    try:
        with Session(engine) as session:
            return get_by(session, model, **values), len(sent)
    finally:
        event.remove(engine, "before_cursor_execute", listener)


def test_through_base_and_subclass(engine: Engine) -> None:
    """One pointer for all classes; each finds the row as its own class."""
    for _ in range(3):
        through_base = find(engine, Staff, code=7)
    assert type(through_base[0]) is Pilot
    assert through_base[1] == 0
    for _ in range(3):
        found = find(engine, Pilot, code=7)
    assert (found[0].licence, found[1]) == (70, 0)
    for _ in range(3):
        assert find(engine, Clerk, code=7) == (None, 1)  # a sibling's row is none of its own
    for _ in range(3):
        found = find(engine, Pilot, licence=70)
    assert (found[0].code, found[1]) == (7, 0)


def test_absence_through_the_base_only(engine: Engine) -> None:
    """A subclass cannot tell an absent row from a sibling's."""
    for _ in range(2):
        absent = find(engine, Staff, code=9)
    assert absent == (None, 0)
    for _ in range(2):
        absent = find(engine, Pilot, licence=90)
    assert absent == (None, 1)
    with Session(engine) as session:
        session.add(Pilot(id=3, code=9, licence=90))
        session.commit()
    assert find(engine, Staff, code=9)[0].id == 3
    assert find(engine, Pilot, licence=90)[0].id == 3


def test_a_value_in_the_second_table_changes(engine: Engine) -> None:
    """The column has another name than its attribute."""
    for _ in range(3):
        find(engine, Pilot, licence=70)
    with Session(engine) as session:
        session.get_one(Pilot, 1).licence = 71
        session.commit()
    assert find(engine, Pilot, licence=70)[0] is None
    assert find(engine, Pilot, licence=71)[0].id == 1


def test_legacy_queries_pass_through(engine: Engine) -> None:
    """`session.query()` asks the database, and finds what a load finds."""
    for _ in range(3):
        find(engine, Staff, code=7)
    before = SQLModelCache.stats()
    with Session(engine) as session:
        query = session.query(Staff).filter(Staff.code == 7)
        assert query.one() is session.scalars(select(Staff).where(Staff.id == 1)).one()
        assert session.query(Staff).filter_by(id=2).one_or_none() is not None
        assert session.query(Staff).filter(Staff.id == 2).first() is not None
    assert SQLModelCache.stats().misses == before.misses

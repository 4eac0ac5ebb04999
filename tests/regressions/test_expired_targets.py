"""What comes along with a hit and is expired in the session: as much of it is loaded as by a load.

A load's own SELECT has the columns of the class that the relationship names. An expired instance's
own loader has those of its subclass, and what was deferred, as well.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import ForeignKey, create_engine, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqlmodel_cache import SQLModelCache, cached
from sqlmodel_cache.testing import temporary_cache


class Base(DeclarativeBase):
    """Tables of this file."""


@cached
class Party(Base):
    """One of whom subclasses know more."""

    __tablename__ = "party"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    papers: Mapped[list[Paper]] = relationship(foreign_keys="Paper.author_id", viewonly=True)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "party"}


class Person(Party):
    """Has a column of a table of its own."""

    __tablename__ = "person"

    id: Mapped[int] = mapped_column(ForeignKey("party.id"), primary_key=True)
    born: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "person"}


@cached
class Paper(Base):
    """Brings its author along by a SELECT, and its reader by a join."""

    __tablename__ = "paper"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("party.id"))
    reader_id: Mapped[int | None] = mapped_column(ForeignKey("party.id"))
    author: Mapped[Party | None] = relationship(foreign_keys=author_id, lazy="selectin")
    reader: Mapped[Party | None] = relationship(foreign_keys=reader_id, lazy="joined")


@pytest.fixture
def engine(tmp_path: Any) -> Any:
    """Make a database with two people and papers of theirs, under a cache."""
    engine = create_engine(f"sqlite:///{tmp_path / 'parties.sqlite3'}")
    with temporary_cache():
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(Person(id=key, name="p", born=key) for key in (1, 2))
            session.add_all([Paper(id=1, author_id=1), Paper(id=2, reader_id=2)])
            session.add(Paper(id=3, author_id=1, reader_id=2))
            session.commit()
        yield engine
    engine.dispose()


@pytest.mark.parametrize("paper", [1, 2, 3])
def test_an_expired_target(engine: Any, paper: int) -> None:
    """Loaded and expired attributes of the targets are those that a load leaves."""

    def seen() -> list[Any]:
        with Session(engine) as session:
            people = [session.get_one(Person, key) for key in (1, 2)]
            session.expire_all()
            found = session.get_one(Paper, paper)
            states = [inspect(each) for each in (*people, found)]
            return [(set(state.dict), state.expired_attributes) for state in states]

    with SQLModelCache.bypass():
        plain = seen()
    for _ in range(3):
        assert seen() == plain
    assert SQLModelCache.stats().models["Paper"].hits == 2

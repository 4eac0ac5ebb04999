"""DML of joined classes: of a base that loads its subclass by a join, of a subclass in bulk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine, delete, event, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import SQLModelCache, cached

if TYPE_CHECKING:
    from pathlib import Path


class Base(DeclarativeBase):
    """Tables of this file."""


@cached(queries=True)
class Vehicle(Base):
    """A base whose SELECTs join its subclass."""

    __tablename__ = "joined_dml_vehicle"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str] = mapped_column(default="")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}


@cached(queries=True)
class Truck(Vehicle):
    """The subclass."""

    __tablename__ = "joined_dml_truck"
    id: Mapped[int] = mapped_column(ForeignKey(Vehicle.id, ondelete="CASCADE"), primary_key=True)
    load: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "truck", "polymorphic_load": "inline"}


@cached(queries=True)
class Wheel(Base):
    """What goes with its vehicle."""

    __tablename__ = "joined_dml_wheel"
    id: Mapped[int] = mapped_column(primary_key=True)
    vehicle_id: Mapped[int] = mapped_column(ForeignKey(Vehicle.id, ondelete="CASCADE"))


@cached(queries=True)
class Tool(Base):
    """A base whose SELECTs do not join its subclass."""

    __tablename__ = "joined_dml_tool"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "tool"}


@cached(queries=True)
class Saw(Tool):
    """The subclass."""

    __tablename__ = "joined_dml_saw"
    id: Mapped[int] = mapped_column(ForeignKey(Tool.id), primary_key=True)
    teeth: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "saw"}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Return a database with a vehicle, a truck, and a wheel of each."""
    made = create_engine(f"sqlite:///{tmp_path / 'joined.sqlite3'}")
    event.listen(made, "connect", lambda driver, _: driver.execute("PRAGMA foreign_keys=ON"))
    Base.metadata.create_all(made)
    SQLModelCache.configure("memory://")
    with Session(made) as session:
        session.add_all([Vehicle(id=1), Truck(id=2, load=3)])
        session.flush()
        session.add_all([Wheel(id=1, vehicle_id=1), Wheel(id=2, vehicle_id=2)])
        session.commit()
    yield made
    made.dispose()


def test_b16_what_cascades_from_a_join_is_forgotten(engine: Engine) -> None:
    """Rows and results of the table that refers to the deleted one."""

    def seen() -> list[Any]:
        with Session(engine) as session:
            ids = session.scalars(select(Wheel.id).order_by(Wheel.id)).all()
            return [ids, *(session.get(Wheel, number) is not None for number in (1, 2))]

    for _ in range(3):
        assert seen() == [[1, 2], True, True]
    with Session(engine) as session:
        session.execute(delete(Vehicle).where(Vehicle.id == 1))
        session.commit()
    assert seen() == [[2], False, True]


def test_b13_rows_of_a_joined_class_come_in_bulk(engine: Engine) -> None:
    """Results of the base's table are forgotten, too, for which an INSERT of its own is sent."""

    def seen() -> list[int]:
        with Session(engine) as session:
            return [each.id for each in session.scalars(select(Tool).order_by(Tool.id))]

    with Session(engine) as session:
        session.add(Tool(id=1))
        session.commit()
    for _ in range(3):
        assert seen() == [1]
    with Session(engine) as session:
        session.execute(insert(Saw), [{"id": 3, "teeth": 1}, {"id": 4, "teeth": 2}])
        session.commit()
    assert seen() == [1, 3, 4]


def test_b13_a_base_that_joins_is_updated_by_key(engine: Engine) -> None:
    """One UPDATE of its table, though the class stands for a join."""

    def seen() -> list[str]:
        with Session(engine) as session:
            return [each.name for each in session.scalars(select(Vehicle).order_by(Vehicle.id))]

    for _ in range(3):
        assert seen() == ["", ""]
    with Session(engine) as session:
        session.execute(update(Vehicle), [{"id": 1, "name": "van"}])
        session.commit()
    assert seen() == ["van", ""]

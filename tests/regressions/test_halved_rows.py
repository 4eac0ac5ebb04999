"""A row of a subclass whose own table has lost its part is not taken for a whole one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, create_engine, delete
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import SQLModelCache, cached
from sqlmodel_cache.testing import temporary_cache


class Base(DeclarativeBase):
    """Tables of this file."""


@cached
class Vehicle(Base):
    """Loads its subclass along, by an outer join."""

    __tablename__ = "vehicle"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}


class Lorry(Vehicle):
    """Has a part of its own."""

    __tablename__ = "lorry"

    id: Mapped[int] = mapped_column(ForeignKey("vehicle.id"), primary_key=True)
    load: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "lorry", "polymorphic_load": "inline"}


def test_a_bulk_delete_of_a_subclass(tmp_path: Any) -> None:
    """It leaves the base's row: that is a Lorry for the base class, and none for the subclass."""
    engine = create_engine(f"sqlite:///{tmp_path / 'vehicles.sqlite3'}")

    def seen(model: type[Vehicle]) -> Any:
        with Session(engine) as session:
            found = session.get(model, 1)
            return found and (type(found), vars(found)["id"], vars(found)["kind"])

    with temporary_cache():
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Lorry(id=1, load=5))
            session.commit()
        with Session(engine) as session:
            session.execute(delete(Lorry).where(Lorry.id == 1))
            session.commit()
        with SQLModelCache.bypass():
            plain = [seen(Vehicle), seen(Lorry)]
        assert plain == [(Lorry, None, "lorry"), None]
        for _ in range(2):
            assert [seen(Vehicle), seen(Lorry)] == plain
    engine.dispose()

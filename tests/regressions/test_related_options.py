"""Execution options of a get hold for what it brings along, as SQLAlchemy hands them on."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import ForeignKey, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship

from sqlmodel_cache import SQLModelCache, cached


class Base(DeclarativeBase):
    """Tables in a schema whose name is translated."""


@cached
class Crew(Base):
    """A target, once in each schema."""

    __tablename__ = "crew"
    __table_args__ = {"schema": "tenant"}

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@cached
class Vessel(Base):
    """Brings its crew along, and its boats."""

    __tablename__ = "vessel"
    __table_args__ = {"schema": "tenant"}

    id: Mapped[int] = mapped_column(primary_key=True)
    crew_id: Mapped[int] = mapped_column(ForeignKey("tenant.crew.id"))
    crew: Mapped[Crew] = relationship(lazy="selectin")
    boats: Mapped[list[Boat]] = relationship(lazy="selectin")


class Boat(Base):
    """Not cached."""

    __tablename__ = "boat"
    __table_args__ = {"schema": "tenant"}

    id: Mapped[int] = mapped_column(primary_key=True)
    vessel_id: Mapped[int] = mapped_column(ForeignKey("tenant.vessel.id"))
    name: Mapped[str]


@pytest.mark.parametrize("options", [(), (joinedload(Vessel.crew),)], ids=["default", "asked"])
def test_a_schema_map_reaches_what_comes_along(tmp_path: Any, options: Any) -> None:
    """Each tenant's vessel has its own tenant's crew and boats, cold and warm."""
    engine = create_engine(f"sqlite:///{tmp_path / 'main.sqlite3'}")

    @event.listens_for(engine, "connect")
    def attach(connection: Any, record: Any) -> None:
        for name in ("one", "two"):
            connection.execute(f"ATTACH '{tmp_path / name}.sqlite3' AS {name}")

    SQLModelCache.configure("memory://")
    try:
        for name in ("one", "two"):
            tenant = engine.execution_options(schema_translate_map={"tenant": name})
            Base.metadata.create_all(tenant)
            with Session(tenant) as session:
                crew = Crew(id=1, name=name)
                session.add(Vessel(id=1, crew=crew, boats=[Boat(id=1, name=name)]))
                session.commit()
        for _ in range(3):
            for name in ("one", "two"):
                with Session(engine) as session:
                    how = {"schema_translate_map": {"tenant": name}}
                    vessel = session.get(Vessel, 1, execution_options=how, options=options)
                    assert vessel is not None
                    assert vars(vessel)["crew"].name == name
                    assert [boat.name for boat in vars(vessel)["boats"]] == [name]
        assert SQLModelCache.stats().models["Vessel"].hits
    finally:
        engine.dispose()

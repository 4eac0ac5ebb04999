"""The models of cached queries, and rows of them; tables begin with `scenario_q`."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, ForeignKey, Integer, MetaData, Numeric, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlmodel_cache import cached

if TYPE_CHECKING:
    from tests.scenarios.harness import World


class Base(DeclarativeBase):
    """Base of all of them."""

    metadata = MetaData()


@cached(queries=True)
class Squad(Base):
    """What heroes belong to; cached without being asked."""

    __tablename__ = "scenario_qsquad"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))


@cached(queries=True)
class Agent(Base):
    """Somebody in a squad."""

    __tablename__ = "scenario_qagent"
    id: Mapped[int] = mapped_column(primary_key=True)
    squad_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_qsquad.id"))
    name: Mapped[str] = mapped_column(String(100))
    rank: Mapped[int] = mapped_column(default=0)
    squad: Mapped[Squad | None] = relationship(Squad)


@cached(queries="asked")
class Fact(Base):
    """Values of many types; cached where somebody asks."""

    __tablename__ = "scenario_qfact"
    id: Mapped[int] = mapped_column(primary_key=True)
    batch: Mapped[int] = mapped_column(index=True)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    moment: Mapped[dt.datetime]
    day: Mapped[dt.date]
    told: Mapped[bool]
    ratio: Mapped[float]
    note: Mapped[dict[str, Any] | None] = mapped_column(JSON)


@cached
class Loner(Base):
    """Cached rows, but no queries."""

    __tablename__ = "scenario_qloner"
    id: Mapped[int] = mapped_column(primary_key=True)
    squad_id: Mapped[int | None]
    name: Mapped[str] = mapped_column(String(100))


class Filled(TypeDecorator[int]):
    """Writes 0 for None."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """Return what is written."""
        return 0 if value is None else value


class Times(TypeDecorator[int]):
    """Writes a multiple."""

    impl = Integer
    cache_ok = True

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """Return what is written."""
        return value * self.factor


@cached(queries=True)
class Tin(Base):
    """Has an indexed column that is never NULL."""

    __tablename__ = "scenario_qtin"
    id: Mapped[int] = mapped_column(primary_key=True)
    batch: Mapped[int]
    level: Mapped[int | None] = mapped_column(Filled, index=True)


@cached(queries=True)
class Staff(Base):
    """A hierarchy in one table."""

    __tablename__ = "scenario_qstaff"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(100))
    batch: Mapped[int] = mapped_column(index=True)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "staff"}


class Boss(Staff):
    """One of its classes."""

    __mapper_args__ = {"polymorphic_identity": "boss"}


@cached(queries=True)
class Vehicle(Base):
    """A hierarchy in two tables."""

    __tablename__ = "scenario_qvehicle"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    batch: Mapped[int] = mapped_column(index=True)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}


class Truck(Vehicle):
    """One of its classes."""

    __tablename__ = "scenario_qtruck"
    id: Mapped[int] = mapped_column(ForeignKey("scenario_qvehicle.id"), primary_key=True)
    load: Mapped[int] = mapped_column(index=True)
    __mapper_args__ = {"polymorphic_identity": "truck"}


def numbers(world: World) -> int:
    """Return the first of a hundred keys that no other test uses; the tables are there."""
    Base.metadata.create_all(world.outside)
    return int(world.fresh[:6], 16) * 100 + 1_000_000


def people(world: World, base: int) -> None:
    """Store two squads and four agents."""
    world.store(Squad(id=base, name="red"), Squad(id=base + 1, name="blue"))
    world.store(
        Agent(id=base, squad_id=base, name="a", rank=1),
        Agent(id=base + 1, squad_id=base, name="b", rank=2),
        Agent(id=base + 2, squad_id=base + 1, name="c", rank=3),
        Agent(id=base + 3, squad_id=None, name="d", rank=base),
    )

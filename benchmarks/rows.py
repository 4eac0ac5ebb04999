"""The row that is measured: ten columns, once cached and once not, and one with a version of it."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import DateTime, Numeric
from sqlmodel import Field, Session, SQLModel

from sqlmodel_cache import CacheConfig, CachedModel

if TYPE_CHECKING:
    from sqlalchemy import Engine

MANY = 200
TEAM = 20


class Colour(enum.Enum):
    """A column of names."""

    RED = "red"
    GREEN = "green"


class Columns(SQLModel):
    """The ten columns."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
    title: str
    score: int
    token: UUID
    seen: datetime = Field(sa_type=DateTime(timezone=True))
    weight: float
    active: bool
    colour: Colour
    price: Decimal = Field(sa_type=Numeric(10, 2))


class PlainRow(Columns, table=True):
    """A model that never opted in."""


class CachedRow(Columns, CachedModel, table=True):
    """The same columns, cached."""


class LocalRow(CachedModel, table=True):
    """A row of which processes keep copies."""

    __cache_config__ = CacheConfig(local_ttl=60)

    id: int | None = Field(default=None, primary_key=True)
    points: int = 0


class ListedRow(CachedModel, table=True):
    """A row that queries list; TEAM in each team."""

    __cache_config__ = CacheConfig(queries="asked")

    id: int | None = Field(default=None, primary_key=True)
    team: int = Field(index=True)
    name: str
    score: int = 0


def fill_tables(engine: Engine) -> None:
    """Make the tables and give the first two rows 1 to MANY."""
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(LocalRow(id=1))
        for number in range(1, MANY + 1):
            session.add(ListedRow(id=number, team=number // TEAM, name=f"name {number}"))
        for number in range(1, MANY + 1):
            session.add(PlainRow(**_values(number)))
            session.add(CachedRow(**_values(number)))
        session.commit()


def _values(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"name {number}",
        "title": "a title of some length, as titles are",
        "score": number * 7,
        "token": UUID(int=number << 64 | 0xFEDCBA),
        "seen": datetime(2026, 11, 22, 12, 30, 15, 250_000, tzinfo=UTC),
        "weight": number / 7,
        "active": True,
        "colour": Colour.GREEN,
        "price": Decimal("19.99"),
    }

"""The rows of every peer; imported by name, as a peer's configuration names them."""

import sys
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import DateTime, Numeric
from sqlmodel import Field, Relationship, SQLModel

# Two packages of one name take their policy from the class body.
WITH_POLICY = sys.argv[1:2] in (["ours"], ["ours, async"], ["same name"])
if WITH_POLICY:
    from sqlmodel_cache import CacheConfig


class Team(SQLModel, table=True):
    """What a row points to; its keys are other numbers than those of the rows."""

    __tablename__ = "peer_team"
    if WITH_POLICY:
        __cache_config__ = CacheConfig(ttl=300)

    id: int = Field(primary_key=True)
    name: str


class Row(SQLModel, table=True):
    """The row that is read."""

    __tablename__ = "peer_row"
    if WITH_POLICY:
        __cache_config__ = CacheConfig(ttl=300)

    id: int = Field(primary_key=True)
    name: str
    score: int = 0
    token: UUID = UUID(int=0xFEDCBA)
    seen: datetime = Field(
        default=datetime(2026, 11, 22, 12, 30, tzinfo=UTC), sa_type=DateTime(timezone=True)
    )
    price: Decimal = Field(default=Decimal("19.99"), sa_type=Numeric(10, 2))
    team_id: int = Field(foreign_key="peer_team.id")
    team: Team = Relationship()

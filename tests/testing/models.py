"""A hero and a team, for tests of what users test with."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlmodel_cache import CacheConfig


class Base(DeclarativeBase):
    """Of these tests alone."""


class Team(Base):
    """Not cached."""

    __tablename__ = "testing_team"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Hero(Base):
    """Cached, and remembered where it is not."""

    __tablename__ = "testing_hero"
    __cache_config__ = CacheConfig(negative_ttl=30)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    team_id: Mapped[int | None] = mapped_column(ForeignKey("testing_team.id"))
    kind: Mapped[str] = mapped_column(default="hero")

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "hero"}


class Villain(Hero):
    """Of the same table."""

    __mapper_args__ = {"polymorphic_identity": "villain"}

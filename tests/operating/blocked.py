"""A model that asks to be cached and never is."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlmodel_cache import CacheConfig


class Base(DeclarativeBase):
    """Their base."""


class Face(Base):
    __tablename__ = "operate_face"

    id: Mapped[int] = mapped_column(primary_key=True)
    crowd_id: Mapped[int] = mapped_column(ForeignKey("operate_crowd.id"))


class Crowd(Base):
    __tablename__ = "operate_crowd"
    __cache_config__ = CacheConfig()

    id: Mapped[int] = mapped_column(primary_key=True)
    faces: Mapped[list[Face]] = relationship(lazy="joined")

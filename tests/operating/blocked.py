"""A model that asks to be cached and never is."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column

from sqlmodel_cache import CacheConfig


class Base(DeclarativeBase):
    """Their base."""


class Crowd(Base):
    __tablename__ = "operate_crowd"
    __cache_config__ = CacheConfig()

    id: Mapped[int] = mapped_column(primary_key=True)
    doubled = column_property(id * 2)

"""A model of which processes keep copies."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlmodel_cache import CacheConfig


class Base(DeclarativeBase):
    """Their base."""


class Copied(Base):
    __tablename__ = "operate_copied"
    __cache_config__ = CacheConfig(local_ttl=5)

    id: Mapped[int] = mapped_column(primary_key=True)

"""A model whose keys are hidden; in a module of its own, as it needs a secret."""

from __future__ import annotations

from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from sqlmodel_cache import CacheConfig


class Base(SQLModel, registry=registry()):
    """Its base."""


class Subscriber(Base, table=True):
    __tablename__ = "operate_subscriber"
    __cache_config__ = CacheConfig(hash_keys=True)

    email: str = Field(primary_key=True)

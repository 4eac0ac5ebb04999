"""Models in registries of their own, so that tests may reuse names, and helpers to fill them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session, registry
from sqlmodel import Field, SQLModel

from sqlmodel_cache import CacheConfig, SQLModelCache


class Base(SQLModel, registry=registry()):
    """The base of the shared models."""


class Hero(Base, table=True):
    __cache_config__ = CacheConfig()

    id: int = Field(primary_key=True)
    name: str = "nobody"


class Pair(Base, table=True):
    """Two columns make its key."""

    __cache_config__ = CacheConfig()

    left: int = Field(primary_key=True)
    right: str = Field(primary_key=True)
    value: int = 0


class Plain(Base, table=True):
    """Not cached."""

    id: int = Field(primary_key=True)
    name: str = "nobody"


def fill(engine: Engine, *rows: Any) -> None:
    """Create the rows' tables where needed, and store the rows."""
    with Session(engine) as session:
        for cls in {type(row): None for row in rows}:
            cls.metadata.create_all(engine)
        session.add_all(rows)
        session.commit()


def is_cached(engine: Engine, model: type[Any], key: Any = 1) -> bool:
    """Get a row twice in two sessions, and tell whether the second one was a hit."""
    for _ in range(2):
        before = SQLModelCache.stats().hits
        with Session(engine) as session:
            assert session.get(model, key) is not None
    return SQLModelCache.stats().hits == before + 1

"""Models in a registry of their own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session, registry
from sqlmodel import Field, Relationship, SQLModel

from sqlmodel_cache import CacheConfig


class Base(SQLModel, registry=registry()):
    """The base of the shared models."""


class Hero(Base, table=True):
    __tablename__ = "operate_hero"
    __cache_config__ = CacheConfig(ttl=60)

    id: int = Field(primary_key=True)
    name: str = "nobody"


class Pair(Base, table=True):
    __tablename__ = "operate_pair"
    __cache_config__ = CacheConfig(negative_ttl=30)

    left: int = Field(primary_key=True)
    right: str = Field(primary_key=True)


class Member(Base, table=True):
    __tablename__ = "operate_member"
    __cache_config__ = CacheConfig(ttl=60)

    id: int = Field(primary_key=True)
    hero_id: int = Field(foreign_key="operate_hero.id")
    hero: Hero = Relationship(sa_relationship_kwargs={"lazy": "selectin"})


class Plain(Base, table=True):
    __tablename__ = "operate_plain"

    id: int = Field(primary_key=True)


def fill(engine: Engine, *rows: Any) -> None:
    """Create every table, and store the rows."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(rows)
        session.commit()


def read(engine: Engine, model: type[Any], key: Any, times: int = 1, **how: Any) -> Any:
    """Get a row in as many sessions of their own."""
    found = None
    for _ in range(times):
        with Session(engine, expire_on_commit=False) as session:
            found = session.get(model, key, **how)
    return found

"""The tables that everybody reads and writes: few rows, each with a version that only grows."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import create_engine, event, insert
from sqlalchemy.orm import DeclarativeBase, InstanceState, Mapped, configure_mappers, mapped_column

from sqlmodel_cache import CacheConfig


class Base(DeclarativeBase):
    pass


class Versioned:
    """Its version numbers commits, by whatever statement; a deletion is a version too."""

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    filler: Mapped[str] = mapped_column(default="x" * 40)

    from_cache: ClassVar[bool] = False


class Item(Versioned, Base):
    """Its queries are cached, too; so its fences are never sent ahead."""

    __tablename__ = "coherence_item"
    __cache_config__ = CacheConfig(ttl=600, negative_ttl=600, queries="asked")


class Plain(Versioned, Base):
    """A fence of its rows is sent ahead of the statement where commit() flushes."""

    __tablename__ = "coherence_plain"
    __cache_config__ = CacheConfig(ttl=600, negative_ttl=600)


def model_of(row: int) -> Any:
    """Return the class whose row of this number the harness reads and writes."""
    return Plain if row % 2 else Item


def _mark(state: InstanceState[Any], context: object) -> None:
    if context is None:  # a load has one; an instance made from a hit has none
        state.dict["from_cache"] = True


for _model in (Item, Plain):
    event.listen(_model, "load", _mark, raw=True)


configure_mappers()  # once, for all that are forked from here


def make_table(url: str, rows: int) -> None:
    """Create the tables anew, with version 1 of each row."""
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for model in (Item, Plain):
            connection.execute(insert(model), [{"id": row, "version": 1} for row in range(rows)])
    engine.dispose()

"""The table that everybody reads and writes: few rows, each with a version that only grows."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import create_engine, event, insert
from sqlalchemy.orm import DeclarativeBase, InstanceState, Mapped, configure_mappers, mapped_column

from sqlmodel_cache import CacheConfig


class Base(DeclarativeBase):
    pass


class Item(Base):
    """Its version numbers commits, by whatever statement; a deletion is a version too."""

    __tablename__ = "coherence_item"
    __cache_config__ = CacheConfig(ttl=600, negative_ttl=600, queries="asked")

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    filler: Mapped[str] = mapped_column(default="x" * 40)

    from_cache: ClassVar[bool] = False


def _mark(state: InstanceState[Any], context: object) -> None:
    if context is None:  # a load has one; an instance made from a hit has none
        state.dict["from_cache"] = True


event.listen(Item, "load", _mark, raw=True)


configure_mappers()  # once, for all that are forked from here


def make_table(url: str, rows: int) -> None:
    """Create the table anew, with version 1 of each row."""
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Item), [{"id": row, "version": 1} for row in range(rows)])
    engine.dispose()

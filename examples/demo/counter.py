"""The table that several processes write and read: every commit of a row raises its number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlmodel import Field, Session

from sqlmodel_cache import CachedModel


class Counter(CachedModel, table=True):
    """One row per id. Whoever reads a smaller `version` than was committed before, read stale."""

    __tablename__ = "sqlmodel_cache_demo"

    id: int = Field(primary_key=True)
    version: int = 0


_TABLE: Any = Counter.__table__  # type: ignore[attr-defined]


def connect(url: str) -> Engine:
    """Return an engine; a SQLite file is set up so that processes wait for each other little."""
    if not url.startswith("sqlite"):
        return create_engine(url)
    engine = create_engine(url, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def share(connection: Any, record: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")

    return engine


@contextmanager
def fresh_table(url: str, rows: int) -> Iterator[None]:
    """Make the table with `rows` rows, and drop it at the end."""
    engine = connect(url)
    try:
        _TABLE.drop(engine, checkfirst=True)  # of a demo that was killed
        _TABLE.create(engine)
        with Session(engine) as session:
            session.add_all(Counter(id=number) for number in range(rows))
            session.commit()
        yield
        _TABLE.drop(engine)
    finally:
        engine.dispose()

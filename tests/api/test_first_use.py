"""An engine whose very first use is a cached read: nothing has connected before."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlmodel import Field, Session, SQLModel

from sqlmodel_cache import CachedModel, SQLModelCache


class FirstUse(CachedModel, table=True):
    id: int = Field(primary_key=True)
    name: str


@pytest.fixture
def filled(sqlite_url: str) -> str:
    """Return the URL of a file with one row, written by an engine that is gone."""
    engine = create_engine(sqlite_url)
    SQLModel.metadata.create_all(engine, [FirstUse.__table__])  # type: ignore[attr-defined]
    with Session(engine) as session:
        session.add(FirstUse(id=1, name="one"))
        session.commit()
    engine.dispose()
    return sqlite_url


def test_first_statement_of_an_engine_may_be_a_cached_get(filled: str) -> None:
    """A dialect's own first connection rolls back something that no pool has handed out."""
    SQLModelCache.configure("memory://")
    engine = create_engine(filled)
    for _ in range(2):
        with Session(engine) as session:
            assert session.get_one(FirstUse, 1).name == "one"
    assert SQLModelCache.stats().hits == 1
    engine.dispose()


def test_database_that_cannot_be_opened_says_so_as_without_a_cache(tmp_path: Path) -> None:
    """The lookup's own connection attempt raises what a load's would."""
    from sqlalchemy.exc import OperationalError

    SQLModelCache.configure("memory://")
    engine = create_engine(f"sqlite:///{tmp_path / 'missing' / 'file.sqlite3'}")
    with Session(engine) as session, pytest.raises(OperationalError):
        session.get(FirstUse, 1)

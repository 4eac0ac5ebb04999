"""What `stats()` says while the store is away: one failure, then bypasses, each lookup once."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine
from sqlmodel import Field, Session, SQLModel

from sqlmodel_cache import CachedModel, SQLModelCache, get_many


class Away(CachedModel, table=True):
    id: int = Field(primary_key=True)
    name: str


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    """Yield an engine with two rows, written without a cache."""
    made = create_engine(sqlite_url)
    SQLModel.metadata.create_all(made, [Away.__table__])  # type: ignore[attr-defined]
    with Session(made) as session:
        session.add_all([Away(id=1, name="one"), Away(id=2, name="two")])
        session.commit()
    yield made
    made.dispose()


@pytest.fixture
def nobody() -> Iterator[str]:
    """Yield the URL of a port that is taken by a socket which accepts no connection."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{taken.getsockname()[1]}/0"


def test_lookups_while_the_breaker_is_open_are_bypasses(engine: Engine, nobody: str) -> None:
    """The first failure is an error; after it the store is left alone, and stats say so."""
    SQLModelCache.configure(nobody)
    for _ in range(3):
        with Session(engine) as session:
            assert session.get_one(Away, 1).name == "one"
    with Session(engine) as session:
        assert [row and row.name for row in get_many(session, Away, [2, 1, 3])] == [
            "two", "one", None,
        ]  # fmt: skip
    stats = SQLModelCache.stats()
    assert stats.breaker == "open"
    assert (stats.errors, stats.hits, stats.misses) == (1, 0, 0)
    assert stats.bypasses == {"breaker_open": 5}

"""A database with one hero, for sync and async sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from tests.testing.models import Base, Hero

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    """Yield an engine whose database has hero 1; nothing of it is cached."""
    engine = create_engine(sqlite_url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Hero(id=1, name="Deadpond"))
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
async def async_engine(engine: Engine) -> AsyncIterator[AsyncEngine]:
    """Yield an engine of the same database for async sessions."""
    url = engine.url.set(drivername="sqlite+aiosqlite")
    engine_ = create_async_engine(url)
    yield engine_
    await engine_.dispose()

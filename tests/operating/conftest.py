"""A SQLite file with two heroes, and the world's engines on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.operating.models import Hero, Plain, fill
from tests.servers.databases import async_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    """Yield an engine on a file with heroes 1 and 2."""
    made = create_engine(sqlite_url)
    fill(made, Hero(id=1, name="Deadpond"), Hero(id=2, name="Rusty-Man"), Plain(id=1))
    yield made
    made.dispose()


@pytest.fixture
async def async_engine(engine: Engine, sqlite_url: str) -> AsyncIterator[AsyncEngine]:
    """Yield an async engine on the same file."""
    made = create_async_engine(async_url(sqlite_url))
    yield made
    await made.dispose()

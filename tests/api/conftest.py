"""An engine on an empty SQLite file, sync and async."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.servers.databases import async_url


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    """Yield an engine on an empty file."""
    made = create_engine(sqlite_url)
    yield made
    made.dispose()


@pytest.fixture
async def async_engine(sqlite_url: str) -> AsyncIterator[AsyncEngine]:
    """Yield an async engine on the same file as `engine`."""
    made = create_async_engine(async_url(sqlite_url))
    yield made
    await made.dispose()

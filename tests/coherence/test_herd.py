"""Five hundred readers of one cold key: one of them fills it, and few go to the database."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.orm.reads import lookup
from sqlmodel_cache.protocol import read
from tests.coherence import steps, table
from tests.coherence.table import Item
from tests.servers.databases import async_url

READERS = 500
SLOW = 0.05  # seconds that a SELECT takes; a reader waits twice as long for another's fill


@pytest.fixture
def scene(postgres_url, redis_url, key_prefix, monkeypatch):
    """Return the database with one row that nobody has cached."""
    table.make_table(postgres_url, 2)
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    # "While the SELECT is shorter than the wait", also where 500 threads share a busy core.
    monkeypatch.setattr(lookup, "PATIENCE", read.Patience(wait=20.0))
    return postgres_url


def slow(engine, selects):
    """Make the SELECTs of an engine slow, and note them."""

    def on_statement(connection, cursor, statement, *_):
        if "coherence_item" in statement:
            selects.append(statement)
            steps.pause(SLOW)

    event.listen(engine, "before_cursor_execute", on_statement)


def test_threads(scene):
    """Threads of one process."""
    engine = create_engine(scene, poolclass=QueuePool, pool_size=5)
    selects, versions = [], []
    with Session(engine) as session:
        session.get(Item, 1)  # learns which database this is
    slow(engine, selects)
    start = threading.Event()

    def read():
        start.wait()
        with Session(engine) as session:
            versions.append(session.get(Item, 0).version)

    threads = [threading.Thread(target=read) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    before = SQLModelCache.stats().fills
    start.set()
    for thread in threads:
        thread.join()
    engine.dispose()
    assert SQLModelCache.stats().fills - before == 1
    assert versions == [1] * READERS
    assert len(selects) <= 2


async def test_tasks(scene):
    """Tasks of one event loop."""
    engine = create_async_engine(async_url(scene), pool_size=5)
    selects = []
    async with AsyncSession(engine) as session:
        await session.get(Item, 1)
    slow(engine.sync_engine, selects)
    before = SQLModelCache.stats().fills

    async def read():
        async with AsyncSession(engine) as session:
            return (await session.get(Item, 0)).version

    versions = await asyncio.gather(*(read() for _ in range(READERS)))
    await engine.dispose()
    assert SQLModelCache.stats().fills - before == 1
    assert versions == [1] * READERS
    assert len(selects) <= 2

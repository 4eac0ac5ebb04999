"""Nobody knows whether a COMMIT took place: its rows are read from the database for a while."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.orm.connections import publish
from tests.coherence import table
from tests.coherence.proxy import Fault, Proxy
from tests.coherence.table import Item
from tests.coherence.victims import until
from tests.servers.databases import async_url

FENCE = 500  # milliseconds


@pytest.fixture
def scene(postgres_url, redis_url, key_prefix, monkeypatch):
    """Return a proxy before PostgreSQL, an engine past it, and what reads row 0 there."""
    monkeypatch.setattr(publish, "Publication", partial(publish.Publication, duration=FENCE))
    table.make_table(postgres_url, 1)
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    engine = create_engine(postgres_url)

    def read():
        with Session(engine) as session:
            item = session.get(Item, 0)
            return item.version, item.from_cache

    assert [read(), read()] == [(1, False), (1, True)]
    url = make_url(postgres_url)
    with Proxy(url.port or 5432) as proxy:
        yield proxy, url.set(host="127.0.0.1", port=proxy.port), read
    engine.dispose()


def change(session):
    """Raise the row's version and commit."""
    session.get(Item, 0, with_for_update=True).version += 1
    session.commit()


async def write(url, tasks):
    """Change the row through the proxy; raises what commit() raises."""
    if tasks:
        engine = create_async_engine(async_url(url.render_as_string(hide_password=False)))
        try:
            async with AsyncSession(engine) as session:
                await session.run_sync(change)
        finally:
            await engine.dispose()
    else:
        engine = create_engine(url)
        try:
            with Session(engine) as session:
                change(session)
        finally:
            engine.dispose()


@pytest.mark.parametrize("tasks", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("fault", "version"), [(Fault.LOSE_REPLY, 2), (Fault.LOSE_REQUEST, 1)])
async def test_reply_to_commit_lost(scene, fault, version, tasks):
    """The fence stays: no hit until it runs out, whether the COMMIT took place or not."""
    proxy, url, read = scene
    proxy.fault = fault
    with pytest.raises((DBAPIError, OSError)):
        await write(url, tasks)
    assert read() == (version, False)
    assert read() == (version, False)
    until(lambda: read() == (version, True))


async def test_commit_cancelled(scene):
    """A task cancelled while it waits for the reply to COMMIT leaves its fence standing."""
    proxy, url, read = scene
    proxy.fault = Fault.WITHHOLD_REPLY
    task = asyncio.create_task(write(url, True))
    await asyncio.to_thread(proxy.triggered.wait, 10)
    task.cancel()
    await asyncio.sleep(0.05)
    proxy.cut()  # or asyncpg would wait two seconds for an orderly end
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [read(), read()] == [(2, False), (2, False)]
    until(lambda: read() == (2, True))

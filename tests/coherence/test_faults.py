"""Redis behind a proxy that fails in every way a network can: no error, no delay, nothing stale."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from sqlalchemy import create_engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sqlmodel_cache import FenceError, SQLModelCache
from sqlmodel_cache.transport import breaker
from tests.coherence import table
from tests.coherence.outages import storm
from tests.coherence.proxy import Fault, Proxy
from tests.coherence.table import Item
from tests.servers.databases import async_url

pytestmark = pytest.mark.timeout(180)

ROWS = 8
TIME_OUT = 0.2  # seconds
DEAD = [Fault.RESET, Fault.BLACKHOLE, Fault.ONE_WAY, Fault.TRUNCATE]


class Scene:
    """Rows in PostgreSQL, a Redis behind a proxy, and sessions of one kind."""

    def __init__(self, database, proxy, tasks):
        self.proxy = proxy
        self.tasks = tasks
        self.sync = create_engine(database)
        self.engine = create_async_engine(async_url(database)) if tasks else self.sync
        self.statements = []
        target = self.engine.sync_engine if tasks else self.engine
        event.listen(target, "before_cursor_execute", self._on_statement)

    def _on_statement(self, connection, cursor, statement, *_):
        self.statements.append((time.perf_counter(), time.thread_time()))

    async def read(self, row, **arguments):
        """Return the version that a new session reads, and whether it came from the cache."""
        if self.tasks:
            async with AsyncSession(self.engine) as session:
                item = await session.get(Item, row, **arguments)
        else:
            with Session(self.engine) as session:
                item = session.get(Item, row, **arguments)
        assert item.id == row
        return item.version, item.from_cache

    async def write(self, row):
        """Raise a row's version; returns the new one."""

        def change(session):
            item = session.get(Item, row, with_for_update=True)
            item.version += 1
            version = item.version
            session.commit()
            return version

        if self.tasks:
            async with AsyncSession(self.engine) as session:
                return await session.run_sync(change)
        with Session(self.engine) as session:
            return change(session)

    async def times(self, number, **options):
        """Read many times; return, sorted, the CPU seconds until each SELECT was sent.

        CPU time, and medians, because others use this machine: `make coherence` measures the p99.
        That nothing waits, the proxy has to tell.
        """
        spent = []
        for each in range(number):
            began = time.thread_time()
            assert await self.read(each % ROWS, execution_options=options) == (1, False)
            spent.append(self.statements[-1][1] - began)
        return sorted(spent)

    async def warm(self):
        """Have every row cached, seen by a hit."""
        for row in range(ROWS):
            await self.read(row)
            assert (await self.read(row))[1]

    async def back(self):
        """Heal the proxy and wait until hits come again."""
        self.proxy.fault = Fault.NONE
        deadline = time.monotonic() + 30
        while not (await self.read(0))[1]:
            assert time.monotonic() < deadline

    async def close(self):
        """Dispose of the engines."""
        self.sync.dispose()
        if self.tasks:
            await self.engine.dispose()


@pytest.fixture
def proxy(redis_url):
    """Return a proxy before the Redis."""
    with Proxy(make_url(redis_url).port or 6379) as proxy:
        yield proxy


@pytest.fixture
def url(proxy):
    """Return the cache's URL."""
    return f"redis://127.0.0.1:{proxy.port}/0?socket_timeout={TIME_OUT}"


@pytest.fixture(params=["sync", "async"])
async def scene(request, proxy, url, postgres_url, key_prefix):
    """Return a scene, everything cached."""
    table.make_table(postgres_url, ROWS)
    SQLModelCache.configure(url, key_prefix=key_prefix)
    scene = Scene(postgres_url, proxy, request.param == "async")
    await scene.warm()
    yield scene
    proxy.fault = Fault.NONE
    SQLModelCache.reset()
    await scene.close()


@pytest.mark.parametrize(
    ("fault", "times"),
    [(Fault.RESET, 100), (Fault.BLACKHOLE, 1000), (Fault.ONE_WAY, 100), (Fault.TRUNCATE, 100)],
)
async def test_one_time_out(scene, fault, times, monkeypatch):
    """A dead Redis costs one lookup its time-out, and a thousand after it nothing at all."""
    monkeypatch.setattr(breaker, "FIRST_COOL_DOWN", 60.0)
    scene.proxy.fault = fault
    began = time.perf_counter()
    assert await scene.read(0) == (1, False)
    assert time.perf_counter() - began < 2 * TIME_OUT + 1.0  # of which 1 s for a busy machine
    assert SQLModelCache.stats().breaker == "open"
    touched = scene.proxy.touched
    without = await scene.times(100, cache=False)
    scene.statements.clear()
    spent = await scene.times(times)
    assert scene.proxy.touched == touched
    assert len(scene.statements) == times
    assert spent[times // 2] - without[len(without) // 2] < 0.001
    assert SQLModelCache.stats().bypasses["breaker_open"] >= times
    assert SQLModelCache.stats().errors == 1


@pytest.mark.parametrize("fault", DEAD)
async def test_probe_and_recovery(scene, fault, monkeypatch):
    """The breaker tries again, and closes once Redis is back; a probe costs one time-out."""
    monkeypatch.setattr(breaker, "FIRST_COOL_DOWN", 0.05)
    scene.proxy.fault = fault
    while SQLModelCache.stats().errors < 3:  # the lookup that found out, and two probes
        assert await scene.read(1) == (1, False)
    await scene.back()
    assert SQLModelCache.stats().breaker == "closed"


async def test_late_replies(scene):
    """Replies that come after the time-out are given to nobody."""
    scene.proxy.fault = Fault.LATENCY
    for number in range(60):
        scene.proxy.latency = (0.0, TIME_OUT * 1.5)[number % 3 == 2]
        assert (await scene.read(number % ROWS))[0] == 1
    await scene.back()


@pytest.mark.parametrize("fault", DEAD)
async def test_commit_proceeds(scene, fault):
    """With 'proceed' a commit succeeds; its own process is right at once, all once it is back."""
    scene.proxy.fault = fault
    version = await scene.write(2)
    assert version == 2
    assert (await scene.read(2))[0] == 2
    await scene.back()
    deadline = time.monotonic() + 30
    while SQLModelCache.stats().queue:
        assert time.monotonic() < deadline
        await scene.read(2)
    assert SQLModelCache.stats().lost == 0
    assert (await scene.read(2))[0] == 2


@pytest.mark.parametrize("fault", DEAD)
async def test_commit_aborts(scene, url, key_prefix, fault):
    """With 'abort' a commit that could not fence is rolled back, and says so."""
    SQLModelCache.configure(url, key_prefix=key_prefix, on_fence_failure="abort")
    await scene.warm()
    scene.proxy.fault = fault
    with pytest.raises(FenceError):
        await scene.write(3)
    assert (await scene.read(3))[0] == 1
    with Session(scene.sync) as session:
        assert session.get(Item, 3, execution_options={"cache": False}).version == 1
    scene.proxy.fault = Fault.NONE
    assert await scene.write(3) == 2
    assert (await scene.read(3))[0] == 2


def test_storm_with_abort(settings, proxy):
    """Many processes, a network that fails in every way: with 'abort' nobody reads anything old."""
    found = storm(replace(settings, abort=True), proxy, rounds=1)
    result = found.result
    assert (result.stale_s1, result.stale_s2, result.errors) == (0, 0, 0), result.evidence
    assert result.stale_database == 0
    assert found.wrong_at_rest == []
    assert result.hits > 0


def test_storm_with_proceed(settings, proxy):
    """The same with 'proceed': no error reaches anybody, and nothing old is left afterwards."""
    found = storm(settings, proxy, rounds=1)
    assert (found.result.errors, found.result.stale_database) == (0, 0), found.result.evidence
    assert found.wrong_at_rest == []

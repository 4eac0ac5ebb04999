"""publish_stats: every process's counts in Redis, without a trace once it is gone."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from sqlmodel_cache import SQLModelCache, _state
from sqlmodel_cache.keys import bulletin_board
from sqlmodel_cache.stats import merge
from sqlmodel_cache.transport import MemoryTransport, RedisAsyncTransport, RedisSyncTransport
from sqlmodel_cache.transport.bulletin import LIFE, collect
from sqlmodel_cache.transport.stores import open_stores
from tests.operating.models import Hero, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """Return a client that looks on."""
    with redis.Redis.from_url(redis_url) as made:
        yield made


def post() -> None:
    """Publish now instead of in a while."""
    _state.active._bulletin.post()


def reports(url: str, prefix: str) -> list[Any]:
    """Return what all processes published."""
    stores = open_stores(url)
    found = collect(stores.sync.execute, prefix)
    stores.close()
    return found


def threads() -> list[str]:
    """Return the names of our threads."""
    return [one.name for one in threading.enumerate() if one.name.startswith("sqlmodel-cache")]


def test_counts_are_published(engine: Engine, redis_url: str, key_prefix: str) -> None:
    """With everything that stats() has, percentiles too."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix, publish_stats=True)
    read(engine, Hero, 1, times=3)
    post()
    (report,) = reports(redis_url, key_prefix)
    assert report.pid == os.getpid()
    assert report.stats == SQLModelCache.stats()
    assert merge([report.stats]).as_dict()["models"] == SQLModelCache.stats().as_dict()["models"]


def test_a_client_of_ones_own_publishes_too(
    engine: Engine, redis_url: str, key_prefix: str, client: redis.Redis
) -> None:
    """RedisSyncTransport(client) as well as a URL."""
    SQLModelCache.configure(RedisSyncTransport(client), key_prefix=key_prefix, publish_stats=True)
    read(engine, Hero, 1)
    post()
    assert [one.stats.misses for one in reports(redis_url, key_prefix)] == [1]


def test_it_publishes_by_itself(redis_url: str, key_prefix: str) -> None:
    """Half a second after configure()."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix, publish_stats=True)
    until = time.monotonic() + 10
    while not reports(redis_url, key_prefix):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_what_is_published_expires(redis_url: str, key_prefix: str, client: redis.Redis) -> None:
    """Every key has an expiry: a killed process leaves nothing behind."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix, publish_stats=True)
    post()
    board = bulletin_board(key_prefix)
    (member,) = client.zrange(board, 0, -1)
    assert 0 < client.ttl(f"{board}:{member.decode()}") <= LIFE
    assert 0 < client.ttl(board) <= 3600


def test_reset_leaves_no_thread(redis_url: str, key_prefix: str) -> None:
    """Nor does a second configure()."""
    for _ in range(2):
        SQLModelCache.configure(redis_url, key_prefix=key_prefix, publish_stats=True)
        assert threads() == ["sqlmodel-cache-stats"]
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    assert threads() == []
    SQLModelCache.configure(redis_url, key_prefix=key_prefix, publish_stats=True)
    SQLModelCache.reset()
    assert threads() == []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_report_of_its_own(
    engine: Engine, redis_url: str, key_prefix: str
) -> None:
    """Under another id, with its own counts, by a thread of its own."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix, publish_stats=True)
    read(engine, Hero, 1, times=3)
    post()
    child = os.fork()
    if not child:
        read(engine, Hero, 1)
        post()
        os._exit(len(threads()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    found = {report.pid: report.stats.hits for report in reports(redis_url, key_prefix)}
    assert found == {os.getpid(): 2, child: 1}


@pytest.mark.parametrize("kind", ["memory", "async"])
def test_where_nothing_can_be_published(
    kind: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and there is no thread."""
    client = redis.asyncio.Redis.from_url(redis_url)
    store = MemoryTransport() if kind == "memory" else RedisAsyncTransport(client)
    SQLModelCache.configure(store, publish_stats=True)
    assert "publish_stats=True needs Redis" in caplog.text
    assert threads() == []


def test_a_store_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """The thread lives on, and tries again."""
    SQLModelCache.configure("redis://127.0.0.1:1/0", publish_stats=True)
    time.sleep(0.7)
    assert threads() == ["sqlmodel-cache-stats"]


def test_foreign_reports_are_skipped(redis_url: str, key_prefix: str, client: redis.Redis) -> None:
    """Those that expired, and those that cannot be read."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix, publish_stats=True)
    post()
    board = bulletin_board(key_prefix)
    client.zadd(board, {"gone": 1e12, "odd": 1e12, "new": 1e12})
    client.set(f"{board}:odd", b"\x00", ex=60)
    client.set(f"{board}:new", b'{"process": 1}', ex=60)
    assert len(reports(redis_url, key_prefix)) == 1


def test_environment(redis_url: str, key_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLMODEL_CACHE_PUBLISH_STATS=1 switches it on without code."""
    monkeypatch.setenv("SQLMODEL_CACHE_URL", redis_url)
    monkeypatch.setenv("SQLMODEL_CACHE_KEY_PREFIX", key_prefix)
    monkeypatch.setenv("SQLMODEL_CACHE_PUBLISH_STATS", "1")
    from sqlmodel_cache.orm.activation import configure_from_environment

    configure_from_environment()
    assert SQLModelCache.get_config().publish_stats
    assert threads() == ["sqlmodel-cache-stats"]

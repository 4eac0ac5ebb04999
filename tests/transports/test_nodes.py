"""A Cluster of three nodes: what spans slots, nodes and lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache, _state, aget_many, get_many
from sqlmodel_cache.keys import local_channel
from sqlmodel_cache.protocol.ops import Release
from sqlmodel_cache.protocol.read import new_token
from sqlmodel_cache.transport import RedisAsyncTransport, RedisSyncTransport, TieredTransport
from tests.recording import record_sql
from tests.servers.cluster import Cluster, until
from tests.servers.redis_server import RedisServer

ROWS = 64  # in all shards, and so on all nodes


class Base(DeclarativeBase):
    """Of the rows that lie on several nodes."""


class Spread(Base):
    """A row on one of the nodes."""

    __tablename__ = "spread"
    __cache_config__ = CacheConfig(ttl=300)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Copied(Base):
    """A row of which processes keep copies."""

    __tablename__ = "copied"
    __cache_config__ = CacheConfig(ttl=300, local_ttl=300)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture(scope="module")
def nodes(redis_cluster: Cluster) -> list[RedisServer]:
    """Return its three nodes."""
    return redis_cluster.nodes


@pytest.fixture
def cluster(redis_cluster: Cluster) -> Iterator[Any]:
    """Return a client of the whole Cluster, which is emptied before."""
    with redis_cluster.client() as client:
        client.flushall(target_nodes="primaries")
        yield client


@pytest.fixture
def engine(tmp_path: Any) -> Iterator[Engine]:
    """Return a database with rows in every shard."""
    made = create_engine(f"sqlite:///{tmp_path}/nodes.sqlite3")
    Base.metadata.create_all(made)
    with Session(made) as session:
        for model in (Spread, Copied):
            session.add_all([model(id=number, name="a") for number in range(1, ROWS + 1)])
        session.commit()
    yield made
    SQLModelCache.reset()
    made.dispose()


def per_node(nodes: list[RedisServer], table: str) -> list[int]:
    """Return how many values of a table lie on each node."""
    counts = []
    for node in nodes:
        with node.client() as client:
            counts.append(sum(b"}:" in key for key in client.scan_iter(f"*:{table}:*")))
    return counts


def read_all(engine: Engine, model: Any) -> dict[int, str]:
    """Return the names of all rows, read in a new session."""
    with Session(engine) as session:
        rows = get_many(session, model, range(1, ROWS + 1))
        return {row.id: row.name for row in rows if row is not None}


def test_rows_on_all_nodes(nodes: list[RedisServer], cluster: Any, engine: Engine) -> None:
    """Stored and found on each; a commit reaches just its rows, and a bulk write all."""
    SQLModelCache.configure(RedisSyncTransport(cluster))
    read_all(engine, Spread)
    assert all(per_node(nodes, "spread"))
    assert sum(per_node(nodes, "spread")) == ROWS
    with record_sql(engine) as sent:
        assert set(read_all(engine, Spread).values()) == {"a"}
    assert not sent
    with Session(engine) as session:
        for number in range(1, 10):
            row = session.get(Spread, number)
            assert row is not None
            row.name = "b"
        session.commit()
    assert sum(per_node(nodes, "spread")) == ROWS - 9
    with record_sql(engine) as sent:
        names = read_all(engine, Spread)
    assert len(sent) == 1
    assert [names[number] for number in (1, 9, 10)] == ["b", "b", "a"]
    with Session(engine) as session:
        session.query(Spread).update({"name": "c"})
        session.commit()
    assert set(read_all(engine, Spread).values()) == {"c"}


def test_purge_reaches_all_nodes(nodes: list[RedisServer], cluster: Any, engine: Engine) -> None:
    """The bytes of a row, and of a model, wherever they lie."""
    SQLModelCache.configure(RedisSyncTransport(cluster))
    read_all(engine, Spread)
    assert SQLModelCache.purge(Spread, *range(1, 11)) == 10
    assert sum(per_node(nodes, "spread")) == ROWS - 10
    read_all(engine, Spread)
    SQLModelCache.invalidate(Spread)  # the bytes stay, under epochs that are gone
    assert sum(per_node(nodes, "spread")) == ROWS
    assert SQLModelCache.purge(Spread) == ROWS
    assert per_node(nodes, "spread") == [0, 0, 0]
    with record_sql(engine) as sent:
        read_all(engine, Spread)
        read_all(engine, Spread)
    assert len(sent) == 1


def test_the_switch(cluster: Any, engine: Engine) -> None:
    """It lies on one node, and `switch_on` renews epochs on all."""
    SQLModelCache.configure(RedisSyncTransport(cluster))
    read_all(engine, Spread)
    SQLModelCache.switch_off(Spread)
    with record_sql(engine) as sent:
        read_all(engine, Spread)
    assert len(sent) == 1
    SQLModelCache.switch_on(Spread)
    with record_sql(engine) as sent:
        read_all(engine, Spread)
        read_all(engine, Spread)
    assert len(sent) == 1


async def test_from_coroutines(nodes: list[RedisServer], cluster: Any, engine: Engine) -> None:
    """The same through the asynchronous client: fills, hits, commits, and a purge on all nodes."""
    start = [AsyncClusterNode("127.0.0.1", nodes[0].port)]
    database = create_async_engine(str(engine.url).replace("sqlite", "sqlite+aiosqlite", 1))
    async with AsyncRedisCluster(startup_nodes=start) as client:
        SQLModelCache.configure(RedisAsyncTransport(client))

        async def names() -> list[str]:
            async with AsyncSession(database) as session:
                rows = await aget_many(session, Spread, range(1, ROWS + 1))
                return [row.name for row in rows if row is not None]

        await names()
        assert sum(per_node(nodes, "spread")) == ROWS
        with record_sql(database) as sent:
            assert await names() == ["a"] * ROWS
        assert not sent
        async with AsyncSession(database) as session:
            row = await session.get(Spread, 1)
            assert row is not None
            row.name = "b"
            await session.commit()
        assert sum(per_node(nodes, "spread")) == ROWS - 1
        assert await names() == ["b"] + ["a"] * (ROWS - 1)
        assert await SQLModelCache.apurge(Spread, 1, 2) == 2
        assert await SQLModelCache.apurge(Spread) == ROWS - 2
        assert per_node(nodes, "spread") == [0, 0, 0]
        SQLModelCache.reset()
    await database.dispose()


@pytest.mark.parametrize("heard_at", [0, 1, 2])
def test_messages_cross_nodes(
    nodes: list[RedisServer], cluster: Any, engine: Engine, heard_at: int
) -> None:
    """What another process commits, wherever it lies, is heard of at whichever node listens."""
    listen = nodes[heard_at].client()
    tiers = TieredTransport(RedisSyncTransport(cluster), listen=listen)
    SQLModelCache.configure(tiers)
    prefix = SQLModelCache.get_config().key_prefix
    read_all(engine, Copied)
    assert tiers.wait_until_listening(local_channel(prefix), 20)
    read_all(engine, Copied)
    assert _state.active.stores.local.local_stats().entries == ROWS
    with record_sql(engine) as sent:
        read_all(engine, Copied)
    assert not sent
    # Another process, with a client of its own.
    (namespace,) = next(iter(_state.active.sites)).namespaces
    keys = _state.active.keyspace(namespace, "copied", 300)
    other = RedisSyncTransport(cluster)
    for number in range(1, ROWS + 1):
        other.perform(Release(new_token(), (keys.entry(f"i{number}"),), ()))
    until(lambda: not len(tiers._rows))
    listen.close()

"""The shipped contract, on copies in this process in front of Redis, Valkey and a Cluster."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import redis
import redis.asyncio

from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol.ops import Get
from sqlmodel_cache.testing.contract import Store, TransportContract
from sqlmodel_cache.testing.contract.full import store_row
from sqlmodel_cache.transport import RedisAsyncTransport, RedisSyncTransport, TieredTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

LISTENING = 10.0  # seconds


@contextmanager
def tiered(kind: str, url: str, runner: asyncio.Runner) -> Iterator[TieredTransport]:
    """Yield two tiers with one face."""

    async def connect() -> Any:
        return redis.asyncio.Redis.from_url(url)

    with redis.Redis.from_url(url) as listener:
        if kind.endswith("async"):
            client = runner.run(connect())
            tiers = TieredTransport(async_=RedisAsyncTransport(client), listen=listener)
            yield tiers
            tiers.rest()
            runner.run(client.aclose())
        else:
            build: Any = redis.RedisCluster if kind == "cluster-sync" else redis.Redis
            with build.from_url(url) as plain:
                tiers = TieredTransport(RedisSyncTransport(plain), listen=listener)
                yield tiers
                tiers.rest()


class TestTiers(TransportContract):
    """Every step, with copies allowed and messages coming in."""

    # A stranger's bytes are not announced; test_local.py has what is.
    test_an_unreadable_value_of_no_epoch_is_no_value = None

    @pytest.fixture
    def space(self) -> KeySpace:
        """Keys whose values may be copied."""
        return KeySpace(f"contract-{uuid4().hex[:12]}", "test", "hero", 300)

    @pytest.fixture(params=["redis-sync", "redis-async", "valkey-sync", "cluster-sync"])
    def transport(
        self, request: pytest.FixtureRequest, runner: asyncio.Runner, space: KeySpace
    ) -> Iterator[Any]:
        """Yield one face, once messages come."""
        server = request.param.partition("-")[0]
        url = request.getfixturevalue(f"{server}_url")
        with tiered(request.param, url, runner) as tiers:
            self.tiers = tiers
            assert tiers.wait_until_listening(space.shards[0].channel, LISTENING)
            yield tiers.sync or tiers.async_

    def test_a_value_that_was_read_is_copied(self, store: Store, space: KeySpace) -> None:
        """The second read asks nobody, and answers what the first did."""
        entry = space.entry("1")
        store_row(store, entry)
        first = store.perform(Get(entry))
        assert store.perform(Get(entry)) == first
        assert self.tiers.local_stats().hits == 1

"""Which kind of transport any object is."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import pytest
import redis
import redis.asyncio

from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.transport import (
    AsyncCacheTransport,
    CacheTransport,
    MemoryTransport,
    RedisAsyncTransport,
    RedisSyncTransport,
)
from sqlmodel_cache.transport._protocols import Traits, classify
from sqlmodel_cache.transport.url import open_url

BASIC_SYNC = Traits(full=False, serves_sync=True, serves_async=False, blocks=True)
BASIC_ASYNC = Traits(full=False, serves_sync=False, serves_async=True, blocks=False)


class Plain:
    """Somebody's own."""

    def get(self, key: str) -> bytes | None: ...
    def set(self, key: str, value: bytes, ttl: int) -> None: ...
    def delete(self, *keys: str) -> None: ...


class Coroutines:
    """Somebody's own, for tasks."""

    async def get(self, key: str) -> bytes | None: ...
    async def set(self, key: str, value: bytes, ttl: int) -> None: ...
    async def delete(self, *keys: str) -> None: ...


class Mixed(Plain):
    """Half of it was ported."""

    async def get(self, key: str) -> bytes | None: ...  # type: ignore[override]


class OpsOnly:
    """The full contract and nothing else."""

    def perform(self, op: object) -> object: ...


class CallableMethods:
    """Methods that are objects."""

    class _Call:
        async def __call__(self, *args: Any) -> None: ...

    get = set = delete = _Call()


@pytest.mark.parametrize(
    "transport",
    [
        Plain(),
        MagicMock(),
        Mock(),
        MagicMock(spec=CacheTransport),
        create_autospec(Plain, instance=True),
    ],
    ids=lambda transport: type(transport).__name__,
)
def test_three_plain_methods_are_a_basic_transport(transport: Any) -> None:
    """Mocks too, although they have every attribute one asks for."""
    assert classify(transport) == BASIC_SYNC


@pytest.mark.parametrize(
    "transport",
    [Coroutines(), AsyncMock(), MagicMock(spec=Coroutines), CallableMethods()],
    ids=lambda transport: type(transport).__name__,
)
def test_three_coroutine_functions_are_an_async_basic_transport(transport: Any) -> None:
    """Mocks and callable objects too."""
    assert classify(transport) == BASIC_ASYNC


def test_ours_are_full() -> None:
    """Each says from where it can be asked, and whether that may wait."""
    assert classify(MemoryTransport()) == Traits(True, True, False, False)
    assert classify(RedisSyncTransport(redis.Redis())) == Traits(True, True, False, True)
    client = redis.asyncio.Redis()
    assert classify(RedisAsyncTransport(client)) == Traits(True, False, True, False)
    assert classify(OpsOnly()) == Traits(True, True, False, True)


def test_pairs_serve_both() -> None:
    """What a URL gives."""
    assert classify(open_url("memory://")) == Traits(True, True, True, False)
    assert classify(open_url("redis://localhost")) == Traits(True, True, True, True)


@pytest.mark.parametrize("thing", [object(), None, 5, {"get": 1}, Mock(spec=["get", "set"])])
def test_anything_else_is_refused_with_the_remedy(thing: Any) -> None:
    """The message names what is missing and what to pass."""
    with pytest.raises(ConfigurationError, match=r"has no .*delete.*'memory://'"):
        classify(thing)


def test_half_async_is_refused() -> None:
    """Nobody could call it."""
    with pytest.raises(ConfigurationError, match="Mixed mixes async and plain"):
        classify(Mixed())


def test_the_protocols_can_be_asked_at_run_time() -> None:
    """Structurally: no inheritance required."""
    assert isinstance(Plain(), CacheTransport)
    assert isinstance(Coroutines(), AsyncCacheTransport)
    assert isinstance(MemoryTransport(), CacheTransport)
    assert isinstance(RedisSyncTransport(redis.Redis()), CacheTransport)
    assert isinstance(RedisAsyncTransport(redis.asyncio.Redis()), AsyncCacheTransport)
    assert not isinstance(object(), CacheTransport)

"""The contracts that are shipped, on memory, Redis, Valkey and a Cluster, through all clients."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from freezegun import freeze_time

from sqlmodel_cache.testing import FaultyTransport
from sqlmodel_cache.testing.contract import CacheTransportContract, Store, TransportContract
from sqlmodel_cache.transport import MemoryTransport
from tests.transports.stores import STORES, connected

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from sqlmodel_cache.keys import KeySpace


class TestContracts(TransportContract, CacheTransportContract):
    """Both, on every store."""

    @pytest.fixture(params=STORES)
    def transport(self, request: pytest.FixtureRequest, runner: asyncio.Runner) -> Iterator[Any]:
        """Every transport, one after another."""
        server = request.param.partition("-")[0]
        url = "" if server == "memory" else request.getfixturevalue(f"{server}_url")
        with connected(request.param, url, runner) as ready:
            yield ready

    # Nobody waits for a server's clock; test_redis.py asks what time it was given.
    test_a_value_ends_with_its_ttl = None

    def test_a_plain_value_without_a_lifetime_is_removed(
        self, store: Store, space: KeySpace
    ) -> None:
        """A ttl of zero leaves nothing behind."""
        key = space.entry("1").value
        store.set(key, b"old", 1000)
        store.set(key, b"new", 0)
        assert store.get(key) is None


class TestWithoutFaults(TransportContract):
    """A FaultyTransport without a script is the transport behind it."""

    test_an_unreadable_value_of_no_epoch_is_no_value = None  # its faces have no `set`

    @pytest.fixture(params=["sync", "async"])
    def transport(self, request: pytest.FixtureRequest) -> Any:
        """Each of its two faces."""
        faulty = FaultyTransport(MemoryTransport())
        return faulty.sync if request.param == "sync" else faulty.async_


class TestMemoryIsSmallToo(CacheTransportContract):
    """The small contract, where time can be moved."""

    @pytest.fixture
    def transport(self) -> Iterator[MemoryTransport]:
        """Yield it, and thaw what `let_pass` froze."""
        with ExitStack() as self.frozen:
            yield MemoryTransport()

    def let_pass(self, seconds: float) -> None:
        """Freeze the clock later than it is."""
        self.frozen.enter_context(freeze_time(timedelta(seconds=seconds)))

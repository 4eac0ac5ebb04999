"""Servers of the transports' tests: the shared Redis, a Valkey, and a Cluster of one node."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from sqlmodel_cache.keys import KeySpace
from tests.servers.cluster import start_node
from tests.servers.fixtures import obtain
from tests.servers.redis_server import RedisServer
from tests.transports.stores import make_cluster, valkey_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """URL of a Valkey."""
    with valkey_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def cluster_url() -> Iterator[str]:
    """URL of a Redis Cluster of one node."""
    with ExitStack() as stack:
        server = obtain("Redis Cluster", lambda: start_node(stack))
        make_cluster(server)
        yield server.url


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """Start a Redis that the test may flush, fill, pause or kill."""
    with RedisServer() as own:
        yield own


@pytest.fixture
def space(key_prefix: str) -> KeySpace:
    """Keys that no other test uses."""
    return KeySpace(key_prefix, "test", "hero")

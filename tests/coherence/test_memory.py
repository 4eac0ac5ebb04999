"""A Redis that is full, or that forgets everything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.coherence.outages import pressed, restarts
from tests.servers.choice import AskedFor, Unavailable
from tests.servers.redis_server import RedisServer

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def start():
    """Return what starts a Redis of one's own."""
    servers = []

    def start(*arguments):
        try:
            servers.append(RedisServer(*arguments))
        except (Unavailable, AskedFor) as error:
            pytest.skip(f"no server: Redis: {error}")
        return servers[-1].start()

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru", "volatile-ttl"])
def test_two_megabytes(settings, start, policy):
    """Under each policy S2 holds while no writer dies; with noeviction, S1 as well."""
    server = start("--maxmemory", "2mb", "--maxmemory-policy", policy)
    found = pressed(settings, server, 1.5)
    result = found.result
    assert (result.stale_s2, result.errors, result.stale_database) == (0, 0, 0), result.evidence
    if policy == "noeviction":
        assert result.stale_s1 == 0, result.evidence
    assert found.survived > 0
    assert result.commits > 0
    assert found.wrong_at_rest == []


@pytest.mark.parametrize("abort", [True, False])
def test_restarted_empty(settings, start, abort):
    """Redis is killed and comes back empty: nothing that it served before comes back.

    With 'abort' S2 holds all along; a fence that is lost before its COMMIT excuses S1.
    """
    found = restarts(replace(settings, abort=abort), start(), 2)
    assert (found.result.errors, found.result.stale_database) == (0, 0), found.result.evidence
    assert found.wrong_at_rest == []
    assert found.result.hits > 0
    if abort:
        assert found.result.stale_s2 == 0, found.result.evidence

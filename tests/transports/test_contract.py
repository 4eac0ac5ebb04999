"""The contract on memory, Redis, Valkey and a Cluster, through sync and async clients."""

from __future__ import annotations

from tests.transports.contract import TransportContract


class TestContract(TransportContract):
    """Run on every store that the fixture `store` names."""

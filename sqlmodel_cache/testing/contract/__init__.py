"""Tests for transports of your own: classes to inherit. Needs pytest.

`CacheTransportContract` is for `get`, `set` and `delete`, sync or async; `TransportContract` for
the whole protocol in one method `perform`.
"""

from sqlmodel_cache.testing.contract.full import TransportContract
from sqlmodel_cache.testing.contract.small import CacheTransportContract
from sqlmodel_cache.testing.contract.store import Store

__all__ = ("CacheTransportContract", "Store", "TransportContract")

"""Stores: what carries out the protocol's operations. Knows keys and bytes, no models."""

from sqlmodel_cache.transport._protocols import AsyncCacheTransport, CacheTransport
from sqlmodel_cache.transport.async_ import RedisAsyncTransport
from sqlmodel_cache.transport.memory import MemoryTransport
from sqlmodel_cache.transport.sync import RedisSyncTransport
from sqlmodel_cache.transport.tiered import TieredTransport

__all__ = (
    "AsyncCacheTransport",
    "CacheTransport",
    "MemoryTransport",
    "RedisAsyncTransport",
    "RedisSyncTransport",
    "TieredTransport",
)

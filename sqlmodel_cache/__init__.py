"""A second-level cache for SQLModel and SQLAlchemy: a hit is indistinguishable from a load."""

from sqlmodel_cache.api import SQLModelCache
from sqlmodel_cache.config import CacheConfig, Configuration
from sqlmodel_cache.errors import (
    CacheError,
    ConfigurationError,
    FenceError,
    UnavailableError,
    UnsupportedError,
)
from sqlmodel_cache.orm.model.policy import CachedModel, cached
from sqlmodel_cache.orm.reads.finding import aget_by, get_by
from sqlmodel_cache.orm.reads.many import aget_many, get_many
from sqlmodel_cache.orm.reads.warming import awarm, warm
from sqlmodel_cache.orm.sessions import cached_sessionmaker
from sqlmodel_cache.stats import ModelStats, Stats

__all__ = (
    "CacheConfig",
    "CacheError",
    "CachedModel",
    "Configuration",
    "ConfigurationError",
    "FenceError",
    "ModelStats",
    "SQLModelCache",
    "Stats",
    "UnavailableError",
    "UnsupportedError",
    "aget_by",
    "aget_many",
    "awarm",
    "cached",
    "cached_sessionmaker",
    "get_by",
    "get_many",
    "warm",
)

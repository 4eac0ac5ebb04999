"""The only mutable module state: which cache is active, and which other caches are alive.

The caches themselves are built by the floors above; here they are just held.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlmodel_cache.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlmodel_cache.config import CacheConfig, Configuration

# The cache of SQLModelCache.configure(); None before it and after reset().
active: Any = None

# True once this process ran with configure(enabled=False): its writes invalidated nothing.
wrote_unseen = False

# What a model gets that says nothing itself; set by `sqlmodel_cache.testing.everywhere` alone.
everywhere: CacheConfig | None = None

# True once this process was told that it writes cached models without any cache.
told_unconfigured = False

# Caches that a cached_sessionmaker() carries. A commit fences in every one of them.
carried: WeakSet[Any] = WeakSet()

REMEDY = (
    "call SQLModelCache.configure(transport=...) once at start, set SQLMODEL_CACHE_URL, or set"
    " SQLMODEL_CACHE_ENABLED=0 to run without a cache"
)


def get_config() -> Configuration:
    """Return the active configuration; raises ConfigurationError if there is none."""
    if active is None and switched_off():
        raise ConfigurationError(
            "this process runs without a cache, as SQLMODEL_CACHE_ENABLED says: unset it, or call"
            " SQLModelCache.configure(transport=...), which comes before it"
        )
    if active is None:
        raise ConfigurationError(f"sqlmodel_cache is not configured: {REMEDY}")
    config: Configuration = active.config
    return config


def live() -> list[Any]:
    """Return every cache in which a commit of this process must fence."""
    own = [] if active is None else [active]
    return own + list(carried) if carried else own


def environment(name: str) -> str | None:
    """Return the environment variable `SQLMODEL_CACHE_<name>`, None where unset or empty."""
    return os.environ.get(f"SQLMODEL_CACHE_{name}") or None


def switched_off() -> bool:
    """Tell whether the environment says to run without a cache."""
    return (environment("ENABLED") or "").lower() in ("0", "false", "no", "off")

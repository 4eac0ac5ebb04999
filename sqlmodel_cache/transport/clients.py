"""What must be true of a Redis client that somebody hands to us, checked once.

redis-py and its fork valkey-py are known, each with its Cluster client. Anything else that looks
like one (a fake, a mock) is taken at its word.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any, Final

from sqlmodel_cache.errors import ConfigurationError

OLDEST_REDIS_PY: Final = 5
_CLUSTERS: Final = frozenset({"RedisCluster", "ValkeyCluster"})


def vet(client: Any, *, transport: str, is_async: bool) -> None:
    """Raise `ConfigurationError` if `client` cannot serve `transport`."""
    execute = getattr(client, "execute_command", None)
    if not callable(execute):
        raise ConfigurationError(
            f"{transport}(client) needs a client of redis-py, not {type(client).__name__}. "
            f"Build one with {'redis.asyncio.Redis' if is_async else 'redis.Redis'}"
            ".from_url(...), or pass the URL itself to configure()."
        )
    if _awaitable(client) is not is_async:
        other, kind = (
            ("RedisSyncTransport", "plain") if is_async else ("RedisAsyncTransport", "asyncio")
        )
        raise ConfigurationError(
            f"{transport}(client) was given the {kind} client {type(client).__name__}: "
            f"use {other}(client), or pass a URL to configure(), which serves both."
        )
    _vet_version(client)
    if client.get_encoder().decode_responses is True:
        raise ConfigurationError(
            f"{transport}(client): the client has decode_responses=True, but cached values are "
            "bytes. Give the cache a client of its own, without decode_responses, or a URL."
        )


def is_cluster(client: Any) -> bool:
    """Tell whether commands are routed by slot."""
    return any(cls.__name__ in _CLUSTERS for cls in type(client).__mro__)


def _awaitable(client: Any) -> bool:
    if any(cls.__module__.startswith(("redis.asyncio", "valkey.asyncio")) for cls in _mro(client)):
        return True
    return inspect.iscoroutinefunction(client.execute_command)


def _vet_version(client: Any) -> None:
    if not any(cls.__module__.partition(".")[0] == "redis" for cls in _mro(client)):
        return
    version = str(getattr(sys.modules["redis"], "__version__", OLDEST_REDIS_PY))
    major = version.partition(".")[0]
    if major.isdigit() and int(major) < OLDEST_REDIS_PY:
        raise ConfigurationError(
            f"redis-py {version} is too old: it can hand one caller's reply to another "
            f"(CVE-2023-28858). Install redis>={OLDEST_REDIS_PY}."
        )


def _mro(client: object) -> tuple[type, ...]:
    return type(client).__mro__

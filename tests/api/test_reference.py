"""The API reference that this library must have exactly: names, defaults, order, behaviour."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import sqlmodel_cache
from sqlmodel_cache import (
    CacheConfig,
    CachedModel,
    CacheError,
    ConfigurationError,
    FenceError,
    SQLModelCache,
    UnavailableError,
    UnsupportedError,
)
from sqlmodel_cache.transport import (
    AsyncCacheTransport,
    CacheTransport,
    MemoryTransport,
    RedisAsyncTransport,
    RedisSyncTransport,
)

ROOT = Path(__file__).resolve().parents[2]


def test_names_of_the_reference_are_public() -> None:
    """Under the paths that the reference gives."""
    for name in ("CacheConfig", "SQLModelCache", "CacheError", "ConfigurationError"):
        assert name in sqlmodel_cache.__all__
        assert getattr(sqlmodel_cache, name).__name__ == name
    for name in sqlmodel_cache.__all__:
        assert hasattr(sqlmodel_cache, name)


def test_parameters_of_configure() -> None:
    """`configure(transport, *, default_ttl=300, key_prefix='sqlmodelcache', enabled=True)`."""
    parameters = inspect.signature(SQLModelCache.configure).parameters
    first = parameters["transport"]
    assert next(iter(parameters)) == "transport"
    assert first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert first.default is inspect.Parameter.empty
    for name, default in (
        ("default_ttl", 300), ("key_prefix", "sqlmodelcache"), ("enabled", True),
    ):  # fmt: skip
        assert parameters[name].default == default
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY


def test_cache_config_of_the_reference() -> None:
    """A dataclass with `enabled` and `ttl`, in this order, and these defaults."""
    parameters = list(inspect.signature(CacheConfig).parameters.values())
    assert [(each.name, each.default) for each in parameters[:2]] == [
        ("enabled", True), ("ttl", None),
    ]  # fmt: skip
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in parameters[2:])


def test_config_has_what_the_reference_says() -> None:
    """Transport, default_ttl, key_prefix, enabled."""
    store = MemoryTransport()
    SQLModelCache.configure(store)
    config = SQLModelCache.get_config()
    assert config.transport is store
    assert (config.default_ttl, config.key_prefix, config.enabled) == (300, "sqlmodelcache", True)


def test_tree_of_errors() -> None:
    """Everything below CacheError, which is an Exception and nothing of Redis'."""
    assert CacheError.__bases__ == (Exception,)
    for error in (ConfigurationError, FenceError, UnavailableError, UnsupportedError):
        assert error.__bases__ == (CacheError,)


@pytest.mark.parametrize("cls", [RedisSyncTransport, RedisAsyncTransport, MemoryTransport])
def test_transports_satisfy_the_protocols_without_inheriting(cls: type) -> None:
    """`get(key)`, `set(key, value, ttl)`, `delete(*keys)`; async where the name says so."""
    for name, parameters in (
        ("get", ["self", "key"]), ("set", ["self", "key", "value", "ttl"]),
        ("delete", ["self", "keys"]),
    ):  # fmt: skip
        method = getattr(cls, name)
        assert list(inspect.signature(method).parameters) == parameters
        assert inspect.iscoroutinefunction(method) == (cls is RedisAsyncTransport)
    assert not {CacheTransport, AsyncCacheTransport} & set(cls.__mro__)
    if cls is not MemoryTransport:
        assert list(inspect.signature(cls).parameters) == ["client"]


def test_no_event_loop_and_no_asyncio_client_at_import() -> None:
    """`redis.asyncio` is not imported at module level, anywhere in the package."""
    for path in (ROOT / "sqlmodel_cache").rglob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            if "redis.asyncio" in line and "import" in line:
                assert line.startswith("    "), f"{path.name}: {line}"
    asked = "import sys; print('redis.asyncio' in sys.modules)"
    ours = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sqlmodel_cache.transport; {asked}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    theirs = subprocess.run(
        [sys.executable, "-c", f"import redis; {asked}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    # redis-py may import it by itself; we add nothing to that.
    assert ours.stdout == "False\n" or theirs.stdout == "True\n"


def test_cached_model_is_a_sqlmodel_without_a_table() -> None:
    """It adds no field and no column."""
    from sqlmodel import SQLModel

    assert issubclass(CachedModel, SQLModel)
    assert CachedModel.model_fields == {}
    assert not hasattr(CachedModel, "__table__")
    assert CachedModel.__cache_config__ == CacheConfig()

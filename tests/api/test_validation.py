"""What cannot work is refused early, and the message names model, field and remedy."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from sqlmodel_cache import (
    CacheConfig,
    Configuration,
    ConfigurationError,
    SQLModelCache,
    cached,
    cached_sessionmaker,
)
from sqlmodel_cache.orm.model.policy import config_of
from tests.recording import stable_id

WRONG_POLICIES: list[tuple[dict[str, Any], str, str]] = [
    ({"ttl": -1}, "ttl=-1", "int of 0"),
    ({"ttl": "5"}, "ttl='5'", "int of 0"),
    ({"ttl": 1.5}, "ttl=1.5", "int of 0"),
    ({"ttl": True}, "ttl=True", "int of 0"),
    ({"ttl": 2**31}, f"ttl={2**31}", "int of 0"),
    ({"negative_ttl": -1}, "negative_ttl=-1", "int of 0"),
    ({"enabled": 1}, "enabled=1", "True or False"),
    ({"enabled": None}, "enabled=None", "True or False"),
    ({"jitter": 1.5}, "jitter=1.5", "from 0 (exact) to 1"),
    ({"jitter": -0.1}, "jitter=-0.1", "from 0 (exact) to 1"),
    ({"jitter": "0.1"}, "jitter='0.1'", "from 0 (exact) to 1"),
    ({"jitter": float("nan")}, "jitter=nan", "from 0 (exact) to 1"),
    ({"refresh_ahead": -1}, "refresh_ahead=-1", "0 (off) or more"),
    ({"refresh_ahead": True}, "refresh_ahead=True", "0 (off) or more"),
    ({"refresh_ahead": float("nan")}, "refresh_ahead=nan", "0 (off) or more"),
    ({"refresh_ahead": float("inf")}, "refresh_ahead=inf", "0 (off) or more"),
    ({"compress": "gzip"}, "compress='gzip'", "'zstd', 'zlib', False, None"),
    ({"compress": True}, "compress=True", "'zstd', 'zlib', False, None"),
    ({"local_ttl": -1}, "local_ttl=-1", "int of 0"),
]

WRONG_CONFIGURATIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"default_ttl": -1}, "default_ttl=-1", "int of 0"),
    ({"default_ttl": None}, "default_ttl=None", "int of 0"),
    ({"default_ttl": "300"}, "default_ttl='300'", "int of 0"),
    ({"enabled": "yes"}, "enabled='yes'", "True or False"),
    ({"hook_sessions": 0}, "hook_sessions=0", "True or False"),
    ({"converter": dict}, "converter=", "cattrs.Converter"),
    ({"trust_orm_hooks": 1}, "trust_orm_hooks=1", "True or False"),
    ({"consistency": "weak"}, "consistency='weak'", "'strict', 'eventual'"),
    ({"on_fence_failure": "retry"}, "on_fence_failure='retry'", "'proceed', 'abort'"),
    ({"compress": "gzip"}, "compress='gzip'", "'lz4', 'zstd', 'zlib', None"),
    ({"compress": False}, "compress=False", "'lz4', 'zstd', 'zlib', None"),
    ({"key_prefix": ""}, "key_prefix=''", "non-empty string"),
    ({"key_prefix": "a{b}"}, "key_prefix='a{b}'", "without braces"),
    ({"key_prefix": "a b"}, "key_prefix='a b'", "spaces"),
    ({"key_prefix": None}, "key_prefix=None", "non-empty string"),
    ({"namespace": ""}, "namespace", "callable of the session"),
    ({"namespace": 5}, "namespace", "callable of the session"),
]

NO_TRANSPORTS: list[tuple[Any, str]] = [
    (None, "NoneType is not a cache transport"),
    (object(), "no get, set, delete"),
    ({}, "no set, delete"),
    ("localhost:6379", "begins with"),
    ("http://localhost", "begins with"),
    ("memory://host", "options only"),
    ("memory://?max_entries=0", "'max_entries'"),
    ("redis://localhost/zero", "number of the database"),
    ("redis://localhost?nonsense=1", "no option 'nonsense'"),
]


@pytest.mark.parametrize(("settings", "field", "remedy"), WRONG_POLICIES, ids=stable_id)
def test_wrong_policy_names_model_field_and_remedy(
    settings: dict[str, Any], field: str, remedy: str
) -> None:
    """By decorator at once; by attribute when the class is looked at."""
    with pytest.raises(ConfigurationError) as raised:
        cached(**settings)(type("Sidekick", (), {}))
    message = str(raised.value)
    assert "Sidekick" in message
    assert field in message
    assert remedy in message
    with pytest.raises(ConfigurationError) as again:
        config_of(type("Sidekick", (), {"__cache_config__": CacheConfig(**settings)}))
    assert str(again.value) == message


def test_wrong_attribute_names_the_class_that_has_it() -> None:
    """Something that is no CacheConfig at all."""
    base = type("Grandmother", (), {"__cache_config__": {"ttl": 5}})
    with pytest.raises(ConfigurationError, match=r"Grandmother.*dict.*CacheConfig"):
        config_of(type("Granddaughter", (base,), {}))


def test_unknown_setting_of_the_decorator() -> None:
    """The message names the model and the setting."""
    with pytest.raises(ConfigurationError, match=r"Sidekick.*tll"):
        cached(tll=5)(type("Sidekick", (), {}))  # type: ignore[call-overload]


@pytest.mark.parametrize("thing", [5, "Hero", lambda: None, CacheConfig()], ids=stable_id)
def test_decorator_is_for_classes(thing: Any) -> None:
    """Anything else is refused, with the way to write it."""
    with pytest.raises(ConfigurationError, match="@cached is for mapped classes"):
        cached(thing)


def test_cache_config_is_a_frozen_value() -> None:
    """Defaults, equality, and nothing to change; ours are keyword-only."""
    assert CacheConfig() == CacheConfig(True, None)
    assert (CacheConfig().enabled, CacheConfig().ttl) == (True, None)
    assert hash(CacheConfig(ttl=3)) == hash(CacheConfig(ttl=3))
    with pytest.raises(FrozenInstanceError):
        CacheConfig().ttl = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        CacheConfig(True, 5, 10)  # type: ignore[misc]


@pytest.mark.parametrize(("settings", "field", "remedy"), WRONG_CONFIGURATIONS, ids=stable_id)
def test_wrong_configuration_names_field_and_remedy(
    settings: dict[str, Any], field: str, remedy: str
) -> None:
    """And leaves nothing configured."""
    with pytest.raises(ConfigurationError) as raised:
        SQLModelCache.configure("memory://", **settings)
    assert field in str(raised.value)
    assert remedy in str(raised.value)
    with pytest.raises(ConfigurationError, match="not configured"):
        SQLModelCache.get_config()


@pytest.mark.parametrize(("transport", "what"), NO_TRANSPORTS, ids=stable_id)
def test_what_is_no_transport_is_refused(transport: Any, what: str) -> None:
    """The message says what it is missing."""
    with pytest.raises(ConfigurationError) as raised:
        SQLModelCache.configure(transport)
    assert what in str(raised.value)


def test_failed_configure_leaves_the_former_in_place() -> None:
    """A second call that is refused replaces nothing."""
    SQLModelCache.configure("memory://", default_ttl=7)
    for wrong in ({"default_ttl": -1}, {"transport": "nonsense"}):
        with pytest.raises(ConfigurationError):
            SQLModelCache.configure(**{"transport": "memory://", **wrong})  # type: ignore[arg-type]
    assert SQLModelCache.get_config().default_ttl == 7


def test_half_async_transport_is_refused() -> None:
    """All of its methods, or none."""

    class Half:
        async def get(self, key: str) -> bytes | None: ...
        def set(self, key: str, value: bytes, ttl: int) -> None: ...
        def delete(self, *keys: str) -> None: ...

    with pytest.raises(ConfigurationError, match="mixes async and plain"):
        SQLModelCache.configure(Half())


@pytest.mark.parametrize("factory", [None, SQLModel, lambda: None, "maker"], ids=stable_id)
def test_cached_sessionmaker_is_for_factories(factory: Any) -> None:
    """The message names what it was given."""
    with pytest.raises(ConfigurationError, match="takes a sessionmaker or async_sessionmaker"):
        cached_sessionmaker(factory)


@pytest.mark.parametrize(
    ("settings", "what"),
    [({"ttl": -1}, "cache_ttl=-1"), ({"cache": 1}, "cache=1"), ({"transport": 5}, "int"),
     ({"namespace": ""}, "namespace"), ({"namespace": 3}, "namespace")],
    ids=stable_id,
)  # fmt: skip
def test_wrong_settings_of_a_factory(settings: dict[str, Any], what: str) -> None:
    """They are found when the factory is made."""
    from sqlalchemy.orm import sessionmaker

    with pytest.raises(ConfigurationError) as raised:
        cached_sessionmaker(sessionmaker(), **settings)
    assert what in str(raised.value)


def test_configuration_is_a_frozen_value() -> None:
    """What get_config() returns cannot be changed behind the library's back."""
    config = Configuration("memory://")
    with pytest.raises(FrozenInstanceError):
        config.default_ttl = 5  # type: ignore[misc]


def test_sqlmodel_accepts_the_attribute_as_no_field() -> None:
    """`__cache_config__` never becomes a column or a pydantic field."""

    class Base(SQLModel, registry=registry()):
        pass

    class Row(Base, table=True):
        __cache_config__ = CacheConfig(ttl=3)
        id: int = Field(primary_key=True)

    assert set(Row.model_fields) == {"id"}
    assert Row(id=1).model_dump() == {"id": 1}

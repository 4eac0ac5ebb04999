"""What users set: per model (`CacheConfig`) and per application (`Configuration`).

Both are values without an owner. A `CacheConfig` is checked where it meets a model, so that the
error can name the model; a `Configuration` is checked when it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, Final, Literal, TypeAlias

from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.events import Observer

Namespace: TypeAlias = str | Callable[[Any], str]
Mode: TypeAlias = Literal["on", "shadow", "invalidate"]
Packing: TypeAlias = Literal["lz4", "zstd", "zlib"]

PACKINGS: tuple[Packing, ...] = ("lz4", "zstd", "zlib")
MODES: tuple[Mode, ...] = ("on", "shadow", "invalidate")  # each does less than the one before


@dataclass(frozen=True)
class CacheConfig:
    """Per-model cache configuration, assigned as `__cache_config__` on a mapped class.

    Attributes:
        enabled: False: reads of this model skip the cache. Its writes still invalidate.
        ttl: seconds an entry lives; None falls back to `configure(default_ttl=...)`, 0 stores
            nothing.
        negative_ttl: seconds for which "no such row" is remembered; None remembers nothing.
        jitter: share of the TTL, from 0 to 1, that is randomly cut off each entry's life, so
            that entries filled together do not expire together. 0 keeps TTLs exact.
        unique: unique keys by which rows are looked up beside the primary key; each is the name
            of an attribute, or a tuple of names. The table must have a unique constraint or
            index on just their columns.
        mode: "on", "shadow" or "invalidate", see `SQLModelCache.configure`; None falls back to
            its setting.
        sample: share of lookups, from 0 to 1, that go by the mode; None falls back likewise.
        verify: share of hits, from 0 to 1, that are checked; None falls back likewise.
        refresh_ahead: 0 lets entries live for their whole TTL; above 0, one caller may load the
            row again shortly before it ends while others go on hitting. 1 is a good value, more
            refreshes earlier.
        stale_ttl: seconds for which an entry may still be served after its TTL, while one caller
            has it loaded again in the background; None or 0: none. Needs
            `configure(consistency="eventual")`.
        compress: "lz4", "zstd" (extras of these names) or "zlib" packs rows of 512 bytes and
            more, where that makes them smaller; False packs nothing; None falls back to
            `configure(compress=...)`.
        hash_keys: True: the primary keys and unique values of this model stand in the store's keys
            as keyed hashes, for where they are personal. Needs `configure(key_secret=...)`.
        local_ttl: seconds for which each process may keep copies of rows of its own; None or 0
            keeps none. Needs `redis://...?local=10000` or a `TieredTransport`. Other processes'
            commits are then seen when their message arrives, at the latest after so long.
        queries: "asked" caches results of a `select()` that says `cache=True`; True those of any
            that does not say `cache=False`. Commits of the model then forget results, too, which
            they must do in every process before any may read them. False: none are cached.
        query_columns: attributes whose values tell results apart: `team_id == 3` is not forgotten
            where only rows of other teams come and go. None: those with a foreign key, an index
            or a unique constraint.
        collections: relationships of this model, to many or to one that has the key, that are
            remembered as lists of keys: an access needs no SQL until a member comes or goes. Its
            targets must be cached, too; their commits then forget such lists.
    """

    enabled: bool = True
    ttl: int | None = None
    _: KW_ONLY
    negative_ttl: int | None = None
    jitter: float = 0.0
    unique: tuple[str | tuple[str, ...], ...] = ()
    mode: Mode | None = None
    sample: float | None = None
    verify: float | None = None
    refresh_ahead: float = 0.0
    stale_ttl: int | None = None
    compress: Packing | Literal[False] | None = None
    hash_keys: bool = False
    local_ttl: int | None = None
    queries: bool | Literal["asked"] = False
    query_columns: tuple[str, ...] | None = None
    collections: tuple[str, ...] = ()

    def check(self, model: str) -> None:
        """Raise `ConfigurationError`, naming `model`, for the first value that cannot work."""
        where = f"{model}.__cache_config__"
        _check_type(where, "enabled", self.enabled, bool, "True or False")
        _check_type(where, "hash_keys", self.hash_keys, bool, "True or False")
        check_seconds(where, "ttl", self.ttl)
        check_seconds(where, "negative_ttl", self.negative_ttl)
        check_seconds(where, "local_ttl", self.local_ttl)
        check_seconds(where, "stale_ttl", self.stale_ttl)
        _check_choice(where, "compress", self.compress, (*PACKINGS, False, None))
        beta = self.refresh_ahead
        if type(beta) not in (int, float) or not 0 <= beta < float("inf"):
            raise ConfigurationError(
                f"{where}: refresh_ahead={beta!r} is not valid; use a number of 0 (off) or more,"
                " 1 as a rule"
            )
        if type(self.jitter) not in (int, float) or not 0 <= self.jitter <= 1:
            raise ConfigurationError(
                f"{where}: jitter={self.jitter!r} is not a share of the TTL; use a number"
                " from 0 (exact) to 1"
            )
        keys: object = self.unique
        if type(keys) is not tuple or not all(map(_names_attributes, keys)):
            raise ConfigurationError(
                f"{where}: unique={keys!r} is not valid; use a tuple of attribute names, or of"
                ' tuples of them: unique=("email", ("org_id", "slug"))'
            )
        if type(self.queries) is not bool and self.queries != "asked":
            raise ConfigurationError(
                f'{where}: queries={self.queries!r} is not valid; use "asked", True or False'
            )
        columns: object = self.query_columns
        if columns is not None and not (type(columns) is tuple and all(map(_is_name, columns))):
            raise ConfigurationError(
                f"{where}: query_columns={columns!r} is not valid; use a tuple of attribute names:"
                ' query_columns=("team_id",)'
            )
        names: object = self.collections
        if not (type(names) is tuple and all(map(_is_name, names))):
            raise ConfigurationError(
                f"{where}: collections={names!r} is not valid; use a tuple of names of"
                ' relationships: collections=("heroes",)'
            )
        _check_choice(where, "mode", self.mode, (*MODES, None))
        for name in ("sample", "verify"):
            if getattr(self, name) is not None:
                _check_share(where, name, getattr(self, name))

    def check_with(self, model: str, whole: Configuration) -> None:
        """Raise `ConfigurationError`, naming `model`, for what `whole` rules out."""
        if self.stale_ttl and whole.enabled and whole.consistency != "eventual":
            raise ConfigurationError(
                f"{model}.__cache_config__: stale_ttl={self.stale_ttl} needs"
                f" consistency='eventual', and configure() has {whole.consistency!r}; configure"
                " that, or leave stale_ttl out"
            )
        if self.hash_keys and whole.enabled and whole.key_secret is None:
            raise ConfigurationError(
                f"{model}.__cache_config__: hash_keys=True needs a secret, the same in all"
                " processes: configure(key_secret=...), or SQLMODEL_CACHE_KEY_SECRET"
            )


_SECRET_LENGTH: Final = 16  # characters or bytes
_SWITCHES = ("enabled", "hook_sessions", "trust_orm_hooks", "publish_stats", "snapshot_hits")


@dataclass(frozen=True)
class Configuration:
    """The active configuration, as `SQLModelCache.get_config()` returns it.

    `transport` is what was given to `configure()`; neither its URL's password nor `key_secret`
    is shown.
    """

    transport: Any
    default_ttl: int = 300
    key_prefix: str = "sqlmodelcache"
    enabled: bool = True
    hook_sessions: bool = True
    consistency: Literal["strict", "eventual"] = "strict"
    on_fence_failure: Literal["proceed", "abort"] = "proceed"
    namespace: Namespace | None = None
    trust_orm_hooks: bool = False
    converter: Any = None
    observers: Sequence[Observer] = ()
    publish_stats: bool = False
    mode: Mode = "on"
    sample: float = 1.0
    verify: float = 0.0
    max_ttl: int | None = None
    snapshot_hits: bool = False
    compress: Packing | None = None
    key_secret: str | bytes | None = None

    def __post_init__(self) -> None:
        where = "configure()"
        check_seconds(where, "default_ttl", self.default_ttl, optional=False)
        check_seconds(where, "max_ttl", self.max_ttl)
        for name in _SWITCHES:
            _check_type(where, name, getattr(self, name), bool, "True or False")
        _check_choice(where, "consistency", self.consistency, ("strict", "eventual"))
        _check_choice(where, "on_fence_failure", self.on_fence_failure, ("proceed", "abort"))
        _check_choice(where, "mode", self.mode, MODES)
        _check_choice(where, "compress", self.compress, (*PACKINGS, None))
        _check_share(where, "sample", self.sample)
        _check_share(where, "verify", self.verify)
        if self.snapshot_hits and self.consistency != "strict":
            raise ConfigurationError(
                f"{where}: snapshot_hits=True needs consistency='strict': without a fence an entry"
                " may be older than a snapshot that began after a COMMIT"
            )
        prefix = self.key_prefix
        if type(prefix) is not str or not prefix or any(c in "{}" or c < "!" for c in prefix):
            raise ConfigurationError(
                f"{where}: key_prefix={prefix!r} must be a non-empty string without braces"
                " (Redis Cluster hashes what stands between them), spaces or control characters"
            )
        check_namespace_setting(where, self.namespace)
        _check_secret(where, self.key_secret)
        _check_converter(where, self.converter)
        observers: object = self.observers
        if not (isinstance(observers, Sequence) and all(map(callable, observers))):
            raise ConfigurationError(
                f"{where}: observers={observers!r} is not valid; use a list of callables, each"
                " of which takes one event"
            )

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name not in ("transport", "key_secret")
        )
        return f"Configuration(transport=<{type(self.transport).__name__}>, {shown})"


def check_seconds(where: str, name: str, value: object, *, optional: bool = True) -> None:
    """Raise `ConfigurationError` unless `value` is a whole number of seconds, 0 or more."""
    if value is None and optional:
        return
    if type(value) is not int or not 0 <= value < 2**31:
        raise ConfigurationError(
            f"{where}: {name}={value!r} is not a whole number of seconds; use an int of 0"
            " (store nothing) or more" + (", or None for the default" if optional else "")
        )


def check_namespace_setting(where: str, value: object) -> None:
    """Raise `ConfigurationError` unless `value` can say which database a session reads."""
    if not (value is None or callable(value) or (isinstance(value, str) and value)):
        raise ConfigurationError(
            f"{where}: namespace={value!r} is not valid; use a non-empty string or a callable of"
            " the session"
        )


def _is_name(name: object) -> bool:
    return type(name) is str and bool(name)


def _names_attributes(key: object) -> bool:
    names = key if type(key) is tuple else (key,)
    distinct = len(set(names)) == len(names) > 0
    return distinct and all(map(_is_name, names))


def _check_type(where: str, name: str, value: object, wanted: type, remedy: str) -> None:
    if type(value) is not wanted:
        raise ConfigurationError(f"{where}: {name}={value!r} is not valid; use {remedy}")


def _check_share(where: str, name: str, value: object) -> None:
    if type(value) not in (int, float) or not 0 <= value <= 1:  # type: ignore[operator]
        raise ConfigurationError(
            f"{where}: {name}={value!r} is not a share; use a number from 0 (none) to 1 (all)"
        )


def _check_secret(where: str, value: object) -> None:
    """Raise ConfigurationError for what is no secret, and show nothing of it."""
    if value is None or (isinstance(value, str | bytes) and len(value) >= _SECRET_LENGTH):
        return
    raise ConfigurationError(
        f"{where}: key_secret is not valid; use a str or bytes of at least {_SECRET_LENGTH},"
        " such as secrets.token_urlsafe() returns, also in SQLMODEL_CACHE_KEY_SECRET"
    )


def _check_converter(where: str, value: object) -> None:
    if value is None:
        return
    from cattrs import BaseConverter

    if not isinstance(value, BaseConverter):
        raise ConfigurationError(
            f"{where}: converter={value!r} is not valid; use a cattrs.Converter, or None"
        )


def _check_choice(
    where: str, name: str, value: object, choices: tuple[str | bool | None, ...]
) -> None:
    if value not in choices:
        raise ConfigurationError(
            f"{where}: {name}={value!r} is not valid; use one of {', '.join(map(repr, choices))}"
        )

"""What a model's classes asked for.

Three spellings, one mechanism: each ends with a `__cache_config__` somewhere on the MRO, and the
first one found there wins. `CachedModel`'s own default counts last, so that a base's explicit
setting is not shadowed by the order in which the bases are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar, Final, Literal, TypeVar, overload
from weakref import WeakSet

from sqlmodel import SQLModel

from sqlmodel_cache import _state
from sqlmodel_cache.codec.packing import packer
from sqlmodel_cache.config import CacheConfig, Configuration, Mode, Packing
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.owned import Owned

C = TypeVar("C", bound=type)

ATTRIBUTE: Final = "__cache_config__"

# What the files above compiled per class; kept here because a decoration outdates all of it.
compiled: Owned[Any] = Owned("plan")

# Called when a class opts in by decoration, after its mapper was made.
on_decorated: list[Callable[[], None]] = []
_MIXIN_DEFAULT: Final = CacheConfig()

# Classes whose policy was refused when they were mapped: said once, and of no concern to others.
_refused: WeakSet[type] = WeakSet()


class CachedModel(SQLModel):
    """A SQLModel base whose tables are cached: `class Hero(CachedModel, table=True)`.

    Set `__cache_config__ = CacheConfig(ttl=...)` on a subclass to change its policy.
    """

    __cache_config__: ClassVar[CacheConfig] = _MIXIN_DEFAULT


@overload
def cached(model: C, /) -> C: ...
@overload
def cached(
    *,
    enabled: bool = ...,
    ttl: int | None = ...,
    negative_ttl: int | None = ...,
    jitter: float = ...,
    unique: tuple[str | tuple[str, ...], ...] = ...,
    mode: Mode | None = ...,
    sample: float | None = ...,
    verify: float | None = ...,
    refresh_ahead: float = ...,
    stale_ttl: int | None = ...,
    compress: Packing | Literal[False] | None = ...,
    hash_keys: bool = ...,
    local_ttl: int | None = ...,
    queries: bool | Literal["asked"] = ...,
    query_columns: tuple[str, ...] | None = ...,
    collections: tuple[str, ...] = ...,
) -> Callable[[C], C]: ...
def cached(model: Any = None, /, **settings: Any) -> Any:
    """Opt a mapped class in: `@cached` or `@cached(ttl=300)`.

    Takes the fields of `CacheConfig`; without any, a `__cache_config__` of the class's own stays
    what it is. Works for any class that SQLAlchemy maps, before or after
    it is mapped. Raises ConfigurationError for a value that cannot work.
    """

    def decorate(cls: C) -> C:
        if not isinstance(cls, type):
            raise ConfigurationError(
                f"@cached is for mapped classes, not for {cls!r}; write @cached or"
                " @cached(ttl=300) above the class"
            )
        config = None if settings else vars(cls).get(ATTRIBUTE)
        if config is None:
            try:
                config = CacheConfig(**settings)
            except TypeError as error:
                raise ConfigurationError(f"{cls.__name__}: @cached: {error}") from None
        elif not isinstance(config, CacheConfig):
            raise _no_config(cls, config)
        _check(config, cls)
        type.__setattr__(cls, ATTRIBUTE, config)
        compiled.clear()
        for callback in on_decorated:
            callback()
        return cls

    return decorate if model is None else decorate(model)


def _check(config: CacheConfig, cls: type) -> None:
    """Raise ConfigurationError for what cannot work, or not on this machine."""
    config.check(cls.__name__)
    if config.stale_ttl or config.hash_keys:
        for cache in _state.live():
            config.check_with(cls.__name__, cache.config)
    if config.compress:
        packer(config.compress, f"{cls.__name__}.__cache_config__")


def _no_config(cls: type, found: object) -> ConfigurationError:
    return ConfigurationError(
        f"{cls.__name__}.__cache_config__ is a {type(found).__name__}; assign a CacheConfig(...)"
    )


def config_of(cls: type) -> CacheConfig | None:
    """Return the policy that `cls` inherits, None if it never opted in.

    Raises ConfigurationError, naming class and field, for a setting that cannot work.
    """
    found: CacheConfig | None = None
    for base in cls.__mro__:
        config = base.__dict__.get(ATTRIBUTE)
        if config is None:
            continue
        if not isinstance(config, CacheConfig):
            raise _no_config(base, config)
        if config is not _MIXIN_DEFAULT:
            _check(config, cls)
            return config
        found = config
    return _state.everywhere if found is None else found


def check_new(cls: type) -> bool:
    """Tell whether a class that is being mapped opted in; what it says is checked here first.

    Raises ConfigurationError. SQLAlchemy keeps the mapper as long as the class lives, so that
    those who go through all mappers must not trip over it again: they ask `opted_in`.
    """
    try:
        return config_of(cls) is not None
    except ConfigurationError:
        _refused.add(cls)
        raise


def settled(whole: Configuration) -> Configuration:
    """Return a configuration with what the environment adds to it.

    Raises ConfigurationError for a mapped class whose policy it rules out.
    """
    if whole.key_secret is None and (secret := _state.environment("KEY_SECRET")) is not None:
        whole = replace(whole, key_secret=secret)
    for mapper in _sqlalchemy.all_mappers():
        try:
            config = config_of(mapper.class_)
        except ConfigurationError:  # said when it was mapped, or will be when it is configured
            continue
        if config is not None:
            config.check_with(mapper.class_.__name__, whole)
    return whole


def check_family(classes: Iterable[type]) -> None:
    """Raise ConfigurationError if classes that share rows name them in different ways."""
    hidden: dict[bool, str] = {}
    for cls in classes:
        if opted_in(cls) and (config := config_of(cls)) is not None:
            hidden[config.hash_keys] = cls.__name__
    if len(hidden) > 1:
        raise ConfigurationError(
            f"{hidden[False]}.__cache_config__: hash_keys=False, but {hidden[True]}, with which it"
            " shares rows, has hash_keys=True; set the same on both"
        )


def opted_in(cls: type) -> bool:
    """Tell whether a mapped class is to be cached; False for one that was refused already.

    Raises ConfigurationError for a wrong policy that was assigned later.
    """
    try:
        return config_of(cls) is not None
    except ConfigurationError:
        if cls in _refused:
            return False
        raise


def longest_local_ttls(named: Iterable[tuple[str, type]]) -> dict[str, int]:
    """Return the longest `local_ttl` of classes by the names of their tables.

    Two databases may each have a table of one name. Its rows have the same keys, so whoever writes
    one tells those who keep copies of any.
    """
    longest: dict[str, int] = {}
    for name, cls in named:
        config = config_of(cls)
        own = 0 if config is None else config.local_ttl or 0
        longest[name] = max(own, longest.get(name, 0))
    return longest

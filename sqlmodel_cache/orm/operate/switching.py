"""Turn the switch of the whole deployment, from any of its processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper

from sqlmodel_cache import _state
from sqlmodel_cache.errors import ConfigurationError, UnavailableError
from sqlmodel_cache.keys import Shard, epochs, escape, shards_in
from sqlmodel_cache.orm import bridge
from sqlmodel_cache.orm.cache import Cache
from sqlmodel_cache.orm.model.tables import table_map
from sqlmodel_cache.orm.operate.switch import EVERYTHING
from sqlmodel_cache.protocol.ops import Release
from sqlmodel_cache.protocol.read import Steps, new_token
from sqlmodel_cache.transport.drive import adrive
from sqlmodel_cache.transport.failures import as_unavailable, is_store_failure

_REMEDY = (
    "no process can be told. While the store does not answer, every process reads from the"
    " database; to stop reads without it, set SQLMODEL_CACHE_MODE=invalidate and restart them"
)


def switch(models: Sequence[type], *, off: bool) -> None:
    """Turn these models, or everything, off or on in every process."""
    _state.get_config()
    names = _names(models)
    for cache in _state.live():
        try:
            found = bridge.run(cache.stores, _steps(cache, names, off, _shards(cache, names, off)))
        except UnavailableError as error:
            raise UnavailableError(f"{error}: {_REMEDY}") from error
        cache.switch.take(found)


async def aswitch(models: Sequence[type], *, off: bool) -> None:
    """Like `switch`, from a coroutine."""
    _state.get_config()
    names = _names(models)
    for cache in _state.live():
        stores = cache.stores
        try:
            shards = await _ashards(cache, names, off)
            steps = _steps(cache, names, off, shards)
            found = await adrive(steps, stores.async_ or stores.sync, stores.breaker)
        except UnavailableError as error:
            raise UnavailableError(f"{error}: {_REMEDY}") from error
        cache.switch.take(found)


def _names(models: Sequence[type]) -> frozenset[str]:
    names: set[str] = set()
    for model in models:
        mapper: Any = inspect(model, raiseerr=False)
        roots = table_map().roots_of(mapper) if isinstance(mapper, Mapper) else ()
        if not roots:
            raise ConfigurationError(f"{model!r} is no cached model: name a class, or none for all")
        names.update(root.table for root in roots)
    return frozenset(names) or frozenset((EVERYTHING,))


def _steps(
    cache: Cache, names: frozenset[str], off: bool, shards: Sequence[Shard]
) -> Steps[frozenset[str]]:
    if not off and EVERYTHING in names:
        names |= yield from cache.switch.asking()
    if shards:  # while nobody reads: what is on again begins with new epochs
        yield Release(new_token(), (), tuple(shards))
    return (yield from cache.switch.turning(names, off=off))


def _shards(cache: Cache, names: frozenset[str], off: bool) -> list[Shard]:
    """Return the parts of models, of all namespaces, that have to begin anew."""
    if off:
        return []
    sweep = getattr(cache.stores.sync, "sweep", None)
    if sweep is None:
        return _known(cache, names)
    try:
        keys = [key for batch in sweep(*epochs(cache.config.key_prefix)) for key in batch]
    except Exception as error:
        if not is_store_failure(error):
            raise
        raise as_unavailable(error, cache.switch) from None
    return _meant(keys, names)


async def _ashards(cache: Cache, names: frozenset[str], off: bool) -> list[Shard]:
    store = cache.stores.async_
    if off or not (cache.stores.awaits and hasattr(store, "sweep")):
        return _shards(cache, names, off)
    begin, end = epochs(cache.config.key_prefix)
    try:
        keys = [key async for batch in store.sweep(begin, end) for key in batch]
    except Exception as error:
        if not is_store_failure(error):
            raise
        raise as_unavailable(error, cache.switch) from None
    return _meant(keys, names)


def _meant(keys: Sequence[str], names: frozenset[str]) -> list[Shard]:
    tables = {escape(name) for name in names}
    return [shard for table, shard in shards_in(keys) if EVERYTHING in names or table in tables]


def _known(cache: Cache, names: frozenset[str]) -> list[Shard]:
    """Return those of the namespaces that this process has used."""
    return [
        shard
        for site in cache.sites
        for namespace in site.namespaces
        for root in table_map().roots()
        if EVERYTHING in names or root.table in names
        for shard in cache.keys_of(namespace, root).shards
    ]

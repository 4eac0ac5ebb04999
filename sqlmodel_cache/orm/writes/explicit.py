"""Explicit calls: forget a row, a model, everything. These do raise; nobody else would tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import inspect
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Mapper, Session

from sqlmodel_cache import _state
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.keys import Entry, Shard
from sqlmodel_cache.orm import _sqlalchemy, bridge
from sqlmodel_cache.orm.binding import binding_of
from sqlmodel_cache.orm.cache import Cache, Site, namespace_for
from sqlmodel_cache.orm.model.keying import pk_codec
from sqlmodel_cache.orm.model.tables import Root, table_map
from sqlmodel_cache.orm.queries.stamps import every_query_of
from sqlmodel_cache.orm.reads.identity import primary_key
from sqlmodel_cache.orm.reads.options import innermost
from sqlmodel_cache.orm.schemas import OPTION, prefix_of
from sqlmodel_cache.protocol.ops import Release
from sqlmodel_cache.protocol.read import Steps, new_token
from sqlmodel_cache.transport.drive import adrive

T = TypeVar("T")
_Work = list[tuple[Cache, Release]]
_Meant = tuple[Cache, set[str], Site, Mapping[Any, Any] | None]


def active() -> Cache:
    """Return the configured cache; raises ConfigurationError if there is none."""
    _state.get_config()
    cache: Cache = _state.active
    return cache


def forget(model: type, keys: Sequence[Any], bind: Any) -> _Work:
    """Return what must be released so that these rows (or all) of `model` are forgotten."""
    mapper, roots = roots_of(model)
    work: _Work = []
    for cache, namespaces, site, translate in _sites(bind):
        entries: list[Entry] = []
        shards: list[Shard] = []
        for root in roots:
            texts = [text for key in keys for text in _texts(mapper, root, site, key, translate)]
            if texts and root.stamped:
                prefixes = site.schemas | {prefix_of(root, translate, site.dialect)}
                texts += [prefix + text for prefix in prefixes for text in every_query_of(root)]
            for namespace in namespaces:
                keyspace = cache.keys_of(namespace, root)
                entries += [keyspace.entry(text) for text in texts]
                # Others may hide the keys of these rows by another secret.
                unnamed = root.hash_keys and cache.switch.agrees is not True
                shards += () if keys and not unnamed else keyspace.shards
        _count(cache, roots[0], len(keys) or 1)
        work.append((cache, Release(new_token(), tuple(entries), tuple(shards))))
    return work


def places(model: type, key: Any, bind: Any) -> Iterator[tuple[Cache, Any, str, Entry]]:
    """Yield (cache, dialect, namespace, entry) wherever a row of `model` may be stored.

    Raises ConfigurationError as `forget` does. Sends nothing but what tells which database it is.
    """
    mapper, roots = roots_of(model)
    for cache, namespaces, site, translate in _sites(bind):
        for root in roots:
            for text in _texts(mapper, root, site, key, translate):
                for namespace in namespaces:
                    entry = cache.keys_of(namespace, root).entry(text)
                    yield cache, site.dialect, namespace, entry


def roots_of(model: type) -> tuple[Mapper[Any], Sequence[Root]]:
    """Return a cached class's mapper, and what its rows are called by; refuse any other."""
    mapper: Mapper[Any] | None = inspect(model, raiseerr=False)
    if not isinstance(mapper, Mapper):
        raise ConfigurationError(
            f"{_kind(model)} is no mapped class; name the model, then its keys"
        )
    roots = table_map().roots_of(mapper)
    if not roots:
        raise ConfigurationError(f"{model.__name__} is not cached: it has no entries")
    return mapper, roots


def _texts(
    mapper: Mapper[Any], root: Root, site: Site, key: Any, translate: Mapping[Any, Any] | None
) -> list[str]:
    """Return the texts that name a row in every schema that is known."""
    pk = primary_key(mapper, key)
    text = None if pk is None else pk_codec(root, site.dialect).encode(pk)
    if text is None:
        raise ConfigurationError(
            f"{mapper.class_.__name__}: {_kind(key)} is no primary key of it, or not of its"
            " column's type; several keys are given one by one, as in"
            f" invalidate({mapper.class_.__name__}, 1, 2)"
        )
    prefixes = site.schemas | {prefix_of(root, translate, site.dialect)}
    return [prefix + text for prefix in prefixes]


def forget_all(bind: Any) -> _Work:
    """Return what must be released so that everything is forgotten."""
    work: _Work = []
    for cache, namespaces, _, _ in _sites(bind):
        shards: list[Shard] = []
        for root in table_map().roots():
            _count(cache, root, 1)
            for namespace in namespaces:
                shards.extend(cache.keys_of(namespace, root).shards)
        work.append((cache, Release(new_token(), (), tuple(shards))))
    return work


async def ain(plan: Callable[..., T], *arguments: Any, bind: Any) -> T:
    """Call `plan` from a coroutine: there `bind` may be an async engine, connection or session."""
    if bind is None:
        return plan(*arguments, bind)
    work: T = await _sqlalchemy.greenlet_spawn(plan, *arguments, bind)
    return work


def run(work: _Work) -> None:
    """Do the work from plain code or from inside a greenlet."""
    for cache, release in work:
        bridge.run(cache.stores, _steps(release))


async def arun(work: _Work) -> None:
    """Do the work from a coroutine."""
    for cache, release in work:
        stores = cache.stores
        await adrive(_steps(release), stores.async_ or stores.sync, stores.breaker)


def _steps(release: Release) -> Steps[None]:
    yield release


def _count(cache: Cache, root: Root, number: int) -> None:
    cache.tally.for_model(root.name).invalidate(number)


def _sites(bind: Any) -> Iterator[_Meant]:
    """Yield each live cache with the namespaces and the site of a database that is meant."""
    active()
    bind = _sync(bind)
    known = [found for cache in _state.live() for found in _sites_of(cache, bind)]
    if not known:
        raise ConfigurationError(
            "no database is known yet: this process has used none. Pass bind=engine"
        )
    yield from known


def _sites_of(cache: Cache, bind: Any) -> Iterator[_Meant]:
    if cache.asks_sessions and not isinstance(bind, Session):
        raise ConfigurationError(
            "a callable of the session says which namespace is meant. Pass bind=session"
        )
    if bind is None:
        for site in cache.sites:
            if site.namespaces:
                yield cache, set(site.namespaces), site, None
        return
    connection = _connection(bind)
    try:
        site = cache.sites.of(connection.dialect)
        site.learn(connection)
        own = getattr(bind, "execution_options", None) if isinstance(bind, Session) else None
        translate = innermost(OPTION, own, connection.get_execution_options())
    finally:
        if isinstance(bind, Engine):
            connection.close()
    namespaces = set(site.namespaces)
    if isinstance(bind, Session):
        binding = binding_of(bind)
        own = namespace_for(cache, bind, None if binding is None else binding.namespace)
        namespaces |= {own} if own is not None else set()
    yield cache, namespaces, site, translate


def _sync(bind: Any) -> Any:
    """Return what stands behind an async engine, connection or session; others as they are."""
    for name in ("sync_session", "sync_connection", "sync_engine"):
        bind = getattr(bind, name, bind)
    return bind


def _connection(bind: Any) -> Connection:
    if isinstance(bind, Session):
        return bind.connection()
    if isinstance(bind, Engine):
        return bind.connect()
    if isinstance(bind, Connection):
        return bind
    raise ConfigurationError(
        f"bind: {type(bind).__name__} is no engine, connection or session, one of which must"
        " name the database"
    )


def _kind(thing: object) -> str:
    """Name what was given without showing what it holds."""
    return thing.__name__ if isinstance(thing, type) else f"an instance of {type(thing).__name__}"

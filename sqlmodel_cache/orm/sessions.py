"""What a live cache hangs on sessions, and the proxy around a sessionmaker.

`attach` adds every listener that a configured cache needs; `detach` removes just those.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import wrapt
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker

from sqlmodel_cache import _state
from sqlmodel_cache.config import Configuration, Namespace, check_namespace_setting
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.orm.binding import ATTRIBUTE, Binding, binding_of, cache_of
from sqlmodel_cache.orm.cache import Cache, namespace_for
from sqlmodel_cache.orm.connections import ahead, snapshots, transactions
from sqlmodel_cache.orm.connections.ledger import open_ledger
from sqlmodel_cache.orm.model import capture
from sqlmodel_cache.orm.model.conditions import forget_value_codecs
from sqlmodel_cache.orm.model.keying import forget_codecs
from sqlmodel_cache.orm.model.policy import compiled, settled
from sqlmodel_cache.orm.model.tables import forget_table_map
from sqlmodel_cache.orm.reads import executing, related
from sqlmodel_cache.orm.reads.options import checked
from sqlmodel_cache.orm.reads.selects import forget_metadata
from sqlmodel_cache.orm.writes import listeners

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import async_sessionmaker

F = TypeVar("F", bound="sessionmaker[Any] | async_sessionmaker[Any]")


def attach() -> None:
    """Add every listener of a configured cache, and forget what was compiled. Idempotent.

    What stands already is left standing: a transaction under way must still be published.
    """
    listeners.watch()
    executing.watch()
    related.watch()
    if any(cache.store_clock for cache in _state.live()):
        snapshots.watch()
    else:
        snapshots.unwatch()
    if any(cache.stores.sends for cache in _state.live()):
        ahead.watch()
    else:
        ahead.unwatch()
    if not event.contains(Session, "after_begin", _on_begin):
        event.listen(Session, "after_begin", _on_begin)
    if not event.contains(object, "class_uninstrument", forget_readers):
        event.listen(object, "class_uninstrument", forget_readers)  # of any class
    _forget_compiled()


def detach() -> None:
    """Remove what `attach` added, and forget what was compiled. Idempotent."""
    listeners.unwatch()
    executing.unwatch()
    related.unwatch()
    snapshots.unwatch()
    ahead.unwatch()
    if event.contains(Session, "after_begin", _on_begin):
        event.remove(Session, "after_begin", _on_begin)
    if event.contains(object, "class_uninstrument", forget_readers):
        event.remove(object, "class_uninstrument", forget_readers)
    _forget_compiled()


def _forget_compiled() -> None:
    capture.unwatch_loads()
    compiled.clear()
    forget_codecs()
    forget_value_codecs()
    forget_metadata()
    forget_table_map()


def forget_readers(*_: object) -> None:
    """Let go of classes that were read. Some were disposed of, or nobody else has them any more."""
    for cache in _state.live():
        for site in cache.sites:
            site.forget_readers()


def _on_begin(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    """Follow a session's savepoints, and note the namespace its writes belong to."""
    transactions.wrap_dialect(connection.dialect)
    ahead.note_begin(transaction, connection)
    binding = binding_of(session)
    for cache in _state.live():
        own = binding and binding.namespace
        if own is None and not callable(cache.config.namespace):
            continue
        namespace = namespace_for(cache, session, own)
        if namespace is None:
            continue
        if isinstance(own, str):
            cache.sites.of(connection.dialect).namespaces.add(namespace)
        open_ledger(connection).namespaces.add(namespace)


class CachedSessionmaker(wrapt.CallableObjectProxy):  # type: ignore[type-arg]  # wrapt 1 takes none
    """A sessionmaker, unchanged to whoever uses it, whose sessions carry a `Binding`."""

    def __init__(self, factory: Any, binding: Binding) -> None:
        super().__init__(factory)
        self._self_binding = binding
        # sessionmaker.class_ is a private subclass already; async_sessionmaker shares both of
        # its classes with everybody, so its sessions get a private sync class.
        if _makes_async(factory):
            shared = factory.kw.get("sync_session_class") or factory.class_.sync_session_class
            own = type(shared.__name__, (shared,), {ATTRIBUTE: binding})
            factory.configure(sync_session_class=own)
        else:
            setattr(factory.class_, ATTRIBUTE, binding)


def cache_behind(factory: object) -> Cache:
    """Return the cache that a factory's sessions use.

    Raises ConfigurationError for what `cached_sessionmaker` did not return, and where neither it
    nor `configure()` has set one up.
    """
    if not isinstance(factory, CachedSessionmaker):
        raise ConfigurationError(
            f"stats() takes what cached_sessionmaker() returned, not {type(factory).__name__}"
        )
    cache = cache_of(factory._self_binding)
    if cache is None:
        raise ConfigurationError(f"sqlmodel_cache is not configured: {_state.REMEDY}")
    return cache


def _makes_async(factory: object) -> bool:
    # Not imported here: SQLAlchemy's asyncio needs greenlet, which 2.1 does not install.
    asyncio = sys.modules.get("sqlalchemy.ext.asyncio")
    return asyncio is not None and isinstance(factory, asyncio.async_sessionmaker)


def cached_sessionmaker(
    factory: F,
    *,
    transport: Any = None,
    namespace: Namespace | None = None,
    ttl: int | None = None,
    cache: bool | None = None,
) -> F:
    """Return a proxy around `factory` whose sessions use the cache.

    Works with `sessionmaker` and `async_sessionmaker`; `isinstance`, `event.listen`, `.begin()`
    and a later `.configure()` still see the factory itself.

    Args:
        factory: the sessionmaker; only its own sessions are affected.
        transport: a cache of its own instead of the global one.
        namespace: a name, or a callable of the session, instead of the database's identity.
        ttl: seconds for what its sessions store, where the call sets no `cache_ttl`.
        cache: False: its sessions neither read nor fill, unless the call says `cache=True`.

    Raises ConfigurationError for anything that is no factory, and for values that cannot work.
    """
    if not (isinstance(factory, sessionmaker) or _makes_async(factory)):
        raise ConfigurationError(
            f"cached_sessionmaker() takes a sessionmaker or async_sessionmaker, not"
            f" {type(factory).__name__}"
        )
    check_namespace_setting("cached_sessionmaker()", namespace)
    options: dict[str, Any] = {}
    if ttl is not None:
        options["cache_ttl"] = ttl
    if cache is not None:
        options["cache"] = cache
    own = None if transport is None else _own_cache(transport)
    binding = Binding(own, namespace, _frozen(checked(options)))
    return cast(F, CachedSessionmaker(factory, binding))


def _own_cache(transport: Any) -> Cache:
    base: Cache | None = _state.active
    config = Configuration(transport)
    if base is not None:
        config = replace(base.config, transport=transport)
    own = Cache(settled(config))
    _state.carried.add(own)
    attach()
    return own


def _frozen(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(options))

"""Becoming active and stopping again, and the guard that is there before and after.

The guard stands from import on and costs uncached models one dictionary lookup: it wraps
`Session.get` (under which `get_one`, `scoped_session` and every async form come out), and it
listens for mappers, so that a wrong policy is found at its class statement (or, assigned later,
when the mapper is configured) and a process that only writes is configured by its environment as
soon as it maps a cached class. It listens for flushes, to say once that nobody hears of them.
"""

from __future__ import annotations

from typing import Any

import wrapt
from sqlalchemy import event, inspect
from sqlalchemy.orm import Mapper, Session

from sqlmodel_cache import _state
from sqlmodel_cache.config import Configuration
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.events import logger
from sqlmodel_cache.orm import _sqlalchemy, sessions
from sqlmodel_cache.orm.cache import Cache
from sqlmodel_cache.orm.model import capture, collections, conditions, policy, uniques
from sqlmodel_cache.orm.model.plan import root_of
from sqlmodel_cache.orm.model.tables import forget_table_map, table_map
from sqlmodel_cache.orm.reads import ahead, lookup


def activate(config: Configuration) -> None:
    """Make `config` the active configuration, in the place of any other."""
    config = policy.settled(config)
    cache = Cache(config, renew=_state.wrote_unseen)
    former, _state.active = _state.active, cache
    if former is not None:
        cache.sites.inherit(former.sites)
    if config.enabled or _state.carried:  # what factories carry is not replaced
        sessions.attach()
    else:
        sessions.detach()
    if former is not None:
        former.close()
    if config.enabled:
        _state.wrote_unseen = False
    else:
        _state.wrote_unseen = True
        logger.warning(
            "the cache is configured with enabled=False: writes of this process do not"
            " invalidate what other processes cached"
        )


def deactivate() -> None:
    """Forget the configuration and everything that a live cache hung on SQLAlchemy."""
    former: Cache | None = _state.active
    _state.active = None
    sessions.detach()
    for cache in (former, *_state.carried):
        if cache is not None:
            cache.close()
    _state.carried.clear()


def reinstate(former: Configuration | None) -> None:
    """Make `former` active again, or nothing. Unlike `deactivate`, leaves carried caches alone."""
    if former is not None:
        activate(former)
    elif _state.carried:
        active, _state.active = _state.active, None
        if active is not None:
            active.close()
    else:
        deactivate()


def guard() -> None:
    """Put ours in the place of `Session.get`, watch mappers and flushes. Adds what is missing.

    `AsyncSession.get` follows when SQLAlchemy's asyncio is imported, which needs greenlet.
    """
    if not hasattr(Session.get, lookup.MARK):
        bare = Session.get
        ours = Session.get = lookup.around(bare)  # type: ignore[method-assign]

        def on_asyncio(module: Any) -> None:
            cls = module.AsyncSession
            cls.get = ahead.around(cls.get, ours, bare)

        wrapt.register_post_import_hook(on_asyncio, "sqlalchemy.ext.asyncio.session")
    for target, name, listener in (
        (Mapper, "after_mapper_constructed", _on_new_mapper),
        (Mapper, "mapper_configured", _on_configured_mapper),
        (Session, "after_flush", _on_flush),
    ):
        if not event.contains(target, name, listener):
            event.listen(target, name, listener)
    if _on_decorated not in policy.on_decorated:
        policy.on_decorated.append(_on_decorated)


def configure_from_environment() -> None:
    """Configure from `SQLMODEL_CACHE_URL`, if it is set and nobody configured anything else."""
    url = _state.environment("URL")
    if _state.active is not None or url is None or _state.switched_off():
        return
    settings: dict[str, Any] = {}
    if (ttl := _state.environment("DEFAULT_TTL")) is not None:
        if not ttl.isdecimal():
            raise ConfigurationError("SQLMODEL_CACHE_DEFAULT_TTL is not a whole number of seconds")
        settings["default_ttl"] = int(ttl)
    if (prefix := _state.environment("KEY_PREFIX")) is not None:
        settings["key_prefix"] = prefix
    if (_state.environment("PUBLISH_STATS") or "").lower() in ("1", "true", "yes", "on"):
        settings["publish_stats"] = True
    activate(Configuration(url, **settings))


def _on_new_mapper(mapper: Mapper[Any], cls: type) -> None:
    forget_table_map()
    sessions.forget_readers()  # where classes are made at run time, others are given up
    # Not at `instrument_class`: a mapper refused there stays half made among its base's heirs.
    opted_in = policy.check_new(cls)
    if opted_in:
        _check_family(mapper)
    capture.watch_subclass(cls)
    if opted_in:
        configure_from_environment()


def _on_configured_mapper(mapper: Mapper[Any], cls: type) -> None:
    forget_table_map()
    if policy.opted_in(cls):  # raises ConfigurationError for a wrong policy assigned since
        config = policy.config_of(cls)
        _check_family(mapper)
        if config is not None and config.unique:
            uniques.check(mapper, config)
        if config is not None and config.query_columns:
            conditions.check(mapper, config)
        if config is not None and config.collections:
            collections.check(mapper, config)
        configure_from_environment()


def _check_family(mapper: Mapper[Any]) -> None:
    # Not by `self_and_descendants`, which is remembered, and whose last one is still being made.
    root = root_of(mapper)
    if mapper is not root:
        related = (each for each in _sqlalchemy.all_mappers() if root_of(each) is root)
        policy.check_family(each.class_ for each in (*related, mapper))


def _on_flush(session: Session, context: object) -> None:
    """Say once that a process without a cache changes rows that others may have cached."""
    if _state.told_unconfigured or _state.live() or _state.switched_off():
        return
    tables = table_map()
    if not tables.roots():
        return
    written = {type(each) for group in (session.new, session.dirty, session.deleted)
               for each in group}  # fmt: skip
    for cls in written:
        mapper: Mapper[Any] | None = inspect(cls, raiseerr=False)
        if mapper is not None and tables.roots_of(mapper):
            _state.told_unconfigured = True
            logger.warning(
                "this process writes %s, which is cached, and sqlmodel_cache is not configured in"
                " it: what other processes have cached stays as it is. %s",
                cls.__name__,
                f"{_state.REMEDY[0].upper()}{_state.REMEDY[1:]}. This is said once.",
            )
            return


def _on_decorated() -> None:
    forget_table_map()
    configure_from_environment()

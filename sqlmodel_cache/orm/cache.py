"""One configured cache: its store, its counters, and what it knows of each database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sqlmodel_cache.codec.keyhash import KeySecret
from sqlmodel_cache.codec.packing import packer
from sqlmodel_cache.config import Configuration
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.events import Tally, logger
from sqlmodel_cache.keys import HiddenKeySpace, KeySpace
from sqlmodel_cache.orm import bridge
from sqlmodel_cache.orm.background import Background
from sqlmodel_cache.orm.model.capture import watch_loads
from sqlmodel_cache.orm.model.conduct import conduct_of, limit_from_environment
from sqlmodel_cache.orm.model.plan import Plan
from sqlmodel_cache.orm.model.reader import Reader
from sqlmodel_cache.orm.model.tables import Root, root_of_plan
from sqlmodel_cache.orm.namespace import Database, identify, is_replica
from sqlmodel_cache.orm.operate.switch import Switch
from sqlmodel_cache.orm.owned import Owned
from sqlmodel_cache.protocol.dating import StoreClock
from sqlmodel_cache.protocol.ops import Release
from sqlmodel_cache.protocol.read import Steps, new_token
from sqlmodel_cache.stats import Stats
from sqlmodel_cache.transport.backlog import Backlog
from sqlmodel_cache.transport.bulletin import Bulletin
from sqlmodel_cache.transport.flights import Flights
from sqlmodel_cache.transport.forks import tell_of_forks
from sqlmodel_cache.transport.stores import Stores, open_stores

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session


class Cache:
    """What `configure()` or a `cached_sessionmaker` with a cache of its own sets up.

    `renew`: this process wrote without invalidating before; each model starts with new epochs.
    """

    def __init__(self, config: Configuration, *, renew: bool = False) -> None:
        if config.compress is not None:
            packer(config.compress, "configure()")  # raises if the package is missing
        self.config = config
        self.max_ttl = 2**31 if config.max_ttl is None else config.max_ttl  # seconds
        self.limit = limit_from_environment()
        self.asks_sessions = callable(config.namespace)  # namespaces are known to sessions only
        self.renew = renew
        self.closed = False
        self.stores: Stores = open_stores(config.transport)
        self.store_clock = self._watch_clock() if config.snapshot_hits else None
        self.tally = Tally(config.observers)
        self.flights = Flights()
        self.background = Background()
        self.renewals_fail = False  # said in the log
        self.backlog = Backlog(self.stores, self._lost_for_good)
        self.sites = Sites(self)
        self.key_secret = None if config.key_secret is None else KeySecret(config.key_secret)
        fingerprint = "" if self.key_secret is None else self.key_secret.fingerprint
        self.switch = Switch(self.stores, config.key_prefix, self.conduct, fingerprint)
        self._said: set[str] = set()
        self._without_copies: set[str] = set()
        self._keyspaces: dict[tuple[str, str, int, bool], KeySpace] = {}
        self._bulletin = self._publish() if config.publish_stats else None
        tell_of_forks(self)

    def _watch_clock(self) -> StoreClock:
        if self.stores.dated:
            return StoreClock(steady=self.stores.steady)
        self.stores.close()
        raise ConfigurationError(
            "snapshot_hits=True needs a store that tells the time, and of which it is known when"
            " another server answers: memory://, or Redis by URL without trust_failover and"
            " without local copies, which may be older than they say"
        )

    def after_fork(self) -> None:
        """Count from nothing in a forked child: the counts so far are its parent's."""
        self.tally.restart()

    def keyspace(
        self, namespace: str, table: str, local_ttl: int = 0, hidden: bool = False
    ) -> KeySpace:
        """Return the keys of one table in one namespace.

        `local_ttl`: a reader's class' own, or for writers that of their root.
        """
        known = namespace, table, local_ttl, hidden
        try:
            return self._keyspaces[known]
        except KeyError:
            prefix = self.config.key_prefix
            made = KeySpace(prefix, namespace, table, local_ttl)
            if hidden:
                assert self.key_secret is not None, "checked when both were known"
                made = HiddenKeySpace(prefix, namespace, table, local_ttl, self.key_secret.hider)
            return self._keyspaces.setdefault(known, made)

    def keys_of(self, namespace: str, root: Root) -> KeySpace:
        """Return the keys of a root's rows, as writers name them."""
        return self.keyspace(namespace, root.table, root.local_ttl, root.hash_keys)

    def cannot_name(self, root: Root) -> bool:
        """Tell whether others may know the rows of `root` under other names, all or none of them.

        Asks the store, the first time.
        """
        return root.hash_keys and not self.switch.secrets_agree()

    def stats(self) -> Stats:
        """Return the counts as they stand."""
        if self.stores.sends:
            self.stores.sync.hear()
        tiers = self.stores.local
        local = None if tiers is None else tiers.local_stats()
        return self.tally.snapshot(self.stores.breaker.state.value, len(self.backlog), local)

    def lose(self, counts: Mapping[str, int], why: str) -> None:
        """Count and report writes that could not be invalidated."""
        for name, number in counts.items():
            self.tally.for_model(name).lost += number
        names = ", ".join(counts)
        logger.error("invalidation lost for %s: %s", names, why, extra={"cache_model": names})

    def check_local(self, model: str) -> None:
        """Say once that a model's `local_ttl` has no effect over this store."""
        if self.stores.blocks and self.stores.local is None and model not in self._without_copies:
            self._without_copies.add(model)
            logger.warning(
                "%s: local_ttl has no effect, as this transport keeps no copies in the process;"
                " use redis://...?local=10000 or a TieredTransport",
                model,
                extra={"cache_model": model},
            )

    def warn_unreachable(self) -> None:
        """Say once that plain sessions cannot use an async-only transport."""
        self._warn_once(
            "a plain Session met an async-only cache transport: it reads from the database."
            " Configure a URL, which serves sync and async sessions alike."
        )

    def warn_of_hooks(self) -> None:
        """Say once that somebody's listeners keep their sessions out of the cache."""
        self._warn_once(
            "a session reads from the database, as somebody listens to its do_orm_execute or"
            " after_begin, or its class has an execute() of its own, which may change what a load"
            " returns. If none of them ever changes a get, configure(trust_orm_hooks=True). This"
            " is said once."
        )

    def _warn_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            logger.warning(text)

    def close(self) -> None:
        """Publish what still waits, and close what this cache opened itself."""
        self.closed = True
        self.background.close()
        if self._bulletin is not None:
            self._bulletin.close()
        self.backlog.close()
        self.stores.close()
        self.sites.forget()

    async def aclose(self) -> None:
        """Like `close`, from an event loop, which runs on; its own connections are awaited."""
        self.closed = True
        await self.background.aclose()
        if self._bulletin is not None:
            await asyncio.to_thread(self._bulletin.close)
        await self.backlog.aclose()
        if self.stores.aclose is not None:
            await self.stores.aclose()

    def _publish(self) -> Bulletin | None:
        execute = getattr(self.stores.sync, "execute", None)
        if execute is not None:
            return Bulletin(execute, self.config.key_prefix, self.stats)
        logger.warning(
            "publish_stats=True needs Redis by URL, or RedisSyncTransport; the counts of this"
            " process are in SQLModelCache.stats() only"
        )
        return None

    def conduct(self) -> None:
        """Work out again how lookups go: the switch was turned, or secrets were compared."""
        for site in self.sites:
            site.conduct()

    def _lost_for_good(self, number: int) -> None:
        self.tally.unattributed.lost += number
        logger.error("%d invalidations were never taken by the store and are lost", number)


class Site:
    """What one cache knows of one engine's database."""

    def __init__(self, cache: Cache, dialect: Any) -> None:
        self._cache = cache
        self.dialect = dialect
        self._readers: dict[tuple[str, type], Reader] = {}
        self._renewed: set[tuple[str, str]] = set()
        self.database: Database | None = None
        self.namespaces: set[str] = set()
        self.schemas = {""}  # prefixes of keys, as `schemas.prefix_of` gives them
        namespace = cache.config.namespace
        if isinstance(namespace, str):
            self.namespaces.add(namespace)
            if dialect.name != "postgresql":  # which still has to say whether it is a replica
                self.database = Database(namespace)

    def learn(self, connection: Connection) -> Database:
        """Return the identity of the database, asked over `connection` the first time."""
        self.named(connection.get_execution_options())
        if self.database is None:
            given = self._cache.config.namespace
            if isinstance(given, str):
                return self._settle(Database(given, is_replica(connection)))
            return self._settle(identify(connection))
        return self.database

    def named(self, options: Mapping[str, Any]) -> str | None:
        """Return the namespace that the options of an engine or connection give it, if any."""
        if "cache_namespace" not in options:
            return None
        name = check_namespace(options["cache_namespace"])
        self.namespaces.add(name)
        return name

    def _settle(self, found: Database) -> Database:
        """Keep the first answer: of two threads that asked at once, one names both."""
        if self.database is None:
            self.database = found
            if found.name is not None and not callable(self._cache.config.namespace):
                self.namespaces.add(found.name)
        return self.database

    def take(self, other: Site) -> None:
        """Know what another cache's site of the same database found out."""
        self.namespaces |= other.namespaces
        self.schemas |= other.schemas
        if other.database is not None and self.database is None:
            self._settle(other.database)

    def reader(self, namespace: str, plan: Plan) -> Reader:
        """Return the reader of one model in one namespace, compiled on first use."""
        cls = plan.mapper.class_
        try:
            found = self._readers[namespace, cls]
            if found.plan is plan:
                return found
        except KeyError:
            pass
        root = root_of_plan(plan)
        own_ttl = plan.config.local_ttl or 0
        keyspace = self._cache.keyspace(namespace, plan.table, own_ttl, root.hash_keys)
        self._cache.cannot_name(root)  # asked before anything is read
        watch_loads(cls)
        if self._cache.renew:
            self._renew(namespace, root)
        if plan.config.local_ttl:
            self._cache.check_local(plan.name)
        made = Reader(
            plan,
            root,
            keyspace,
            self.dialect,
            self._cache.config.converter,
            self._cache.tally.for_model(plan.name),
            self._cache.config.compress if plan.config.compress is None else plan.config.compress,
        )
        self._readers[namespace, cls] = made
        self._conduct(made)  # last: the switch may be turned meanwhile
        return made

    def _renew(self, namespace: str, root: Root) -> None:
        """Drop every value of a root, once: writes went by while the cache was configured off."""
        known = namespace, root.table
        if known in self._renewed:
            return
        if self._cache.stores.full:
            bridge.run(self._cache.stores, _forget(self._cache.keys_of(namespace, root)))
        else:
            self._cache.lose({root.name: 1}, "the transport cannot forget what was cached before")
        self._renewed.add(known)

    def forget_readers(self) -> None:
        """Let go of the classes that were read: a reader refers to its class, and the engine to it.

        An engine that is let go takes its readers along. They are made anew when they are needed.
        """
        self._readers.clear()

    def conduct(self) -> None:
        """Work out again how lookups of each model go: the switch was turned."""
        for reader in list(self._readers.values()):
            self._conduct(reader)

    def _conduct(self, reader: Reader) -> None:
        cache = self._cache
        off = cache.switch.is_off(reader.plan.table)
        foreign = reader.root.hash_keys and cache.switch.agrees is not True
        own = reader.plan.config
        reader.conduct = conduct_of(cache.config, own, cache.limit, off=off, foreign=foreign)


def _forget(keyspace: KeySpace) -> Steps[None]:
    """Drop every value of one table."""
    yield Release(new_token(), (), keyspace.shards)


class Sites:
    """The sites of one cache, by the engine's dialect: options engines share it."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._by_dialect: Owned[Site] = Owned("site")

    def of(self, dialect: Any) -> Site:
        """Return the site behind an engine, made on first use."""
        try:
            found: Site = dialect.__dict__[self._by_dialect.name]
            return found
        except KeyError:
            return self._by_dialect.setdefault(dialect, Site(self._cache, dialect))

    def inherit(self, former: Sites) -> None:
        """Know the databases that a former cache knew: a transaction that wrote may be under way.

        Not what its configuration called them.
        """
        if former._cache.config.namespace is None:
            for site in former:
                self.of(site.dialect).take(site)

    def __iter__(self) -> Iterator[Site]:
        return iter(self._by_dialect)

    def forget(self) -> None:
        """Leave no trace on any dialect."""
        self._by_dialect.clear()


def check_namespace(value: object) -> str:
    """Return `value` if it names a namespace. A tenant that has none must not get a default."""
    if not isinstance(value, str) or not value:
        raise ConfigurationError(
            f"a namespace must be a non-empty string, not {type(value).__name__}; where it comes"
            " from a callable, return the tenant's name or raise"
        )
    return value


def namespace_for(cache: Cache, session: Session, own: Any) -> str | None:
    """Return the namespace that a session was given, by its factory or `configure()`, if any."""
    namespace = own if own is not None else cache.config.namespace
    if namespace is None or isinstance(namespace, str):
        return namespace
    cache.asks_sessions = True
    return check_namespace(namespace(session))

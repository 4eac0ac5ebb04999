"""Use the cache, or bypass it and say why. The only place where that is decided.

`decide` judges the call and the session and gives a `Scope`; `Scope.at` judges one row in it.
The order is a load's own: autoflush, then autobegin, without checking out a connection.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from sqlmodel_cache import _state, clock
from sqlmodel_cache.errors import ConfigurationError, UnavailableError
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.keys import Entry
from sqlmodel_cache.orm import _sqlalchemy, schemas
from sqlmodel_cache.orm.binding import Binding, bind_for, foreign_orm_hooks, routes
from sqlmodel_cache.orm.cache import Cache, namespace_for
from sqlmodel_cache.orm.connections import isolation, snapshots
from sqlmodel_cache.orm.connections.cursors import is_half_read
from sqlmodel_cache.orm.connections.ledger import Ledger, ledger_of
from sqlmodel_cache.orm.connections.transactions import wrap_dialect
from sqlmodel_cache.orm.model.conduct import Conduct
from sqlmodel_cache.orm.model.plan import Plan
from sqlmodel_cache.orm.model.reader import Reader
from sqlmodel_cache.orm.operate.watching import Telling, Watching
from sqlmodel_cache.orm.reads.asked import steps_asked
from sqlmodel_cache.orm.reads.identity import values_of
from sqlmodel_cache.orm.reads.options import bypassing, check_names, innermost
from sqlmodel_cache.protocol.read import Steps

K = TypeVar("K")

NO_OPTIONS: Final[Mapping[str, Any]] = {}


class NotYetKnown(Exception):
    """It takes a read of the usual way, perhaps an engine's first, to find this out."""


class Scope(msgspec.Struct, frozen=True):
    """Lookups of one model in one session may use the cache, as far as the session goes.

    `ttl` is in seconds; 0 reads without filling. `schema` is what keys begin with, under the
    schema_translate_map `translate`. `watching` is
    the reader where the database is to answer too, and both are to be compared. `began`: the
    session reads from a snapshot, which had not begun before then, by `clock.real()`; it may use
    only what `look` and `look_at_all` find.
    """

    cache: Cache
    session: Session
    reader: Reader
    bind: Any
    ttl: int
    ledger: Ledger | None
    schema: str = ""
    watching: Watching | None = None
    shard: Any = None
    began: float | None = None
    translate: Mapping[Any, Any] | None = None

    def at(self, pk: tuple[Any, ...]) -> Entry | Bypass:
        """Return the entry of one row, or why this row must come from the database."""
        text = self.reader.pk.encode(pk)
        if text is None:
            self.reader.tell_of_key(pk)
            return Bypass.KEY
        return self.entry_of(text)

    def asked(self, pk: tuple[Any, ...], ident: Any) -> Entry | Bypass:
        """Return what `at` does for a row that was asked for by `ident`, which means `pk`.

        A string for a UUID column is a key only where a load would take it.
        """
        plan = self.reader.plan
        given = values_of(plan.mapper, ident) if plan.keyed_by_uuid else None
        return self.at(given or pk)

    def entry_of(self, text: str) -> Entry | Bypass:
        """Return the entry of an encoded key, or why the database must be asked for it."""
        if self.schema:
            text = self.schema + text
        ledger = self.ledger
        if ledger is not None:
            table = self.reader.plan.table
            if ledger.may_differ(table, text):
                return Bypass.TOUCHED
        entry = self.reader.keyspace.entry(text)
        backlog = self.cache.backlog
        return Bypass.QUEUED if backlog.waiting and backlog.holds(entry) else entry

    def look(self, entry: Entry) -> Steps[object]:
        """Look one entry up for a snapshot; see `snapshots.look`."""
        assert self.began is not None
        assert self.cache.store_clock is not None
        return snapshots.look(self.cache.store_clock, self.reader, self.began, entry)

    def look_at_all(self, entries: dict[K, Entry]) -> Steps[dict[K, object]]:
        """Look several entries up for a snapshot; see `snapshots.look_at_all`."""
        assert self.began is not None
        assert self.cache.store_clock is not None
        return snapshots.look_at_all(self.cache.store_clock, self.reader, self.began, entries)

    def may_fill(self, since: float | None = None) -> bool:
        """Tell whether what was just read is what everybody else would read.

        Of sessions that share a connection one may have written after `since`, and rolled back.
        """
        connection = _sqlalchemy.connection_of(self.session, self.bind)
        if connection is None or is_half_read(connection):  # also one of a former checkout
            return False
        if (
            self.shard is None
            and routes(self.session)
            and not _sqlalchemy.uses_one_connection(self.session)
        ):
            return False  # the row may have come over another one, from a replica that lags
        ledger = ledger_of(connection)
        if ledger is None:
            return True
        if since is not None and ledger.clean_since >= since:
            return False
        changed = ledger.isolation_changed or ledger.settings or ledger.local_settings
        return not (ledger.wrote or changed)


def check_configured(plan: Plan, options: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for a read before configure(), unless this call wants no cache."""
    if _state.switched_off() or innermost("cache", options) is False:
        return
    raise ConfigurationError(
        f"{plan.name} is cached, but sqlmodel_cache is not configured: {_state.REMEDY}"
    )


def decide(
    cache: Cache,
    binding: Binding | None,
    session: Session,
    plan: Plan,
    options: Mapping[str, Any],
    arguments: Mapping[str, Any],
    *,
    only_asking: bool = False,
    awaits: bool = False,
    shard: Any = None,
    snapshot_hits: bool = False,
) -> Scope | Bypass:
    """Judge a call; `arguments` are what it was given beside entity, ident and options.

    `only_asking`: nobody is about to read, so nothing is flushed, begun, logged or sent; raises
    NotYetKnown where one of these would decide.
    `awaits`: the caller is a coroutine, which asks the store by itself; raises NotYetKnown, and
    has done nothing, where something may have to wait for the database, which takes a greenlet.
    `shard`: the identity token of what is looked up, in a ShardedSession.
    `snapshot_hits`: the caller looks at `Scope.began`.

    Raises ConfigurationError for options that cannot be meant, and whatever the session's own
    flush raises.
    """
    config = cache.config
    if not config.enabled:
        return Bypass.DISABLED
    if binding is None and not config.hook_sessions:
        return Bypass.HOOKS_OFF
    if bypassing.get():
        return Bypass.BLOCK
    if (options or arguments) and (reason := _asks_for_more(plan, options, arguments)) is not None:
        return reason
    if plan.blocked is not None:
        return plan.blocked
    if shard is None and _sqlalchemy.finds_identities_itself(type(session)):
        return Bypass.SESSION_CLASS
    if cache.stores.sync is None and not (awaits or _sqlalchemy.in_greenlet()):
        if not only_asking:
            cache.warn_unreachable()
        return Bypass.TRANSPORT
    if not config.trust_orm_hooks and foreign_orm_hooks(session):
        if not only_asking:
            cache.warn_of_hooks()
        return Bypass.ORM_HOOK
    if awaits and (routes(session) or not _sqlalchemy.begins_quietly(session)):
        raise NotYetKnown
    bind = bind_for(session, plan.mapper, shard)
    if bind.dialect.is_async and not (awaits or only_asking or _sqlalchemy.in_greenlet()):
        return Bypass.TRANSPORT  # a load raises MissingGreenlet: not only where nothing is cached
    if awaits and cache.sites.of(bind.dialect).database is None:
        raise NotYetKnown
    if only_asking:
        active = session.is_active
    else:
        if not awaits and options.get("autoflush", True):
            _sqlalchemy.autoflush(session)
        active = _sqlalchemy.autobegin(session)
    if not active:
        return Bypass.INACTIVE
    scope = _at_bind(
        cache, binding, session, plan, options, bind, only_asking, awaits, snapshot_hits
    )
    if shard is not None and type(scope) is Scope:
        return msgspec.structs.replace(scope, shard=shard)
    return scope


def _at_bind(
    cache: Cache,
    binding: Binding | None,
    session: Session,
    plan: Plan,
    options: Mapping[str, Any],
    bind: Any,
    only_asking: bool,
    awaits: bool,
    snapshot_hits: bool,
) -> Scope | Bypass:
    connection = _sqlalchemy.connection_of(session, bind)
    if connection is None and isinstance(bind, Connection):
        connection = bind  # the session is bound to somebody's connection
    ttl = translate = began = None
    replica = False
    outer = (connection if connection is not None else bind).get_execution_options()
    own = getattr(session, "execution_options", None)
    given = None if binding is None else binding.options
    if options or own or outer or given:
        layers: tuple[Mapping[str, Any] | None, ...] = (options, own, given, outer)
        check_names(own, outer)
        if innermost("cache", *layers) is False:
            return Bypass.OPTION
        translate = innermost(schemas.OPTION, *layers)
        ttl = innermost("cache_ttl", *layers)
        replica = innermost("cache_replica", *layers) is True
    if ttl is None:
        ttl = cache.config.default_ttl if plan.config.ttl is None else plan.config.ttl
    if (reason := isolation.blocks(bind, connection)) is not None:
        if not (snapshot_hits and cache.store_clock and reason is Bypass.SNAPSHOT):
            return reason
        assert connection is not None  # or there would be no snapshot yet
        if (began := snapshots.since(session, connection)) is None:
            return reason
    ledger = None if connection is None else ledger_of(connection)
    if ledger is not None:
        if ledger.aborted:
            return Bypass.INACTIVE
        if ledger.settings or ledger.local_settings:
            return Bypass.SETTINGS
        if ledger.isolation_changed:
            return Bypass.ISOLATION
    site = cache.sites.of(bind.dialect)
    database = site.database
    if only_asking and (database is None or cache.renew):
        raise NotYetKnown
    if (only_asking or awaits) and plan.config.hash_keys and cache.switch.agrees is None:
        raise NotYetKnown
    if database is None:
        # The first lookup of this engine checks out a connection, as a load would.
        wrap_dialect(bind.dialect)
        connection = session.connection(bind_arguments={"bind": bind})
        database = site.learn(connection)
        if bind.dialect.name == "postgresql":  # to ask was to make the snapshot
            reason = isolation.blocks(bind, connection)
            if reason is not None:
                return reason
    namespace = namespace_for(cache, session, binding and binding.namespace)
    if namespace is None:
        namespace = (site.named(outer) if outer else None) or database.name
    if namespace is None:
        return Bypass.NAMESPACE
    try:
        reader = site.reader(namespace, plan)
    except UnavailableError:  # epochs had to be renewed first, and could not be
        return Bypass.BREAKER
    if replica or database.replica:  # what it has may be older than what was fenced
        ttl = 0
    if began is not None:
        if replica or database.replica:  # its snapshot may be older than what it began before
            return Bypass.SNAPSHOT
        ttl = 0
    schema = ""
    if translate:
        schema = schemas.prefix_of(reader.root, translate, bind.dialect)
        site.schemas.add(schema)
    watching = None
    if reader.conduct is not None:
        drawn = _draw(cache, reader, reader.conduct, only_asking, awaits)
        if isinstance(drawn, Bypass):
            return drawn
        if drawn is not None:
            reader = drawn
            watching = drawn if type(drawn) is Watching else None
    if watching is not None and began is not None:
        return Bypass.SNAPSHOT  # one thing at a time
    return Scope(
        cache, session, reader, bind, ttl, ledger, schema, watching, None, began, translate or None
    )


def _draw(
    cache: Cache, reader: Reader, conduct: Conduct | None, only_asking: bool, awaits: bool
) -> Reader | Bypass | None:
    """Decide how one lookup goes where that is no matter of course; None: it uses the cache."""
    off = conduct is not None and conduct.bypass in (Bypass.SWITCHED_OFF, Bypass.KEY_SECRET)
    if off and not (only_asking or awaits) and clock.real() >= cache.switch.due:
        cache.switch.look()  # nobody else would notice that it is on again
        conduct = reader.conduct
    if conduct is None:
        return None
    if conduct.bypass is not None:
        return conduct.bypass
    if only_asking:
        return Bypass.SHADOW if conduct.shadow else None
    if conduct.sample < 1:
        if awaits:
            raise NotYetKnown  # the usual way asks again: there the lot is drawn, once
        if random.random() >= conduct.sample:
            return Bypass.SAMPLE
    if conduct.shadow or (conduct.verify and random.random() < conduct.verify):
        return Watching(reader, shadow=conduct.shadow)
    return Telling(reader) if conduct.tells else None


def _asks_for_more(
    plan: Plan, options: Mapping[str, Any], arguments: Mapping[str, Any]
) -> Bypass | None:
    """Return why this call's own arguments want a database, None if they do not."""
    check_names(options)
    if innermost("cache", options) is False:
        return Bypass.OPTION
    given = arguments.get("options")
    if given and steps_asked(plan, given) is None:
        return Bypass.LOADER_OPTIONS
    # Either one counts: AsyncSession.get of 2.0 hands on an argument that nobody gave, False.
    if arguments.get("populate_existing") or options.get("populate_existing"):
        return Bypass.POPULATE_EXISTING
    if arguments.get("with_for_update") not in (None, False):
        return Bypass.FOR_UPDATE
    token = arguments.get("identity_token")
    if token is not None or options.get("identity_token") is not None:
        return Bypass.IDENTITY_TOKEN
    return Bypass.SESSION_CLASS if arguments.get("bind_arguments") else None

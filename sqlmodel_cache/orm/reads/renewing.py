"""Rows served past their time while they are loaded again, on a session of nobody's.

Only their age is softened: a commit deletes the entry as ever, and what is not there is not
served. The row is loaded on another connection of the same engine, and stored under a lease that
was taken before, so that one caller of all processes does it and a writer who passes wins. Where
another connection may not see what this session's readers are to be given (a namespace, a schema
or settings of the session's own, hooks, routes, a connection that it was handed), or would be
the same one (SQLite in memory), the entry is a miss, as it is without `stale_ttl`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, lazyload
from sqlalchemy.pool import NullPool, QueuePool

from sqlmodel_cache import clock
from sqlmodel_cache.events import logger
from sqlmodel_cache.orm import _sqlalchemy, bridge
from sqlmodel_cache.orm.binding import binding_of, foreign_orm_hooks, routes
from sqlmodel_cache.orm.connections import isolation
from sqlmodel_cache.orm.model.capture import capturing
from sqlmodel_cache.orm.model.reader import Found
from sqlmodel_cache.orm.reads.decide import Scope
from sqlmodel_cache.orm.reads.options import OURS
from sqlmodel_cache.orm.reads.storing import NO_SUCH_ROW, PATIENCE, settle
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.ops import Release

if TYPE_CHECKING:
    from sqlmodel_cache.keys import Entry
    from sqlmodel_cache.orm.cache import Cache
    from sqlmodel_cache.orm.model.reader import Reader
    from sqlmodel_cache.protocol.ops import Reply


def should_refresh(scope: Scope, seen: Reply) -> bool:
    """Tell whether this caller should load again what is good, and near its end."""
    ahead, value = scope.reader.ahead, seen.value
    if ahead is None or value is None or not scope.ttl or scope.began is not None:
        return False
    if scope.ledger is not None and scope.ledger.wrote:
        return False  # it could not store what it loads
    return ahead.is_due(value)


def found_over(scope: Scope, entry: Entry, seen: Reply) -> object:
    """Return the row in an entry whose time is over, and have it loaded again; or read.MISS."""
    if not scope.reader.stale_ttl:
        return read.MISS
    found = scope.reader.read_over(entry, seen)
    if type(found) is not Found or not may_renew(scope):
        return read.MISS
    renewal = _Renewal(
        scope.cache, scope.reader, scope.bind, scope.ttl, entry, found.identity, seen
    )
    scope.cache.background.do(entry.value, renewal, in_task=scope.bind.dialect.is_async)
    return found


def may_renew(scope: Scope) -> bool:
    """Tell whether another session on the same engine reads what this one's reader stores."""
    session, bind = scope.session, scope.bind
    if not scope.ttl or not isinstance(bind, Engine):
        return False
    if scope.schema or scope.shard is not None or scope.watching or scope.began is not None:
        return False
    if scope.ledger is not None and scope.ledger.wrote:
        return False
    binding = binding_of(session)
    if callable(scope.cache.config.namespace) or (binding and callable(binding.namespace)):
        return False
    connection = _sqlalchemy.connection_of(session, bind)
    own = bind.get_execution_options()
    if connection is not None and connection.get_execution_options() != own:
        return False
    if routes(session) or foreign_orm_hooks(session) or isolation.blocks(bind, None) is not None:
        return False
    return _has_other_connections(bind)


def _has_other_connections(engine: Engine) -> bool:
    """Tell whether the pool gives out another connection to the same database, like any other."""
    pool = engine.pool
    if not isinstance(pool, QueuePool | NullPool) or pool.dispatch.checkout:
        return False
    if engine.dialect.name != "sqlite":
        return True
    path = str(engine.url.database or "")
    in_memory = not path or ":memory:" in path or "memdb" in path or "mode=memory" in path
    named_so = engine.url.query.get("mode") == "memory" or "vfs" in engine.url.query
    return not (in_memory or named_so or _sqlalchemy.creator_is_foreign(engine))


@dataclass(frozen=True, slots=True)
class _Renewal:
    """One row to be loaded again. It knows nothing of the session that asked."""

    cache: Cache
    reader: Reader
    bind: Engine
    ttl: int
    entry: Entry
    identity: tuple[Any, ...]
    seen: Reply

    def __call__(self) -> bool:
        """Load and store it, unless somebody else does. Returns whether all is well."""
        try:
            begun = clock.real()
            steps = read.refresh(self.entry, None, self.seen, PATIENCE)
            outcome = bridge.run(self.cache.stores, steps)
            if isinstance(outcome, read.Hit) or outcome.held is None:
                return True
            well = self._load(outcome.held, begun)
        except Exception as error:
            self.reader.counters.errors += 1
            self._tell(error)
            return False
        self.cache.renewals_fail = False
        return well

    def _load(self, held: read.Held, begun: float) -> bool:
        """Fill the lease; False if there is a row, and it could not be stored."""
        mapper = self.reader.plan.mapper
        pairs = zip(mapper.primary_key, self.identity, strict=True)
        where = [column == value for column, value in pairs]
        statement = select(mapper).where(*where).options(lazyload("*"))
        with Session(self.bind, autoflush=False) as session:
            scope = Scope(self.cache, session, self.reader, self.bind, self.ttl, None)
            try:
                with capturing(session, self.reader, frozenset((self.identity,))) as capture:
                    rows = session.execute(statement, execution_options=OURS).unique().all()
            except BaseException:
                settle(scope, held, None)
                raise
            row = capture.rows.get(self.identity) if rows else NO_SUCH_ROW
            if settle(scope, held, row, begun):
                return True
        if not rows:  # gone, and nobody said so
            bridge.run(self.cache.stores, _forget(self.entry.told))
        return not rows

    def _tell(self, error: Exception) -> None:
        if not self.cache.renewals_fail:
            self.cache.renewals_fail = True
            logger.warning(
                "%s: a row past its TTL could not be loaded again in the background (%s); it is"
                " served until its stale_ttl is over. This is said once until one can be.",
                self.reader.plan.name,
                type(error).__name__,
                extra={"cache_model": self.reader.plan.name},
            )


def _forget(entry: Entry) -> read.Steps[None]:
    yield Release(read.new_token(), (entry,), ())

"""Say in words why a `get` would, or would not, be answered from the cache.

The judgement is `decide`'s own, asked without its side effects: nothing is flushed, begun, stored
or counted, and no connection is checked out. The store is asked once, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from sqlalchemy import inspect
from sqlalchemy.orm import Session, scoped_session

from sqlmodel_cache.causes import CAUSES
from sqlmodel_cache.errors import ConfigurationError, UnavailableError
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.orm import _sqlalchemy, bridge
from sqlmodel_cache.orm.binding import binding_of, cache_of
from sqlmodel_cache.orm.connections.snapshots import TooNew
from sqlmodel_cache.orm.model.plan import plan_of
from sqlmodel_cache.orm.operate.inspection import EntryReport, look
from sqlmodel_cache.orm.reads.decide import NO_OPTIONS, NotYetKnown, Scope, decide
from sqlmodel_cache.orm.reads.identity import primary_key
from sqlmodel_cache.orm.reads.renewing import may_renew
from sqlmodel_cache.transport.breaker import LeftAlone

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

Expected = Literal["hit", "miss", "bypass", "failure", "session", "uncached", "unknown"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one call would, or would not, use the cache. `str()` of it is the whole story.

    Attributes:
        expected: what a `get` would end in: "hit", "miss", "bypass" or "failure" as in `stats()`;
            "session": the session has the row already; "uncached": the model or the process has
            no cache; "unknown": nobody can tell before the first read of this engine.
        because: one sentence.
        reason: of a bypass, its name.
        remedy: what to do about it, empty where all is as it should be.
        namespace: which database the entry is of, None where it did not come to that.
        ttl: seconds for which a miss would store the row, 0: it would not.
        entry: what the store has, None where it was not asked.
    """

    expected: Expected
    because: str
    reason: Bypass | None = None
    remedy: str = ""
    namespace: str | None = None
    ttl: int | None = None
    entry: EntryReport | None = None

    def __str__(self) -> str:
        said = [f"{self.expected}: {self.because}"]
        if self.remedy:
            said.append(f"Remedy: {self.remedy}.")
        if self.entry is not None:
            said.append(f"Key: {self.entry.key} ({self.entry.label} in the log)")
            said.append(str(self.entry))
        if self.expected == "miss" and self.ttl is not None:
            said.append(
                f"A miss stores the row for {self.ttl} s." if self.ttl else "It only reads."
            )
        return "\n".join(said)


def explain(session: Any, entity: Any, ident: Any, /, **arguments: Any) -> Explanation:
    """Judge `session.get(entity, ident, **arguments)`."""
    if hasattr(session, "run_sync"):
        raise ConfigurationError(
            "explain() takes a Session; with an AsyncSession write `await aexplain(...)`"
        )
    if isinstance(session, scoped_session):
        session = session()
    if not isinstance(session, Session):
        raise ConfigurationError(f"explain() takes a Session first, not {type(session).__name__}")
    plan = plan_of(entity)
    if plan is None:
        inspect(entity)  # what is no mapped class is refused in SQLAlchemy's words
        return Explanation("uncached", f"{entity.__name__} did not opt in to caching.")
    binding = binding_of(session)
    cache = cache_of(binding)
    if cache is None:
        return Explanation("uncached", "SQLModelCache.configure() was not called.")
    pk = primary_key(plan.mapper, ident)
    if pk is None:
        return Explanation("uncached", "This is not a primary key as session.get() takes it.")
    if _sqlalchemy.knows(session, (plan.identity_class, pk, None)):
        return Explanation("session", "The session has this row already; nobody else is asked.")
    options: Mapping[str, Any] = arguments.get("execution_options") or NO_OPTIONS
    try:
        scope = decide(
            cache, binding, session, plan, options, arguments, only_asking=True, snapshot_hits=True
        )
    except NotYetKnown:
        return Explanation(
            "unknown",
            "Which database this is is asked over the first connection of a read, and there was"
            " none yet. Read a row first.",
        )
    if isinstance(scope, Bypass):
        return _bypass(scope)
    if _would_flush(session, options):
        return Explanation(
            "unknown",
            "The session has changes that a get would flush first; whether it may use the cache"
            " after that depends on what they touch. Flush, then ask again.",
        )
    return _ask(msgspec.structs.replace(scope, reader=scope.reader.quiet()), pk, ident)


async def aexplain(session: AsyncSession, entity: Any, ident: Any, **arguments: Any) -> Explanation:
    """Like `explain`, for an `AsyncSession`."""
    if not hasattr(session, "run_sync"):
        raise ConfigurationError(
            f"aexplain() takes an AsyncSession, not {type(session).__name__}; with a Session"
            " write explain(...)"
        )
    return await session.run_sync(explain, entity, ident, **arguments)


def _ask(scope: Scope, pk: tuple[Any, ...], ident: Any) -> Explanation:
    entry = scope.asked(pk, ident)
    if isinstance(entry, Bypass):
        return _bypass(entry)
    namespace = scope.reader.keyspace.namespace
    stores = scope.cache.stores
    try:
        report = bridge.run(stores, look(scope.reader, entry))
        if scope.began is not None:
            bridge.run(stores, scope.look(entry))
    except LeftAlone:
        return _bypass(Bypass.BREAKER)
    except TooNew:
        return _bypass(Bypass.SNAPSHOT)
    except UnavailableError as error:
        return Explanation("failure", f"{error}; the database answers.", namespace=namespace)
    if report.usable and (may_renew(scope) or not report.over):
        return Explanation("hit", "It is in the cache.", None, "", namespace, scope.ttl, report)
    why = "It is not in the cache."
    if report.present:
        why = "What the cache has of it cannot be used."
    ttl = 0 if report.fenced else min(scope.ttl, scope.cache.max_ttl)
    return Explanation("miss", why, None, "", namespace, ttl, report)


def _bypass(reason: Bypass) -> Explanation:
    cause = CAUSES[reason]
    return Explanation("bypass", f"{cause.why} ({reason.value}).", reason, cause.remedy)


def _would_flush(session: Session, options: Mapping[str, Any]) -> bool:
    changed = session.new or session.deleted or session.dirty
    return bool(changed and session.autoflush and options.get("autoflush", True))

"""Say in words why a `get` or `select()` would, or would not, be answered from the cache.

The judgement is that of `decide` and `judge`, asked without side effects: nothing is flushed,
begun, stored or counted, and no connection is checked out. The store is asked once, and changes
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Executable, inspect
from sqlalchemy.orm import Session, scoped_session

from sqlmodel_cache.errors import ConfigurationError, UnavailableError
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.orm import _sqlalchemy, bridge
from sqlmodel_cache.orm.binding import binding_of, cache_of
from sqlmodel_cache.orm.connections.snapshots import TooNew
from sqlmodel_cache.orm.model.plan import plan_of
from sqlmodel_cache.orm.operate.explanation import (
    NOT_YET_KNOWN,
    Expected,
    Explanation,
    bypass,
    unknown,
)
from sqlmodel_cache.orm.operate.inspection import look
from sqlmodel_cache.orm.queries.judging import Refused, judge
from sqlmodel_cache.orm.queries.results import is_there
from sqlmodel_cache.orm.reads import executing, selects
from sqlmodel_cache.orm.reads.decide import NO_OPTIONS, NotYetKnown, Scope, decide
from sqlmodel_cache.orm.reads.identity import primary_key
from sqlmodel_cache.orm.reads.renewing import may_renew
from sqlmodel_cache.transport.breaker import LeftAlone

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


def explain(session: Any, asked: Any, ident: Any = None, /, **arguments: Any) -> Explanation:
    """Judge `session.get(asked, ident, **arguments)`, or `session.execute(asked, ident, ...)`."""
    if hasattr(session, "run_sync"):
        raise ConfigurationError(
            "explain() takes a Session; with an AsyncSession write `await aexplain(...)`"
        )
    if isinstance(session, scoped_session):
        session = session()
    if not isinstance(session, Session):
        raise ConfigurationError(f"explain() takes a Session first, not {type(session).__name__}")
    if isinstance(asked, Executable):
        return _explain_select(session, asked, ident, arguments)
    plan = plan_of(asked)
    if plan is None:
        inspect(asked)  # what is no mapped class is refused in SQLAlchemy's words
        return Explanation("uncached", f"{asked.__name__} did not opt in to caching.")
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
        return NOT_YET_KNOWN
    if isinstance(scope, Bypass):
        return bypass(scope)
    if (told := unknown(session, options, "get")) is not None:
        return told
    return _ask(msgspec.structs.replace(scope, reader=scope.reader.quiet()), pk, ident)


def _explain_select(
    session: Session, statement: Any, params: Any, how: dict[str, Any]
) -> Explanation:
    plan = executing.plan_for(statement)
    if plan is None:
        return Explanation("uncached", "This is no select() of a cached model.")
    cache = cache_of(binding_of(session))
    if cache is None:
        return Explanation("uncached", "SQLModelCache.configure() was not called.")
    which = selects.named(plan, statement, params)
    if which is not None and which.keys is not None and len(which.keys) == 1:
        return explain(session, plan.mapper.class_, which.keys[0], **how)
    if which is not None:
        return Explanation(
            "unknown",
            "It is answered row by row, like get_many() or get_by(): ask for one of its rows.",
        )
    options = {**statement.get_execution_options(), **(how.get("execution_options") or NO_OPTIONS)}
    if options.get("cache") is False:
        return bypass(Bypass.OPTION)
    if options.get("cache") is not True and plan.config.queries is not True:
        why = f"nobody asks for it, and {plan.name} caches no queries that do not"
        return bypass(Bypass.QUERY, why)
    try:
        ready = judge(cache, session, plan, statement, params, how, options, only_asking=True)
    except NotYetKnown:
        return NOT_YET_KNOWN
    if isinstance(ready, Refused):
        return bypass(ready.reason, ready.why)
    if (told := unknown(session, options, "select()")) is not None:
        return told
    scope = ready.scope
    namespace = scope.reader.keyspace.namespace
    try:
        there = bridge.run(scope.cache.stores, is_there(ready.asked))
    except LeftAlone:
        return bypass(Bypass.BREAKER)
    except UnavailableError as error:
        return Explanation("failure", f"{error}; the database answers.", namespace=namespace)
    depends = tuple(ready.question.words(ready.key, params))
    ttl = min(scope.ttl, scope.cache.max_ttl)
    because = "Its result is in the cache." if there else "Its result is not in the cache."
    expected: Expected = "hit" if there else "miss"
    return Explanation(expected, because, None, "", namespace, ttl, None, depends)


async def aexplain(
    session: AsyncSession, asked: Any, ident: Any = None, **arguments: Any
) -> Explanation:
    """Like `explain`, for an `AsyncSession`."""
    if not hasattr(session, "run_sync"):
        raise ConfigurationError(
            f"aexplain() takes an AsyncSession, not {type(session).__name__}; with a Session"
            " write explain(...)"
        )
    return await session.run_sync(explain, asked, ident, **arguments)


def _ask(scope: Scope, pk: tuple[Any, ...], ident: Any) -> Explanation:
    entry = scope.asked(pk, ident)
    if isinstance(entry, Bypass):
        return bypass(entry)
    namespace = scope.reader.keyspace.namespace
    stores = scope.cache.stores
    try:
        report = bridge.run(stores, look(scope.reader, entry))
        if scope.began is not None:
            bridge.run(stores, scope.look(entry))
    except LeftAlone:
        return bypass(Bypass.BREAKER)
    except TooNew:
        return bypass(Bypass.SNAPSHOT)
    except UnavailableError as error:
        return Explanation("failure", f"{error}; the database answers.", namespace=namespace)
    if report.usable and (may_renew(scope) or not report.over):
        return Explanation("hit", "It is in the cache.", None, "", namespace, scope.ttl, report)
    why = "It is not in the cache."
    if report.present:
        why = "What the cache has of it cannot be used."
    ttl = 0 if report.fenced else min(scope.ttl, scope.cache.max_ttl)
    return Explanation("miss", why, None, "", namespace, ttl, report)

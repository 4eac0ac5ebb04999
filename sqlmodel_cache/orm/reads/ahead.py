"""`AsyncSession.get` answered ahead of SQLAlchemy's greenlet.

`AsyncSession.get` runs `Session.get` in a greenlet of its own, so that what lies below can wait
for a connection. A hit waits for the store only, and its own coroutine can do that: the decision
is the one that `Session.get` comes to, the lookups of one turn of the loop travel together (see
`transport.async_`), and no greenlet is made. Whatever might wait for anything else takes the
usual way: a flush, an engine not yet known, relationships that come along, an instance that is
here already, somebody's hook around the session or its loads. A miss goes on from where it
stands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from sqlmodel_cache import clock
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import Bypass, logger
from sqlmodel_cache.keys import Entry
from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.binding import binding_of, cache_of
from sqlmodel_cache.orm.model.capture import unheard
from sqlmodel_cache.orm.model.plan import Plan, plan_of
from sqlmodel_cache.orm.model.reader import NO_ROW, Found
from sqlmodel_cache.orm.reads.decide import NO_OPTIONS, NotYetKnown, Scope, decide
from sqlmodel_cache.orm.reads.identity import primary_key
from sqlmodel_cache.orm.reads.lookup import hydrated, is_none, look_up
from sqlmodel_cache.orm.reads.renewing import found_over, should_refresh
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.ops import Get
from sqlmodel_cache.transport.breaker import LeftAlone
from sqlmodel_cache.transport.drive import aask, ask

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from sqlmodel_cache.orm.binding import Binding
    from sqlmodel_cache.orm.cache import Cache


def around(
    original: Callable[..., Any], ours: Callable[..., Any], bare: Callable[..., Any]
) -> Callable[..., Any]:
    """Return what stands in the place of `AsyncSession.get`.

    `ours` is what stands in the place of `Session.get`, which is `bare`.
    """

    @wraps(original)
    async def get(session: AsyncSession, entity: Any, ident: Any, **kwargs: Any) -> Any:
        if not kwargs and (plan := plan_of(entity)) is not None:
            sync = session.sync_session
            # A class or a patch that has its own way to get comes first.
            question = _question(sync, plan, ident) if type(sync).get is ours else None
            if question is not None:
                return await _answer(*question, partial(bare, sync, entity, ident))
        return await original(session, entity, ident, **kwargs)

    return get


def _question(
    session: Session, plan: Plan, ident: Any
) -> tuple[Scope, Entry, tuple[Any, ...]] | None:
    """Return what to look up, None where the usual way must be taken, for whatever reason."""
    binding = binding_of(session)
    cache = cache_of(binding)
    if cache is None or plan.blocked is not None or plan.steps or _may_wait(cache, binding):
        return None
    pk = primary_key(plan.mapper, ident)
    if pk is None or _sqlalchemy.knows(session, (plan.identity_class, pk, None)):
        return None
    try:
        scope = decide(cache, binding, session, plan, NO_OPTIONS, NO_OPTIONS, awaits=True)
    except NotYetKnown:
        return None
    if type(scope) is not Scope:
        return None
    entry = scope.asked(pk, ident)
    if type(entry) is not Entry or cache.flights.find(entry.value) is not None:
        return None
    return scope, entry, pk


def _may_wait(cache: Cache, binding: Binding | None) -> bool:
    """Tell whether the store, or a namespace that is computed, needs a greenlet."""
    stores = cache.stores
    return (
        not (stores.at_once or stores.awaits)
        or cache.renew
        or cache.asks_sessions
        or (binding is not None and callable(binding.namespace))
    )


async def _answer(scope: Scope, entry: Entry, pk: tuple[Any, ...], load: Callable[[], Any]) -> Any:
    if scope.watching is not None:
        return await _sqlalchemy.greenlet_spawn(look_up, scope, entry, pk, load, hydrated, is_none)
    counters = scope.reader.counters
    stores = scope.cache.stores
    begun = clock.real()
    try:
        if stores.at_once:
            reply = ask(stores.sync.perform, Get(entry), stores.breaker)
        else:
            reply = await aask(stores.async_.perform, Get(entry), stores.breaker)
    except LeftAlone:
        counters.bypass(Bypass.BREAKER)
        return await _sqlalchemy.greenlet_spawn(load)
    except UnavailableError as error:
        counters.fail(begun)
        logger.debug("a lookup failed: %s", error)
        return await _sqlalchemy.greenlet_spawn(load)
    if begun >= scope.cache.switch.due:
        await scope.cache.switch.alook()
    found = scope.reader.read(entry, reply)
    over = found is read.MISS
    if over:
        found = found_over(scope, entry, reply)
    if found is read.MISS:
        return await _sqlalchemy.greenlet_spawn(
            look_up, scope, entry, pk, load, hydrated, is_none, reply
        )
    if scope.reader.ahead is not None and not over and should_refresh(scope, reply):
        return await _sqlalchemy.greenlet_spawn(
            look_up, scope, entry, pk, load, hydrated, is_none, reply, found
        )
    if found is NO_ROW or (type(found) is Found and _is_quiet(scope.session, found)):
        instance = hydrated(scope.session, found, load)
    else:
        instance = await _sqlalchemy.greenlet_spawn(hydrated, scope.session, found, load)
    counters.hit(begun)
    return instance


def _is_quiet(session: Session, found: Found) -> bool:
    """Tell whether making the instance runs no code but ours and SQLAlchemy's own."""
    return not (
        found.partial_row
        or not unheard(session, found.hydrator.mapper)
        or _sqlalchemy.knows(session, (found.hydrator.identity_class, found.identity, None))
    )

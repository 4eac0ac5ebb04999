"""`get_many`: one round trip for all hits, one `IN` query for all misses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import inspect, select, tuple_
from sqlalchemy.orm import Session

from sqlmodel_cache import clock
from sqlmodel_cache.errors import ConfigurationError, UnavailableError
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.latency import Timed
from sqlmodel_cache.orm import _sqlalchemy, bridge
from sqlmodel_cache.orm.binding import binding_of, cache_of
from sqlmodel_cache.orm.model.capture import capturing
from sqlmodel_cache.orm.model.plan import plan_of
from sqlmodel_cache.orm.operate.checking import compare
from sqlmodel_cache.orm.reads.along import Arrival, Place, bring_along
from sqlmodel_cache.orm.reads.decide import NO_OPTIONS, Scope, check_configured, decide
from sqlmodel_cache.orm.reads.identity import primary_key
from sqlmodel_cache.orm.reads.lookup import should_refresh
from sqlmodel_cache.orm.reads.options import OURS
from sqlmodel_cache.orm.reads.present import instances_of
from sqlmodel_cache.orm.reads.renewing import found_over
from sqlmodel_cache.orm.reads.storing import NO_SUCH_ROW, PATIENCE, settle
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.ops import GetMany, Reply
from sqlmodel_cache.transport.breaker import LeftAlone

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from sqlmodel_cache.keys import Entry

T = TypeVar("T")
_Pk = tuple[Any, ...]

# What others are filling comes with the query for the rest: waits for many keys would add up.
_IMPATIENT = replace(PATIENCE, wait=0.0)


def get_many(session: Session, model: type[T], keys: Iterable[Any]) -> list[T | None]:
    """Return the instances with these primary keys, in the order asked, None where no row is.

    Each key is spelt as `session.get()` takes it. Raises ConfigurationError before `configure()`
    and for what is not a primary key of `model`.
    """
    check_sync("get_many", session)
    return fetch(session, model, keys)[0]


def fetch(session: Session, model: type[T], keys: Iterable[Any]) -> tuple[list[T | None], int]:
    """Return what `get_many` returns, and how many rows were stored on the way."""
    mapper = inspect(model)
    asked = [primary_key(mapper, key) for key in listed(model, keys)]
    if None in asked:
        raise ConfigurationError(
            f"{model.__name__}: a key does not have the form that session.get() takes"
        )
    wanted: list[_Pk] = [pk for pk in asked if pk is not None]
    plan = plan_of(model)
    found: dict[_Pk, Any] = {}
    filled = 0
    missing = dict.fromkeys(wanted)
    identity_class = mapper.identity_key_from_primary_key((None,) * len(mapper.primary_key))[0]
    for pk in wanted:
        if _sqlalchemy.knows(session, (identity_class, pk, None)):
            found[pk] = session.get(model, pk)
            missing.pop(pk, None)
    if missing and plan is not None:
        binding = binding_of(session)
        cache = cache_of(binding)
        if cache is None:
            check_configured(plan, NO_OPTIONS)
        else:
            scope = decide(cache, binding, session, plan, NO_OPTIONS, {}, snapshot_hits=True)
            if isinstance(scope, Bypass):
                for _ in missing:
                    cache.tally.for_model(plan.name).bypass(scope)
            else:
                ask = partial(query, session, model, autoflush=False)  # `decide` has flushed
                loaded, filled = from_cache(scope, list(missing), ask)
                found |= loaded
                missing = {}
    if missing:
        found |= query(session, model, list(missing))
    return [found.get(pk) for pk in wanted], filled


async def aget_many(session: AsyncSession, model: type[T], keys: Iterable[Any]) -> list[T | None]:
    """Like `get_many`, for an `AsyncSession`."""
    check_async("aget_many", session)
    return await session.run_sync(get_many, model, listed(model, keys))


def listed(model: type[Any], keys: Iterable[Any]) -> list[Any]:
    """Return the keys as a list; a lone one, of which a string would be many, is refused."""
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        raise ConfigurationError(
            f"{model.__name__}: {type(keys).__name__} is no list of primary keys; put a single one"
            " into a list"
        )
    return list(keys)


def check_sync(name: str, session: object) -> None:
    """Raise ConfigurationError unless the function `name` was given a Session."""
    if hasattr(session, "run_sync"):
        raise ConfigurationError(
            f"{name}() takes a Session; with an AsyncSession write `await a{name}(...)`"
        )
    if not hasattr(session, "identity_map"):
        raise ConfigurationError(f"{name}() takes a Session first, not {type(session).__name__}")


def check_async(name: str, session: object) -> None:
    """Raise ConfigurationError unless the function `name` was given an AsyncSession."""
    if not hasattr(session, "run_sync"):
        raise ConfigurationError(
            f"{name}() takes an AsyncSession, not {type(session).__name__}; with a Session"
            f" write {name[1:]}(...)"
        )


class Outdated(Exception):
    """What the keys were found in no longer holds."""


@dataclass(slots=True)
class Beside:
    """Entries that are read in the same moment as the rows, and what they must still be."""

    entries: tuple[Entry, ...]
    agrees: Callable[[Sequence[Reply]], bool]


def from_cache(
    scope: Scope,
    wanted: list[_Pk],
    ask: Callable[[list[_Pk]], dict[_Pk, Any]],
    beside: Beside | None = None,
    place: Place | None = None,
) -> tuple[dict[_Pk, Any], int]:
    """Return instances by primary key, from the cache or by one `ask`; and how many were stored.

    None for "no such row". `place`, if given, is where the instances arrive. Raises Outdated,
    before anything is made, if what lies `beside` does not agree.
    """
    entries: dict[_Pk, Entry] = {}
    counters = scope.reader.counters
    for pk in wanted:
        entry = scope.at(pk)
        if isinstance(entry, Bypass):
            counters.bypass(entry)
        else:
            entries[pk] = entry
    held: dict[_Pk, read.Held] = {}
    hits: dict[_Pk, object] = {}
    missed = 0
    begun = clock.real()
    try:
        if entries:
            hits, held = bridge.run(scope.cache.stores, _look_up_all(scope, entries, beside))
            missed = len(entries) - len(hits)
            if begun >= scope.cache.switch.due:
                scope.cache.switch.look()
    except LeftAlone:
        for _ in entries:
            counters.bypass(Bypass.BREAKER)
    except UnavailableError:
        for _ in entries:
            counters.fail(begun, len(entries))
    checked: dict[_Pk, object] = {}
    if (watching := scope.watching) is not None:
        checked, hits = hits, {}
        for _ in checked:
            watching.count_found(begun, len(checked))
    arrivals: list[Arrival] = []
    found = instances_of(scope, hits, arrivals, place)
    counters.hit_together(begun, len(hits))
    counters.misses += missed
    bring_along(scope, arrivals, place)
    filled = 0
    missing = [pk for pk in wanted if pk not in found]
    if missing:
        timed = Timed(partial(ask, missing))
        try:
            with capturing(scope.session, scope.reader, frozenset((*held, *checked))) as capture:
                found |= timed()
        except Exception:
            for lease in held.values():
                settle(scope, lease, None)
            raise
        finally:
            for _ in range(missed):
                counters.miss(begun, timed.seconds, len(missing))
        for pk, seen in checked.items():
            row = capture.rows.get(pk) if pk in found else NO_SUCH_ROW
            compare(scope, entries[pk], seen, row)
        for pk, lease in held.items():
            row = capture.rows.get(pk) if pk in found else NO_SUCH_ROW
            filled += settle(scope, lease, row, begun)
    return found, filled


def _look_up_all(
    scope: Scope, entries: dict[_Pk, Entry], beside: Beside | None = None
) -> read.Steps[tuple[dict[_Pk, object], dict[_Pk, read.Held]]]:
    """Return what was found, and the leases to fill some of the rest with. Raises Outdated."""
    if scope.began is not None:
        return (yield from scope.look_at_all(entries)), {}
    also = () if beside is None else beside.entries  # last: they vouch for what was read before
    replies = yield GetMany((*entries.values(), *also))
    if beside is not None and not beside.agrees(replies[len(entries) :]):
        raise Outdated
    del replies[len(entries) :]
    hits: dict[_Pk, object] = {}
    held: dict[_Pk, read.Held] = {}
    for (pk, entry), reply in zip(entries.items(), replies, strict=True):
        found = scope.reader.read(entry, reply)
        outcome: read.Hit | read.Miss
        if found is read.MISS and (over := found_over(scope, entry, reply)) is not read.MISS:
            hits[pk] = over
            continue
        if found is not read.MISS:
            if scope.reader.ahead is None or not should_refresh(scope, reply):
                hits[pk] = found
                continue
            outcome = yield from read.refresh(entry, found, reply, _IMPATIENT)
        elif scope.ttl:
            verify = partial(scope.reader.verify, entry)
            rejected = read.rejection(reply)
            outcome = yield from read.after_miss(entry, verify, rejected, _IMPATIENT)
        else:
            continue
        if isinstance(outcome, read.Hit):
            hits[pk] = outcome.found
        elif outcome.held is not None:
            held[pk] = outcome.held
    return hits, held


def query(
    session: Session,
    model: type[Any],
    keys: Sequence[_Pk],
    *,
    autoflush: bool = True,
    load_options: Sequence[Any] = (),
) -> dict[_Pk, Any]:
    """Load rows by primary key, past the cache, in one SELECT with these loader options."""
    columns = inspect(model).primary_key
    if len(columns) == 1:
        where = columns[0].in_([pk[0] for pk in keys])
    else:
        where = tuple_(*columns).in_(keys)
    options = OURS if autoflush else {**OURS, "autoflush": False}
    statement = select(model).where(where)
    if load_options:
        statement = statement.options(*load_options)
    rows = session.execute(statement, execution_options=options)
    found = by_identity(rows.unique().scalars())
    if not found.keys() <= set(keys):
        # The database calls equal what Python does not: a collation, a coerced type.
        for pk in keys:
            if pk not in found:
                row = session.get(model, pk, execution_options={"cache": False})
                if row is not None:
                    found[pk] = row
    return found


def by_identity(instances: Iterable[Any]) -> dict[_Pk, Any]:
    """Return persistent instances by their primary keys."""
    return {tuple(inspect(each).identity): each for each in instances}

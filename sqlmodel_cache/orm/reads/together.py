"""Several rows of one model, all of one moment: from the cache, by one SELECT, or some by each.

What the cache has was read in one step, so it is of one moment: a writer fences before its
COMMIT, and whatever is there shows the last commit of its row. What is missing is loaded after
that, and between the two somebody may commit. So the entries of the hits are read once more after
the SELECT. Those that are the same have not been committed in between, and their rows are what
this SELECT would have shown (`read.unchanged`). If one is not, nothing is made of any: all rows
are loaded by one SELECT, and what the first one loaded is loaded anew by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from sqlalchemy import inspect, select, tuple_
from sqlalchemy.orm import lazyload

from sqlmodel_cache import clock
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.keys import Entry
from sqlmodel_cache.latency import Timed
from sqlmodel_cache.orm import _sqlalchemy, bridge
from sqlmodel_cache.orm.model.capture import capturing
from sqlmodel_cache.orm.operate.checking import compare
from sqlmodel_cache.orm.reads.decide import Scope
from sqlmodel_cache.orm.reads.options import OURS
from sqlmodel_cache.orm.reads.places import Arrival, Place, arrive
from sqlmodel_cache.orm.reads.present import instances_of, lacking, unload, unloaded
from sqlmodel_cache.orm.reads.renewing import found_over, should_refresh
from sqlmodel_cache.orm.reads.storing import NO_SUCH_ROW, PATIENCE, settle
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.ops import GetMany, Reply
from sqlmodel_cache.transport.breaker import LeftAlone

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Mapper, Session

    from sqlmodel_cache.orm.model.plan import Plan

Pk: TypeAlias = tuple[Any, ...]
Ask: TypeAlias = Callable[[list[Pk]], dict[Pk, Any]]

# What others are filling comes with the query for the rest: waits for many keys would add up.
_IMPATIENT = replace(PATIENCE, wait=0.0)


class Outdated(Exception):
    """What the keys were found in no longer holds."""


@dataclass(slots=True)
class Beside:
    """Entries that are read in the same moment as the rows, and what they must still be."""

    entries: tuple[Entry, ...]
    agrees: Callable[[Sequence[Reply]], bool]


class Looked(NamedTuple):
    """What the store said at `begun`, by `clock.real()`, of entries that were looked up before."""

    begun: float
    entries: dict[Pk, Entry]
    replies: Sequence[Reply]


class Together(NamedTuple):
    """Instances by primary key, None for "no such row"; how many rows were stored.

    `arrivals` are for `bring_along`.
    """

    found: dict[Pk, Any]
    filled: int
    arrivals: list[Arrival]


class _Seen(NamedTuple):
    """What the store has: hits, leases to fill some of the rest with, and its very words."""

    entries: dict[Pk, Entry]
    hits: dict[Pk, object]
    held: dict[Pk, read.Held]
    replies: Sequence[Reply]  # of the entries, then of what lies beside; none for a snapshot

    def said(self, beside: Beside | None, without: Iterable[Pk]) -> dict[Entry, Reply]:
        """Return what was said of hits, but for some, and of what lies beside."""
        asked = (*self.entries.values(), *(() if beside is None else beside.entries))
        said = dict(zip(asked, self.replies, strict=False))
        for pk in (self.entries.keys() - self.hits.keys()).union(without):
            said.pop(self.entries[pk], None)
        return said


def look_beside(entries: Sequence[Entry], beside: Beside | None) -> read.Steps[list[Reply]]:
    """Return what the store has of `entries`, in one moment with what lies beside.

    Raises Outdated if that does not agree.
    """
    also = () if beside is None else beside.entries
    replies: list[Reply] = yield GetMany((*entries, *also), together=True)
    if beside is not None and not beside.agrees(replies[len(entries) :]):
        raise Outdated
    return replies


def from_cache(
    scope: Scope,
    wanted: list[Pk],
    ask: Ask,
    beside: Beside | None = None,
    place: Place | None = None,
    looked: Looked | None = None,
) -> Together:
    """Return the instances of rows, from the cache or by `ask`, all of one moment.

    `place`, if given, is where they arrive. `ask` may raise Outdated; so does this, before
    anything is made of hits, if what lies `beside` does not agree, or they are not of its moment.
    """
    counters = scope.reader.counters
    begun = clock.real() if looked is None else looked.begun
    seen = _look_up(scope, wanted, begun, beside, looked)
    hits = seen.hits
    if (watching := scope.watching) is not None:
        for _ in hits:
            watching.count_found(begun, len(hits))
        hits = {}
    without = lacking(scope, hits)
    found: dict[Pk, Any] = {}
    filled = 0
    if (without or len(hits) < len(wanted)) and (
        missing := [pk for pk in wanted if pk not in hits or pk in without]
    ):
        before = unloaded(scope, wanted)
        said = {} if watching or not scope.cache.stores.full else seen.said(beside, without)
        found, filled, same = _load(scope, seen, missing, ask, said, begun)
        if not same or lacking(scope, hits) - without:
            found = {}  # what nobody else has goes with it, and is loaded for the first time below
            unload(scope, wanted, before)
            if beside is not None:
                raise Outdated
            found, hits = _load_all(scope, wanted, ask, begun, len(hits)), {}
    ready = hits
    if without and hits:
        ready = {pk: row for pk, row in hits.items() if pk not in without}
    arrivals: list[Arrival] = []
    made = instances_of(scope, ready, arrivals, place)
    counters.hit_together(begun, len(hits))
    if len(made) < len(ready):  # whoever listens to loads has loaded a part of one
        made |= ask([pk for pk in ready if pk not in made])
    return Together(found | made if found else made, filled, arrivals)


def _look_up(
    scope: Scope, wanted: list[Pk], begun: float, beside: Beside | None, looked: Looked | None
) -> _Seen:
    """Ask the store, and count what it did not answer. Raises Outdated."""
    entries: dict[Pk, Entry] = {}
    counters = scope.reader.counters
    for pk in wanted:
        entry = (looked and looked.entries.get(pk)) or scope.at(pk)
        if type(entry) is Entry:  # `isinstance` takes a detour by an enum's metaclass
            entries[pk] = entry
        else:
            assert isinstance(entry, Bypass)
            counters.bypass(entry)
    try:
        if entries:
            steps = _look_up_all(scope, entries, beside, looked and looked.replies)
            seen: _Seen = bridge.run(scope.cache.stores, steps)
            counters.misses += len(entries) - len(seen.hits)
            if begun >= scope.cache.switch.due:
                scope.cache.switch.look()
            return seen
    except LeftAlone:
        for _ in entries:
            counters.bypass(Bypass.BREAKER)
    except UnavailableError:
        for _ in entries:
            counters.fail(begun, len(entries))
    return _Seen({}, {}, {}, ())


def _look_up_all(
    scope: Scope,
    entries: dict[Pk, Entry],
    beside: Beside | None,
    replies: Sequence[Reply] | None,
) -> read.Steps[_Seen]:
    if scope.began is not None:
        return _Seen(entries, (yield from scope.look_at_all(entries)), {}, ())
    if replies is None:
        replies = yield from look_beside(list(entries.values()), beside)
    hits: dict[Pk, object] = {}
    held: dict[Pk, read.Held] = {}
    for (pk, entry), reply in zip(entries.items(), replies, strict=False):
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
            if isinstance(outcome, read.Hit):
                hits[pk] = found
                continue
        elif scope.ttl:
            verify = partial(scope.reader.verify, entry)
            rejected = read.rejection(reply)
            outcome = yield from read.after_miss(entry, verify, rejected, _IMPATIENT)
        else:
            continue
        # What others have filled since is of another moment than what was there.
        if isinstance(outcome, read.Miss) and outcome.held is not None:
            held[pk] = outcome.held
    return _Seen(entries, hits, held, replies)


def _load(
    scope: Scope,
    seen: _Seen,
    missing: list[Pk],
    ask: Ask,
    said: dict[Entry, Reply],
    begun: float,
) -> tuple[dict[Pk, Any], int, bool]:
    """Load what is missing and store it; tell how much, and if after it the store `said` the same.

    Where everything goes to the database, what the store has is compared with it.
    """
    entries, hits, held, _ = seen
    counters = scope.reader.counters
    checked = hits if scope.watching is not None else {}
    timed = Timed(partial(ask, missing))
    try:
        with capturing(scope.session, scope.reader, frozenset((*held, *checked))) as capture:
            found: dict[Pk, Any] = timed()
        same = _says_the_same(scope, said)
    except Exception:
        for lease in held.values():
            settle(scope, lease, None)
        raise
    finally:
        for _ in range(len(entries) - len(hits)):
            counters.miss(begun, timed.seconds, len(missing))
    for pk, known in checked.items():
        compare(scope, entries[pk], known, capture.rows.get(pk) if pk in found else NO_SUCH_ROW)
    filled = 0
    for pk, lease in held.items():
        row = capture.rows.get(pk) if pk in found else NO_SUCH_ROW
        filled += settle(scope, lease, row, begun)
    return found, filled, same


def _says_the_same(scope: Scope, said: dict[Entry, Reply]) -> bool:
    try:
        return not said or bridge.run(scope.cache.stores, read.unchanged(said))
    except UnavailableError:
        return False


def _load_all(scope: Scope, wanted: list[Pk], ask: Ask, begun: float, hits: int) -> dict[Pk, Any]:
    """Load all by one statement, for which `hits` that there were are misses."""
    counters = scope.reader.counters
    counters.misses += hits
    timed = Timed(partial(ask, wanted))
    try:
        found: dict[Pk, Any] = timed()
        return found
    finally:
        for _ in range(hits):
            counters.miss(begun, timed.seconds, len(wanted))


def query(
    session: Session,
    model: type[Any],
    keys: Sequence[Pk],
    *,
    autoflush: bool = True,
    load_options: Sequence[Any] = (),
) -> dict[Pk, Any]:
    """Load rows by primary key, past the cache, in one SELECT with these loader options."""
    options = OURS if autoflush else {**OURS, "autoflush": False}
    statement = select(model).where(keyed(inspect(model), keys))
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


def keyed(mapper: Mapper[Any], keys: Sequence[Pk]) -> ColumnElement[bool]:
    """Return the condition that a row of a mapper has one of these primary keys."""
    columns = mapper.primary_key
    if len(columns) == 1:
        return columns[0].in_([pk[0] for pk in keys])
    return tuple_(*columns).in_(keys)


def by_identity(instances: Iterable[Any]) -> dict[Pk, Any]:
    """Return persistent instances by their primary keys."""
    return {tuple(inspect(each).identity): each for each in instances}


def query_below(session: Session, plan: Plan, place: Place, missing: list[Pk]) -> dict[Pk, Any]:
    """Load rows by primary key, as if they had come to `place` in the load of something else.

    Raises Outdated where they would bring things along that depend on the way there.
    """
    if place.steps:
        raise Outdated
    model = plan.mapper.class_
    alone = [lazyload(step.prop.class_attribute) for step in plan.steps]
    fresh = [
        pk for pk in missing if not _sqlalchemy.knows(session, (plan.identity_class, pk, None))
    ]
    found = query(session, model, missing, autoflush=False, load_options=alone)
    for pk in fresh:
        if (instance := found.get(pk)) is not None:
            arrive(instance, place)
    return found

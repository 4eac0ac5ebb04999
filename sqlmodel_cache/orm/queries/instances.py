"""The instances of a result that was found, out of the entity cache, in one operation.

The stamps of the result are read with them: if these are unchanged there, keys and rows belong
together. Of one model, rows that are missing are loaded in one more query, after which stamps
and rows are looked at once again. Of several, of an alias, or where the result no longer holds,
the statement itself is run: then all is of one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sqlmodel_cache import clock
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.keys import Entry
from sqlmodel_cache.latency import Timed
from sqlmodel_cache.orm import bridge
from sqlmodel_cache.orm.model.capture import Capture, capturing_all
from sqlmodel_cache.orm.model.reader import Found
from sqlmodel_cache.orm.queries.results import Asked
from sqlmodel_cache.orm.reads import present
from sqlmodel_cache.orm.reads.along import bring_along
from sqlmodel_cache.orm.reads.lookup import is_none
from sqlmodel_cache.orm.reads.places import Arrival
from sqlmodel_cache.orm.reads.renewing import found_over
from sqlmodel_cache.orm.reads.storing import PATIENCE, settle
from sqlmodel_cache.orm.reads.together import Beside, Outdated, from_cache, look_beside
from sqlmodel_cache.protocol import read

if TYPE_CHECKING:
    from sqlmodel_cache.orm.model.plan import Plan
    from sqlmodel_cache.orm.reads.decide import Scope
    from sqlmodel_cache.orm.reads.places import Place

T = TypeVar("T")
Key = tuple[Any, ...]
Keys = list[Key]

_IMPATIENT = replace(PATIENCE, wait=0.0)


@dataclass(slots=True, eq=False)
class Wanted:
    """Instances of one model that arrive at one place, each once; None: the top of a plain SELECT.

    If they are alone, those that are not cached come from `ask`, which may raise Outdated.
    """

    scope: Scope
    ask: Callable[[Keys], dict[Key, Any]] | None
    place: Place | None
    keys: Keys


def instances_of(asked: Asked, wanted: Wanted) -> dict[Key, Any] | None:
    """Return the instances of a result by key; None if it no longer holds."""
    assert wanted.ask is not None
    try:
        beside = Beside(asked.stamps, asked.agrees)
        found, _, arrivals = from_cache(wanted.scope, wanted.keys, wanted.ask, beside, wanted.place)
    except Outdated:
        return None
    bring_along(wanted.scope, arrivals, wanted.place)
    return None if any(map(is_none, map(found.get, wanted.keys))) else found


def instances_of_all(
    asked: Asked, wanted: Sequence[Wanted], load: Callable[[], T]
) -> dict[Plan, dict[Key, Any]] | Callable[[], T]:
    """Return the instances of a result by model and key, or what to call instead.

    That is the statement's `load`; it then stores the rows that are missing.
    """
    one = wanted[0]
    if len(wanted) == 1 and one.ask is not None:
        of_one = instances_of(asked, one)
        return load if of_one is None else {one.scope.reader.plan: of_one}
    begun = clock.real()
    entries = [_entries(one) for one in wanted]
    try:
        hits = bridge.run(wanted[0].scope.cache.stores, _look(asked, wanted, entries))
    except (Outdated, UnavailableError):
        return load
    if any(map(_lacks, wanted, hits)):
        return partial(_fill, wanted, entries, hits, load, begun)
    found: dict[Plan, dict[Key, Any]] = {}
    arrivals: list[list[Arrival]] = []
    for one, its_hits in zip(wanted, hits, strict=True):
        arrivals.append([])
        made = present.instances_of(one.scope, its_hits, arrivals[-1], one.place)
        found.setdefault(one.scope.reader.plan, {}).update(made)
        one.scope.reader.counters.hit_together(begun, len(one.keys))
    for one, its_arrivals in zip(wanted, arrivals, strict=True):
        bring_along(one.scope, its_arrivals, one.place)
    return found


def _entries(wanted: Wanted) -> dict[Key, Entry]:
    found = {}
    for key in wanted.keys:
        entry = wanted.scope.at(key)
        if isinstance(entry, Bypass):
            wanted.scope.reader.counters.bypass(entry)
        else:
            found[key] = entry
    return found


def _look(
    asked: Asked, wanted: Sequence[Wanted], entries: Sequence[dict[Key, Entry]]
) -> read.Steps[list[dict[Key, object]]]:
    """Return what the cache has of all rows in one moment. Raises Outdated."""
    every = [entry for each in entries for entry in each.values()]
    beside = Beside(asked.stamps, asked.agrees)
    said = iter((yield from look_beside(every, beside)))
    hits: list[dict[Key, object]] = []
    for one, its_entries in zip(wanted, entries, strict=True):
        hits.append({})
        for key, entry in its_entries.items():
            reply = next(said)
            found = one.scope.reader.read(entry, reply)
            if found is read.MISS:
                found = found_over(one.scope, entry, reply)
            if found is not read.MISS:
                hits[-1][key] = found
    return hits


def _lacks(wanted: Wanted, hits: dict[Key, object]) -> bool:
    """Tell whether some instance must come from the database."""
    if any(type(hits.get(key)) is not Found for key in wanted.keys):
        return True  # missing, or said not to be there
    return bool(present.lacking(wanted.scope, hits))


def _fill(
    wanted: Sequence[Wanted],
    entries: Sequence[dict[Key, Entry]],
    hits: Sequence[dict[Key, object]],
    load: Callable[[], T],
    begun: float,
) -> T:
    """Return what `load` loads, and store the rows that were missing."""
    leases: list[dict[Key, read.Held]] = [{} for _ in wanted]
    with suppress(UnavailableError):
        for one, its_entries, its_hits, held in zip(wanted, entries, hits, leases, strict=True):
            missing = {key: each for key, each in its_entries.items() if key not in its_hits}
            if one.scope.ttl:
                bridge.run(one.scope.cache.stores, _lease(one.scope, missing, held))
    captures = [
        Capture(one.scope.reader, frozenset(held)) for one, held in zip(wanted, leases, strict=True)
    ]
    captures[0].others = tuple(captures[1:])
    timed = Timed(load)
    complete = False
    try:
        with capturing_all(wanted[0].scope.session, captures[0]):
            loaded: T = timed()
        complete = True
        return loaded
    finally:
        number = sum(map(len, entries))
        for one, its_entries, held, capture in zip(wanted, entries, leases, captures, strict=True):
            counters = one.scope.reader.counters
            for key, lease in held.items():
                settle(one.scope, lease, capture.rows.get(key) if complete else None, begun)
            counters.misses += len(its_entries)
            for _ in its_entries:
                counters.miss(begun, timed.seconds, number)


def _lease(scope: Scope, missing: dict[Key, Entry], held: dict[Key, read.Held]) -> read.Steps[None]:
    """Obtain leases to fill rows with, where nobody else has them."""
    for key, entry in missing.items():
        outcome = yield from read.after_miss(
            entry, partial(scope.reader.verify, entry), None, _IMPATIENT
        )
        if isinstance(outcome, read.Miss) and outcome.held is not None:
            held[key] = outcome.held

"""A SELECT answered from the cache, if its models say so.

Of a result, values are stored, and of instances the primary keys: their rows come out of the
entity cache (`instances`). A miss runs the statement, its rows taken at once so that they can be
stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import CompoundSelect, Result
from sqlalchemy.orm import Session

from sqlmodel_cache import clock
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import Bypass, Counters, logger
from sqlmodel_cache.latency import Timed
from sqlmodel_cache.orm import _results, bridge
from sqlmodel_cache.orm.binding import binding_of, cache_of
from sqlmodel_cache.orm.queries.elements import Instance, columns_of, flat
from sqlmodel_cache.orm.queries.instances import Keys, Wanted, instances_of_all
from sqlmodel_cache.orm.queries.judging import Refused, judge
from sqlmodel_cache.orm.queries.questions import Question
from sqlmodel_cache.orm.queries.results import Asked, look_up
from sqlmodel_cache.orm.queries.stamps import queries_of
from sqlmodel_cache.orm.reads.decide import NO_OPTIONS, Scope
from sqlmodel_cache.orm.reads.options import OURS, buffered
from sqlmodel_cache.orm.reads.places import Place
from sqlmodel_cache.orm.reads.storing import PATIENCE, settle
from sqlmodel_cache.orm.reads.together import query
from sqlmodel_cache.protocol import read
from sqlmodel_cache.transport.breaker import LeftAlone

if TYPE_CHECKING:
    from sqlmodel_cache.orm.model.plan import Plan

_Load = Callable[[], Result[Any]]
T = TypeVar("T")


class Rows(NamedTuple):
    """What the cache has of a result, and the moment of `clock.real()` when it was asked."""

    rows: list[Sequence[Any]]
    begun: float


def answer(
    execute: Callable[..., Result[Any]],
    session: Session,
    plan: Plan,
    statement: Any,
    params: Any,
    how: dict[str, Any],
) -> Result[Any] | None:
    """Return the answer to a SELECT whose subject is `plan`'s model; None: it is not for us.

    `execute` is SQLAlchemy's own, for misses; `params` and `how` are what `Session.execute` got.
    """
    options = {**statement.get_execution_options(), **(how.get("execution_options") or NO_OPTIONS)}
    said = options.get("cache")
    if said is not True and (said is False or plan.config.queries is not True):
        return None
    if OURS.keys() <= options.keys():  # the query for rows that were missing
        return None
    cache = cache_of(binding_of(session))
    if cache is None:
        return None
    counters = cache.tally.for_model(queries_of(plan.name))
    ready = judge(cache, session, plan, statement, params, how, options)
    if isinstance(ready, Refused):
        counters.bypass(ready.reason)
        if said is not True:
            return None
        if not plan.config.queries:
            _tell_of_model(counters, plan)
        given = {**(how.get("execution_options") or NO_OPTIONS), **OURS}
        return execute(session, statement, params, **{**how, "execution_options": given})
    scope, question, asked = ready.scope, ready.question, ready.asked
    load = partial(execute, session, statement, params, **buffered(how, options))
    if isinstance(statement, CompoundSelect):
        load = partial(_results.of_core, load, question.metadata)
    found = find(scope, counters, asked, load, partial(_rows_of, scope.session, question))
    if isinstance(found, Result):
        return found
    if not question.plans:
        counters.hit(found.begun)
        return _results.rows_result(question.metadata, map(tuple, found.rows), filtered=False)
    columns = _made_of(question, asked, ready.scopes, found.rows, ready.place, load)
    if not isinstance(columns, list):
        counters.misses += 1
        timed = Timed(columns)
        try:
            loaded: Result[Any] = timed()
            return loaded
        finally:
            counters.miss(found.begun, timed.seconds)
    counters.hit(found.begun)
    if question.single:
        return _results.entity_result(question.metadata, columns[0])
    return _results.rows_result(question.metadata, zip(*columns, strict=True), filtered=True)


def find(
    scope: Scope,
    counters: Counters,
    asked: Asked,
    load: Callable[[], T],
    rows_of: Callable[[T], Sequence[Sequence[Any]] | None],
) -> Rows | T:
    """Return the rows that the cache has, else what `load` loads, which is stored."""
    begun = clock.real()
    flights = scope.cache.flights
    if flights.flying and (flight := flights.find(asked.entry.value)) is not None:
        bridge.wait(flight, PATIENCE.wait)
    try:
        steps = look_up(asked, PATIENCE, fills=bool(scope.ttl))
        outcome = bridge.run(scope.cache.stores, steps)
    except LeftAlone:
        counters.bypass(Bypass.BREAKER)
        return load()
    except UnavailableError as error:
        counters.fail(begun)
        logger.debug("a lookup failed: %s", error, extra={"cache_model": counters.name})
        return load()
    if begun >= scope.cache.switch.due:
        scope.cache.switch.look()
    if isinstance(outcome, read.Hit):
        rows: list[Sequence[Any]] = outcome.found  # type: ignore[assignment]
        return Rows(rows, begun)
    counters.misses += 1
    timed = Timed(load)
    try:
        loaded: T
        if outcome.held is None:
            loaded = timed()
            return loaded
        loaded = _fill(scope, counters, asked, outcome.held, timed, rows_of, begun)
        return loaded
    finally:
        counters.miss(begun, timed.seconds)


def _fill(
    scope: Scope,
    counters: Counters,
    asked: Asked,
    held: read.Held,
    load: Callable[[], T],
    rows_of: Callable[[T], Sequence[Sequence[Any]] | None],
    begun: float,
) -> T:
    reader = copy(scope.reader)
    reader.counters = counters
    own = msgspec.structs.replace(scope, reader=reader)
    with scope.cache.flights.leading(held.entry.value):
        try:
            result = load()
        except Exception:
            settle(own, held, None)
            raise
        rows = rows_of(result)
        settle(own, held, None if rows is None else asked.encode(rows), begun, False)
        return result


def _rows_of(
    session: Session, question: Question, result: Result[Any]
) -> Sequence[Sequence[Any]] | None:
    """Return what is to be stored of a load's result, and consume none; None: nothing."""
    found = _results.prebuffered_instances(session, result)
    if found is None or not question.plans:
        return found
    rows = ((each,) for each in found) if question.single else found
    return [flat(question.elements, row) for row in rows]


def _made_of(
    question: Question,
    asked: Asked,
    scopes: Mapping[Plan, Scope],
    stored: Sequence[Sequence[Any]],
    place: Place | None,
    load: _Load,
) -> list[list[Any]] | _Load:
    """Return what each element of stored rows stands for, one by one, or what to call instead."""
    elements = question.elements
    columns = columns_of(elements, stored)
    wanted = []
    for plan in question.plans:
        numbers = [n for n, each in enumerate(elements) if each is not None and each.plan is plan]
        for number, keys in zip(numbers, _arriving([columns[n] for n in numbers]), strict=True):
            if keys:
                wanted.append(_wanted(scopes[plan], elements[number], place, keys))
    found = instances_of_all(asked, wanted, load) if wanted else {}
    if not isinstance(found, dict):
        return found
    for number, element in enumerate(elements):
        if element is not None:
            columns[number] = list(map(found.get(element.plan, {}).get, columns[number]))
    return columns


def _arriving(columns: list[list[Any]]) -> list[Keys]:
    """Return, of several elements of one model, which keys come first in which of them, once."""
    if len(columns) == 1:
        once = dict.fromkeys(columns[0])
        once.pop(None, None)
        return [list(once)]
    first: dict[Any, int] = {None: -1}
    for row in zip(*columns, strict=True):
        for number, key in enumerate(row):
            first.setdefault(key, number)
    return [[key for key in first if first[key] == number] for number in range(len(columns))]


def _wanted(scope: Scope, element: Instance | None, place: Place | None, keys: Keys) -> Wanted:
    assert element is not None
    if element.alias:
        return Wanted(scope, None, Place(element.path, element.plan.steps), keys)
    options = {} if place is None else {"load_options": place.load_options}
    ask = partial(query, scope.session, element.plan.mapper.class_, autoflush=False, **options)
    return Wanted(scope, ask, place, keys)


def _tell_of_model(counters: Counters, plan: Plan) -> None:
    """Say once per model that its queries are not cached, though somebody asks for it."""
    if counters.bypasses.get(Bypass.QUERY) == 1:
        logger.warning(
            "execution option cache=True on a select() of %s, whose queries are not cached: set"
            ' CacheConfig(queries="asked") on it. This is said once.',
            plan.name,
            extra={"cache_model": plan.name, "cache_reason": Bypass.QUERY.value},
        )

"""A SELECT answered from the cache, if its models say so.

The result of instances is a list of primary keys. Their rows come out of the entity cache, in one
operation with the stamps of the list: if these are unchanged there, list and rows belong together.
Rows that are missing are loaded in one more query, after which the stamps are read once again.
Where they changed, the statement itself is run.

A miss runs the statement, its rows taken at once so that they can be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Result, inspect
from sqlalchemy.orm import Session

from sqlmodel_cache import clock
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import Bypass, Counters, logger
from sqlmodel_cache.latency import Timed
from sqlmodel_cache.orm import _compiling, _sqlalchemy, bridge
from sqlmodel_cache.orm.binding import binding_of, cache_of
from sqlmodel_cache.orm.queries.depends import OPTION
from sqlmodel_cache.orm.queries.questions import Question, question_of
from sqlmodel_cache.orm.queries.results import Asked, look_up, still_holds
from sqlmodel_cache.orm.queries.stamps import queries_of
from sqlmodel_cache.orm.reads.along import Place, root_place
from sqlmodel_cache.orm.reads.decide import NO_OPTIONS, Scope, decide
from sqlmodel_cache.orm.reads.many import Beside, Outdated, from_cache, query
from sqlmodel_cache.orm.reads.options import HARMLESS, OURS, buffered
from sqlmodel_cache.orm.reads.selects import metadata_of
from sqlmodel_cache.orm.reads.storing import PATIENCE, settle
from sqlmodel_cache.protocol import read
from sqlmodel_cache.transport.breaker import LeftAlone

if TYPE_CHECKING:
    from sqlmodel_cache.orm.cache import Cache
    from sqlmodel_cache.orm.model.plan import Plan

_Load = Callable[[], Result[Any]]
Keys = list[tuple[Any, ...]]
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
    binding = binding_of(session)
    cache = cache_of(binding)
    if cache is None:
        return None
    counters = cache.tally.for_model(queries_of(plan.name))

    def past(reason: Bypass) -> Result[Any] | None:
        counters.bypass(reason)
        if said is not True:
            return None
        given = {**(how.get("execution_options") or NO_OPTIONS), **OURS}
        return execute(session, statement, params, **{**how, "execution_options": given})

    if not plan.config.queries:
        _tell_of_model(cache, plan)
        return past(Bypass.QUERY)
    own = getattr(session, "execution_options", None) or ()
    if not {*options, *own} <= HARMLESS or isinstance(params, list | tuple):
        return past(Bypass.STATEMENT)
    load_options = _compiling.loader_options_of(statement)
    arguments = {**how, "options": load_options} if load_options else how
    scope = admitted(decide(cache, binding, session, plan, options, arguments))
    if isinstance(scope, Bypass):
        return past(scope)
    key = _compiling.cache_key_of(statement)
    if key is None:
        return past(Bypass.STATEMENT)
    question = question_of(scope.reader, statement, key, options.get(OPTION))
    if question.refused is not None:
        return past(question.refused)
    if not question.entity and load_options:
        return past(Bypass.LOADER_OPTIONS)
    if said is not True and not question.unasked:
        return past(Bypass.QUERY)
    asked = question.ask(scope, key, params)
    if isinstance(asked, Bypass):
        return past(asked)
    load = partial(execute, session, statement, params, **buffered(how, options))
    place = root_place(plan, options, load_options) if load_options else None
    found = find(scope, counters, asked, load, partial(_rows_of, scope.session, question))
    if isinstance(found, Result):
        return found
    rows, begun = found
    if not question.entity:
        counters.hit(begun)
        return _compiling.rows_result(question.metadata, map(tuple, rows), filtered=False)
    options_too = {"load_options": place.load_options} if place is not None else {}
    ask = partial(query, session, plan.mapper.class_, autoflush=False, **options_too)
    instances = instances_of(scope, asked, [tuple(row) for row in rows], ask, place)
    if instances is None:
        counters.misses += 1
        timed = Timed(load)
        try:
            loaded: Result[Any] = timed()
            return loaded
        finally:
            counters.miss(begun, timed.seconds)
    counters.hit(begun)
    return _sqlalchemy.entity_result(metadata_of(scope), instances)


def admitted(scope: Scope | Bypass) -> Scope | Bypass:
    """Return the scope of a query where that of rows is given, or why the database must answer."""
    if isinstance(scope, Bypass):
        return scope
    if not scope.cache.stores.full:
        return Bypass.QUERY
    if scope.watching is None:
        return scope
    return Bypass.SHADOW if scope.watching.shadow else msgspec.structs.replace(scope, watching=None)


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
        loaded = _fill(scope, counters, asked, outcome.held, timed, rows_of)
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
        settle(own, held, None if rows is None else asked.encode(rows))
        return result


def _rows_of(
    session: Session, question: Question, result: Result[Any]
) -> Sequence[Sequence[Any]] | None:
    """Return what is to be stored of a load's result, and consume none; None: nothing."""
    found = _sqlalchemy.prebuffered_instances(session, result)
    if found is None or not question.entity:
        return found
    if any(each is None for each in found):
        return None
    return [inspect(each).identity for each in found]


def instances_of(
    scope: Scope,
    asked: Asked,
    keys: Keys,
    ask: Callable[[Keys], dict[tuple[Any, ...], Any]],
    place: Place | None = None,
) -> list[Any] | None:
    """Return the instances of a list that was found; None if it no longer holds.

    Those that are not cached come from `ask`, which may raise Outdated. `place` is where they
    arrive, if not at the top of a plain SELECT.
    """
    loaded: list[Any] = []

    def ask_and_tell(missing: Keys) -> dict[tuple[Any, ...], Any]:
        loaded.append(missing)
        return ask(missing)

    wanted = list(dict.fromkeys(keys))
    try:
        beside = Beside(asked.stamps, asked.agrees)
        found, _ = from_cache(scope, wanted, ask_and_tell, beside, place)
        if loaded and not bridge.run(scope.cache.stores, still_holds(asked)):
            return None
    except (Outdated, UnavailableError):
        return None
    if any(found.get(pk) is None for pk in wanted):
        return None
    return [found[pk] for pk in keys]


def _tell_of_model(cache: Cache, plan: Plan) -> None:
    """Say once per model that its queries are not cached, though somebody asks for it."""
    name = queries_of(plan.name)
    if Bypass.QUERY not in cache.tally.for_model(name).bypasses:
        logger.warning(
            "execution option cache=True on a select() of %s, whose queries are not cached: set"
            ' CacheConfig(queries="asked") on it. This is said once.',
            plan.name,
            extra={"cache_model": plan.name, "cache_reason": Bypass.QUERY.value},
        )

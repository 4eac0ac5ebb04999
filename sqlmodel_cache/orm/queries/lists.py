"""Collections answered from the cache: a lazy load of them is a query with one parameter.

Its SELECT is the loader's own condition and order. A hit has the objects that it would find, in
their order, and with what the loader would load with them: not what leads back to the owner, which
is here. Whoever loaded the owner has seen to everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import inspect

from sqlmodel_cache.events import Bypass
from sqlmodel_cache.orm import _compiling, _strategies
from sqlmodel_cache.orm.binding import binding_of, cache_of
from sqlmodel_cache.orm.model.steps import eager_reverses
from sqlmodel_cache.orm.model.tables import table_map
from sqlmodel_cache.orm.queries.answer import find
from sqlmodel_cache.orm.queries.instances import Wanted, instances_of
from sqlmodel_cache.orm.queries.judging import admitted
from sqlmodel_cache.orm.queries.questions import Question
from sqlmodel_cache.orm.queries.stamps import queries_of
from sqlmodel_cache.orm.reads.decide import decide
from sqlmodel_cache.orm.reads.places import leave_out, place_of
from sqlmodel_cache.orm.reads.together import query_below

if TYPE_CHECKING:
    from sqlmodel_cache.orm.model.plan import Plan
    from sqlmodel_cache.orm.model.reader import Reader


class _Loaded(NamedTuple):
    """What the loader returned: a list, an object, None."""

    value: Any


def look_up_list(plan: Plan, asked: _strategies.ListLoad, load: Callable[[], Any]) -> Any:
    """Answer a lazy load of a collection of `plan`'s model; `load` is the loader's own."""
    session = asked.session
    binding = binding_of(session)
    cache = cache_of(binding)
    if cache is None:
        return load()
    counters = cache.tally.for_model(queries_of(plan.name))
    place = place_of(plan, asked.path, asked.state, asked.execution_options)
    if isinstance(place, Bypass):
        counters.bypass(place)
        return load()
    if place.steps:
        place = leave_out(place, eager_reverses(asked.prop))
    scope = admitted(decide(cache, binding, session, plan, asked.execution_options, {}))
    if isinstance(scope, Bypass):
        counters.bypass(scope)
        return load()
    question, key = _question(scope.reader, asked)
    lookup = question.refused or question.ask(scope, key, asked.parameters)
    if isinstance(lookup, Bypass):
        counters.bypass(lookup)
        return load()
    answer = find(scope, counters, lookup, lambda: _Loaded(load()), _keys_of)
    if isinstance(answer, _Loaded):
        return answer.value
    rows, begun = answer
    keys = [tuple(row) for row in rows]
    found = instances_of(
        lookup,
        Wanted(scope, partial(query_below, session, plan, place), place, list(dict.fromkeys(keys))),
    )
    if found is None or (len(keys) > 1 and not asked.prop.uselist):
        counters.misses += 1
        return load()
    counters.hit(begun)
    instances = [found[key] for key in keys]
    if asked.prop.uselist:
        return instances
    return instances[0] if instances else None


def _question(reader: Reader, asked: _strategies.ListLoad) -> tuple[Question, Any]:
    """Return the question that a relationship's lazy load is, worked out the first time."""
    known = reader.lists.get(asked.prop)
    if known is not None and known[0].tables is table_map():
        return known[0], known[1]
    statement = _strategies.list_statement(asked.prop, eager_reverses(asked.prop))
    key = _compiling.cache_key_of(statement)
    made = Question(reader, statement, key, table_map())
    reader.lists[asked.prop] = made, key
    return made, key


def _keys_of(loaded: _Loaded) -> Sequence[Sequence[Any]] | None:
    """Return the primary keys of what a loader returned, in its order; None: store nothing."""
    found = loaded.value
    if isinstance(found, list):
        return [inspect(each).identity for each in found]
    if found is None:
        return []
    state = inspect(found, raiseerr=False)
    return None if state is None else [state.identity]

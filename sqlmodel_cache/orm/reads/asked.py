"""Loader options given to a `get()`, where they only choose how relationships are loaded.

The row comes from the cache all the same. Options of columns, criteria, wildcards, and whatever
else this file does not understand are a bypass.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy.orm import RelationshipProperty

from sqlmodel_cache.orm import _sqlalchemy, _strategies
from sqlmodel_cache.orm.model.plan import Plan
from sqlmodel_cache.orm.model.steps import NotTheSame, Step, brings_along, steps_with


def steps_asked(plan: Plan, options: Any) -> tuple[Step, ...] | None:
    """Return what a `get()` with these options loads with the row, None if that cannot be told."""
    wishes = _strategies.wishes(options)
    if wishes is None:
        return None
    return plan.remembered(tuple(wishes), partial(_work_out, plan, wishes))


def _work_out(plan: Plan, wishes: list[_strategies.Wish]) -> tuple[Step, ...] | None:
    if _contradict(wishes):
        return None
    chosen: dict[RelationshipProperty[Any], Any] = {}
    below = []
    for path, lazy in wishes:
        if path[0] is not plan.mapper or not isinstance(path[1], RelationshipProperty):
            return None
        if len(path) > 3:
            below.append(path)
        elif lazy is not None:
            chosen[path[1]] = lazy
    try:
        steps = steps_with(plan.mapper, _sqlalchemy.mapper_path(plan.mapper), chosen)
    except NotTheSame:
        return None
    if not below:
        return steps
    # A SELECT of subqueryload() keeps but a part of the path to it, now and then.
    subqueries = any(lazy == "subquery" for _, lazy in wishes)
    return steps if not subqueries and _apart(plan, steps, below) else None


def _contradict(wishes: list[_strategies.Wish]) -> bool:
    """Tell whether two options choose different loaders for one attribute: a load refuses that."""
    said: dict[tuple[Any, ...], Any] = {}
    for path, lazy in wishes:
        attribute = path[: len(path) // 2 * 2]  # the way of a join goes on to its target
        if lazy is not None and said.setdefault(attribute, lazy) != lazy:
            return True
    return False


def _apart(plan: Plan, steps: tuple[Step, ...], below: list[tuple[Any, ...]]) -> bool:
    """Tell whether no object can arrive in two ways, so that no order of loading matters.

    Options further down change what an entity brings along on just one of these ways.
    """
    nodes: dict[tuple[Any, ...], Any] = {
        (plan.mapper, step.prop): step.prop.mapper for step in steps if not step.empty
    }
    for path in below:
        for length in range(2, len(path) + 1, 2):
            if isinstance(path[length - 1], RelationshipProperty):
                nodes[path[:length]] = path[length - 1].mapper
    bases = {plan.mapper.base_mapper, *(target.base_mapper for target in nodes.values())}
    return len(bases) == len(nodes) + 1 and not any(map(brings_along, nodes.values()))

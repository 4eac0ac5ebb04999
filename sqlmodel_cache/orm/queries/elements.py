"""The elements of a row: instances, stored as their primary keys, and values, stored as they are.

A stored row is flat: the parts of each key, and the values, in the order of the select list. An
instance that an outer join leaves out has a key of None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import inspect
from sqlalchemy.orm import FromStatement
from sqlalchemy.types import TypeEngine

from sqlmodel_cache.codec import ColumnSpec, RowCodec
from sqlmodel_cache.orm import _compiling
from sqlmodel_cache.orm.model.plan import Plan, plan_of

if TYPE_CHECKING:
    from sqlmodel_cache.orm.model.reader import Reader


class Instance(NamedTuple):
    """An element that is an instance of a plan's model, which arrives at a load path."""

    plan: Plan
    path: Any
    alias: bool


Elements = tuple[Instance | None, ...]  # None: a value


class NotStorable(Exception):
    """Rows of these elements are not cached; the argument says why."""


def elements_of(statement: Any, entities: Sequence[_compiling.Entity]) -> Elements:
    """Return the elements of a statement's rows. Raises NotStorable."""
    elements = tuple(_element_of(statement, each) for each in entities)
    found = [each for each in elements if each is not None]
    if len({each.plan.mapper for each in found}) > len({each.plan.root for each in found}):
        raise NotStorable("it selects one row as instances of several classes")
    return elements


def _element_of(statement: Any, entity: _compiling.Entity) -> Instance | None:
    if entity.selected is None:
        if isinstance(entity.type, TypeEngine):
            return None
        raise NotStorable("it selects bundles of columns")
    plan = plan_of(entity.selected.mapper)
    if plan is None:
        raise NotStorable(f"{entity.selected.mapper.class_.__name__} is not cached")
    if plan.joins_collections:
        raise NotStorable("its rows join collections")
    if plan.steps and isinstance(statement, FromStatement):
        raise NotStorable("from_statement() loads eager relationships in another way")
    why = _compiling.why_other_rows(statement, entity.selected)
    if why is not None:
        raise NotStorable(why)
    return Instance(plan, entity.path, entity.selected.is_aliased_class)


def codec_of(reader: Reader, elements: Elements, entities: Sequence[_compiling.Entity]) -> RowCodec:
    """Return how rows of these elements are written."""
    types: list[Any] = []
    for element, entity in zip(elements, entities, strict=True):
        if element is None:
            types.append(entity.type)
        else:
            types += [column.type for column in element.plan.mapper.primary_key]
    names = ["" if each is None else each.plan.table for each in elements]
    specs = [ColumnSpec(str(number), each) for number, each in enumerate(types)]
    return RowCodec(specs, reader.dialect, reader.converter, identity=f"~rows {names}")


def flat(elements: Elements, row: Iterable[Any]) -> list[Any]:
    """Return a row of instances and values as it is stored."""
    found: list[Any] = []
    for element, value in zip(elements, row, strict=True):
        if element is None:
            found.append(value)
        elif value is None:
            found += [None] * len(element.plan.key)
        else:
            found += inspect(value).identity
    return found


def columns_of(elements: Elements, stored: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Return what stored rows have of each element: values, or primary keys and None for none."""
    columns: list[list[Any]] = []
    parts = zip(*stored, strict=True)
    for element in elements:
        if element is None:
            columns.append(list(next(parts, ())))
            continue
        keys: list[Any] = list(zip(*islice(parts, len(element.plan.key)), strict=True))
        nothing = (None,) * len(element.plan.key)
        if nothing in keys:
            keys = [None if key == nothing else key for key in keys]
        columns.append(keys)
    return columns

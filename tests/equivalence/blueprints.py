"""What a generated model is: a value that Hypothesis can shrink and print."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import types as sa

from tests.equivalence.kinds import KINDS, UNSTORED, text

STYLES = ("declarative", "dataclass", "imperative", "sqlmodel")

# Keys are what they are; that rows find their entries by them is the promise of another suite.
KEYS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": (sa.Integer, st.integers(1, 2**40)),
    "str": (sa.String, text.filter(bool)),
    "uuid": (sa.Uuid, st.uuids()),
    "date": (sa.Date, st.dates(min_value=dt.date(1900, 1, 1))),
}

FEATURES = (
    "version",  # version_id_col
    "composite",
    "mutable composite",
    "deferred composite",
    "hybrid",
    "synonym",
    "validator",
    "reconstructor",
    "load event",  # a listener that changes an attribute
    "raw load event",  # one that adds to the instance's __dict__
    "parent",  # a lazy many-to-one to an uncached class
    "private",  # pydantic's private attributes
)


@dataclass(frozen=True)
class ColumnPlan:
    """One column. `deferred`: "" (no), "yes", "group" or "raise"."""

    name: str
    kind: str
    nullable: bool
    deferred: str = ""
    renamed: bool = False  # the attribute and the column have different names
    active_history: bool = False


@dataclass(frozen=True)
class Blueprint:
    """A model, or a hierarchy of three: Base, Sub(Base), SubSub(Sub) and Sibling(Base)."""

    style: str
    keys: tuple[str, ...]
    columns: tuple[ColumnPlan, ...]
    features: frozenset[str] = frozenset()
    inheritance: str = ""  # "", "single", "joined" or "concrete"
    sub_columns: tuple[ColumnPlan, ...] = ()
    polymorphic: str = ""  # "", "with" (with_polymorphic="*") or "inline" (polymorphic_load)

    def all_columns(self, level: int) -> tuple[ColumnPlan, ...]:
        """Return the columns of the class at `level`: 0 Base, 1 Sub, 2 SubSub, 3 Sibling."""
        if not level:
            return self.columns
        own = tuple(column for column in self.sub_columns if column.name.startswith("s"))
        more = tuple(column for column in self.sub_columns if column.name.startswith("t"))
        return self.columns + {1: own, 2: own + more, 3: ()}[level]


@dataclass(frozen=True)
class Row:
    """One row: the class it is of, its key, its values and those it may be changed to."""

    level: int
    key: tuple[Any, ...]
    values: dict[str, Any]
    others: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A generated model and generated rows of it."""

    blueprint: Blueprint
    rows: tuple[Row, ...]


def column_plans(prefix: str, style: str, kinds: Any, count: int) -> st.SearchStrategy[Any]:
    """Return tuples of up to `count` columns called `prefix`0, `prefix`1, ..."""
    deferred = (
        st.just("")
        if style == "sqlmodel"
        else st.sampled_from(["", "", "", "", "yes", "group", "raise"])
    )
    one = st.builds(
        ColumnPlan,
        name=st.just(""),
        kind=kinds,
        nullable=st.booleans(),
        deferred=deferred,
        renamed=st.booleans(),
        active_history=st.just(False) if style == "sqlmodel" else st.booleans(),
    )
    return st.lists(one, min_size=1, max_size=count).map(
        lambda plans: tuple(
            replace(plan, name=f"{prefix}{number}") for number, plan in enumerate(plans)
        )
    )


@st.composite
def blueprints(draw: st.DrawFn, *, inheritance: bool = False, kind: str | None = None) -> Blueprint:
    """Draw a model; `kind` is the type of its first column."""
    styles = [style for style in STYLES if not (inheritance and style == "sqlmodel")]
    style = draw(st.sampled_from(styles))
    kinds = st.sampled_from(sorted(KINDS))
    columns = draw(column_plans("c", style, kinds, 4))
    if kind is not None:
        columns = (replace(columns[0], kind=kind, deferred=""), *columns[1:])
    possible = [
        feature
        for feature in FEATURES
        if (style == "sqlmodel") == (feature == "private") or feature in _ANYWHERE
    ]
    features = draw(st.frozensets(st.sampled_from(possible), max_size=4))
    if columns[0].kind in UNSTORED:
        features -= {"load event"}  # it would set, and so load, what the cache does not have
    keys = tuple(draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=3)))
    if not inheritance:
        return Blueprint(style, keys, columns, features)
    how = draw(st.sampled_from(["single", "joined", "concrete"]))
    subs = draw(column_plans("s", style, kinds, 2)) + draw(column_plans("t", style, kinds, 2))
    if how == "single":
        subs = tuple(replace(plan, nullable=True) for plan in subs)
    polymorphic = "" if how == "concrete" else draw(st.sampled_from(["", "", "with", "inline"]))
    if how == "concrete":  # concrete classes inherit no columns, so neither what stands on them
        features &= frozenset({"hybrid", "reconstructor", "raw load event"})
    return Blueprint(style, keys, columns, features, how, subs, polymorphic)


_ANYWHERE = frozenset(
    {"version", "hybrid", "synonym", "validator", "reconstructor", "load event", "raw load event"}
)


@st.composite
def cases(draw: st.DrawFn, *, inheritance: bool = False, kind: str | None = None) -> Case:
    """Draw a model and a row of each of its classes."""
    blueprint = draw(blueprints(inheritance=inheritance, kind=kind))
    levels = (0, 1, 2, 3) if inheritance else (0,)
    keys = draw(
        st.lists(
            st.tuples(*(KEYS[name][1] for name in blueprint.keys)),
            min_size=len(levels), max_size=len(levels), unique=True,
        )
    )  # fmt: skip
    rows = []
    for level, key in zip(levels, keys, strict=True):
        columns = blueprint.all_columns(level)
        strategy = st.fixed_dictionaries({plan.name: values_of(plan) for plan in columns})
        rows.append(Row(level, key, draw(strategy), draw(strategy)))
    return Case(blueprint, tuple(rows))


def values_of(plan: ColumnPlan) -> st.SearchStrategy[Any]:
    """Return the values that a column takes, NULL among them if it may."""
    kind = KINDS[plan.kind]
    if plan.nullable:
        return st.none() | kind.values
    if kind.null_only:
        return kind.values.filter(lambda value: value == value)  # a nan is NULL to SQLite
    return kind.values

"""What a generated schema looks like: plain data, drawn by Hypothesis, mapped by `mapped.py`.

Tables refer to earlier ones or to themselves, so that they can be created and emptied in order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st


class ColumnPlan(NamedTuple):
    """A column. `index`: "", "index" or "unique"; `sets`: what fills it where nobody does."""

    name: str
    kind: str
    nullable: bool = True
    index: str = ""
    sets: str = ""


class RefPlan(NamedTuple):
    """A foreign key to the key of table `target`; `one`: each row is referred to at most once."""

    name: str
    target: int
    nullable: bool = True
    on_delete: str | None = None
    passive: bool = True  # the database does what is to be done to children, not the ORM
    one: bool = False


class SubPlan(NamedTuple):
    """A subclass with columns of its own, in the table of its base or one of its own."""

    joined: bool
    columns: tuple[ColumnPlan, ...]


class TablePlan(NamedTuple):
    """A class. `key`: "int", "pair", "uuid", "text" or "owned", by its first reference."""

    key: str = "int"
    columns: tuple[ColumnPlan, ...] = ()
    refs: tuple[RefPlan, ...] = ()
    sub: SubPlan | None = None
    polymorphic: str | None = None  # what a select of the base loads of joined subclasses
    query_columns: tuple[str, ...] | None = None
    collections: bool = True


class Blueprint(NamedTuple):
    """A schema. `links`: two tables, many to many; `asks`: only statements that ask are cached."""

    tables: tuple[TablePlan, ...]
    links: tuple[int, int] | None = None
    asks: bool = False


KINDS = ("int", "bool", "text", "date", "enum", "uuid")
_INDEX = st.sampled_from(["", "index", "", "index", "unique"])
_SETS = st.sampled_from(["", "", "default", "onupdate", "server"])
_ON_DELETE = st.sampled_from([None, "CASCADE", "SET NULL"])


@st.composite
def _columns(draw: Any, prefix: str, most: int) -> tuple[ColumnPlan, ...]:
    found = []
    for number in range(draw(st.integers(1, most))):
        index = draw(_INDEX)
        kind = draw(st.sampled_from(KINDS))
        if index == "unique":
            found.append(ColumnPlan(f"{prefix}{number}", kind, True, index))
        else:
            sets = draw(_SETS)
            found.append(ColumnPlan(f"{prefix}{number}", kind, draw(st.booleans()), index, sets))
    return tuple(found)


@st.composite
def _refs(draw: Any, number: int, owners: list[int]) -> tuple[RefPlan, ...]:
    targets = draw(st.lists(st.integers(0, number), max_size=2))
    if number and not targets:
        targets = [draw(st.integers(0, number - 1))]
    refs = []
    for place, target in enumerate(targets):
        nullable = target == number or draw(st.booleans())
        on_delete = draw(_ON_DELETE if nullable else st.sampled_from([None, "CASCADE"]))
        one = nullable and draw(st.integers(0, 4)) == 4
        passive = not nullable or draw(st.booleans())
        refs.append(RefPlan(f"r{place}", target, nullable, on_delete, passive, one))
    if refs and refs[0].target in owners and draw(st.integers(0, 3)) == 3:
        refs[0] = refs[0]._replace(nullable=False, passive=True, one=False)
        if refs[0].on_delete == "SET NULL":
            refs[0] = refs[0]._replace(on_delete="CASCADE")
    return tuple(refs)


@st.composite
def blueprints(draw: Any) -> Blueprint:
    """Draw a schema."""
    tables: list[TablePlan] = []
    for number in range(draw(st.integers(2, 4))):
        owners = [place for place, table in enumerate(tables) if table.key != "owned"]
        refs = draw(_refs(number, owners))
        key = draw(st.sampled_from(["int", "int", "pair", "uuid", "text"]))
        if refs and not refs[0].nullable and refs[0].target in owners and draw(st.booleans()):
            key, refs = "owned", tuple(ref for ref in refs if ref.target != number)
        columns = draw(_columns("c", 3))
        joined = draw(st.sampled_from([None, None, True, False]))
        sub = None if joined is None else SubPlan(joined, draw(_columns("s", 2)))
        if sub is not None and not joined:  # rows of the base have none of them
            sub = SubPlan(False, tuple(c._replace(nullable=True) for c in sub.columns))
        names = [each.name for each in columns]
        chosen = draw(st.none() | st.lists(st.sampled_from(names), unique=True))
        tables.append(
            TablePlan(
                key,
                columns,
                refs,
                sub,
                draw(st.sampled_from([None, "selectin", "inline"])) if joined else None,
                None if chosen is None else tuple(chosen),
                draw(st.sampled_from([True, True, False])),
            )
        )
    last = len(tables) - 1
    links = draw(st.none() | st.tuples(st.integers(0, last), st.integers(0, last)))
    return Blueprint(tuple(tables), links, draw(st.booleans()))


def pool(number: int, count: int) -> list[Blueprint]:
    """Return the same `count` schemas for the same number, the simplest first."""
    found: list[Blueprint] = []

    @seed(number)
    @settings(
        max_examples=count * 6,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(blueprints())
    def collect(blueprint: Blueprint) -> None:
        found.append(blueprint)

    collect()
    different = list(dict.fromkeys(found))
    chosen = different[:: -(len(different) // count)][:count]  # neighbours are much alike
    return sorted(chosen, key=lambda each: len(repr(each)))

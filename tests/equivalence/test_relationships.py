"""Generated loader strategies: what a hit brings along is what a load brings along (B10)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from tests.equivalence.exactly import differences
from tests.equivalence.relations import (
    ATTRIBUTES,
    CYCLES,
    ROWS,
    STRATEGIES,
    Choice,
    graph,
    mapped_world,
)

pytestmark = [
    # What SQLAlchemy says where a one-to-one has several rows.
    pytest.mark.filterwarnings("ignore:Multiple rows returned:sqlalchemy.exc.SAWarning"),
]


@st.composite
def choices(draw: Any) -> Choice:
    """Draw a few eager attributes; the rest is loaded on access."""
    names = draw(st.lists(st.sampled_from(ATTRIBUTES), min_size=1, max_size=4, unique=True))
    lazy = {}
    for name in names:
        # SQLAlchemy itself needs minutes to follow a cycle by subqueries.
        allowed = [each for each in STRATEGIES if name not in CYCLES or each != "subquery"]
        lazy[name] = draw(st.sampled_from(allowed))
    cached = draw(st.sets(st.sampled_from(sorted(ROWS)), min_size=1))
    return Choice(lazy, frozenset(cached), draw(st.sampled_from([None, 1, 2])))


def test_a_hit_brings_along_what_a_load_brings() -> None:
    """Cold, filled and warm: the same objects, the same attributes loaded, from any table."""
    seen: Counter[str] = Counter()

    @settings(max_examples=max(60, settings.default.max_examples))
    @given(choices())
    def check(choice: Choice) -> None:
        SQLModelCache.configure("memory://")
        with mapped_world(choice) as (engine, classes, _):
            for name in sorted(choice.cached):
                for row in ROWS[name]:
                    _compare(engine, classes[name], row["id"], choice)
        stats = SQLModelCache.stats()
        seen["hits"] += stats.hits
        seen["bypasses"] += stats.bypasses.get("eager_relationship", 0)

    check()
    assert seen["hits"] > 0.6 * seen.total(), seen


def _compare(engine: Any, cls: Any, pk: int, choice: Choice) -> None:
    paths = "subquery" not in choice.lazy.values()  # whose own paths vary
    with Session(engine) as session, SQLModelCache.bypass():
        wanted = graph(session, session.get(cls, pk), paths=paths)
    for when in ("cold", "filled", "warm"):
        with Session(engine) as session:
            found = graph(session, session.get(cls, pk), paths=paths)
        different = list(differences(wanted, found))
        assert not different, f"{when} {cls.__name__} {pk}:\n" + "\n".join(different)


@pytest.mark.parametrize("lazy", ["joined", "selectin", "subquery", "immediate"])
@pytest.mark.parametrize("name", ["team", "org", "pets", "badge", "owner", "heroes"])
def test_one_eager_relationship_is_no_obstacle(name: str, lazy: str) -> None:
    """Each strategy on each kind of relationship: the row itself needs no SQL."""
    SQLModelCache.configure("memory://")
    choice = Choice({name: lazy}, frozenset(ROWS))
    owner = {"team": "Hero", "org": "Team", "owner": "Pet", "heroes": "Team"}.get(name, "Hero")
    with mapped_world(choice) as (engine, classes, sent):
        _compare(engine, classes[owner], 2, choice)
        sent.clear()
        with Session(engine) as session:
            session.get(classes[owner], 2)
        table = owner.lower()
        assert not [statement for statement in sent if f"FROM {table}" in statement]
        if name in ("team", "org", "owner"):
            assert not sent
    assert not SQLModelCache.stats().bypasses.get("eager_relationship")

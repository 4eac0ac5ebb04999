"""Generated loader options on a get: after a hit as after a load, and later lazy loads too (B9)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect
from sqlalchemy.orm import (
    Session,
    defaultload,
    immediateload,
    joinedload,
    lazyload,
    raiseload,
    selectinload,
    subqueryload,
)

from sqlmodel_cache import SQLModelCache
from tests.equivalence.exactly import differences
from tests.equivalence.relations import ATTRIBUTES, ROWS, Choice, graph, mapped_world
from tests.equivalence.scripts import outcome

pytestmark = [
    pytest.mark.filterwarnings("ignore:Multiple rows returned:sqlalchemy.exc.SAWarning"),
]
_OPTIONS: dict[str, Any] = {
    "joined": joinedload,
    "selectin": selectinload,
    "subquery": subqueryload,
    "immediate": immediateload,
    "select": lazyload,
    "raise": raiseload,
    "default": defaultload,
}
_KINDS = st.sampled_from(list(_OPTIONS))


def _chain(data: st.DataObject, cls: Any, depth: int = 1) -> Any:
    """Draw an option on a class, and options below it."""
    prop = data.draw(st.sampled_from(list(inspect(cls).relationships)), label="relationship")
    option = _OPTIONS[data.draw(_KINDS)](getattr(cls, prop.key))
    if depth < 3 and data.draw(st.booleans()):
        option = option.options(_chain(data, prop.mapper.class_, depth + 1))
    return option


def _run(engine: Any, cls: Any, pk: int, options: list[Any]) -> Any:
    """Get, look at all that is loaded, then load the rest attribute by attribute."""
    with Session(engine) as session:
        instance = session.get(cls, pk, options=options)
        seen = [graph(session, instance, paths=False)]
        for prop in inspect(cls).relationships:
            seen.append({"outcome": _short(outcome(lambda: _touch(instance, prop.key)))})  # noqa: B023
            seen.append(graph(session, instance, paths=False))
        return seen


def _touch(instance: Any, name: str) -> str:
    getattr(instance, name)
    return "loaded"


def _short(text: Any) -> str:
    return str(text).split(" at 0x")[0]


def test_options_work_as_without_a_cache() -> None:
    """Cold, filled and warm; the options stay with the instance and with what came along."""
    seen: Counter[str] = Counter()

    @settings(max_examples=max(80, settings.default.max_examples))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        eager = data.draw(st.sampled_from([{}, {}, {"team": "joined"}, {"pets": "selectin"}]))
        choice = Choice({name: eager.get(name, "select") for name in ATTRIBUTES}, frozenset(ROWS))
        SQLModelCache.configure("memory://")
        with mapped_world(choice) as (engine, classes, _):
            name = data.draw(st.sampled_from(sorted(ROWS)))
            options = [_chain(data, classes[name])]
            for row in ROWS[name]:
                with SQLModelCache.bypass():
                    wanted = _run(engine, classes[name], row["id"], options)
                for when in ("cold", "filled", "warm"):
                    found = _run(engine, classes[name], row["id"], options)
                    different = list(differences(wanted, found))
                    assert not different, f"{when} {name}:\n" + "\n".join(different)
        stats = SQLModelCache.stats()
        seen["hits"] += stats.hits
        seen["bypasses"] += stats.bypasses.get("loader_options", 0)

    check()
    assert seen["hits"] > 0.3 * seen.total(), seen  # cold gets and raiseload() are among them

"""Single, joined and concrete inheritance, generated."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlmodel_cache import SQLModelCache
from tests.equivalence.arena import arena_of, target_of
from tests.equivalence.blueprints import Case, cases
from tests.equivalence.exactly import differences
from tests.equivalence.examination import examine
from tests.equivalence.kinds import UNSTORED
from tests.equivalence.scripts import changed, every_attribute
from tests.equivalence.snapshot import snapshot
from tests.equivalence.tally import Tally

pytestmark = [
    pytest.mark.filterwarnings("ignore:Dialect sqlite:sqlalchemy.exc.SAWarning"),
]

stored_cases = cases(inheritance=True).filter(
    lambda case: not any(plan.kind in UNSTORED for plan in case.blueprint.all_columns(2))
)


def test_hierarchies(tally: Tally) -> None:
    """Each row through its own class: hits and loads are the same."""
    SQLModelCache.configure("memory://")

    @given(cases(inheritance=True))
    def check(case: Case) -> None:
        examine(tally, case)

    check()
    tally.require(unstored=UNSTORED)


def test_through_every_class() -> None:
    """What one class stored is read through another: its own attributes, no row, or a miss."""
    SQLModelCache.configure("memory://")
    outcomes = Counter[bool]()

    @given(stored_cases, st.integers(0, 3), st.integers(0, 3))
    def check(case: Case, stored_by: int, asked_by: int) -> None:
        with arena_of(case) as (arena, models):
            for row in case.rows:
                SQLModelCache.clear(bind=arena.engine)
                arena.fill(target_of(models, row, stored_by))
                target = target_of(models, row, asked_by)
                for script in (snapshot, every_attribute, changed(case, row, "set")):
                    seen = []
                    for way in (arena.load, arena.any_way):
                        with arena.session() as session:
                            arena.log.clear()
                            before = SQLModelCache.stats().hits
                            instance = way(session, target)
                            hit = SQLModelCache.stats().hits - before
                            log, arena.sent[:] = list(arena.log), []
                            there = instance is not None or script is snapshot
                            seen.append((log, there and script(session, instance), arena.sent[:]))
                    assert not list(differences(*seen)), script
                    outcomes[bool(hit)] += 1

    check()
    assert outcomes[True] > outcomes[False] / 3, outcomes

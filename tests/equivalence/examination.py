"""One generated case, examined: what the second get was, and whether anybody could tell."""

from __future__ import annotations

from tests.equivalence.arena import Arena, NotHit, Target, arena_of, target_of
from tests.equivalence.blueprints import Case, Row
from tests.equivalence.kinds import UNSTORED
from tests.equivalence.models import Models
from tests.equivalence.scripts import SCRIPTS, changed
from tests.equivalence.tally import BYPASS, HIT, NOT_STORED, Tally


def count(tally: Tally, arena: Arena, case: Case, row: Row, target: Target) -> bool:
    """Count what a second get gives for each column; tell whether it was a hit."""
    plans = [plan for plan in case.blueprint.all_columns(row.level) if not plan.deferred]
    with arena.session() as session:
        try:
            instance = arena.hit(session, target)
        except NotHit as reason:
            for plan in plans:
                tally.count(plan.kind, BYPASS, str(reason))
            return False
        for plan in plans:
            stored = plan.name in vars(instance)
            tally.count(plan.kind, HIT if stored else NOT_STORED)
    return True


def examine(tally: Tally, case: Case) -> None:
    """Compare every row of a case through every class that it can be asked through."""
    with arena_of(case) as (arena, models):
        for row in case.rows:
            _examine_row(tally, arena, models, case, row)


def _examine_row(tally: Tally, arena: Arena, models: Models, case: Case, row: Row) -> None:
    target = target_of(models, row)
    arena.fill(target)
    if not count(tally, arena, case, row, target):
        return
    kinds = {plan.kind for plan in case.blueprint.all_columns(row.level) if not plan.deferred}
    if kinds & set(UNSTORED):
        return  # not the same attributes: they have a test of their own
    arena.check(target, *SCRIPTS, changed(case, row, "set"), changed(case, row, "grow"))

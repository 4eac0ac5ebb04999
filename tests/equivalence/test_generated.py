"""Generated models and rows: nobody can tell the instance of a hit from that of a load."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from sqlmodel_cache import SQLModelCache
from tests.equivalence.blueprints import Case, cases
from tests.equivalence.examination import examine
from tests.equivalence.kinds import KINDS, UNSTORED
from tests.equivalence.tally import Tally

pytestmark = [
    # What SQLAlchemy says of Numeric on SQLite.
    pytest.mark.filterwarnings("ignore:Dialect sqlite:sqlalchemy.exc.SAWarning"),
]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_type(kind: str, tally: Tally) -> None:
    """A column of each type, among others, in any style of mapping."""
    SQLModelCache.configure("memory://")

    @settings(max_examples=max(5, settings.default.max_examples // 6))
    @given(cases(kind=kind))
    def check(case: Case) -> None:
        examine(tally, case)

    check()
    tally.require(unstored=UNSTORED)

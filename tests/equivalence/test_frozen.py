"""Hit equivalence while freezegun holds time: frozen at fill and thawed at hit, and the reverse.

Frozen at about the present, so that nothing has expired. Drivers give freezegun's fakes while it
is frozen; they stand for the genuine values and are compared as such.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from freezegun import freeze_time
from freezegun.api import FakeDate, FakeDatetime
from hypothesis import Phase, given, settings
from sqlalchemy import Engine, create_engine, text

from sqlmodel_cache import SQLModelCache
from tests.equivalence import foreign
from tests.equivalence.arena import Arena, NotHit, arena_of, target_of
from tests.equivalence.blueprints import Case, cases
from tests.equivalence.exactly import differences
from tests.equivalence.kinds import UNSTORED
from tests.equivalence.snapshot import snapshot
from tests.equivalence.tally import BYPASS, HIT, Tally
from tests.equivalence.test_servers import OPENING, Fleet

pytestmark = [
    pytest.mark.filterwarnings("ignore:Dialect sqlite:sqlalchemy.exc.SAWarning"),
]

# The genuine classes, where freezegun does not look.
_REAL = {"datetime": dt.datetime, "date": dt.date}
TIMES = [(True, False), (False, True), (True, True)]
IDS = ["frozen at fill", "frozen at hit", "frozen throughout"]


def thawed(value: Any) -> Any:
    """Return `value` with the genuine class in the place of every fake, at any depth."""
    if type(value) is FakeDatetime:
        parts = value.timetuple()[:6]
        return _REAL["datetime"](*parts, value.microsecond, value.tzinfo, fold=value.fold)
    if type(value) is FakeDate:
        return _REAL["date"](value.year, value.month, value.day)
    if type(value) in (list, tuple):
        return type(value)(map(thawed, value))
    if type(value) is dict:
        return {key: thawed(part) for key, part in value.items()}
    if type(value).__name__ == "Range":
        ends = thawed(value.lower), thawed(value.upper)
        return type(value)(*ends, bounds=value.bounds, empty=value.empty)
    if type(value).__name__ == "MultiRange":
        return type(value)(map(thawed, value))
    return value


def frozen(really: bool) -> ExitStack:
    """Return a context in which time stands still, or not."""
    stack = ExitStack()
    if really:
        stack.enter_context(freeze_time(_REAL["datetime"].now(dt.UTC)))
    return stack


@pytest.mark.parametrize(("at_fill", "at_hit"), TIMES, ids=IDS)
def test_generated_rows(at_fill: bool, at_hit: bool, tally: Tally) -> None:
    """Any model, any row."""
    SQLModelCache.configure("memory://")
    drawn: list[Case] = []

    @settings(max_examples=max(20, settings.default.max_examples))
    @given(cases())
    def collect(case: Case) -> None:
        drawn.append(case)

    collect()
    # To freeze takes a while, so all is filled and then all is asked.
    with ExitStack() as stack:
        built = [stack.enter_context(arena_of(case)) for case in drawn[:200]]
        targets = [
            target_of(models, case.rows[0]) for (_, models), case in zip(built, drawn, strict=False)
        ]
        with frozen(at_fill):
            for (arena, _), target in zip(built, targets, strict=True):
                arena.fill(target)
        with frozen(at_hit):
            for (arena, _), target, case in zip(built, targets, drawn, strict=False):
                compare(tally, arena, target, case)
    tally.require()


def compare(tally: Tally, arena: Arena, target: Any, case: Case) -> None:
    """Compare a hit with a load at one time, and count it for each column that is stored."""
    kinds = [plan.kind for plan in case.blueprint.columns if not plan.deferred]
    stored = [kind for kind in kinds if kind not in UNSTORED]
    with arena.session() as session:
        loaded = snapshot(session, arena.load(session, target))
    with arena.session() as session:
        try:
            found = snapshot(session, arena.hit(session, target))
        except NotHit as reason:
            for kind in stored:
                tally.count(kind, BYPASS, str(reason))
            return
    for kind in stored:
        tally.count(kind, HIT)
    if stored == kinds:
        assert not list(differences(thawed(loaded), thawed(found)))


@pytest.fixture
def fleet(postgres_url: str) -> Iterator[tuple[Engine, Fleet]]:
    """Return PostgreSQL's types with rows."""
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        for statement in OPENING:
            connection.execute(text(statement))
    made = Fleet(foreign.common() | foreign.postgresql())
    made.create(engine)
    yield engine, made
    made.dispose(engine)
    engine.dispose()


@pytest.mark.parametrize(("at_fill", "at_hit"), TIMES, ids=IDS)
def test_types_of_postgresql(
    at_fill: bool, at_hit: bool, fleet: tuple[Engine, Fleet], tally: Tally
) -> None:
    """Moments in arrays, ranges and JSON among them."""
    SQLModelCache.configure("memory://")
    engine, made = fleet
    arena = Arena(engine)
    problems: list[str] = []
    with frozen(at_fill):
        for _, target in made.targets():
            arena.fill(target)
    with frozen(at_hit):
        for name, target in made.targets():
            with arena.session() as session:
                loaded = thawed(arena.load(session, target).value)
            with arena.session() as session:
                try:
                    found = thawed(arena.hit(session, target).value)
                except NotHit as reason:
                    tally.count(name, BYPASS, f"{name}: {reason}")
                    continue
                tally.count(name, HIT)
            problems += [f"{name}: {line}" for line in differences(loaded, found)]
    assert not problems, "\n".join(problems)
    tally.require()


def test_an_entry_dies_when_frozen_time_passes_its_ttl() -> None:
    """The frozen clock of the comparisons above is one that entries know of."""
    SQLModelCache.configure("memory://")
    found: list[Case] = []

    @settings(max_examples=1, phases=[Phase.generate])
    @given(cases(kind="Integer"))
    def draw(case: Case) -> None:
        found.append(case)

    draw()
    with arena_of(found[0]) as (arena, models):
        target = target_of(models, found[0].rows[0])
        arena.fill(target)
        with arena.session() as session:
            arena.hit(session, target)
        later = _REAL["datetime"].now(dt.UTC) + dt.timedelta(seconds=301)
        with freeze_time(later), arena.session() as session, pytest.raises(NotHit, match="miss"):
            arena.hit(session, target)

"""What stats() says of time: latencies of each step, and whether a model's cache pays."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from freezegun import freeze_time
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from sqlmodel_cache import ModelStats, SQLModelCache, Stats, aget_many, clock, get_many
from sqlmodel_cache.events import SAMPLED, Counters, Event
from sqlmodel_cache.latency import Histogram, Latency
from sqlmodel_cache.stats import merge
from tests.operating.models import Hero, read

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, key_prefix: str, engine: Engine) -> str:
    """Configure the cache after the tables were filled, and return its URL."""
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    SQLModelCache.configure(url, key_prefix=key_prefix)
    return url


def lasting(*durations: float) -> Latency:
    """Return a record of these durations."""
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    return histogram.freeze()


@pytest.mark.usefixtures("store")
def test_every_step_is_timed(engine: Engine) -> None:
    """A miss with its database part and its fill, a hit, a commit's fence and release."""
    read(engine, Hero, 1, times=SAMPLED)
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "Deadpool"
        session.commit()
    found = SQLModelCache.stats().models["Hero"].latencies
    assert {step: one.count for step, one in found.items()} == {
        "miss": 1, "database": 1, "fill": 1, "hit": 1, "fence": 1, "release": 1,
    }  # fmt: skip
    assert all(0 < one.p50 < 5 for one in found.values())
    assert found["database"].total < found["miss"].total


@pytest.mark.usefixtures("store")
async def test_every_step_is_timed_async(async_engine: AsyncEngine) -> None:
    """The same under AsyncSession."""
    for _ in range(SAMPLED):
        async with AsyncSession(async_engine) as session:
            await session.get(Hero, 1)
    async with AsyncSession(async_engine) as session:
        (await session.get_one(Hero, 1)).name = "Deadpool"
        await session.commit()
    found = SQLModelCache.stats().models["Hero"].latencies
    assert set(found) == {"miss", "database", "fill", "hit", "fence", "release"}


@pytest.mark.usefixtures("store")
def test_one_hit_of_many_is_timed(engine: Engine) -> None:
    """The first hit compiles and is left out; then one in SAMPLED."""
    read(engine, Hero, 1, times=1 + 2 * SAMPLED + 2)
    found = SQLModelCache.stats().models["Hero"]
    assert (found.hits, found.latencies["hit"].count) == (2 * SAMPLED + 2, 3)


@pytest.mark.usefixtures("store")
def test_rows_read_together_have_their_share(engine: Engine) -> None:
    """get_many() notes its time once for each row, divided by their number."""
    with Session(engine) as session:
        get_many(session, Hero, [1, 2])
    with Session(engine) as session:
        get_many(session, Hero, [1, 2])
    found = SQLModelCache.stats().models["Hero"]
    assert (found.hits, found.misses) == (2, 2)
    assert found.latencies["database"].count == found.latencies["miss"].count == 2
    assert found.saved_ms_per_1000 is not None


@pytest.mark.usefixtures("store")
async def test_rows_read_together_async(async_engine: AsyncEngine) -> None:
    """The same through aget_many()."""
    async with AsyncSession(async_engine) as session:
        await aget_many(session, Hero, [1, 2])
    assert SQLModelCache.stats().models["Hero"].latencies["miss"].count == 2


@pytest.mark.parametrize("before", range(SAMPLED + 3))
@pytest.mark.parametrize("number", [0, 1, 2, SAMPLED, 2 * SAMPLED + 1])
def test_hits_together_count_as_one_by_one(before: int, number: int) -> None:
    """As many hits, as many of them timed, as many events."""
    heard: list[Event] = []
    one_by_one, together = Counters("Hero"), Counters("Hero", [heard.append])
    for _ in range(before):
        one_by_one.hit(clock.real())
        together.hit(clock.real())
    heard.clear()
    for _ in range(number):
        one_by_one.hit(clock.real(), number)
    together.hit_together(clock.real(), number)
    assert together.hits == one_by_one.hits == before + number
    assert len(heard) == number
    counts = [
        {step: one.count for step, one in each.freeze().latencies.items()}
        for each in (one_by_one, together)
    ]
    assert counts[0] == counts[1]


def test_a_load_that_raises_is_no_latency(engine: Engine) -> None:
    """A database that failed says nothing of what a read costs."""
    SQLModelCache.configure("memory://")
    read(engine, Hero, 2)  # learns the namespace
    Hero.metadata.drop_all(engine)
    with Session(engine) as session, pytest.raises(Exception, match="no such table"):
        session.get(Hero, 1)
    found = SQLModelCache.stats().models["Hero"]
    assert (found.misses, found.latencies["database"].count) == (2, 1)


def test_durations_are_real_under_frozen_time(engine: Engine) -> None:
    """Freezing the user's clock freezes no latency."""
    SQLModelCache.configure("memory://")
    with freeze_time("2030-01-01"):
        read(engine, Hero, 1)
    assert SQLModelCache.stats().models["Hero"].latencies["miss"].total > 0


def test_what_it_saves() -> None:
    """80 hits of 1 ms and 20 misses of 12 ms, where the database takes 10 ms: 680 of 1,000."""
    model = ModelStats(
        hits=80,
        misses=20,
        latencies={
            "hit": lasting(0.001),
            "miss": lasting(*20 * [0.012]),
            "database": lasting(*20 * [0.010]),
        },
    )
    assert model.hit_rate == 0.8
    assert model.saved_ms_per_1000 == pytest.approx(6_800)
    assert model.verdict == "saves 6,800 ms per 1,000 reads"


def test_what_it_costs() -> None:
    """A model that is always written before it is read again loses, and the commits count."""
    model = ModelStats(
        misses=20,
        latencies={
            "miss": lasting(*20 * [0.012]),
            "database": lasting(*20 * [0.010]),
            "fence": lasting(*20 * [0.001]),
            "release": lasting(*20 * [0.001]),
        },
    )
    assert model.verdict == "costs 4,000 ms per 1,000 reads"


@pytest.mark.parametrize(
    ("model", "timed"),
    [
        (ModelStats(), 0),
        (ModelStats(hits=3), 0),
        (ModelStats(hits=1, misses=1, latencies={"database": lasting(1), "miss": lasting(1)}), 1),
    ],
    ids=["nothing", "no-database", "no-timed-hit"],
)
def test_what_is_not_known_is_not_claimed(model: ModelStats, timed: int) -> None:
    """Without a measured part there is no verdict."""
    assert (model.saved_ms_per_1000, model.settled) == (None, False)
    assert model.verdict == f"not known yet: {timed} of 20 misses were timed"


def test_few_misses_are_no_verdict() -> None:
    """A first miss, of a cold database perhaps, decides nothing; the number is there."""
    slow = {"hit": lasting(0.001), "miss": lasting(*19 * [2.0]), "database": lasting(*19 * [1.0])}
    model = ModelStats(hits=1, misses=19, latencies=slow)
    assert model.saved_ms_per_1000 is not None
    assert not model.settled
    assert model.verdict == "not known yet: 19 of 20 misses were timed"
    assert model.as_dict()["settled"] is False


def test_the_total_judges_the_models_that_are_known() -> None:
    """A model without a verdict neither helps nor hurts the total."""
    known = ModelStats(misses=1, latencies={"miss": lasting(0.02), "database": lasting(0.01)})
    total = Stats(hits=5, misses=1, models={"A": known, "B": ModelStats(hits=5)})
    assert total.saved_ms_per_1000 == pytest.approx(-10_000)


def test_processes_add_up() -> None:
    """Counts, reasons and durations of two processes; the worse breaker; both queues."""
    one = Stats(hits=1, bypasses={"touched": 1}, models={"A": ModelStats(hits=1)}, queue=1)
    other = Stats(
        hits=2,
        bypasses={"touched": 2},
        models={"A": ModelStats(hits=1, latencies={"hit": lasting(1)}), "B": ModelStats(hits=1)},
        breaker="open",
    )
    both = merge([one, other])
    assert (both.hits, both.bypasses, both.breaker, both.queue) == (3, {"touched": 3}, "open", 1)
    assert {name: model.hits for name, model in both.models.items()} == {"A": 2, "B": 1}
    assert both.models["A"].latencies["hit"].count == 1
    assert merge([]) == Stats()


@pytest.mark.usefixtures("store")
def test_as_dict_is_json(engine: Engine) -> None:
    """Latencies and verdicts too."""
    read(engine, Hero, 1, times=SAMPLED)
    plain = json.loads(json.dumps(SQLModelCache.stats().as_dict()))
    assert set(plain["models"]["Hero"]["latencies"]["hit"]) == {"count", "mean", "p50", "p99"}
    assert plain["hit_rate"] == (SAMPLED - 1) / SAMPLED
    assert isinstance(plain["models"]["Hero"]["saved_ms_per_1000"], float)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_counts_from_nothing(engine: Engine) -> None:
    """Or the sum over all processes would have the parent's counts twice."""
    SQLModelCache.configure("memory://")
    read(engine, Hero, 1, times=3)
    child = os.fork()
    if not child:
        os._exit(SQLModelCache.stats().hits + SQLModelCache.stats().models["Hero"].misses)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert SQLModelCache.stats().hits == 2

"""Observers hear of each lookup and of each invalidation, and harm nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from sqlmodel_cache import ConfigurationError, SQLModelCache, get_many
from sqlmodel_cache.events import Bypass, Event, Invalidated, Lookup, Outcome
from tests.operating.models import Hero, read

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


class Unplugged:
    """A store that answers nothing."""

    def get(self, key: str) -> bytes | None:
        raise ConnectionError

    def set(self, key: str, value: bytes, ttl: int) -> None:
        raise ConnectionError

    def delete(self, *keys: str) -> None:
        raise ConnectionError


@pytest.fixture
def heard(engine: Engine) -> list[Event]:
    """Return what an observer noted, of a cache in memory, from after the tables were filled."""
    events: list[Event] = []
    SQLModelCache.configure("memory://", observers=[events.append])
    return events


def seen(events: list[Event]) -> list[tuple[Any, ...]]:
    """Return lookups without their durations."""
    return [
        (one.model, one.outcome, one.reason) if isinstance(one, Lookup) else (one.model, one.number)
        for one in events
    ]


def test_each_lookup_is_told(engine: Engine, heard: list[Event]) -> None:
    """A miss, a hit and a bypass, in their order; durations but for the bypass."""
    read(engine, Hero, 1, times=2)
    read(engine, Hero, 1, execution_options={"cache": False})
    assert seen(heard) == [
        ("Hero", Outcome.MISS, None),
        ("Hero", Outcome.HIT, None),
        ("Hero", Outcome.BYPASS, Bypass.OPTION),
    ]
    assert [one.seconds is None for one in heard if isinstance(one, Lookup)] == [False, False, True]


async def test_each_lookup_is_told_async(async_engine: AsyncEngine, heard: list[Event]) -> None:
    """The same under AsyncSession."""
    for _ in range(2):
        async with AsyncSession(async_engine) as session:
            await session.get(Hero, 1)
    assert [one[1] for one in seen(heard)] == [Outcome.MISS, Outcome.HIT]


def test_rows_read_together_are_told_one_by_one(engine: Engine, heard: list[Event]) -> None:
    """One lookup per row of get_many()."""
    read(engine, Hero, 1)
    heard.clear()
    with Session(engine) as session:
        get_many(session, Hero, [1, 2])
    assert sorted(one[1] for one in seen(heard)) == [Outcome.HIT, Outcome.MISS]


def test_invalidations_are_told(engine: Engine, heard: list[Event]) -> None:
    """By a commit, and by an explicit call."""
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "Deadpool"
        session.commit()
    SQLModelCache.invalidate(Hero, 1, 2)
    assert [one for one in heard if isinstance(one, Invalidated)] == [
        Invalidated("Hero", 1),
        Invalidated("Hero", 2),
    ]


def test_a_store_that_fails_is_told(engine: Engine) -> None:
    """A failure first, then bypasses as the breaker is open; the database answers."""
    events: list[Event] = []
    SQLModelCache.configure(Unplugged(), observers=[events.append])
    assert read(engine, Hero, 1, times=2).name == "Deadpond"
    assert seen(events) == [
        ("Hero", Outcome.FAILURE, None),
        ("Hero", Outcome.BYPASS, Bypass.BREAKER),
    ]
    assert SQLModelCache.stats().models["Hero"].latencies["failure"].count == 1


def test_an_observer_that_raises_is_logged(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error reaches neither the reader nor the observers after it."""
    events: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("no disk")

    SQLModelCache.configure("memory://", observers=[broken, events.append])
    with caplog.at_level(logging.ERROR, "sqlmodel_cache"):
        assert read(engine, Hero, 1, times=2).name == "Deadpond"
    assert len(events) == 2
    assert "an observer of the cache raised" in caplog.text


@pytest.mark.parametrize("observers", [print, [1], "x"], ids=str)
def test_what_cannot_be_called_is_refused(observers: Any) -> None:
    """Naming the field and the remedy."""
    with pytest.raises(ConfigurationError, match=r"observers=.*list of callables"):
        SQLModelCache.configure("memory://", observers=observers)


def test_no_row_value_and_no_key_is_in_an_event(engine: Engine, heard: list[Event]) -> None:
    """What is told may be logged."""
    read(engine, Hero, 1, times=2)
    assert "Deadpond" not in repr(heard)
    assert {field for event in heard for field in event.__struct_fields__} == {
        "model", "outcome", "reason", "seconds",
    }  # fmt: skip

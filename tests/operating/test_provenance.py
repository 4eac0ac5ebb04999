"""The story of an answer: which decision, which entry, how old, filled by whom."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache, _state, get_many
from tests.operating.models import Hero, read

if TYPE_CHECKING:
    from sqlalchemy import Engine

BY = rf"by process {os.getpid() & 0xFFFFFF} on {re.escape(socket.gethostname())}, release [\d.]+"


@pytest.fixture(params=["memory", "redis"])
def debug(
    request: pytest.FixtureRequest,
    engine: Engine,
    key_prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[pytest.LogCaptureFixture]:
    """Configure, with the log at DEBUG."""
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    with caplog.at_level(logging.DEBUG, "sqlmodel_cache"):
        SQLModelCache.configure(url, key_prefix=key_prefix)
        yield caplog


def test_a_lookup_is_told(debug: pytest.LogCaptureFixture, engine: Engine) -> None:
    """A miss, two hits, a bypass; the label is the entry's, and no key is there."""
    read(engine, Hero, 1, times=3)
    read(engine, Hero, 1, execution_options={"cache": False})
    miss, hit, again, bypass = (line for line in debug.messages if line.startswith("Hero"))
    with Session(engine) as session:
        told = SQLModelCache.explain(session, Hero, 1)
    assert told.entry is not None
    label = told.entry.label
    assert miss == f"Hero {label}: a miss, nothing is stored"
    for line in (hit, again):
        assert re.fullmatch(
            rf"Hero {label}: a hit, epoch [0-9a-f]{{24}}, filled 0.. s ago {BY}", line
        )
    assert bypass == "Hero: not from the cache, cache_false"
    assert told.entry.key not in debug.text
    assert label in str(told)
    assert re.search(BY, str(told))


def test_many_are_told(debug: pytest.LogCaptureFixture, engine: Engine) -> None:
    """One line for each entry; an entry of a former epoch is a miss."""
    read(engine, Hero, 1)
    debug.clear()
    with Session(engine) as session:
        get_many(session, Hero, [1, 2])
    assert len([line for line in debug.messages if line.startswith("Hero")]) == 2
    SQLModelCache.invalidate(Hero)
    debug.clear()
    read(engine, Hero, 1)
    assert "a miss" in debug.text


def test_the_level_is_noticed_later(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """When it is time to look at the switch; and when it is over, nothing is told."""
    SQLModelCache.configure("memory://")
    read(engine, Hero, 1)
    with caplog.at_level(logging.DEBUG, "sqlmodel_cache"):
        _state.active.switch.due = 0.0
        read(engine, Hero, 1)
        read(engine, Hero, 1)
        assert caplog.text.count("a hit") == 1
    _state.active.switch.due = 0.0
    read(engine, Hero, 1)
    (reader,) = (r for site in _state.active.sites for r in site._readers.values())
    assert reader.conduct is None

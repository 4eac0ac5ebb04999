"""Per-call control: execution options on every layer, and `bypass()`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from freezegun import freeze_time
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import sessionmaker
from sqlmodel import Field, Session, SQLModel, select

from sqlmodel_cache import (
    CacheConfig,
    CachedModel,
    ConfigurationError,
    SQLModelCache,
    cached_sessionmaker,
)
from tests.recording import Statements, stable_id

Recorder = Callable[[Engine], AbstractContextManager[Statements]]


class Optional(CachedModel, table=True):
    id: int = Field(primary_key=True)
    name: str


class Short(SQLModel, table=True):
    __cache_config__ = CacheConfig(ttl=20)

    id: int = Field(primary_key=True)


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    """Yield an engine with one row of each model, and a configured cache."""
    made = create_engine(sqlite_url)
    SQLModel.metadata.create_all(made, [Optional.__table__, Short.__table__])  # type: ignore[attr-defined]
    with Session(made) as session:
        session.add_all([Optional(id=1, name="one"), Short(id=1)])
        session.commit()
    SQLModelCache.configure("memory://", default_ttl=100)
    yield made
    made.dispose()


def read(session: Session, **options: Any) -> None:
    """Get the row with these execution options."""
    assert session.get_one(Optional, 1, execution_options=options).name == "one"


def hits_and_fills() -> tuple[int, int]:
    """Return the two counts."""
    stats = SQLModelCache.stats()
    return stats.hits, stats.fills


def test_cache_false_neither_reads_nor_fills(engine: Engine, sql: Recorder) -> None:
    """The call is answered by the database and leaves nothing behind."""
    for _ in range(2):
        with Session(engine) as session, sql(engine) as statements:
            read(session, cache=False)
            assert len(statements) == 1
    assert hits_and_fills() == (0, 0)
    assert SQLModelCache.stats().bypasses == {"cache_false": 2}
    with Session(engine) as session:
        read(session)
    assert hits_and_fills() == (0, 1)


@pytest.mark.parametrize(
    ("options", "life"),
    [
        pytest.param({}, 100, id="default"),
        pytest.param({"cache_ttl": 7}, 7, id="of the call"),
    ],
)
def test_ttl_of_the_call_beats_the_default(
    engine: Engine, options: dict[str, Any], life: int
) -> None:
    """An entry lives exactly as long as the call that stored it said."""
    with freeze_time("2030-01-01") as clock:
        with Session(engine) as session:
            read(session, **options)
        clock.tick(timedelta(seconds=life - 1))
        with Session(engine) as session:
            read(session)
        assert hits_and_fills() == (1, 1)
        clock.tick(timedelta(seconds=1))
        with Session(engine) as session:
            read(session)
        assert hits_and_fills() == (1, 2)


def test_ttl_of_the_model_beats_the_default_and_loses_to_the_call(engine: Engine) -> None:
    """`cache_ttl`, then `CacheConfig.ttl`, then `default_ttl`."""
    with freeze_time("2030-01-01") as clock:
        for options, life in (({}, 20), ({"cache_ttl": 30}, 30)):
            SQLModelCache.clear(bind=engine)
            with Session(engine) as session:
                session.get(Short, 1, execution_options=options)
            before = SQLModelCache.stats().hits
            clock.tick(timedelta(seconds=life - 1))
            with Session(engine) as session:
                session.get(Short, 1)
            assert SQLModelCache.stats().hits == before + 1
            clock.tick(timedelta(seconds=1))
            with Session(engine) as session:
                session.get(Short, 1)
            assert SQLModelCache.stats().hits == before + 1


def test_ttl_zero_stores_nothing_but_reads(engine: Engine) -> None:
    """0 means: do not store. What others stored is still used."""
    with Session(engine) as session:
        read(session, cache_ttl=0)
    assert hits_and_fills() == (0, 0)
    with Session(engine) as session:
        read(session)
    with Session(engine) as session:
        read(session, cache_ttl=0)
    assert hits_and_fills() == (1, 1)


@pytest.mark.parametrize(
    "options",
    [{"cache": 1}, {"cache": "no"}, {"cache": None}, {"cache_ttl": "5"}, {"cache_ttl": -1},
     {"cache_ttl": 2.5}, {"cache_ttl": True}, {"cache_ttl": None}],
    ids=stable_id,
)  # fmt: skip
def test_other_types_are_refused(engine: Engine, options: dict[str, Any]) -> None:
    """A ConfigurationError names the option and what it may be."""
    (name,) = options
    with Session(engine) as session, pytest.raises(ConfigurationError, match=f"{name}.*use"):
        session.get(Optional, 1, execution_options=options)


@pytest.mark.parametrize("name", ["cache_key", "cache_region", "cache_timeout", "cache_ok"])
def test_other_peoples_options_are_theirs(engine: Engine, name: str) -> None:
    """SQLAlchemy takes any name; its own caching recipe reads such ones in a listener."""
    with Session(engine.execution_options(**{name: "theirs"})) as session:
        read(session, **{name: "theirs"})


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("cache_tll", "cache_ttl"), ("cache_TTL", "cache_ttl"), ("cache_", "cache"),
     ("cache_name_space", "cache_namespace"), ("cache_invalidate", "cache_invalidates")],
)  # fmt: skip
@pytest.mark.parametrize("layer", ["call", "connection", "engine"])
def test_misspelt_options_are_refused(engine: Engine, wrong: str, meant: str, layer: str) -> None:
    """On any layer, at the first lookup under it; the nearest name there is stands in the error."""
    options = {wrong: 5}
    bind = engine.execution_options(**options) if layer == "engine" else engine
    with Session(bind) as session:
        if layer == "connection":
            session.connection(execution_options=options)
        with pytest.raises(ConfigurationError, match=f"'{wrong}'; did you mean '{meant}'"):
            read(session, **(options if layer == "call" else {}))


def test_options_of_others_are_theirs(engine: Engine) -> None:
    """Only names that begin with `cache_` are ours."""
    with Session(engine) as session:
        read(session, cachet=1, my_cache_ttl=2)
    assert hits_and_fills() == (0, 1)


def test_key_of_another_type_is_told_once(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A string for an int column is never cached: one line per model, without the key."""
    caplog.set_level(logging.INFO, "sqlmodel_cache")
    for key in ("1", "1", "918273"):
        with Session(engine) as session:
            session.get(Optional, key)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "Optional" in line
    assert "(str)" in line
    assert "INTEGER" in line.upper()
    assert "918273" not in line
    assert SQLModelCache.stats().bypasses == {"key_value": 3}


def test_the_innermost_layer_wins(engine: Engine) -> None:
    """Call, session, factory, engine: the first one that says something counts."""
    off = engine.execution_options(cache=False)
    with Session(off) as session:
        read(session)
        session.expunge_all()
        read(session, cache=True)
    assert hits_and_fills() == (0, 1)
    factory = cached_sessionmaker(sessionmaker(off, class_=Session), cache=True)
    with factory() as session:
        read(session)
        session.expunge_all()
        read(session, cache=False)
    assert hits_and_fills() == (1, 1)
    assert SQLModelCache.stats().bypasses == {"cache_false": 2}


def test_options_of_the_connection_in_use_count(engine: Engine) -> None:
    """A connection's own options are inside its engine's."""
    with Session(engine) as session:
        session.connection(execution_options={"cache": False})
        read(session)
    assert SQLModelCache.stats().bypasses == {"cache_false": 1}


def test_cache_false_beats_cache_ttl(engine: Engine) -> None:
    """Also where the TTL stands further inside."""
    with Session(engine) as session:
        read(session, cache=False, cache_ttl=50)
    with Session(engine.execution_options(cache=False)) as session:
        read(session, cache_ttl=50)
    assert hits_and_fills() == (0, 0)


def test_writes_under_cache_false_invalidate(engine: Engine) -> None:
    """Off stops lookups and fills, never invalidation."""
    with Session(engine) as session:
        read(session)
    with Session(engine.execution_options(cache=False)) as session:
        session.get_one(Optional, 1).name = "two"
        session.commit()
    with Session(engine) as session:
        assert session.get_one(Optional, 1).name == "two"


def test_bypass_covers_everything_inside(engine: Engine) -> None:
    """It nests, ends with its block, and does not stop invalidation."""
    with Session(engine) as session:
        read(session)
    with SQLModelCache.bypass(), Session(engine) as session:
        with SQLModelCache.bypass():
            read(session)
        session.expunge_all()
        session.get_one(Optional, 1).name = "two"
        session.commit()
    assert SQLModelCache.stats().bypasses == {"bypass_block": 2}
    with Session(engine) as session:
        assert session.get_one(Optional, 1).name == "two"
    assert SQLModelCache.stats().misses == 2


def test_bypass_is_of_its_own_thread(engine: Engine) -> None:
    """A context variable: another thread goes on using the cache."""
    seen: list[tuple[int, int]] = []

    def elsewhere() -> None:
        with Session(engine) as session:
            read(session)
        seen.append(hits_and_fills())

    with SQLModelCache.bypass():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert seen == [(0, 1)]


def test_select_with_cache_true_says_once_that_it_is_not_cached(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Until queries are cached: one line in the log, and each one counted."""
    caplog.set_level(logging.WARNING, "sqlmodel_cache")
    for _ in range(2):
        with Session(engine) as session:
            found = session.exec(select(Optional), execution_options={"cache": True}).all()
            assert [row.name for row in found] == ["one"]
    assert [record.message for record in caplog.records if "cache=True" in record.message] != []
    assert len(caplog.records) == 1
    assert SQLModelCache.stats().bypasses == {"query_cache": 2}


def test_get_with_cache_true_is_no_query(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """The SELECT of its miss does not carry the option on."""
    with Session(engine) as session:
        read(session, cache=True)
    assert caplog.records == []
    assert SQLModelCache.stats().bypasses == {}
    assert hits_and_fills() == (0, 1)

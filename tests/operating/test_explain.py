"""explain(): the same judgement as a get, in words, and nothing changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from freezegun import freeze_time
from sqlalchemy import text
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sqlmodel_cache import ConfigurationError, SQLModelCache, _state
from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol.ops import Fence
from sqlmodel_cache.transport import MemoryTransport
from tests.operating.models import Hero, Pair, Plain, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from sqlmodel_cache.orm.operate.explanation import Explanation

explain = SQLModelCache.explain


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, key_prefix: str, engine: Engine) -> str:
    """Configure the cache; hero 2 was read, so that the database is known."""
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    SQLModelCache.configure(url, key_prefix=key_prefix)
    read(engine, Hero, 2)
    return url


def explained(engine: Engine, model: Any, key: Any, **how: Any) -> Explanation:
    """Explain a get in a new session."""
    with Session(engine) as session:
        return explain(session, model, key, **how)


@pytest.mark.usefixtures("store")
def test_a_hit(engine: Engine, key_prefix: str) -> None:
    """With its key, its age and what it has left."""
    read(engine, Hero, 1)
    found = explained(engine, Hero, 1)
    assert (found.expected, found.ttl) == ("hit", 60)
    assert found.entry is not None
    assert found.entry.key.startswith(f"{key_prefix}:v1:{{{found.namespace}:operate_hero:")
    assert found.entry.epoch_current
    assert found.entry.filled_by is not None
    assert found.entry.values == {"id": 1, "name": "Deadpond"}
    assert found.entry.ttl_left == pytest.approx(60, abs=5)
    assert found.entry.age == pytest.approx(0, abs=5)
    assert (found.entry.fenced, found.entry.leased) == (None, None)
    assert "It is in the cache." in str(found)
    assert "Deadpond" not in str(found) + repr(found)


@pytest.mark.usefixtures("store")
def test_a_miss(engine: Engine) -> None:
    """Nothing is stored, and a read would store it."""
    found = explained(engine, Hero, 1)
    assert (found.expected, found.ttl) == ("miss", 60)
    assert str(found).splitlines()[-2:] == ["Nothing is stored.", "A miss stores the row for 60 s."]


@pytest.mark.usefixtures("store")
def test_a_row_that_is_not_there(engine: Engine) -> None:
    """A negative entry is a hit as well."""
    read(engine, Pair, (1, "x"))
    found = explained(engine, Pair, (1, "x"))
    assert found.expected in ("hit", "miss")  # text keys are not remembered as absent
    assert explained(engine, Pair, {"left": 1, "right": "x"}) is not None


@pytest.mark.usefixtures("store")
def test_a_model_that_was_forgotten(engine: Engine) -> None:
    """The value is there, under an epoch that is gone."""
    read(engine, Hero, 1)
    SQLModelCache.invalidate(Hero)
    found = explained(engine, Hero, 1)
    assert found.expected == "miss"
    assert found.entry is not None
    assert (found.entry.present, found.entry.epoch_current) == (True, False)
    assert "no longer current" in str(found)


def test_a_writer_at_work(engine: Engine, redis_url: str, key_prefix: str) -> None:
    """The fence is seen, in memory and in Redis, and a miss would not store."""
    for store in (MemoryTransport(), redis_url):
        SQLModelCache.configure(store, key_prefix=key_prefix, namespace="here")
        read(engine, Hero, 1)
        entry = KeySpace(key_prefix, "here", "operate_hero").entry("i1")
        _state.active.stores.sync.perform(Fence("1" * 32, (entry,), (), 60_000))
        found = explained(engine, Hero, 1)
        assert found.expected == "miss"
        assert found.entry is not None
        assert found.entry.fenced == pytest.approx(60, abs=5)
        assert found.ttl == 0
        assert "A writer is at work" in str(found)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"execution_options": {"cache": False}}, "cache_false"),
        ({"with_for_update": True}, "with_for_update"),
        ({"populate_existing": True}, "populate_existing"),
        ({"identity_token": "x"}, "identity_token"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bypass(engine: Engine, how: dict[str, Any], reason: str) -> None:
    """By its reason, in words."""
    found = explained(engine, Hero, 1, **how)
    assert (found.expected, found.reason) == ("bypass", reason)
    assert reason in str(found)


@pytest.mark.usefixtures("store")
def test_a_remedy(engine: Engine) -> None:
    """Where there is one, it is told."""
    found = explained(engine, Hero, "1")
    assert (found.expected, found.reason) == ("bypass", "key_value")
    assert "Remedy: pass a key of the column's type." in str(found)


@pytest.mark.usefixtures("store")
def test_a_row_that_was_written_here(engine: Engine) -> None:
    """Before the flush nobody knows; after it the row is this transaction's own."""
    with Session(engine) as session:
        other = session.get_one(Hero, 2)
        other.name = "Rusty"
        assert explain(session, Hero, 1).expected == "unknown"
        assert session.dirty, "explain() must not flush"
        session.flush()
        session.expunge_all()
        assert explain(session, Hero, 2).expected == "bypass"


@pytest.mark.usefixtures("store")
def test_a_row_of_the_session(engine: Engine) -> None:
    """The identity map answers first."""
    with Session(engine) as session:
        hero = session.get(Hero, 1)
        assert explain(session, Hero, 1).expected == "session", hero


@pytest.mark.usefixtures("store")
def test_what_has_no_cache(engine: Engine) -> None:
    """A model that did not opt in; a process without configuration; what is no model."""
    assert "did not opt in" in str(explained(engine, Plain, 1))
    SQLModelCache.reset()
    assert "configure()" in str(explained(engine, Hero, 1))
    with pytest.raises(NoInspectionAvailable):
        explained(engine, int, 1)


def test_before_the_first_read(engine: Engine, sql: Callable[[Engine], Any]) -> None:
    """Which database this is would have to be asked, and explain() asks nothing."""
    SQLModelCache.configure("memory://")
    with sql(engine) as sent:
        assert explained(engine, Hero, 1).expected == "unknown"
    assert sent == []


@pytest.mark.usefixtures("store")
def test_nothing_changes(engine: Engine, sql: Callable[[Engine], Any]) -> None:
    """No SQL, no transaction, no count, nothing stored; also for damaged values."""
    before = SQLModelCache.stats()
    with sql(engine) as sent, Session(engine) as session:
        for key in (1, 2, 3, "1", None):
            explain(session, Hero, key)
        assert not session.in_transaction()
    assert sent == []
    assert SQLModelCache.stats() == before


def test_a_damaged_value(engine: Engine) -> None:
    """It is there and cannot be used, and that is not counted as an error."""
    store = MemoryTransport()
    SQLModelCache.configure(store)
    read(engine, Hero, 1)
    ((key, kept),) = store._values.items()
    store.set(key, kept.value[:-5] + b"xxxxx", 60)
    found = explained(engine, Hero, 1)
    assert found.expected == "miss"
    assert "What is stored cannot be used." in str(found)
    assert SQLModelCache.stats().errors == 0


def test_a_store_that_is_away(engine: Engine) -> None:
    """It says so; and then that the breaker is open."""

    class Away:
        def get(self, key: str) -> bytes | None:
            raise ConnectionError

        set = delete = get

    SQLModelCache.configure(Away(), namespace="here")
    assert explained(engine, Hero, 1).expected == "failure"
    assert explained(engine, Hero, 1).reason == "breaker_open"


def test_a_frozen_clock(engine: Engine) -> None:
    """Age and life follow the user's clock."""
    SQLModelCache.configure("memory://")
    with freeze_time("2030-01-01") as clock:
        read(engine, Hero, 1)
        clock.tick(50)
        found = explained(engine, Hero, 1)
        assert found.entry is not None
        assert (found.entry.age, found.entry.ttl_left) == (50, 10)
        clock.tick(11)
        assert explained(engine, Hero, 1).expected == "miss"


@pytest.mark.usefixtures("store")
async def test_under_async_session(async_engine: AsyncEngine) -> None:
    """aexplain() tells the same, through the async store too."""
    async with AsyncSession(async_engine) as session:
        await session.get(Hero, 1)
    async with AsyncSession(async_engine) as session:
        found = await SQLModelCache.aexplain(session, Hero, 1)
        assert found.expected == "hit"
        with pytest.raises(ConfigurationError, match="await aexplain"):
            explain(session, Hero, 1)


@pytest.mark.usefixtures("store")
async def test_the_wrong_session(engine: Engine) -> None:
    """Each form names the other; a scoped_session is a session."""
    with Session(engine) as session, pytest.raises(ConfigurationError, match="write explain"):
        await SQLModelCache.aexplain(session, Hero, 1)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="takes a Session first"):
        explain(Hero, 1, 1)  # type: ignore[arg-type]
    scoped = scoped_session(sessionmaker(engine))
    assert explain(scoped, Hero, 1).expected == "miss"
    scoped.remove()


@pytest.mark.usefixtures("store")
def test_a_changed_connection(engine: Engine) -> None:
    """What the session's connection has been told counts as for a get."""
    with Session(engine) as session:
        session.connection(execution_options={"cache": False})
        session.execute(text("SELECT 1"))
        assert explain(session, Hero, 1).reason == "cache_false"

"""`get_many`: the order asked, one round trip for all hits, one `IN` query for all misses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Event, Thread, current_thread
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import Column, Engine, String, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlmodel import Field
from sqlmodel.ext.asyncio.session import AsyncSession as SQLModelAsyncSession

from sqlmodel_cache import (
    CacheConfig,
    ConfigurationError,
    SQLModelCache,
    aget_many,
    awarm,
    cached_sessionmaker,
    get_many,
    warm,
)
from tests.api.models import Base, Hero, Pair, Plain, fill
from tests.recording import Commands, Statements, stable_id

Recorder = Callable[[Any], AbstractContextManager[Statements]]
CommandRecorder = Callable[[], AbstractContextManager[Commands]]


class Forgetful(Base, table=True):
    """Remembers for ten seconds that a row is not there."""

    __cache_config__ = CacheConfig(negative_ttl=10)

    id: int = Field(primary_key=True)


class Nocase(Base, table=True):
    """Its key is compared without case."""

    __cache_config__ = CacheConfig(negative_ttl=10)

    name: str = Field(sa_column=Column(String(collation="NOCASE"), primary_key=True))


@pytest.fixture(autouse=True)
def rows(engine: Engine) -> None:
    """Store rows; configure memory."""
    fill(engine, *(Hero(id=number, name=f"hero {number}") for number in range(1, 6)))
    fill(engine, Plain(id=1), *(Pair(left=n, right="a:b", value=n) for n in (1, 2)))
    SQLModelCache.configure("memory://")


def names(found: list[Any]) -> list[str | None]:
    """Return each row's name, None where there is no row."""
    return [None if row is None else row.name for row in found]


def test_order_gaps_and_duplicates(engine: Engine) -> None:
    """As asked, None where no row is, one instance for a key that comes twice; cold and warm."""
    for _ in range(2):
        with Session(engine) as session:
            found = get_many(session, Hero, [3, 404, 1, 3])
            assert names(found) == ["hero 3", None, "hero 1", "hero 3"]
            assert found[0] is found[3]
            assert found[0] in session
    stats = SQLModelCache.stats()
    assert (stats.hits, stats.misses, stats.fills) == (2, 4, 2)


def test_nothing_asked(engine: Engine, sql: Recorder) -> None:
    """An empty list, without a statement."""
    with Session(engine) as session, sql(engine) as statements:
        assert get_many(session, Hero, []) == []
        assert statements == []


def test_any_iterable_of_keys(engine: Engine) -> None:
    """A generator may be given."""
    with Session(engine) as session:
        assert names(get_many(session, Hero, (key for key in (2, 1)))) == ["hero 2", "hero 1"]


def test_misses_are_one_query_and_hits_none(engine: Engine, sql: Recorder) -> None:
    """What is cached is not asked for again, what is not comes together."""
    with Session(engine) as session:
        session.get(Hero, 2)
    with Session(engine) as session, sql(engine) as statements:
        assert names(get_many(session, Hero, [1, 2, 3])) == ["hero 1", "hero 2", "hero 3"]
        assert len(statements) == 1
        assert " IN " in statements[0]
    with Session(engine) as session, sql(engine) as statements:
        assert names(get_many(session, Hero, [1, 2, 3])) == ["hero 1", "hero 2", "hero 3"]
        assert statements == []
    assert SQLModelCache.stats().hits == 4


def test_all_hits_are_one_round_trip(
    engine: Engine, redis_url: str, key_prefix: str, commandstats: CommandRecorder
) -> None:
    """One MGET per slot, sent together: at most one for each of a model's shards."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    with Session(engine) as session:
        get_many(session, Hero, [1, 2, 3, 4, 5])
    with Session(engine) as session, commandstats() as commands:
        assert None not in get_many(session, Hero, [1, 2, 3, 4, 5])
    assert commands == {"mget": 1}
    with Session(engine) as session, commandstats() as commands:
        session.get(Hero, 1)
    assert commands == {"mget": 1}


def test_rows_of_the_identity_map_are_not_asked_for(engine: Engine, sql: Recorder) -> None:
    """They are what they are, pending changes included."""
    with Session(engine) as session:
        mine = session.get_one(Hero, 1)
        mine.name = "changed here"
        with session.no_autoflush:
            found = get_many(session, Hero, [1, 2])
        assert found[0] is mine
        assert names(found) == ["changed here", "hero 2"]


def test_own_uncommitted_writes_are_seen(engine: Engine) -> None:
    """After a flush the row comes from the database; nobody else sees it."""
    with Session(engine) as session:
        get_many(session, Hero, [1, 2])
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "mine"
        session.add(Hero(id=9, name="new"))
        assert names(get_many(session, Hero, [1, 9, 2])) == ["mine", "new", "hero 2"]
        with Session(engine) as other:
            assert names(get_many(other, Hero, [1, 9])) == ["hero 1", None]
        session.commit()
    with Session(engine) as session:
        assert names(get_many(session, Hero, [1, 9])) == ["mine", "new"]


@pytest.mark.parametrize("spell", [tuple, list, lambda key: {"right": key[1], "left": key[0]}])
def test_composite_keys(engine: Engine, sql: Recorder, spell: Any) -> None:
    """Tuples, lists and dicts; one query for all."""
    keys = [spell(key) for key in ((2, "a:b"), (7, "a:b"), (1, "a:b"))]
    with Session(engine) as session, sql(engine) as statements:
        found = get_many(session, Pair, keys)
        assert [row and row.value for row in found] == [2, None, 1]
        assert len(statements) == 1 + (len(statements) > 1 and "PRAGMA" in statements[0])
    with Session(engine) as session:
        found = get_many(session, Pair, keys)
        assert [row and row.value for row in found] == [2, None, 1]
    assert SQLModelCache.stats().hits == 2


def test_missing_rows_are_remembered_where_the_model_wants_it(
    engine: Engine, sql: Recorder
) -> None:
    """`negative_ttl`: the second time nothing is asked of the database."""
    fill(engine, Forgetful(id=1))
    for _ in range(2):
        with Session(engine) as session, sql(engine) as statements:
            one, none = get_many(session, Forgetful, [1, 404])
            assert one is not None
            assert none is None
    assert statements == []
    fill(engine, Forgetful(id=404))
    with Session(engine) as session:
        assert None not in get_many(session, Forgetful, [1, 404])


def test_uncached_model_is_one_query(engine: Engine, sql: Recorder) -> None:
    """The call works for every mapped class."""
    with Session(engine) as session, sql(engine) as statements:
        assert names(get_many(session, Plain, [404, 1])) == [None, "nobody"]
        assert len(statements) == 1
    assert SQLModelCache.stats().models == {}


def test_bypassed_it_is_one_query(engine: Engine, sql: Recorder) -> None:
    """Each key counts as one bypass."""
    with Session(engine) as session:
        get_many(session, Hero, [1, 2])
    with SQLModelCache.bypass(), Session(engine) as session, sql(engine) as statements:
        assert names(get_many(session, Hero, [1, 2])) == ["hero 1", "hero 2"]
        assert len(statements) == 1
    assert SQLModelCache.stats().bypasses == {"bypass_block": 2}


def test_sessions_of_a_factory_keep_its_defaults(engine: Engine) -> None:
    """The namespace and `cache=False` of a cached_sessionmaker count."""
    from sqlalchemy.orm import sessionmaker

    off = cached_sessionmaker(sessionmaker(engine), cache=False)
    with off() as session:
        get_many(session, Hero, [1, 2])
    apart = cached_sessionmaker(sessionmaker(engine), namespace="apart")
    with apart() as session:
        get_many(session, Hero, [1, 2])
    with Session(engine) as session:
        get_many(session, Hero, [1, 2])
    stats = SQLModelCache.stats()
    assert (stats.bypasses, stats.misses, stats.hits) == ({"cache_false": 2}, 4, 0)


@pytest.mark.parametrize("wrong", [(1, 2), {"nonsense": 1}], ids=stable_id)
def test_what_is_no_key_is_refused(engine: Engine, wrong: Any) -> None:
    """The message names the model."""
    with Session(engine) as session, pytest.raises(ConfigurationError, match="Hero"):
        get_many(session, Hero, [1, wrong])


@pytest.mark.parametrize("kind", [AsyncSession, SQLModelAsyncSession])
@pytest.mark.parametrize("store", ["memory", "redis"])
async def test_async_form(
    async_engine: AsyncEngine,
    kind: Any,
    store: str,
    request: pytest.FixtureRequest,
    key_prefix: str,
    sql: Recorder,
) -> None:
    """The same list, the same statements."""
    url = "memory://" if store == "memory" else request.getfixturevalue("redis_url")
    SQLModelCache.configure(url, key_prefix=key_prefix)
    async with kind(async_engine) as session:
        assert names(await aget_many(session, Hero, [3, 404, 1])) == ["hero 3", None, "hero 1"]
    async with kind(async_engine) as session:
        with sql(async_engine) as statements:
            assert names(await aget_many(session, Hero, [3, 1, 3])) == [
                "hero 3", "hero 1", "hero 3",
            ]  # fmt: skip
        assert statements == []


def test_key_that_only_the_database_calls_equal(engine: Engine) -> None:
    """Found under another spelling, as `session.get()` finds it, and never remembered as absent."""
    fill(engine, Nocase(name="Bob"))
    with Session(engine) as session:
        assert session.get_one(Nocase, "bob").name == "Bob"
    for _ in range(2):
        with Session(engine) as session:
            assert names(get_many(session, Nocase, ["bob", "eve"])) == ["Bob", None]
            assert session.get(Nocase, "eve") is None
    fill(engine, Nocase(name="EVE"))
    with Session(engine) as session:
        assert names(get_many(session, Nocase, ["eve"])) == ["EVE"]
    with Session(engine) as session:
        assert session.get_one(Nocase, "eve").name == "EVE"


def test_it_does_not_wait_for_other_readers_key_by_key(engine: Engine) -> None:
    """Rows that somebody else is filling come with the query for the rest."""
    keys = list(range(1, 101))
    reading, done = Event(), Event()

    def stand_still(*_: Any) -> None:
        if current_thread() is slow:
            reading.set()
            done.wait(20)

    def read_slowly() -> None:
        with Session(engine) as session:
            get_many(session, Hero, keys)

    with Session(engine) as session:
        session.get(Hero, 1)
    SQLModelCache.clear()
    slow = Thread(target=read_slowly)
    event.listen(engine, "before_cursor_execute", stand_still)
    slow.start()
    assert reading.wait(20)
    began = monotonic()
    with Session(engine) as session:
        found = get_many(session, Hero, keys)
    took = monotonic() - began
    done.set()
    slow.join()
    assert names(found[:6]) == [f"hero {number}" for number in range(1, 6)] + [None]
    assert took < 5  # a tenth of a second for each key would be ten


def test_many_keys(engine: Engine) -> None:
    """More than a statement's parameters would be odd, a thousand are not."""
    fill(engine, *(Hero(id=number, name=f"hero {number}") for number in range(1000, 2000)))
    keys = list(range(1999, 999, -1))
    for _ in range(2):
        with Session(engine) as session:
            assert names(get_many(session, Hero, keys)) == [f"hero {key}" for key in keys]
    assert SQLModelCache.stats().hits == 1000


def test_a_session_of_the_other_kind_is_refused(engine):
    """The message names the function that takes it."""
    with pytest.raises(ConfigurationError, match="aget_many"):
        get_many(AsyncSession(), Hero, [1])
    with pytest.raises(ConfigurationError, match="takes a Session first, not Engine"):
        get_many(engine, Hero, [1])


async def test_a_plain_session_is_refused():
    """The same the other way round."""
    with pytest.raises(ConfigurationError, match="get_many"):
        await aget_many(Session(), Hero, [1])


@pytest.mark.parametrize("keys", [1, "12", b"12", None], ids=stable_id)
async def test_a_lone_key_is_refused(engine: Engine, keys: Any) -> None:
    """The characters of a string would be looked up as keys, and nothing be said."""
    with Session(engine) as session:
        for call in (get_many, warm):
            with pytest.raises(ConfigurationError, match=r"Hero: .* is no list of primary keys"):
                call(session, Hero, keys)
    for acall in (aget_many, awarm):
        with pytest.raises(ConfigurationError, match="put a single one into a list"):
            await acall(AsyncSession(), Hero, keys)

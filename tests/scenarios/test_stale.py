"""Rows past their TTL are served while they are loaded again, by one caller, in the background.

What is to be done there is collected, and done when a test says so. Rows live for 100 seconds and
may be served for 50 more.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from freezegun import freeze_time
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session, registry, sessionmaker
from sqlalchemy.pool import StaticPool
from sqlmodel import Field

from sqlmodel_cache import (
    CacheConfig,
    CachedModel,
    ConfigurationError,
    SQLModelCache,
    _state,
    aget_many,
    cached,
    cached_sessionmaker,
    get_many,
)
from sqlmodel_cache.orm._sqlalchemy import greenlet_spawn
from sqlmodel_cache.protocol.ops import Fence, Get, Lease
from sqlmodel_cache.protocol.read import new_epoch, new_token, rejection
from tests.recording import record_sql
from tests.scenarios.harness import STORES, WORLDS, World

NOON = dt.datetime(2031, 5, 4, 12, 0, 0)
MakeWorld = Callable[..., World]
ON_SQLITE = [where for where in WORLDS if where[2] == "sqlite"]


def at(seconds: float) -> dt.datetime:
    """Return the moment so long after noon."""
    return NOON + dt.timedelta(seconds=seconds)


def _base(known: Any) -> Any:
    class Base(CachedModel, registry=known):
        """Base of models that are forgotten again."""

    return Base


@pytest.fixture
def models() -> Iterator[SimpleNamespace]:
    """Return models that exist for one test: beside them no cache may be strict."""
    known = registry()
    SQLModelCache.reset()

    class Soft(_base(known), table=True):  # type: ignore[misc]
        __tablename__ = "stale_soft"
        __cache_config__ = CacheConfig(ttl=100, stale_ttl=50)

        id: int | None = Field(default=None, primary_key=True)
        name: str = Field(max_length=50)

    yield SimpleNamespace(Soft=Soft, registry=known)
    SQLModelCache.reset()
    known.dispose()


class Behind:
    """What waits to be done in the background."""

    def __init__(self) -> None:
        self.works: dict[str, tuple[Callable[[], Any], bool]] = {}

    def do(self, key: str, work: Callable[[], Any], *, in_task: bool) -> None:
        """Take a piece of work."""
        self.works.setdefault(key, (work, in_task))

    def run(self, world: World) -> list[Any]:
        """Have it done, in a thread or a task as it would be; return what it says of itself."""
        works, self.works = list(self.works.values()), {}
        said: list[Any] = []
        for work, in_task in works:
            assert in_task == (world.mode == "async")
            if in_task:
                said.append(world.loop.run_until_complete(greenlet_spawn(work)))
            else:
                thread = threading.Thread(target=lambda work=work: said.append(work()))
                thread.start()
                thread.join()
        return said


@pytest.fixture
def make(make_world: MakeWorld, models: SimpleNamespace) -> MakeWorld:
    """Return the function that sets up a world with the table, and a `behind`."""

    def made(*where: str, **settings: Any) -> Any:
        world: Any = make_world(*where, consistency="eventual", **settings)
        models.Soft.__table__.drop(world.outside, checkfirst=True)
        models.Soft.__table__.create(world.outside)
        world.Soft = models.Soft
        world.behind = Behind()
        _state.active.background.do = world.behind.do
        return world

    return made


@pytest.fixture(params=ON_SQLITE, ids="-".join)
def soft(request: pytest.FixtureRequest, make: MakeWorld) -> Any:
    """Set up every world on SQLite."""
    return make(*request.param)


@contextmanager
def past_its_time(world: Any, name: str = "b") -> Iterator[tuple[int, Any]]:
    """Have a row that was cached as "a", is 101 seconds old and means something else by now."""
    pk = world.store(world.Soft(name="a"))
    with freeze_time(NOON) as time:
        world.miss(world.Soft, pk)
        time.move_to(at(99))
        world.hit(world.Soft, pk)
        world.behind_the_back(f"UPDATE stale_soft SET name = '{name}' WHERE id = {pk}")
        time.move_to(at(101))
        yield pk, time


@pytest.mark.parametrize("where", WORLDS, ids="-".join)
def test_it_is_served_and_loaded_again(make: MakeWorld, where: tuple[str, str, str]) -> None:
    """The caller sends no SQL; what is loaded beside it lives for a whole TTL."""
    world: Any = make(*where)
    with past_its_time(world) as (pk, time):
        before = world.stats()
        assert world.hit(world.Soft, pk).name == "a"
        assert world.hit(world.Soft, pk).name == "a"
        assert len(world.behind.works) == 1
        with world.one_select():
            assert world.behind.run(world) == [True]
        assert world.hit(world.Soft, pk).name == "b"
        assert not world.behind.works
        after = world.stats()
        assert (after.hits, after.misses) == (before.hits + 3, before.misses)
        assert (after.fills, after.errors) == (before.fills + 1, before.errors)
        time.move_to(at(101 + 99))
        assert world.hit(world.Soft, pk).name == "b"


def test_no_longer_than_it_may(soft: Any) -> None:
    """After both times it is a miss."""
    with past_its_time(soft) as (pk, time):
        time.move_to(at(149))
        assert soft.hit(soft.Soft, pk).name == "a"
        time.move_to(at(151))
        assert soft.miss(soft.Soft, pk).name == "b"


def test_max_ttl_bounds_both(make: MakeWorld) -> None:
    """No entry is left after it."""
    world: Any = make("sync", "memory", "sqlite", max_ttl=110)
    with past_its_time(world) as (pk, time):
        world.hit(world.Soft, pk)
        time.move_to(at(111))
        world.miss(world.Soft, pk)


def test_a_commit_is_seen_at_once(soft: Any) -> None:
    """Only age is softened: what was written is read from the database, past its time or not."""
    with past_its_time(soft) as (pk, _), soft.session() as session:
        assert session.get(soft.Soft, pk).name == "a"
        session.rollback()
        row = session.get(soft.Soft, pk)
        row.name = "c"
        session.flush()
        session.expunge_all()
        with soft.one_select():
            assert session.get(soft.Soft, pk).name == "c"  # its own, in the transaction
        session.commit()
        assert soft.miss(soft.Soft, pk).name == "c"


def test_who_does_not_soften_it_has_a_miss(soft: Any) -> None:
    """A process whose model says nothing of it goes by the TTL, whoever stored the row."""
    with past_its_time(soft) as (pk, _):
        soft.hit(soft.Soft, pk)
        for site in _state.active.sites:
            for reader in site._readers.values():
                reader.stale_ttl = 0
        assert soft.miss(soft.Soft, pk).name == "b"


def test_one_of_all_processes_loads(soft: Any) -> None:
    """Whoever has the lease; the others' work is done when they see it."""
    with past_its_time(soft) as (pk, _):
        soft.hit(soft.Soft, pk)
        (key,) = soft.behind.works
        ((renewal, _),) = soft.behind.works.values()
        token = new_token()
        lease = Lease(
            renewal.entry, token, new_epoch(), rejection(_perform(Get(renewal.entry))), 5_000
        )
        _perform(lease)
        with soft.no_sql():
            assert soft.behind.run(soft) == [True]
        assert soft.hit(soft.Soft, pk).name == "a"
        assert key


@pytest.mark.parametrize("when", ["before the lease", "after the SELECT"])
def test_a_writer_wins(soft: Any, when: str) -> None:
    """What was loaded beside a commit is not stored."""
    with past_its_time(soft) as (pk, _):
        soft.hit(soft.Soft, pk)
        ((renewal, _),) = soft.behind.works.values()

        def write(*_: Any) -> None:
            _perform(Fence("1" * 32, (renewal.entry,), (), 60_000))

        before = soft.stats()
        if when == "before the lease":
            write()
            with soft.no_sql():
                assert soft.behind.run(soft) == [True]
        else:
            event.listen(_sync_engine(soft), "after_cursor_execute", write)
            assert soft.behind.run(soft) == [False]
            event.remove(_sync_engine(soft), "after_cursor_execute", write)
        assert (soft.stats().fills, soft.stats().errors) == (before.fills, before.errors)
        soft.miss(soft.Soft, pk)


def test_a_row_that_is_gone(soft: Any) -> None:
    """Deleted where nobody was told: the entry goes, and is not served again."""
    with past_its_time(soft) as (pk, _):
        soft.behind_the_back(f"DELETE FROM stale_soft WHERE id = {pk}")
        assert soft.hit(soft.Soft, pk).name == "a"
        assert soft.behind.run(soft) == [True]
        with soft.one_select():
            assert soft.get(soft.Soft, pk) is None


def test_a_database_that_fails(soft: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, said once, and the row is served on; once it works again it may be said."""

    def fail(*_: Any) -> None:
        raise ConnectionError("unplugged")

    with past_its_time(soft) as (pk, _):
        engine = _sync_engine(soft)
        event.listen(engine, "before_cursor_execute", fail)
        with caplog.at_level(logging.WARNING, "sqlmodel_cache"):
            for _ in range(2):
                assert soft.get(soft.Soft, pk).name == "a"
                assert soft.behind.run(soft) == [False]
        event.remove(engine, "before_cursor_execute", fail)
        assert soft.stats().models["Soft"].errors == 2
        (said,) = caplog.messages
        assert "Soft" in said
        assert "ConnectionError" in said
        soft.hit(soft.Soft, pk)
        assert soft.behind.run(soft) == [True]  # the lease was given back
        assert soft.hit(soft.Soft, pk).name == "b"


def test_get_many(soft: Any) -> None:
    """Rows past their time are hits among others."""
    with past_its_time(soft) as (pk, _):
        young = soft.store(soft.Soft(name="young"))
        soft.miss(soft.Soft, young)
        with soft.session() as session, soft.no_sql():
            if soft.mode == "sync":
                rows: Any = get_many(session, soft.Soft, [pk, young])
            else:
                asked = aget_many(session._wrapped, soft.Soft, [pk, young])
                rows = soft.loop.run_until_complete(asked)
            assert [row.name for row in rows] == ["a", "young"]
        soft.behind.run(soft)
        assert soft.hit(soft.Soft, pk).name == "b"


def test_explain(make: MakeWorld) -> None:
    """It says what a read would be given, and what becomes of it."""
    world: Any = make("sync", "redis", "sqlite")
    with past_its_time(world) as (pk, _):
        with world.session() as session:
            told = SQLModelCache.explain(session, world.Soft, pk)
        assert told.expected == "hit"
        assert "TTL is over" in str(told)
        with _of_a_connection(world) as session:
            assert SQLModelCache.explain(session, world.Soft, pk).expected == "miss"
        assert not world.behind.works


def test_refresh_ahead_does_not_come_in_between(make_world: MakeWorld) -> None:
    """Past its time a row is served, however the dice fall."""
    known = registry()

    class Both(_base(known), table=True):  # type: ignore[misc]
        __tablename__ = "stale_both"
        __cache_config__ = CacheConfig(ttl=100, stale_ttl=50, refresh_ahead=1)

        id: int | None = Field(default=None, primary_key=True)

    try:
        world: Any = make_world("sync", "memory", "sqlite", consistency="eventual")
        Both.__table__.create(world.outside)  # type: ignore[attr-defined]
        behind = _state.active.background = Behind()  # type: ignore[assignment]
        pk = world.store(Both())
        with freeze_time(NOON) as time:
            world.miss(Both, pk)
            time.move_to(at(101))
            world.hit(Both, pk)
            assert behind.works
    finally:
        _state.active.background = SimpleNamespace(close=lambda: None)
        SQLModelCache.reset()
        known.dispose()


# Sessions for which another connection would not do: an ordinary miss.


@contextmanager
def _of_a_connection(world: Any) -> Iterator[Any]:
    with world.connect() as connection, world.session(bind=connection) as session:
        yield session


@contextmanager
def _that_wrote(world: Any) -> Iterator[Any]:
    with world.session() as session:
        session.add(world.Soft(name="other"))
        session.flush()
        yield session


@contextmanager
def _with_options(world: Any) -> Iterator[Any]:
    with world.session() as session:
        session.connection(execution_options={"cache_namespace": "another"})
        session.rollback()
        session.connection(execution_options={"of_their_own": 1})
        yield session


@contextmanager
def _of_a_replica(world: Any) -> Iterator[Any]:
    engine = world.engine.execution_options(cache_replica=True)
    with world.session(bind=engine) as session:
        yield session


@contextmanager
def _that_routes(world: Any) -> Iterator[Any]:
    class Routing(Session):
        def get_bind(self, *args: Any, **kwargs: Any) -> Any:
            return _sync_engine(world)

    how = {"sync_session_class": Routing} if world.mode == "async" else {}
    if world.mode == "async":
        with world.session(**how) as session:
            yield session
    else:
        with Routing() as session:
            yield session


@contextmanager
def _whose_pool_is_watched(world: Any) -> Iterator[Any]:
    def on_checkout(*_: Any) -> None:
        """Somebody's `SET app.tenant`, say."""

    pool = _sync_engine(world).pool
    event.listen(pool, "checkout", on_checkout)
    try:
        with world.session() as session:
            yield session
    finally:
        event.remove(pool, "checkout", on_checkout)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    "session_of",
    [
        _of_a_connection,
        _that_wrote,
        _with_options,
        _of_a_replica,
        _that_routes,
        _whose_pool_is_watched,
    ],
)
def test_sessions_that_miss(make: MakeWorld, mode: str, store: str, session_of: Any) -> None:
    """As they do without `stale_ttl`, and as every other read of theirs goes."""
    world: Any = make(mode, store, "sqlite")
    with past_its_time(world) as (pk, _), session_of(world) as session:
        assert session.get(world.Soft, pk).name == "b"
        assert not world.behind.works


@pytest.mark.parametrize(
    "settings",
    [{"namespace": lambda session: "tenant"}, {"trust_orm_hooks": True}],
    ids=["tenants", "hooks"],
)
def test_caches_whose_sessions_miss(make: MakeWorld, settings: Any) -> None:
    """A namespace that only a session knows, and hooks that another session would not have."""

    def hook(*_: Any) -> None:
        """Somebody's `SET LOCAL app.tenant`, say."""

    world: Any = make("sync", "redis", "sqlite", **settings)
    factory = sessionmaker(world.engine)
    if "trust_orm_hooks" in settings:
        event.listen(factory, "after_begin", hook)
    with past_its_time(world) as (pk, _), factory() as session:
        assert session.get(world.Soft, pk).name == "b"
        assert not world.behind.works


def test_a_factory_with_a_name_of_its_own(make: MakeWorld) -> None:
    """A fixed namespace is as good as none."""
    world: Any = make("sync", "redis", "sqlite")
    factory = cached_sessionmaker(sessionmaker(world.engine), namespace="mine")
    pk = world.store(world.Soft(name="a"))
    with freeze_time(NOON) as time:
        with factory() as session:
            session.get(world.Soft, pk)
        time.move_to(at(101))
        with factory() as session, world.no_sql():
            session.get(world.Soft, pk)
        assert world.behind.run(world) == [True]


def test_a_database_of_one_connection(make: MakeWorld) -> None:
    """SQLite in memory: another connection would be the same one, or another database."""
    world: Any = make("sync", "memory", "sqlite")
    for pool in ({"poolclass": StaticPool}, {}):
        engine = create_engine("sqlite://", **pool)
        world.Soft.__table__.create(engine)
        with Session(engine) as session:
            session.add(world.Soft(id=1, name="a"))
            session.commit()
        with freeze_time(NOON) as time:
            for seconds in (0, 101):
                time.move_to(at(seconds))
                with record_sql(engine) as sent, Session(engine) as session:
                    session.get(world.Soft, 1)
                assert sent.starting("SELECT")
        assert not world.behind.works
        engine.dispose()


def test_under_schema_translate_map(make: MakeWorld) -> None:
    """Another schema's row: a miss."""
    world: Any = make("sync", "memory", "postgresql")
    with world.outside.begin() as connection:
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS stale_other"))
        connection.execute(text("DROP TABLE IF EXISTS stale_other.stale_soft"))
    there = world.engine.execution_options(schema_translate_map={None: "stale_other"})
    world.Soft.__table__.create(there)
    with Session(there) as session:
        session.add(world.Soft(id=1, name="a"))
        session.commit()
    with freeze_time(NOON) as time:
        for seconds in (0, 101):
            time.move_to(at(seconds))
            with record_sql(there) as sent, Session(there) as session:
                session.get(world.Soft, 1)
            assert len(sent.starting("SELECT stale")) == 1
    assert not world.behind.works


# What it takes


def test_a_strict_cache_refuses_it(models: SimpleNamespace) -> None:
    """Whichever was there first, with model, field and remedy."""
    wanted = r"Soft.*stale_ttl=50.*consistency='eventual'.*'strict'"
    with pytest.raises(ConfigurationError, match=wanted):
        SQLModelCache.configure("memory://")
    assert _state.active is None
    SQLModelCache.configure("memory://", consistency="eventual")
    SQLModelCache.reset()
    models.registry.dispose()
    SQLModelCache.configure("memory://")
    known = registry()
    try:
        with pytest.raises(ConfigurationError, match=r"Later.*stale_ttl=1.*'strict'"):

            class Later(_base(known), table=True):  # type: ignore[misc]
                __tablename__ = "stale_later"
                __cache_config__ = CacheConfig(stale_ttl=1)

                id: int | None = Field(default=None, primary_key=True)

        with pytest.raises(ConfigurationError, match=r"Decorated.*stale_ttl=1.*'strict'"):

            @cached(stale_ttl=1)
            class Decorated:
                pass

    finally:
        known.dispose()


def test_so_does_a_factory_with_a_cache_of_its_own(models: SimpleNamespace) -> None:
    """It is strict where nobody configured otherwise."""
    with pytest.raises(ConfigurationError, match=r"Soft.*stale_ttl=50"):
        cached_sessionmaker(sessionmaker(), transport="memory://")
    SQLModelCache.configure("memory://", consistency="eventual")
    cached_sessionmaker(sessionmaker(), transport="memory://")


def test_a_cache_that_is_off_refuses_nothing(models: SimpleNamespace) -> None:
    """It serves nobody."""
    SQLModelCache.configure("memory://", enabled=False)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_in_earnest(make: MakeWorld, mode: str) -> None:
    """With threads and tasks, which end by themselves."""
    world: Any = make(mode, "redis", "sqlite")
    background = _state.active.background
    del background.do
    with past_its_time(world) as (pk, _):
        assert world.get(world.Soft, pk).name == "a"
        if mode == "sync":
            background.join()
        else:
            world.loop.run_until_complete(background.ajoin())
        assert world.hit(world.Soft, pk).name == "b"


def _perform(op: Any) -> Any:
    """Do something to the store, as another process would."""
    sync = _state.active.stores.sync
    store: Any = getattr(sync, "_store", sync)
    return store.perform(op)


def _sync_engine(world: Any) -> Any:
    return world.engine if world.mode == "sync" else world.engine.sync_engine

"""`configure(snapshot_hits=True)`: what was read before a snapshot began is given to it (S4, B23).

Redis needs a sample of its clock from well before a transaction; tests put one there, and date
entries, so that nobody has to sleep.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from sqlalchemy import Connection, NullPool, Pool, event, select, text
from sqlalchemy.orm import Session

from sqlmodel_cache import (
    ConfigurationError,
    SQLModelCache,
    _state,
    aget_many,
    get_many,
)
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.orm.connections import isolation, snapshots
from sqlmodel_cache.protocol.dating import Sample, StoreClock
from tests.scenarios.harness import MODES, STORES, World
from tests.scenarios.models import Hero, Town
from tests.scenarios.relation_models import House, Owner

SNAPSHOTS = ("mariadb", "postgresql")


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a sample of any moment before a transaction do: no test waits for LEAD seconds."""
    monkeypatch.setattr("sqlmodel_cache.protocol.dating.LEAD", 0.0)


@pytest.fixture(params=list(product(MODES, STORES, SNAPSHOTS)), ids="-".join)
def world(
    request: pytest.FixtureRequest, make_world: Callable[..., World], early: None
) -> Iterator[World]:
    """Set up a world whose transactions read from snapshots."""
    mode, store, database = request.param
    made = make_world(mode, store, database, snapshot_hits=True)
    settings = {"isolation_level": "REPEATABLE READ"} if database == "postgresql" else {}
    with made.another_engine(**settings) as engine:
        made.engine = engine
        made.get(Hero, 0)  # an engine's first get asks the database who it is
        with made.session() as session:  # the store's clock is seen for the first time
            session.execute(text("SELECT 1"))
            session.get(Hero, 0)
        yield made


def hero(world: World, name: str = "Deadpond") -> Any:
    """Store a hero; return the key."""
    return world.store(Hero(name=f"{name} {world.fresh}"))


def begun(session: Any) -> None:
    """Send a transaction's first statement, when what is cached is older than any reply takes."""
    time.sleep(0.05)
    session.execute(text("SELECT 1"))


def test_s4_a_row_read_before_is_a_hit(world: World) -> None:
    """A miss, and then a get of a cached row: no SQL for it."""
    cached, missed = hero(world), hero(world, "Rusty-Man")
    world.warm(Hero, cached)
    with world.session() as session:
        time.sleep(0.05)
        assert session.get(Hero, missed) is not None
        with world.no_sql():
            assert session.get(Hero, cached).name.startswith("Deadpond")
    assert world.stats().bypasses.get("snapshot", 0) <= 1


def test_s4_a_row_read_later_is_not(world: World) -> None:
    """Filled by somebody else after the snapshot began: the database answers, as of then."""
    cached = hero(world)
    with world.session() as session:
        begun(session)
        session.execute(select(Hero.id).where(Hero.id == cached))
        with world.plain() as other:
            other.get(Hero, cached).name = "changed"
            other.commit()
            other.get(Hero, cached)
        world.get(Hero, cached)
        with world.one_select():
            assert session.get(Hero, cached).name.startswith("Deadpond")
    assert world.hit(Hero, cached).name == "changed"


def test_s4_a_row_that_is_changed_meanwhile_is_not(world: World) -> None:
    """It is forgotten by the commit, and nothing is stored for the snapshot."""
    cached = hero(world)
    world.warm(Hero, cached)
    with world.session() as session:
        begun(session)
        session.execute(select(Hero.id).where(Hero.id == cached))
        with world.plain() as other:
            other.get(Hero, cached).name = "changed"
            other.commit()
        fills = world.stats().fills
        with world.one_select():
            assert session.get(Hero, cached).name.startswith("Deadpond")
        assert world.stats().fills == fills
    assert world.get(Hero, cached).name == "changed"


def test_s4_that_there_is_no_row(world: World) -> None:
    """It is an entry like any other: read before, it is given; inserted since, it is not."""
    absent = int(world.fresh[:7], 16)
    for key in (absent, absent + 1):
        assert world.get(Town, key) is None
        assert world.hit(Town, key) is None
    with world.session() as session:
        begun(session)
        session.execute(select(Hero.id).limit(1))
        with world.plain() as other:
            other.add(Town(id=absent, name="new"))
            other.commit()
        world.get(Town, absent)
        with world.one_select():
            assert session.get(Town, absent) is None
        with world.no_sql():
            assert session.get(Town, absent + 1) is None


def test_s4_own_writes_are_seen(world: World) -> None:
    """What the transaction has written comes from the database."""
    cached = hero(world)
    world.warm(Hero, cached)
    with world.session() as session:
        session.get(Hero, cached).name = "mine"
        session.flush()
        session.expunge_all()
        assert session.get(Hero, cached).name == "mine"
        session.rollback()
    world.warm(Hero, cached)


def test_s4_select_by_key_get_many_and_lazy_loads(world: World) -> None:
    """They decide as a get does."""
    owner = world.store(Owner(name=f"Z {world.fresh}", kind="owner"))
    house = world.store(House(owner_id=owner))
    one, two = hero(world), hero(world, "Tarantula")
    for model, key in ((Hero, one), (Hero, two), (Owner, owner), (House, house)):
        world.warm(model, key)
    with world.session() as session:
        begun(session)
        with world.no_sql():
            found = session.execute(select(House).where(House.id == house)).scalar_one()
            assert world.attribute(session, found, "owner").name.startswith("Z ")
            if world.mode == "sync":
                assert None not in get_many(session, Hero, [one, two])
            else:
                many = aget_many(session._wrapped, Hero, [one, two])
                assert None not in world.loop.run_until_complete(many)


def test_s4_the_next_transaction_begins_anew(world: World) -> None:
    """A commit and a rollback end what was noted."""
    cached = hero(world)
    with world.session() as session:
        begun(session)
        session.commit()
        world.warm(Hero, cached)
        begun(session)
        with world.no_sql():
            session.get(Hero, cached)


def test_explain_says_what_a_get_would_do(world: World) -> None:
    """A hit, or that the snapshot is in the way."""
    cached, later = hero(world), hero(world, "Tarantula")
    world.warm(Hero, cached)
    with world.session() as session:
        begun(session)
        world.warm(Hero, later)

        def explain(key: Any) -> Any:
            if world.mode == "sync":
                return SQLModelCache.explain(session, Hero, key)
            asked = SQLModelCache.aexplain(session._wrapped, Hero, key)
            return world.loop.run_until_complete(asked)

        assert explain(cached).expected == "hit"
        assert explain(later).reason == Bypass.SNAPSHOT


# -- where the beginning is not known -------------------------------------------------------------


def served(engine: Any, key: Any) -> bool:
    """Tell whether a get after a first statement hits."""
    with Session(engine) as session:
        begun(session)
        return hits_now(session, key)


def hits_now(session: Any, key: Any) -> bool:
    """Tell whether a get hits."""
    before = SQLModelCache.stats().hits
    session.get(Hero, key)
    return SQLModelCache.stats().hits == before + 1


@pytest.fixture(params=SNAPSHOTS)
def plain(
    request: pytest.FixtureRequest, make_world: Callable[..., World]
) -> Iterator[tuple[World, Any, Any]]:
    """Set up a synchronous world in memory, an engine of its own, and a cached hero."""
    made = make_world("sync", "memory", request.param, snapshot_hits=True)
    with made.another_engine(isolation_level="REPEATABLE READ") as engine:
        made.engine = engine
        cached = hero(made)
        made.get(Hero, 0)
        made.warm(Hero, cached)
        yield made, engine, cached


def test_a_statement_of_a_pools_listener_began_the_snapshot(plain: Any) -> None:
    """Through the driver's own cursor: the driver gives it away, and the database is asked."""
    _, engine, cached = plain
    assert served(engine, cached)

    @event.listens_for(engine, "checkout")
    def on_checkout(connection: Any, record: Any, proxy: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM scenario_hero")
        cursor.close()

    assert not served(engine, cached)


def test_a_configuration_in_the_middle_of_a_transaction(plain: Any) -> None:
    """Its first statement was not seen."""
    world, engine, cached = plain
    SQLModelCache.configure(world.backing.transport, snapshot_hits=False)
    with Session(engine) as session:
        begun(session)
        session.execute(select(Hero.id).limit(1))
        config = SQLModelCache.get_config()
        SQLModelCache.configure(
            world.backing.transport, key_prefix=config.key_prefix, snapshot_hits=True
        )
        session.execute(select(Hero.id).limit(1))
        assert not hits_now(session, cached)


def test_a_driver_that_does_not_tell(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it has a transaction open: the end of the one before must have been seen."""
    _, engine, cached = plain
    monkeypatch.setattr(isolation, "in_transaction", lambda driver: None)
    event.listen(engine, "connect", lambda driver, record: None)
    engine.dispose()
    assert not served(engine, cached)
    assert served(engine, cached)


@pytest.mark.parametrize("mode", MODES)
def test_a_connections_first_transaction(
    make_world: Callable[..., World], early: None, mode: str
) -> None:
    """Of a connection that is new and nobody's yet: also where each transaction has its own."""
    world = make_world(mode, "memory", "mariadb", snapshot_hits=True)
    cached = hero(world)
    with world.another_engine(poolclass=NullPool) as engine:
        world.engine = engine
        world.warm(Hero, cached)
        for _ in range(2):
            with world.session() as session:
                begun(session)
                session.execute(select(Hero.id).limit(1))
                with world.no_sql():
                    assert session.get(Hero, cached).name.startswith("Deadpond")


def _reads(driver: Any, *_: Any) -> None:
    cursor = driver.cursor()
    cursor.execute("SELECT count(*) FROM scenario_hero")
    cursor.close()


@pytest.mark.parametrize("who", ["connect", "once", "first_connect", "every", "init", "creator"])
def test_a_connection_that_somebody_used_first(
    make_world: Callable[..., World], early: None, who: str
) -> None:
    """A snapshot may have begun before anything was sent that we see."""
    world = make_world("sync", "memory", "mariadb", snapshot_hits=True)
    cached = hero(world)
    settings: dict[str, Any] = {"poolclass": NullPool}
    url = world.outside.url
    if who == "init":
        settings["connect_args"] = {"init_command": "SELECT count(*) FROM scenario_hero"}
    if who == "creator":
        settings["creator"] = world.outside.raw_connection
    text_url = url.render_as_string(hide_password=False)
    with world.another_engine(text_url, **settings) as engine:
        if who == "every":
            event.listen(Pool, "connect", _reads)
        elif who == "once":
            event.listen(engine, "connect", _reads, once=True)
        elif who not in ("init", "creator"):
            event.listen(engine, who, _reads)
        try:
            with Session(engine) as session:
                session.get(Hero, cached)
            assert not served(engine, cached)
        finally:
            if who == "every":
                event.remove(Pool, "connect", _reads)


def test_a_connection_from_before(make_world: Callable[..., World], early: None) -> None:
    """One that was made while nobody watched is not new."""
    world = make_world("sync", "memory", "mariadb", snapshot_hits=True)
    cached = hero(world)
    prefix = SQLModelCache.get_config().key_prefix
    world.warm(Hero, cached)
    with world.another_engine(pool_size=1) as engine:
        SQLModelCache.reset()
        raw = engine.raw_connection()
        _reads(raw)
        SQLModelCache.configure(world.backing.transport, key_prefix=prefix, snapshot_hits=True)
        world.warm(Hero, cached)
        with Connection(engine, connection=raw) as connection, Session(connection) as session:
            begun(session)
            assert not hits_now(session, cached)


@pytest.mark.parametrize("level", ["SERIALIZABLE"])
def test_serializable_stays_with_the_database(plain: Any, level: str) -> None:
    """Reads must be seen by the database, or it cannot tell what depends on what."""
    _, engine, cached = plain
    assert not served(engine.execution_options(isolation_level=level), cached)


def test_a_session_that_routes_stays_with_the_database(plain: Any) -> None:
    """Its snapshot may be another server's."""
    _, engine, cached = plain

    class Routing(Session):
        def get_bind(self, *args: Any, **kwargs: Any) -> Any:
            return engine

    with Routing() as session:
        begun(session)
        assert not hits_now(session, cached)


def test_a_replica_stays_with_the_database(plain: Any) -> None:
    """Its snapshot may be older than an entry that was read on the primary before it began."""
    _, engine, cached = plain
    assert not served(engine.execution_options(cache_replica=True), cached)


def test_a_snapshot_that_is_imported(plain: Any) -> None:
    """It is older than the transaction. Seen as a text that begins with SET TRANSACTION."""
    world, engine, cached = plain
    if world.database != "postgresql":
        pytest.skip("only PostgreSQL has it")
    with engine.connect() as older, Session(engine) as session:
        name = older.execute(text("SELECT pg_export_snapshot()")).scalar_one()
        session.execute(text(f"SET TRANSACTION SNAPSHOT '{name}'"))
        assert not hits_now(session, cached)


def test_a_consistent_snapshot_by_text(plain: Any) -> None:
    """Noted as it is sent, as any first statement."""
    world, engine, cached = plain
    if world.database != "mariadb":
        pytest.skip("only MariaDB and MySQL have it")
    with Session(engine) as session:
        session.execute(text("START TRANSACTION WITH CONSISTENT SNAPSHOT"))
        assert hits_now(session, cached)


def test_a_clock_that_nobody_knows_dates_nothing(plain: Any) -> None:
    """An entry whose filler froze time has no date."""
    from freezegun import freeze_time

    world, engine, _ = plain
    frozen = hero(world)
    with freeze_time():
        world.get(Hero, frozen)
    assert world.hit(Hero, frozen) is not None
    assert not served(engine, frozen)


# -- configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transport", "settings", "words"),
    [
        ("memory://", {"consistency": "eventual"}, "strict"),
        ("redis://127.0.0.1:1/0?trust_failover=1", {}, "trust_failover"),
        ("redis://127.0.0.1:1/0?local=10", {}, "local copies"),
        ("dict", {}, "tells the time"),
    ],
)
def test_what_cannot_work_is_refused(transport: str, settings: dict[str, Any], words: str) -> None:
    """With the reason."""
    given: Any = transport
    if transport == "dict":
        from tests.scenarios.backing import Dict

        given = Dict("sync").transport
    with pytest.raises(ConfigurationError, match=words):
        SQLModelCache.configure(given, snapshot_hits=True, **settings)


def test_off_by_default_and_nothing_watches(make_world: Callable[..., World]) -> None:
    """A transaction's first statement is noted only where somebody wants to know."""
    from sqlalchemy.engine import Engine

    world = make_world("sync", "memory", "mariadb")
    assert not event.contains(Engine, "do_execute", snapshots._on_statement)
    cached = hero(world)
    world.warm(Hero, cached)
    assert not served(world.engine, cached)
    SQLModelCache.configure(world.backing.transport, snapshot_hits=True)
    assert event.contains(Engine, "do_execute", snapshots._on_statement)
    SQLModelCache.reset()
    assert not event.contains(Engine, "do_execute", snapshots._on_statement)


def test_redis_needs_a_sample_from_well_before(make_world: Callable[..., World]) -> None:
    """Without one the database is asked, and a sample is taken for later transactions."""
    world = make_world("sync", "redis", "mariadb", snapshot_hits=True)
    cached = hero(world)
    world.warm(Hero, cached)
    assert not served(world.engine, cached)
    known: StoreClock = _state.active.store_clock
    ((run, (sample,)),) = known._runs.items()
    known._runs[run] = (Sample(sample.at - 10, sample.micros - 10_000_000),)
    assert served(world.engine, cached)


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_was_set(make_world: Callable[..., World], seconds: int) -> None:
    """The database is asked, until samples of the clock as it is now are old enough."""
    world = make_world("sync", "redis", "mariadb", snapshot_hits=True)
    cached = hero(world)
    world.warm(Hero, cached)
    served(world.engine, cached)
    known: StoreClock = _state.active.store_clock
    ((run, (sample,)),) = known._runs.items()
    # What was seen of the clock before: it was `seconds` behind.
    known._runs[run] = (Sample(sample.at - 10, sample.micros - (10 + seconds) * 1_000_000),)
    assert served(world.engine, cached) is (seconds < 0)

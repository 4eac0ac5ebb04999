"""An engine that is declared a read replica takes hits and stores nothing (B24)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from sqlmodel_cache import ConfigurationError, aget_many, get_many
from tests.recording import record_sql, stable_id
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Hero

MakeWorld = Callable[..., World]
REPLICA = {"cache_replica": True}


def _get(world: World, bind: Any, pk: int, **how: Any) -> Any:
    with world.session(bind=bind) as session:
        return session.get(Hero, pk, **how)


def test_b24_a_replica_never_fills(world: World) -> None:
    """What it reads is not stored; not even when it is asked twice."""
    pk = world.store(Hero(name="Ann"))
    with world.another_engine(execution_options=REPLICA) as replica:
        for _ in range(2):
            with record_sql(replica) as sent:
                assert _get(world, replica, pk).name == "Ann"
            assert len([each for each in sent if "scenario_hero" in each]) == 1
    assert world.backing.values() == {}
    assert world.stats().fills == 0


def test_b24_a_replica_reads_what_the_primary_stored(world: World) -> None:
    """Both are one database: the primary's entry is a hit, and its commit ends it."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.another_engine(execution_options=REPLICA) as replica:
        _get(world, replica, 0)
        with record_sql(replica) as sent:
            assert _get(world, replica, pk).name == "Ann"
        assert not sent
        with world.session() as session:
            session.get(Hero, pk).name = "Bea"
            session.commit()
        with record_sql(replica) as sent:
            assert _get(world, replica, pk).name == "Bea"
        assert len(sent) == 1
    assert world.miss(Hero, pk).name == "Bea"  # not stored by the replica


def test_b24_a_lagging_replica_leaves_nothing_stale(make_world: MakeWorld) -> None:
    """An old row that a replica still has is given to its reader and to nobody else."""
    world = make_world("sync", "memory", "sqlite")
    pk = world.store(Hero(name="Ann"))
    with world.another_engine(execution_options=REPLICA) as replica:

        def lag(target: Any, context: Any) -> None:
            target.__dict__["name"] = "old"

        event.listen(Hero, "load", lag)
        try:
            assert _get(world, replica, pk).name == "old"
        finally:
            event.remove(Hero, "load", lag)
    assert world.get(Hero, pk).name == "Ann"
    assert world.hit(Hero, pk).name == "Ann"


@on_sqlite
def test_b24_get_many_on_a_replica(world: World) -> None:
    """The same for many at once."""
    keys = world.store(Hero(name="Ann"), Hero(name="Bea"))
    world.warm(Hero, keys[0])
    with (
        world.another_engine(execution_options=REPLICA) as replica,
        world.session(bind=replica) as session,
    ):
        if world.mode == "sync":
            found: Any = get_many(session, Hero, keys)
        else:
            found = world.loop.run_until_complete(aget_many(session._wrapped, Hero, keys))
        assert [hero.name for hero in found] == ["Ann", "Bea"]
    assert len(world.backing.values()) == 1


@on_sqlite
def test_b24_an_engine_of_options(world: World) -> None:
    """`engine.execution_options(cache_replica=True)` shares pool and dialect with its engine."""
    pk = world.store(Hero(name="Ann"))
    replica = world.engine.execution_options(**REPLICA)
    assert _get(world, replica, pk).name == "Ann"
    assert world.backing.values() == {}
    assert world.miss(Hero, pk).name == "Ann"
    assert world.hit(Hero, pk).name == "Ann"


@on_sqlite
@pytest.mark.parametrize("where", ["call", "session", "connection"])
def test_b24_declared_elsewhere(world: World, where: str) -> None:
    """On a call, a session or a connection it means the same; the innermost wins."""
    pk = world.store(Hero(name="Ann"))
    if where == "call":
        _get(world, world.engine, pk, execution_options=REPLICA)
    elif where == "session":
        try:
            session = world.session(execution_options=REPLICA)
        except TypeError:
            pytest.skip("a session takes execution options from SQLAlchemy 2.1 on")
        with session:
            session.get(Hero, pk)
    else:
        with world.connect() as connection:
            connection.execution_options(**REPLICA)
            _get(world, connection, pk)
    assert world.backing.values() == {}
    replica = world.engine.execution_options(**REPLICA)
    _get(world, replica, pk, execution_options={"cache_replica": False})
    assert len(world.backing.values()) == 1


@on_sqlite
@pytest.mark.parametrize("value", [1, 0, 2.5, "yes", None], ids=stable_id)
def test_b24_wrong_types(world: World, value: object) -> None:
    """Only True and False: a number of seconds is not known here."""
    bind = world.engine.execution_options(cache_replica=value)
    with pytest.raises(ConfigurationError, match="cache_replica"):
        _get(world, bind, 1)


def test_b24_mariadb_replicas_by_namespace(make_world: MakeWorld) -> None:
    """Servers that share no identity meet under one `cache_namespace`."""
    world = make_world("sync", "memory", "mariadb")
    pk = world.store(Hero(name="Ann"))
    with (
        world.another_engine(execution_options={"cache_namespace": "orders"}) as primary,
        world.another_engine(execution_options={"cache_namespace": "orders", **REPLICA}) as replica,
    ):
        _get(world, replica, pk)
        assert world.backing.values() == {}
        _get(world, primary, pk)
        with record_sql(replica) as sent:
            assert _get(world, replica, pk).name == "Ann"
        assert not sent


def test_b24_postgresql_under_a_given_namespace_still_says_what_it_is(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server in recovery never fills, though nobody had to ask for its name."""
    monkeypatch.setattr("sqlmodel_cache.orm.cache.is_replica", lambda connection: True)
    world = make_world("sync", "memory", "postgresql", namespace="orders")
    pk = world.store(Hero(name="Ann"))
    with world.another_engine() as replica:
        for _ in range(2):
            assert _get(world, replica, pk).name == "Ann"
    assert world.backing.values() == {}


def test_b24_postgresql_under_a_given_namespace_is_asked_once(make_world: MakeWorld) -> None:
    """A primary fills, and its first lookup sends one question."""
    world = make_world("sync", "memory", "postgresql", namespace="orders")
    pk = world.store(Hero(name="Ann"))
    with world.another_engine() as primary:
        with record_sql(primary) as sent:
            _get(world, primary, pk)
        assert [each for each in sent if "pg_is_in_recovery" in each] == sent[:1]
        with record_sql(primary) as sent:
            assert _get(world, primary, pk).name == "Ann"
        assert not sent

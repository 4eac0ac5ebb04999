"""Where the cache steps aside, the result is the database's and the reason is counted (B9, B10)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, inspect, text
from sqlalchemy.orm import Session, defer, load_only, selectinload, with_loader_criteria

from sqlmodel_cache import SQLModelCache
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Hero, Label, Memo, Player, Team


def _bypasses(world: World, reason: str) -> int:
    return world.stats().bypasses.get(reason, 0)


# B9: loader options


@on_sqlite
def test_b09_load_only_leaves_a_full_entry_alone(world: World) -> None:
    """The partial row is loaded as asked, and the stored one stays complete."""
    pk = world.store(Hero(name="Ann", power=3))
    world.warm(Hero, pk)
    partial = world.miss(Hero, pk, options=[load_only(Hero.name)])
    assert inspect(partial).unloaded == {"power"}
    assert _bypasses(world, "loader_options") == 1
    assert world.hit(Hero, pk).power == 3


@on_sqlite
def test_b09_a_partial_row_is_not_stored(world: World) -> None:
    """A cold get with options fills nothing."""
    pk = world.store(Hero(name="Ann", power=3))
    world.miss(Hero, pk, options=[defer(Hero.power)])
    assert world.backing.values() == {}
    assert world.miss(Hero, pk).power == 3


@on_sqlite
def test_b09_selectinload_brings_the_collection(world: World) -> None:
    """Two SELECTs, as without a cache; the attribute needs no further one."""
    pk = world.store(Team(name="reds", players=[Player(name="Ann"), Player(name="Bea")]))
    with world.session() as session:
        with world.sql() as sent:
            team = session.get(Team, pk, options=[selectinload(Team.players)])
        assert len(sent.starting("SELECT")) == 2
        with world.no_sql():
            assert sorted(player.name for player in team.players) == ["Ann", "Bea"]


@on_sqlite
def test_b09_loader_criteria_hide_a_cached_row(world: World) -> None:
    """`with_loader_criteria` decides, not the cache."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    criteria = with_loader_criteria(Hero, Hero.name != "Ann")
    assert world.miss(Hero, pk, options=[criteria]) is None
    assert world.hit(Hero, pk).name == "Ann"


@on_sqlite
def test_b09_a_foreign_listener_is_a_bypass(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Soft deletion by `do_orm_execute` works as without a cache; the log says so once."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as session:
        plain = session.sync_session if world.mode == "async" else session
        event.listen(plain, "do_orm_execute", _hide_ann)
        with world.one_select():
            assert session.get(Hero, pk) is None
        session.get(Hero, pk)
    assert _bypasses(world, "do_orm_execute_hook") == 2
    (line,) = [record for record in caplog.records if "do_orm_execute" in record.message]
    assert "configure(trust_orm_hooks=True)" in line.message
    assert world.hit(Hero, pk).name == "Ann"


@on_sqlite
def test_b09_a_foreign_listener_on_every_session(world: World) -> None:
    """The same where it was hung on the class, and gone with it."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    event.listen(Session, "do_orm_execute", _hide_ann)
    try:
        assert world.miss(Hero, pk) is None
    finally:
        event.remove(Session, "do_orm_execute", _hide_ann)
    assert world.hit(Hero, pk).name == "Ann"


def test_b09_trusted_listeners(make_world: Any) -> None:
    """With `trust_orm_hooks=True` a listener that changes nothing costs no hit."""
    world = make_world("sync", "memory", "sqlite", trust_orm_hooks=True)
    pk = world.store(Hero(name="Ann"))
    seen: list[object] = []

    def listener(state: object) -> None:
        seen.append(state)

    event.listen(Session, "do_orm_execute", listener)
    try:
        assert world.warm(Hero, pk).name == "Ann"
    finally:
        event.remove(Session, "do_orm_execute", listener)
    assert len(seen) == 1  # the miss


def _hide_ann(state: Any) -> None:
    if state.is_select:
        state.statement = state.statement.options(
            with_loader_criteria(Hero, lambda cls: cls.name != "Ann", include_aliases=True)
        )


# column_property: bypassed


@on_sqlite
def test_column_expressions_come_from_the_database(world: World) -> None:
    """A `column_property` over an expression cannot be stored: each get is a SELECT."""
    pk = world.store(Label(name="loud"))
    for count in (1, 2):
        assert world.miss(Label, pk).loud == "LOUD"
        assert _bypasses(world, "column_expression") == count
    assert world.backing.values() == {}


# 1.4: asked for by the caller


@on_sqlite
def test_cache_false_neither_reads_nor_fills(world: World) -> None:
    """In the call; the stored value stays what it was, and nothing new is stored."""
    cached, cold = world.store(Hero(name="Ann"), Hero(name="Bea"))
    world.warm(Hero, cached)
    before = world.backing.values()
    world.miss(Hero, cached, execution_options={"cache": False})
    world.miss(Hero, cold, execution_options={"cache": False, "cache_ttl": 60})
    assert world.backing.values() == before
    assert _bypasses(world, "cache_false") == 2


@on_sqlite
def test_bypass_block(world: World) -> None:
    """Inside `bypass()` every lookup goes to the database; writes invalidate all the same."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with SQLModelCache.bypass():
        assert world.miss(Hero, pk).name == "Ann"
        with world.session() as session:
            session.get(Hero, pk).name = "Bea"
            session.commit()
    assert world.miss(Hero, pk).name == "Bea"
    assert world.hit(Hero, pk).name == "Bea"


def test_cache_false_in_a_writer_still_invalidates(world: World) -> None:
    """Off means no lookups and no fills, never no invalidation."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as session:
        session.get(Hero, pk, execution_options={"cache": False}).name = "Bea"
        session.commit()
    assert world.miss(Hero, pk).name == "Bea"


# 3.4: isolation


@pytest.mark.parametrize("level", ["SERIALIZABLE", "READ UNCOMMITTED"])
def test_isolation_levels_that_use_no_cache(world: World, level: str) -> None:
    """Neither read nor filled at these levels."""
    if world.database != "mariadb" and (level, world.database) != ("SERIALIZABLE", "postgresql"):
        pytest.skip("SQLite is judged by its driver, and PostgreSQL reads nothing uncommitted")
    warm, cold = world.store(Hero(name="Ann"), Hero(name="Bea"))
    world.warm(Hero, warm)
    before = world.backing.values()
    engine = world.engine.execution_options(isolation_level=level)
    for pk in (warm, cold):
        with world.session(bind=engine) as session, world.one_select():
            session.get(Hero, pk)
    assert world.backing.values() == before
    assert _bypasses(world, "isolation_level") == 2


def test_repeatable_read_before_and_after_the_snapshot(world: World) -> None:
    """The first statement of a transaction may be a hit or a fill; from the second on, neither."""
    if world.database == "sqlite":
        pytest.skip("SQLite is judged by its driver")
    first, second, third = world.store(*(Hero(name="Ann") for _ in range(3)))
    world.warm(Hero, second)
    engine = world.engine.execution_options(isolation_level="REPEATABLE READ")
    with world.session(bind=engine) as session:
        session.get(Hero, first)
        with world.session() as writer:
            writer.get(Hero, second).name = "Bea"
            writer.get(Hero, third).name = "Bea"
            writer.commit()
        world.warm(Hero, second)
        with world.one_select():
            assert session.get(Hero, second).name == "Ann"
        with world.one_select():
            assert session.get(Hero, third).name == "Ann"
    assert world.hit(Hero, first).name == "Ann"
    assert world.hit(Hero, second).name == "Bea"
    assert world.miss(Hero, third).name == "Bea"


@on_sqlite
def test_sqlite_inside_a_driver_transaction(world: World) -> None:
    """After BEGIN the database is a snapshot: not read from the cache, and nothing is filled."""
    warm, cold = world.store(Hero(name="Ann"), Hero(name="Bea"))
    world.warm(Hero, warm)
    with world.session() as session:
        session.execute(text("BEGIN"))
        for pk in (warm, cold):
            with world.one_select():
                session.get(Hero, pk)
        assert _bypasses(world, "snapshot") == 2
        session.rollback()
    assert world.miss(Hero, cold).name == "Bea"


def test_a_level_set_by_text_uses_no_cache(world: World) -> None:
    """`SET TRANSACTION` behind SQLAlchemy's back marks its transaction, and no later one."""
    if world.database == "sqlite":
        pytest.skip("SQLite has no such statement")
    pk = world.store(Hero(name="Ann"))
    with world.session() as session:
        session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        for _ in range(2):
            session.get(Hero, pk)
            session.expunge_all()
        assert world.backing.values() == {}
        session.rollback()
        session.get(Hero, pk)
    assert world.hit(Hero, pk).name == "Ann"


FOR_THE_CONNECTION = [
    ("postgresql", "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
    ("postgresql", "SET default_transaction_isolation = 'repeatable read'"),
    ("mariadb", "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
    ("mariadb", "SET @@session.tx_isolation = 'REPEATABLE-READ'"),
    ("mariadb", "SET tx_isolation = 'REPEATABLE-READ'"),
]


@pytest.mark.parametrize(("database", "statement"), FOR_THE_CONNECTION)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_level_set_for_the_connection_outlives_its_transaction(
    make_world: Any, mode: str, database: str, statement: str
) -> None:
    """Later transactions of that connection are snapshots, of which SQLAlchemy knows nothing."""
    world = make_world(mode, "memory", database)
    first, second, third = world.store(*(Hero(name="Ann") for _ in range(3)))
    settings: dict[str, Any] = {"pool_size": 1, "max_overflow": 0}
    if database == "mariadb":  # on PostgreSQL an explicit level would outdo the setting
        settings["isolation_level"] = "READ COMMITTED"
    with world.another_engine(**settings) as engine:
        with world.session(bind=engine) as session:
            session.execute(text(statement))
            session.commit()
        with world.session(bind=engine) as session:
            session.get(Hero, first)
            with world.session() as writer:
                writer.get(Hero, second).name = "Bea"
                writer.get(Hero, third).name = "Bea"
                writer.commit()
            world.warm(Hero, second)
            assert session.get(Hero, second).name == "Ann"
            assert session.get(Hero, third).name == "Ann"
    assert world.hit(Hero, second).name == "Bea"
    assert world.miss(Hero, third).name == "Bea"


def test_a_level_set_before_anything_else(make_world: Any) -> None:
    """`SET TRANSACTION` may be a process's first statement; we ask nothing before it."""
    world = make_world("sync", "memory", "postgresql")
    configuration = SQLModelCache.get_config()
    SQLModelCache.configure(configuration.transport)  # knows no database yet
    with world.session() as session:
        session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        assert session.execute(text("SHOW transaction_isolation")).scalar() == "repeatable read"


@on_sqlite
def test_deferred_loading_of_a_bypassed_model_is_untouched(world: World) -> None:
    """A bypassed get of a model with deferred columns leaves them deferred."""
    pk = world.store(Memo(title="t", body="b"))
    memo = world.miss(Memo, pk, execution_options={"cache": False})
    assert inspect(memo).unloaded == {"body"}

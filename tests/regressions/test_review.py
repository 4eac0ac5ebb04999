"""What a hostile reading of the ORM floor found: each test fails on the code before its fix."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    column,
    create_engine,
    delete,
    event,
    insert,
    table,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import DDLElement

from sqlmodel_cache import CacheConfig, SQLModelCache
from sqlmodel_cache.orm import cache as cache_module
from sqlmodel_cache.orm.model import reader as reader_module


@pytest.fixture
def world(tmp_path):
    """Return models whose rows exist, an engine with them, and `name(pk)`: what a get reads."""

    class Base(DeclarativeBase):
        pass

    class Team(Base):
        __tablename__ = "review_team"
        __cache_config__ = CacheConfig()
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="old")

    class Hero(Base):
        __tablename__ = "review_hero"
        __cache_config__ = CacheConfig(negative_ttl=60)
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(default="hero")
        name: Mapped[str] = mapped_column(default="old")
        team_id: Mapped[int | None] = mapped_column(
            ForeignKey("review_team.id", ondelete="CASCADE", onupdate="CASCADE")
        )
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "hero"}

    class Flyer(Hero):
        __mapper_args__ = {"polymorphic_identity": "flyer"}

    engine = create_engine(f"sqlite:///{tmp_path}/review.db")
    event.listen(engine, "connect", lambda driver, _: driver.execute("PRAGMA foreign_keys=ON"))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Team(id=1), Flyer(id=2)])
        session.flush()
        session.add(Hero(id=1, team_id=1))
        session.commit()
    SQLModelCache.configure("memory://")

    def name(pk, model=Hero):
        with Session(engine) as session:
            found = session.get(model, pk)
            return None if found is None else found.name

    yield SimpleNamespace(Base=Base, Team=Team, Hero=Hero, Flyer=Flyer, engine=engine, name=name)
    engine.dispose()
    Base.registry.dispose()


def test_no_row_of_a_subclass_is_still_a_row_of_its_base(world):
    """That hero 1 is no Flyer must not be remembered as: there is no hero 1."""
    assert world.name(1, world.Flyer) is None
    assert world.name(1) == "old"


def test_two_threads_learn_a_hierarchy_at_once(world, monkeypatch):
    """While one thread compiles a reader's codecs, another's load is not disturbed."""
    compiled = reader_module.RowCodec

    def slowly(*args, **settings):
        time.sleep(0.05)
        return compiled(*args, **settings)

    world.name(99, world.Team)  # the database is known
    monkeypatch.setattr(reader_module, "RowCodec", slowly)
    read, failed = [], []

    def get(pk):
        try:
            read.append(world.name(pk))
        except Exception as error:
            failed.append(error)

    SQLModelCache.invalidate(world.Hero)
    threads = [threading.Thread(target=get, args=(pk,)) for pk in (1, 2, 1, 2)]
    world.name(77)  # makes the reader; nothing is loaded
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert read == ["old"] * 4


def test_a_subclass_own_load_listener_hears_stored_values_once(world):
    """A row is captured before the listeners of its very class, also if asked by its base."""

    @event.listens_for(world.Flyer, "load")
    def decorate(flyer, context):
        flyer.__dict__["name"] += "!"

    assert [world.name(2) for _ in range(3)] == ["old!"] * 3
    assert SQLModelCache.stats().hits == 2


def test_a_subclass_mapped_later_is_captured_too(world):
    """A class that joins a hierarchy in use has its rows stored, as the database has them."""
    assert world.name(1) == "old"

    class Diver(world.Hero):
        __mapper_args__ = {"polymorphic_identity": "diver"}

    @event.listens_for(Diver, "load")
    def decorate(diver, context):
        diver.__dict__["name"] += "!"

    with Session(world.engine) as session:
        session.add(Diver(id=3))
        session.commit()
    assert [world.name(3) for _ in range(3)] == ["old!"] * 3
    assert SQLModelCache.stats().hits == 2


@pytest.mark.parametrize("through", ["session", "engine"])
def test_configure_during_a_transaction(world, through):
    """A transaction that wrote under the former configuration is published under the new one."""
    former = SQLModelCache.get_config()
    heroes = world.Hero.__table__
    statement = update(heroes).where(heroes.c.id == 1).values(name="new")
    begun = Session(world.engine) if through == "session" else world.engine.connect()
    begun.execute(statement)
    SQLModelCache.configure("memory://", default_ttl=100)
    assert world.name(1) == "old"
    assert world.name(1) == "old"
    begun.commit()
    begun.close()
    assert SQLModelCache.get_config() is not former
    assert SQLModelCache.stats().lost == 0
    assert world.name(1) == "new"


def test_to_ask_a_database_for_its_name_makes_a_snapshot(postgres_url, world, monkeypatch):
    """The first lookup in REPEATABLE READ stores nothing that was overtaken meanwhile."""
    options = {"isolation_level": "REPEATABLE READ"}
    engine, other = create_engine(postgres_url, **options), create_engine(postgres_url)
    world.Base.metadata.drop_all(other)
    world.Base.metadata.create_all(other)
    with Session(other) as session:
        session.add(world.Team(id=1))
        session.commit()
    identify = cache_module.identify

    def overtaken(connection):
        found = identify(connection)
        if connection.engine is engine:
            with Session(other) as session:
                session.execute(update(world.Team).values(name="new"))
                session.commit()
        return found

    monkeypatch.setattr(cache_module, "identify", overtaken)
    with Session(engine) as session:
        assert session.get(world.Team, 1).name == "old"
    with Session(other) as session:
        assert session.get(world.Team, 1).name == "new"
    world.Base.metadata.drop_all(other)
    engine.dispose()
    other.dispose()


def test_a_key_with_a_name_too_many_is_refused_on_a_hit_too(world):
    """`get(Hero, {"id": 1, "typo": 2})` raises, cached or not."""
    assert world.name(1) == "old"
    assert world.name(1) == "old"
    with Session(world.engine) as session, pytest.raises(InvalidRequestError):
        session.get(world.Hero, {"id": 1, "typo": 2})


class DropRetired(DDLElement):
    """DDL by its class, and by its name: but it deletes rows."""


@compiles(DropRetired)
def _drop_retired(element, compiler, **settings):
    return "DELETE FROM review_hero"


LIGHT = table("review_team", column("id"), column("name"))
REFLECTED = Table("review_team", MetaData(), Column("id", Integer, primary_key=True))
ELSEWHERE = {
    "table-update": (update(LIGHT).values(name="new"), {"review_team"}),
    "table-delete": (delete(LIGHT).where(LIGHT.c.id == 1), {"review_team", "review_hero"}),
    "table-insert": (insert(LIGHT).values(id=9, name="new"), set()),
    "reflected-delete": (delete(REFLECTED), {"review_team", "review_hero"}),
    "reflected-rekey": (update(REFLECTED).values(id=7), {"review_team", "review_hero"}),
    "ddl": (DropRetired(), {"review_hero"}),
}


@pytest.mark.parametrize("which", ELSEWHERE)
def test_a_table_by_another_description(world, which):
    """Migrations write to `table("team", ...)`: it is known by name, and so are its dependants."""
    statement, wanted = ELSEWHERE[which]
    forgotten = _forgotten(world, statement)
    assert forgotten == wanted


@pytest.mark.parametrize("by", ["core", "orm"])
def test_replace_deletes_and_so_cascades(world, by):
    """OR REPLACE deletes the row in its way; the database deletes those that refer to it."""
    target = world.Team if by == "orm" else world.Team.__table__
    statement = insert(target).prefix_with("OR REPLACE").values(id=1, name="new")
    assert _forgotten(world, statement) == {"review_team", "review_hero"}
    assert world.name(1) is None


def test_an_upsert_may_rekey_and_so_cascade(world):
    """ON CONFLICT DO UPDATE of a referenced column changes those that refer to it."""
    team = world.Team.__table__
    statement = sqlite_insert(team).values(id=1, name="new")
    plain = statement.on_conflict_do_update(index_elements=["id"], set_={"name": "new"})
    assert _forgotten(world, plain) == {"review_team"}
    rekey = statement.on_conflict_do_update(index_elements=["id"], set_={"id": 7})
    assert _forgotten(world, rekey) == {"review_team", "review_hero"}
    with Session(world.engine) as session:
        assert session.get(world.Hero, 1).team_id == 7


def _forgotten(world, statement):
    """Return the tables of which nothing is left in the cache after a commit of `statement`."""
    models = {"review_team": world.Team, "review_hero": world.Hero}

    for model in models.values():
        world.name(1, model)
    with world.engine.begin() as connection:
        connection.execute(statement)
    misses = {}
    for name, model in models.items():
        before = SQLModelCache.stats().misses
        with Session(world.engine) as session:
            session.get(model, 1)
        misses[name] = SQLModelCache.stats().misses - before
    return {name for name, number in misses.items() if number}


@pytest.mark.parametrize(
    "after",
    [
        "CREATE TABLE IF NOT EXISTS review_other (id INT)",
        "START TRANSACTION",
        "/* words */ SET autocommit = 1",
        None,
    ],
)
def test_what_mysql_commits_by_itself(mariadb_url, world, after):
    """DDL, BEGIN and a driver's autocommit make writes durable, whatever becomes of the session."""
    arguments = {} if after else {"connect_args": {"autocommit": True}}
    engine, other = create_engine(mariadb_url, **arguments), create_engine(mariadb_url)
    teams = Table("review_team", MetaData(), Column("id", Integer, primary_key=True))
    teams.append_column(Column("name", String(20)))
    teams.drop(other, checkfirst=True)
    teams.create(other)
    with other.begin() as connection:
        connection.execute(insert(teams), [{"id": 1, "name": "old"}])
    for _ in range(2):
        with Session(other) as session:
            assert session.get(world.Team, 1).name == "old"
    with Session(engine) as session:
        session.execute(update(world.Team).where(world.Team.id == 1).values(name="new"))
        if after is not None:
            session.execute(text(after))
        session.rollback()
    with Session(other) as session:
        assert session.get(world.Team, 1).name == "new"
    engine.dispose()
    teams.drop(other)
    other.dispose()


def test_a_postgresql_driver_in_autocommit(postgres_url, world):
    """`connect_args={"autocommit": True}` says nothing to SQLAlchemy, yet writes are durable."""
    engine = create_engine(postgres_url, connect_args={"autocommit": True})
    world.Base.metadata.drop_all(engine)
    world.Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(world.Team(id=1))
        session.commit()
    for _ in range(2):
        with Session(engine) as session:
            assert session.get(world.Team, 1).name == "old"
    with Session(engine) as session:
        session.execute(update(world.Team).where(world.Team.id == 1).values(name="new"))
        session.rollback()
    with Session(engine) as session:
        assert session.get(world.Team, 1).name == "new"
    world.Base.metadata.drop_all(engine)
    engine.dispose()


def test_a_savepoint_of_sqlite_in_text(world):
    """RELEASE of a savepoint that began SQLite's transaction is a COMMIT, said by text too."""
    assert world.name(1) == "old"
    with Session(world.engine) as session:
        session.execute(text("SAVEPOINT one"))
        session.execute(update(world.Hero).where(world.Hero.id == 1).values(name="new"))
        session.execute(text("RELEASE one"))
        session.rollback()
    assert world.name(1) == "new"


def test_autocommit_fences_each_row_once(world):
    """Of a thousand statements on one AUTOCOMMIT connection each fences its own rows only."""
    heroes = world.Hero.__table__
    before = SQLModelCache.stats().invalidations
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for pk in range(1, 21):
            connection.execute(update(heroes).where(heroes.c.id == pk).values(name="new"))
            assert world.name(1) == "new"
    assert SQLModelCache.stats().invalidations - before == 20


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_transaction_in_text_on_an_autocommit_connection(world, end):
    """Between BEGIN and COMMIT in text nothing is durable; at COMMIT everything is."""
    heroes = world.Hero.__table__
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("BEGIN"))
        for pk in (1, 2):
            connection.execute(update(heroes).where(heroes.c.id == pk).values(name="new"))
            assert [world.name(1), world.name(2)] == ["old", "old"]
        connection.execute(text(end))
        assert world.name(1) == world.name(2) == ("new" if end == "COMMIT" else "old")
        connection.execute(update(heroes).where(heroes.c.id == 1).values(name="newer"))
        assert world.name(1) == "newer"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_detached_connection_is_published(world, moment):
    """`Connection.detach()` takes its record along, and has a driver still."""
    assert world.name(1) == "old"
    with world.engine.connect() as connection:
        if moment == "before":
            connection.detach()
        connection.execute(update(world.Hero).where(world.Hero.id == 1).values(name="new"))
        if moment == "after":
            connection.detach()
        connection.commit()
    assert world.name(1) == "new"

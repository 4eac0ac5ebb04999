"""Rows of two databases never meet; two ways into one database do (B24)."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import sessionmaker

from sqlmodel_cache import SQLModelCache, cached_sessionmaker
from tests.recording import record_sql
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Brief, Hero, Town, create_tables

MakeWorld = Callable[..., World]


def _url(world: World) -> str:
    return world.outside.url.render_as_string(hide_password=False)


def _get(world: World, bind: Any, pk: int) -> Any:
    with world.session(bind=bind) as session:
        return session.get(Hero, pk)


def _hits(world: World, bind: Any, pk: int) -> Any:
    _get(world, bind, 0)  # an engine's first get asks the database who it is
    with record_sql(bind) as sent:
        found = _get(world, bind, pk)
    assert not sent
    return found


@on_sqlite
def test_b24_two_databases_never_meet(world: World, tmp_path: Path) -> None:
    """The same key in two files is two rows, each a hit, each invalidated alone."""
    pk = world.store(Hero(name="here"))
    url = f"sqlite:///{tmp_path / 'there.sqlite3'}"
    plain = create_engine(url)
    create_tables(plain)
    with plain.begin() as connection:
        connection.execute(Hero.__table__.insert().values(id=pk, name="there", power=0))
    world.warm(Hero, pk)
    with world.another_engine(url) as there:
        assert _get(world, there, pk).name == "there"
        assert _hits(world, there, pk).name == "there"
        assert world.hit(Hero, pk).name == "here"
        with world.session(bind=there) as session:
            session.get(Hero, pk).name = "changed"
            session.commit()
        assert world.hit(Hero, pk).name == "here"
        assert _get(world, there, pk).name == "changed"
    plain.dispose()


@on_sqlite
def test_b24_two_urls_of_one_file_meet(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path and a link lead to the same entries."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    path = Path(str(world.outside.url.database))
    (tmp_path / "link.sqlite3").symlink_to(path)
    monkeypatch.chdir(path.parent)
    for url in (f"sqlite:///{path.name}", f"sqlite:///{tmp_path / 'link.sqlite3'}"):
        with world.another_engine(url) as other:
            assert _hits(world, other, pk).name == "Ann"
            with world.session(bind=other) as session:
                session.get(Hero, pk).power += 1
                session.commit()
        world.miss(Hero, pk)


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_b24_two_urls_of_one_server_meet(make_world: MakeWorld, mode: str, database: str) -> None:
    """Host name and address name one server: what one engine fills the other hits."""
    world = make_world(mode, "memory", database)
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    url = make_url(_url(world)).set(host="localhost").render_as_string(hide_password=False)
    assert url != _url(world)
    with world.another_engine(url) as other:
        assert _hits(world, other, pk).name == "Ann"
        with world.session(bind=other) as session:
            session.get(Hero, pk).name = "Bea"
            session.commit()
    assert world.miss(Hero, pk).name == "Bea"


def test_b24_sync_and_async_sessions_of_one_program_meet(world: World) -> None:
    """What an engine with another driver commits is seen here, and its fills are hits."""
    pk = world.store(Hero(name="Ann"))
    with world.plain() as session:
        session.get(Hero, pk)
    assert world.hit(Hero, pk).name == "Ann"
    with world.plain() as session:
        session.get(Hero, pk).name = "Bea"
        session.commit()
    assert world.miss(Hero, pk).name == "Bea"


def test_b24_in_memory_databases_are_each_their_own(make_world: MakeWorld) -> None:
    """Two `sqlite://` engines share nothing, though their URLs are equal."""
    world = make_world("sync", "memory", "sqlite")
    engines = [create_engine("sqlite://") for _ in range(2)]
    for number, engine in enumerate(engines):
        create_tables(engine)
        with world.session(bind=engine) as session:
            session.add(Hero(id=1, name=f"{number}"))
            session.commit()
    for number, engine in enumerate(engines):
        _get(world, engine, 1)
        assert _hits(world, engine, 1).name == f"{number}"
        engine.dispose()


@pytest.mark.parametrize("family", ["sqlite", "mariadb", "postgresql"])
def test_b24_a_table_that_is_created_is_empty(make_world: MakeWorld, family: str) -> None:
    """Whoever dropped the one before, and were it a whole database: its rows are not read."""
    world = make_world("sync", "memory", family)
    table: Any = Brief.__table__
    pk = world.store(Brief(name="old"))
    world.warm(Brief, pk)
    with closing(world.outside.raw_connection()) as unseen:
        unseen.cursor().execute(f"DROP TABLE {table.name}")
        unseen.commit()
    table.create(world.engine)
    assert world.miss(Brief, pk) is None


def test_b24_databases_of_one_server_never_meet(
    make_world: MakeWorld, request: pytest.FixtureRequest
) -> None:
    """Two PostgreSQL schemas, reached by `search_path` in the URL, are two name spaces."""
    world = make_world("sync", "memory", "postgresql")
    schema = f"s{world.fresh}"
    pk = world.store(Hero(name="public"))
    world.warm(Hero, pk)
    with world.outside.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    url = make_url(_url(world)).update_query_dict({"options": f"-csearch_path={schema}"})
    other = create_engine(url)
    with other.begin() as connection:
        Hero.__table__.create(connection, checkfirst=False)
        connection.execute(Hero.__table__.insert().values(id=pk, name="private", power=0))
    assert _get(world, other, pk).name == "private"
    assert _hits(world, other, pk).name == "private"
    assert world.hit(Hero, pk).name == "public"
    other.dispose()


def test_b24_search_path_set_by_text_is_a_bypass(make_world: MakeWorld) -> None:
    """A connection whose names mean other tables neither reads nor fills."""
    world = make_world("sync", "memory", "postgresql")
    schema = f"s{world.fresh}"
    pk, cold = world.store(Hero(name="public"), Hero(name="public"))
    with world.outside.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        connection.execute(text(f"CREATE TABLE {schema}.scenario_hero (LIKE scenario_hero)"))
        connection.execute(
            text(f"INSERT INTO {schema}.scenario_hero VALUES ({pk}, 'x', 0), ({cold}, 'x', 0)")
        )
    world.warm(Hero, pk)
    with world.another_engine() as engine, world.session(bind=engine) as session:
        session.execute(text(f"SET search_path TO {schema}"))
        assert session.get(Hero, pk).name == "x"
        assert session.get(Hero, cold).name == "x"
        session.rollback()
    assert world.miss(Hero, cold).name == "public"
    assert world.hit(Hero, pk).name == "public"


def test_b24_another_database_by_use(make_world: MakeWorld) -> None:
    """`USE` gives every table's name another meaning on that connection."""
    world = make_world("sync", "memory", "mariadb")
    other = f"s{world.fresh}"
    pk, cold = world.store(Hero(name="default"), Hero(name="default"))
    with world.outside.begin() as connection:
        connection.execute(text(f"CREATE DATABASE {other}"))
        connection.execute(text(f"CREATE TABLE {other}.scenario_hero LIKE scenario_hero"))
        connection.execute(
            text(f"INSERT INTO {other}.scenario_hero VALUES ({pk}, 'x', 0), ({cold}, 'x', 0)")
        )
    world.warm(Hero, pk)
    with world.another_engine(pool_size=1, max_overflow=0) as engine:
        with world.session(bind=engine) as session:
            session.execute(text(f"USE {other}"))
            assert session.get(Hero, pk).name == "x"
            session.commit()
        with world.session(bind=engine) as session:
            assert session.get(Hero, cold).name == "x"
    assert world.miss(Hero, cold).name == "default"
    assert world.hit(Hero, pk).name == "default"
    with world.outside.begin() as connection:
        connection.execute(text(f"DROP DATABASE {other}"))


@on_sqlite
def test_b24_one_session_over_two_databases(world: World, tmp_path: Path) -> None:
    """With `binds` each model is cached for its own database, and one commit reaches both."""
    hero = world.store(Hero(name="here"))
    url = f"sqlite:///{tmp_path / 'towns.sqlite3'}"
    plain = create_engine(url)
    create_tables(plain)
    plain.dispose()
    with world.another_engine(url) as towns:
        binds = {Hero: world.engine, Town: towns}
        with world.session(bind=None, binds=binds) as session:
            town = Town(name="there")
            session.add(town)
            session.commit()
            pk = world.attribute(session, town, "id")
        for _ in range(2):
            with world.session(bind=None, binds=binds) as session:
                session.get(Hero, hero)
                session.get(Town, pk)
        with world.session(bind=None, binds=binds) as session:
            with record_sql(towns) as there, world.no_sql():
                found = session.get(Hero, hero), session.get(Town, pk)
            assert there == []
            found[0].name, found[1].name = "Bea", "Rome"
            session.commit()
        with world.session(bind=None, binds=binds) as session:
            assert session.get(Hero, hero).name == "Bea"
            assert session.get(Town, pk).name == "Rome"


def test_b24_schema_translate_map_never_meets(make_world: MakeWorld, tmp_path: Path) -> None:
    """Rows of a translated schema are not taken for those of the default one."""
    world = make_world("sync", "memory", "sqlite")
    pk = world.store(Hero(name="main"))
    world.warm(Hero, pk)
    path = tmp_path / "tenant.sqlite3"
    tenant = create_engine(f"sqlite:///{path}")
    create_tables(tenant)
    with tenant.begin() as connection:
        connection.execute(Hero.__table__.insert().values(id=pk, name="tenant", power=0))
    tenant.dispose()
    # An engine of its own: after ATTACH a connection's names may mean something else, for good.
    with world.another_engine() as engine, engine.connect() as connection:
        connection.exec_driver_sql(f"ATTACH DATABASE '{path}' AS tenant")
        translated = connection.execution_options(schema_translate_map={None: "tenant"})
        for _ in range(2):
            with world.session(bind=translated) as session:
                assert session.get(Hero, pk).name == "tenant"
        connection.rollback()
        connection.exec_driver_sql("DETACH DATABASE tenant")
    assert world.hit(Hero, pk).name == "main"


@on_sqlite
def test_b24_tenants_by_namespace(world: World) -> None:
    """Two factories with namespaces of their own share no entries; each hits its own."""
    pk = world.store(Hero(name="Ann"))
    make: Any = sessionmaker if world.mode == "sync" else async_sessionmaker
    factories = [cached_sessionmaker(make(world.engine), namespace=name) for name in ("a", "b")]
    for factory in factories:
        with world.made_by(factory) as session, world.one_select():
            session.get(Hero, pk)
        with world.made_by(factory) as session, world.no_sql():
            assert session.get(Hero, pk).name == "Ann"
    assert len(world.backing.values()) == 2


@on_sqlite
def test_b24_a_tenants_write_reaches_the_database_s_own_entry(world: World) -> None:
    """A session with a namespace invalidates its own entries and those of plain sessions."""
    pk = world.store(Hero(name="Ann"))
    make: Any = sessionmaker if world.mode == "sync" else async_sessionmaker
    factory = cached_sessionmaker(make(world.engine), namespace="a")
    world.warm(Hero, pk)
    with world.made_by(factory) as session:
        session.get(Hero, pk)
    with world.made_by(factory) as session:
        session.get(Hero, pk).name = "Bea"
        session.commit()
    assert world.miss(Hero, pk).name == "Bea"
    with world.made_by(factory) as session, world.one_select():
        assert session.get(Hero, pk).name == "Bea"


def test_b24_a_tenant_by_callable(make_world: MakeWorld) -> None:
    """`namespace` may be a callable of the session: one row per tenant, none shared."""
    world = make_world(
        "sync", "memory", "sqlite", namespace=lambda session: session.info.get("tenant", "none")
    )
    pk = world.store(Hero(name="Ann"))
    for tenant in ("a", "b"):
        with world.session(info={"tenant": tenant}) as session, world.one_select():
            session.get(Hero, pk)
        with world.session(info={"tenant": tenant}) as session, world.no_sql():
            session.get(Hero, pk)
    assert len(world.backing.values()) == 2


@on_sqlite
def test_b24_identity_tokens_are_a_bypass(world: World) -> None:
    """A get for a shard is the session's own business."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    world.miss(Hero, pk, identity_token="shard")
    assert world.stats().bypasses["identity_token"] == 1
    assert world.hit(Hero, pk).name == "Ann"


def test_b24_two_prefixes_on_one_store_never_meet(make_world: MakeWorld) -> None:
    """Deployments with different `key_prefix` share a Redis and nothing else."""
    world = make_world("sync", "redis", "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    SQLModelCache.configure(world.backing.transport, key_prefix=f"other{os.getpid()}{world.fresh}")
    world.get(Hero, 0)
    assert world.miss(Hero, pk).name == "Ann"

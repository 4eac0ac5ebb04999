"""One row under two spellings: of its key, of its table; and who may see it at all."""

from __future__ import annotations

import json

import pytest
from redis import Redis
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    func,
    select,
    update,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    mapped_column,
    sessionmaker,
)

from sqlmodel_cache import CacheConfig, ConfigurationError, FenceError, SQLModelCache


class Base(DeclarativeBase):
    """Of the models here."""


class Badge(Base):
    """Its key is text, which a collation may compare in its own way."""

    __tablename__ = "spelling_badge"
    __cache_config__ = CacheConfig()
    code: Mapped[str] = mapped_column(String(50), primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Hero(Base):
    """Its table is in the default schema, and does not say so."""

    __tablename__ = "spelling_hero"
    __cache_config__ = CacheConfig()
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


@pytest.fixture
def make_engine(request):
    """Return a function that makes an engine with fresh tables."""
    engines = []

    def make(url, **options):
        engine = create_engine(url, **options)
        engines.append(engine)
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        return engine

    yield make
    for engine in engines:
        Base.metadata.drop_all(engine)
        engine.dispose()


def name(engine, model, pk):
    """Return what a fresh session reads."""
    with Session(engine) as session:
        return session.get(model, pk).name


def stored(engine, row):
    """Store a row and have it cached."""
    with Session(engine) as session:
        session.add(row)
        session.commit()
        model, pk = type(row), row.code if isinstance(row, Badge) else row.id
    SQLModelCache.configure("memory://")
    assert [name(engine, model, pk), name(engine, model, pk)] == ["old", "old"]
    assert SQLModelCache.stats().hits == 1


@pytest.mark.parametrize("how", ["execute", "mappings"])
def test_bulk_update_by_another_spelling(mariadb_url, make_engine, how):
    """The row that the database changed is forgotten, however its key was spelt."""
    engine = make_engine(mariadb_url)
    stored(engine, Badge(code="bob", name="old"))
    with Session(engine) as session:
        if how == "execute":
            session.execute(update(Badge), [{"code": "BOB", "name": "new"}])
        else:
            session.bulk_update_mappings(Badge, [{"code": "BOB", "name": "new"}])
        assert session.get(Badge, "bob").name == "new"
        session.commit()
    assert name(engine, Badge, "bob") == "new"


def test_a_flush_still_names_its_row(sqlite_url, make_engine):
    """The unit of work knows the row's own spelling: its neighbours stay cached."""
    engine = make_engine(sqlite_url)
    stored(engine, Badge(code="bob", name="old"))
    with Session(engine) as session:
        session.add(Badge(code="eve", name="eve"))
        session.commit()
        session.get(Badge, "eve").name = "new"
        session.commit()
    before = SQLModelCache.stats().hits
    assert name(engine, Badge, "bob") == "old"
    assert SQLModelCache.stats().hits == before + 1


def test_a_table_by_its_schema(postgres_url, make_engine):
    """`public.spelling_hero` is `spelling_hero`."""
    engine = make_engine(postgres_url)
    stored(engine, Hero(id=1, name="old"))
    columns = Column("id", Integer), Column("name", String)
    qualified = Table("spelling_hero", MetaData(), *columns, schema="public")
    with engine.begin() as connection:
        connection.execute(update(qualified).values(name="new"))
    assert name(engine, Hero, 1) == "new"


def test_autocommit_aborts_too(sqlite_url, make_engine):
    """With on_fence_failure='abort' and no store nothing is written, whoever commits."""
    engine = make_engine(sqlite_url, isolation_level="AUTOCOMMIT")
    with Session(engine) as session:
        session.add(Hero(id=1, name="old"))
        session.commit()
    SQLModelCache.configure("redis://127.0.0.1:1/0", on_fence_failure="abort")
    with engine.connect() as connection, pytest.raises(FenceError):
        connection.execute(update(Hero).where(Hero.id == 1).values(name="new"))
    SQLModelCache.configure("memory://")
    assert name(engine, Hero, 1) == "old"


def test_a_session_that_sets_up_its_connection_asks_the_database(sqlite_url, make_engine):
    """A foreign after_begin listener may set a tenant: a hit would come before it ran."""
    engine = make_engine(sqlite_url)
    stored(engine, Hero(id=1, name="old"))
    factory = sessionmaker(engine)
    begun = []
    event.listen(factory, "after_begin", lambda *arguments: begun.append(arguments))
    with factory() as session:
        assert session.get(Hero, 1).name == "old"
    assert len(begun) == 1
    assert SQLModelCache.stats().bypasses["do_orm_execute_hook"] == 1
    SQLModelCache.configure("memory://", trust_orm_hooks=True)
    for _ in range(2):
        with factory() as session:
            session.get(Hero, 1)
    assert SQLModelCache.stats().hits == 1


def test_somebody_elses_patch_of_do_commit(sqlite_url, make_engine):
    """A plain function on the dialect is run between fence and release like its own method."""
    engine = make_engine(sqlite_url)
    stored(engine, Hero(id=1, name="old"))
    SQLModelCache.reset()
    original, seen = engine.dialect.do_commit, []
    engine.dialect.do_commit = lambda connection: (seen.append(1), original(connection))
    SQLModelCache.configure("memory://")
    assert name(engine, Hero, 1) == "old"
    with Session(engine) as session:
        session.get(Hero, 1).name = "new"
        session.commit()
    assert seen
    assert name(engine, Hero, 1) == "new"
    patched = len(seen)
    SQLModelCache.reset()
    with Session(engine) as session:
        session.get(Hero, 1, execution_options={"cache": False}).name = "newer"
        session.commit()
    assert len(seen) == patched + 1


def test_stats_as_plain_dicts(sqlite_url, make_engine):
    """A route may return them."""
    engine = make_engine(sqlite_url)
    stored(engine, Hero(id=1, name="old"))
    shown = json.loads(json.dumps(SQLModelCache.stats().as_dict()))
    assert shown["hits"] == shown["models"]["Hero"]["hits"] == 1
    assert shown["breaker"] == "closed"


def test_a_bare_client_is_refused():
    """It has get, set and delete, and would be taken for a store without any promise."""
    with pytest.raises(ConfigurationError, match="RedisSyncTransport"):
        SQLModelCache.configure(Redis())


def test_a_model_that_is_never_a_hit_says_so(sqlite_url, make_engine, caplog):
    """Whoever asked for caching and gets none is told once, with the remedy."""

    class Own(DeclarativeBase):
        pass

    class Band(Own):
        __tablename__ = "spelling_band"
        __cache_config__ = CacheConfig()
        id: Mapped[int] = mapped_column(primary_key=True)
        size = column_property(select(func.count()).scalar_subquery())

    engine = make_engine(sqlite_url)
    Own.metadata.create_all(engine)
    SQLModelCache.configure("memory://")
    for _ in range(2):
        with Session(engine) as session:
            session.get(Band, 1)
    said = [record.message for record in caplog.records if "Band" in record.message]
    assert len(said) == 1
    assert "column_property" in said[0]
    Own.registry.dispose()

"""Two-phase commit: fenced at its COMMIT, whichever connection sends it."""

from __future__ import annotations

import pytest
from sqlalchemy import String, create_engine, delete
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache
from tests.writes.scripted import ScriptedTransport


class Base(DeclarativeBase):
    """Of the model here."""


class Coin(Base):
    """A row whose change is prepared first."""

    __tablename__ = "twophase_coin"
    __cache_config__ = CacheConfig()
    id: Mapped[int] = mapped_column(primary_key=True)
    side: Mapped[str] = mapped_column(String(20))


@pytest.fixture
def store():
    """Return the transport of the configured cache."""
    return ScriptedTransport()


@pytest.fixture
def engine(mariadb_url, store):
    """Return an engine on MariaDB (XA), with one coin that is cached."""
    engine = create_engine(mariadb_url, isolation_level="READ COMMITTED")
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    SQLModelCache.configure(store)
    with Session(engine) as session:
        session.add_all([Coin(id=1, side="heads"), Coin(id=2, side="heads")])
        session.commit()
    assert [side(engine), side(engine)] == ["heads", "heads"]
    assert SQLModelCache.stats().hits == 1
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


def side(engine):
    """Return what a fresh session reads."""
    with Session(engine) as session:
        return session.get(Coin, 1).side


def test_two_phase_session(engine, store):
    """Nothing is published at PREPARE; the fence stands at COMMIT."""
    with Session(engine, twophase=True) as session:
        session.get(Coin, 1).side = "tails"
        session.flush()
        store.names()
        session.prepare()
        assert "Fence" not in store.names()
        assert side(engine) == "heads"
        store.names()
        session.commit()
    assert store.names()[:2] == ["Fence", "Release"]
    assert side(engine) == "tails"


def test_rows_that_a_statement_returns(engine, store):
    """XA: what a DELETE says by RETURNING is forgotten at its COMMIT, and nothing else."""
    with Session(engine) as session:
        session.get(Coin, 2)
    with Session(engine, twophase=True) as session:
        gone = delete(Coin).where(Coin.id + 0 == 1).returning(Coin.id)
        assert session.execute(gone).scalar_one() == 1
        store.names()
        session.prepare()
        assert "Fence" not in store.names()
        assert side(engine) == "heads"
        session.commit()
    before = SQLModelCache.stats().hits
    with Session(engine) as session:
        assert session.get(Coin, 1) is None
        assert session.get(Coin, 2).side == "heads"
    assert SQLModelCache.stats().hits == before + 1


def test_two_phase_rollback(engine, store):
    """A prepared transaction that is rolled back leaves the cached row as it is."""
    store.names()
    with Session(engine, twophase=True) as session:
        session.get(Coin, 1).side = "tails"
        session.prepare()
        session.rollback()
    assert "Fence" not in store.names()
    before = SQLModelCache.stats().hits
    assert side(engine) == "heads"
    assert SQLModelCache.stats().hits == before + 1


def test_two_phase_drops_its_own_rows_only(engine, caplog):
    """The dialect's XA statements are no text that could write anything."""
    with Session(engine) as session:
        session.get(Coin, 2)
    with Session(engine, twophase=True) as session:
        session.get(Coin, 1).side = "tails"
        session.commit()
    before = SQLModelCache.stats().hits
    with Session(engine) as session:
        assert session.get(Coin, 2).side == "heads"
    assert SQLModelCache.stats().hits == before + 1
    assert "raw SQL" not in caplog.text


def test_xa_commit_as_text(engine):
    """XA by hand: nothing is published before XA COMMIT, everything at it."""
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        connection.exec_driver_sql("XA START 'by_hand'")
        connection.exec_driver_sql("UPDATE twophase_coin SET side = 'tails' WHERE id = 1")
        connection.exec_driver_sql("XA END 'by_hand'")
        connection.exec_driver_sql("XA PREPARE 'by_hand'")
        before = [side(engine) for _ in range(2)]
        connection.exec_driver_sql("XA COMMIT 'by_hand'")
        after = side(engine)
    assert [*before, after] == ["heads", "heads", "tails"]
    assert [side(engine), side(engine)] == ["tails", "tails"]

"""A commit seen by the cache: fence, COMMIT, release; and every way in which it can go wrong."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
from sqlalchemy import create_engine, func, insert, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from sqlmodel_cache import FenceError, SQLModelCache
from sqlmodel_cache.orm.connections.publish import outcome_of
from sqlmodel_cache.protocol.ops import Fence, Release
from sqlmodel_cache.protocol.write import Outcome
from tests.writes.scripted import ScriptedTransport


@pytest.fixture
def store():
    """Return the transport of the configured cache."""
    return ScriptedTransport()


@pytest.fixture
def team(world, store):
    """Store team 1 in database and cache; forget how that came about."""
    SQLModelCache.configure(store, namespace="world")
    with Session(world.engine) as session:
        session.add(world.Team(id=1, name="old"))
        session.commit()
        session.get(world.Team, 1)
    assert read(world) == "old"
    assert hits() > 0
    store.names()
    return world.Team


def read(world):
    """Return what a fresh session reads of team 1."""
    with Session(world.engine) as session:
        return session.get(world.Team, 1).name


def hits():
    """Return the hits so far."""
    return SQLModelCache.stats().hits


def rename(world, name="new"):
    """Write team 1 through the ORM and commit."""
    with Session(world.engine) as session:
        session.get(world.Team, 1).name = name
        session.commit()


def test_fence_stands_at_commit(world, team, store, on_commit):
    """The fence is there when the database commits, and gone when commit() returns."""
    asked_before_commit = []

    def look(commit):
        asked_before_commit.extend(store.names())
        commit()

    on_commit(look)
    rename(world)
    on_commit(None)
    assert asked_before_commit[-1] == "Fence"
    assert store.names() == ["Release"]
    assert read(world) == "new"


def test_while_fenced_nobody_fills(world, team, store):
    """A reader between fence and release goes to the database and leaves nothing behind."""
    during = []

    def on(op):
        if isinstance(op, Release) and not during:
            store.on = lambda op: None
            during.append(read(world))
            assert store.names()[-1] == "Lease"

    store.on = on
    rename(world)
    assert during == ["new"]
    before = hits()
    assert read(world) == "new"
    assert hits() == before


def test_b04_rollback_publishes_nothing(world, team, store):
    """A rollback leaves the cached value, which is still the committed one."""
    with Session(world.engine) as session:
        session.get(team, 1).name = "never"
        session.flush()
        session.rollback()
    assert "Fence" not in store.names()
    before = hits()
    assert read(world) == "old"
    assert hits() == before + 1


def test_b04_close_without_commit(world, team, store):
    """So does closing the session."""
    with Session(world.engine) as session:
        session.get(team, 1).name = "never"
        session.flush()
    assert "Fence" not in store.names()
    assert read(world) == "old"


def test_b04_refused_commit_is_released(world, team, store, on_commit):
    """A COMMIT that the database refuses changes nothing; fences do not stay."""

    def refuse(commit):
        raise sqlite3.IntegrityError("deferred constraint")

    with Session(world.engine) as session:
        session.get(team, 1).name = "never"
        session.flush()
        on_commit(refuse)
        with pytest.raises(IntegrityError):
            session.commit()
        on_commit(None)
        session.rollback()
    assert [n for n in store.names() if n in ("Fence", "Release")] == ["Fence", "Release"]
    assert read(world) == "old"
    before = hits()
    assert read(world) == "old"
    assert hits() == before + 1


def test_ambiguous_commit_keeps_its_fence(world, team, store, on_commit):
    """Where nobody knows whether it was committed, readers ask the database until the deadline."""

    def lost(commit):
        commit()
        raise TimeoutError("the reply to COMMIT never came")

    with Session(world.engine) as session:
        session.get(team, 1).name = "perhaps"
        session.flush()
        on_commit(lost)
        with pytest.raises(TimeoutError):
            session.commit()
        on_commit(None)
    before = hits()
    assert [read(world), read(world)] == ["perhaps", "perhaps"]
    assert hits() == before


def test_b31_abort_rolls_back_and_persists_nothing_later(world, team, store):
    """on_fence_failure='abort': the transaction is gone before its connection is reused."""
    SQLModelCache.configure(store, namespace="world", on_fence_failure="abort")

    def on(op):
        if isinstance(op, Fence):
            raise ConnectionError

    store.on = on
    with Session(world.engine) as session:
        session.get(team, 1).name = "aborted"
        with pytest.raises(FenceError):
            session.commit()
    store.on = lambda op: None
    with world.engine.begin() as connection:
        connection.execute(insert(world.Log.__table__).values(id=1))
    assert read(world) == "old"
    with world.engine.connect() as connection:
        assert connection.execute(text("SELECT name FROM team")).scalar() == "old"


def test_b31_interrupted_fence_rolls_back(world, team, store):
    """A KeyboardInterrupt in the fence leaves no open transaction behind either."""

    def on(op):
        if isinstance(op, Fence):
            raise KeyboardInterrupt

    store.on = on
    with Session(world.engine) as session:
        session.get(team, 1).name = "interrupted"
        with pytest.raises(KeyboardInterrupt):
            session.commit()
    store.on = lambda op: None
    with world.engine.begin() as connection:
        connection.execute(insert(world.Log.__table__).values(id=2))
    with world.engine.connect() as connection:
        assert connection.execute(text("SELECT name FROM team")).scalar() == "old"


async def test_b26_cancelled_commit_still_publishes(world, store, tmp_path):
    """A task cancelled while it releases has released when the cancellation arrives."""

    class AsyncScripted:
        def __init__(self):
            self.seen = []
            self.gate = asyncio.Event()

        async def perform(self, op):
            if isinstance(op, Release) and not self.gate.is_set():
                self.gate.set()
                await asyncio.sleep(0)
            self.seen.append(type(op).__name__)
            return store.perform(op)

    asked = AsyncScripted()
    SQLModelCache.configure(asked, namespace="world")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/world.db")

    async def write():
        async with AsyncSession(engine) as session:
            session.add(world.Team(id=5, name="x"))
            await session.commit()

    task = asyncio.create_task(write())
    await asked.gate.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asked.seen[-2:] == ["Fence", "Release"]
    await engine.dispose()


async def test_b31_cancelled_fence_persists_nothing(world, store, tmp_path):
    """A task cancelled while it fences has committed nothing, then or later."""

    class Hanging:
        gate = asyncio.Event()

        async def perform(self, op):
            if isinstance(op, Fence):
                self.gate.set()
                await asyncio.Event().wait()
            return store.perform(op)

    asked = Hanging()
    SQLModelCache.configure(asked, namespace="world")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/world.db", poolclass=StaticPool)

    async def write():
        async with AsyncSession(engine) as session:
            session.add(world.Team(id=6, name="x"))
            await session.commit()

    task = asyncio.create_task(write())
    await asked.gate.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with engine.begin() as connection:
        await connection.execute(insert(world.Log.__table__).values(id=3))
    with world.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM team")).scalar() == 0
        assert connection.execute(text("SELECT count(*) FROM log")).scalar() == 1
    await engine.dispose()


def test_b05_savepoint_rolled_back(world, team, store):
    """What was touched inside a savepoint that was rolled back is not published."""
    with Session(world.engine) as session:
        session.add(world.Badge(code="a"))
        session.flush()
        with session.begin_nested() as savepoint:
            session.get(team, 1).name = "never"
            session.flush()
            savepoint.rollback()
        store.names()
        session.commit()
    (fence,) = [op for op in store.asked if isinstance(op, Fence)]
    assert {entry.shard.head.split(":")[3] for entry in fence.entries} == {"badge"}
    before = hits()
    assert read(world) == "old"
    assert hits() == before + 1


def test_b05_savepoint_released(world, team, store):
    """What was touched inside a released savepoint is published with the root, not before."""
    with Session(world.engine) as session:
        session.add(world.Badge(code="a"))
        session.flush()
        with session.begin_nested():
            session.get(team, 1).name = "new"
        assert "Fence" not in store.names()
        session.commit()
    assert "Fence" in store.names()
    assert read(world) == "new"


def test_eventual_only_deletes_afterwards(world, team, store):
    """consistency='eventual' sends no fence."""
    SQLModelCache.configure(store, namespace="world", consistency="eventual")
    read(world)
    store.names()
    rename(world)
    assert [n for n in store.names() if n in ("Fence", "Release")] == ["Release"]
    assert read(world) == "new"


def test_autocommit_fences_before_each_statement(world, team, store):
    """Where the driver commits by itself, the fence stands before the statement."""
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        table = team.__table__
        connection.execute(update(table).where(table.c.id == 1).values(name="new"))
        assert store.names() == ["Fence", "Release"]
        before = hits()
        assert [read(world), read(world)] == ["new", "new"]
        assert hits() == before + 1


@pytest.mark.parametrize("statement", ["update", "text"])
def test_autocommit_of_a_statement_that_outlives_its_fence(world, team, store, statement):
    """What others stored meanwhile is forgotten when it is through, not with the next statement."""
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")

    def late(name):
        store._locks.clear()
        assert [read(world), read(world)] == ["old", "old"]
        return name

    told = text("UPDATE team SET name = late('new') WHERE id = 1")
    table = team.__table__
    if statement == "update":
        told = update(table).where(table.c.id == 1).values(name=func.late("new"))
    with engine.connect() as connection:
        connection.connection.driver_connection.create_function("late", 1, late)
        connection.execute(told)
        assert read(world) == "new"


class CommitsItself(sqlite3.Connection):
    """What Python 3.12 makes of `connect_args={"autocommit": True}`."""

    autocommit = True
    isolation_level = ""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **{**settings, "isolation_level": None})


def test_autocommit_of_the_driver_alone(world, team, store, tmp_path):
    """Nobody told SQLAlchemy: a statement is durable, and its rollback undoes nothing."""
    engine = create_engine(
        f"sqlite:///{tmp_path}/world.db", connect_args={"factory": CommitsItself}
    )
    with Session(engine) as session:
        session.get(team, 1).name = "new"
        session.flush()
        assert read(world) == "new"
        session.rollback()
    assert read(world) == "new"
    engine.dispose()


def test_autocommit_of_a_new_primary_key(world, team, store):
    """That there was no row of this key is forgotten with the statement, whatever comes after."""
    with Session(world.engine) as session:
        session.add(world.Ghost(id=1))
        session.commit()
        assert session.get(world.Ghost, 2) is None
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    with Session(engine) as session, Session(world.engine) as other:
        session.get(world.Ghost, 1).id = 2
        session.flush()
        assert other.get(world.Ghost, 2) is not None
        session.rollback()


def test_autocommit_with_rows_to_come(world, team, store):
    """SQLite commits a statement with RETURNING when its rows were read: the fence stands."""
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        table = team.__table__
        result = connection.execute(update(table).values(name="new").returning(table.c.id))
        assert store.names() == ["Fence"]
        assert [read(world), read(world)] == ["old", "old"]
        assert result.scalars().all() == [1]
    assert read(world) == "new"


def test_shared_dbapi_connection_publishes_what_all_touched(world, store):
    """Two sessions on one StaticPool connection: either commit makes both writes durable."""
    SQLModelCache.configure(store, namespace="shared")
    engine = create_engine("sqlite://", poolclass=StaticPool)
    world.Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([world.Team(id=1, name="a"), world.Team(id=2, name="b")])
        session.commit()
    with Session(engine) as session:
        session.get(world.Team, 1), session.get(world.Team, 2)
    first, second = Session(engine), Session(engine)
    first.get(world.Team, 1).name = "x"
    first.flush()
    second.get(world.Team, 2).name = "y"
    second.commit()
    fence = [op for op in store.asked if isinstance(op, Fence)][-1]
    assert len(fence.entries) == 2
    first.close()
    second.close()
    engine.dispose()


def test_pool_that_commits_on_return(world, team, store, tmp_path):
    """pool_reset_on_return='commit' fires no event; it is published all the same."""
    engine = create_engine(f"sqlite:///{tmp_path}/world.db", pool_reset_on_return="commit")
    raw = engine.connect()
    table = team.__table__
    raw.execute(update(table).where(table.c.id == 1).values(name="new"))
    proxied = raw.connection
    raw._transaction = None  # the transaction object is gone, the DBAPI's own is not
    proxied.close()
    assert "Fence" in store.names()
    assert read(world) == "new"
    engine.dispose()


def test_touched_rows_are_read_from_the_database(world, team, store):
    """B3: a session sees its own uncommitted write; everybody else the committed value."""
    with Session(world.engine) as session:
        table = team.__table__
        session.execute(update(table).where(table.c.id == 1).values(name="mine"))
        assert session.get(team, 1).name == "mine"
        assert sum(SQLModelCache.stats().bypasses.values()) == 1
        assert read(world) == "old"
        session.rollback()
    assert read(world) == "old"


def test_nothing_is_filled_after_any_write(world, team, store):
    """B3: a trigger may have changed rows that the statement never named."""
    with Session(world.engine) as session:
        session.add(world.Team(id=2, name="other"))
        session.commit()
        session.execute(insert(world.Log.__table__).values(id=9))
        session.get(team, 2)
        assert "Fill" not in store.names()


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (sqlite3.OperationalError("database is locked"), Outcome.REFUSED),
        (sqlite3.IntegrityError("x"), Outcome.REFUSED),
        (TimeoutError(), Outcome.AMBIGUOUS),
        (KeyboardInterrupt(), Outcome.AMBIGUOUS),
        (asyncio.CancelledError(), Outcome.AMBIGUOUS),
    ],
)
def test_outcome_of_sqlite(world, error, outcome):
    """A server's own answer is definite; anything else is not."""
    assert outcome_of(error, world.engine.dialect) is outcome


def test_outcome_of_postgresql():
    """A psycopg error is definite with an SQLSTATE, and not when the connection is gone."""
    psycopg = pytest.importorskip("psycopg")
    engine = create_engine("postgresql+psycopg://")
    assert outcome_of(psycopg.errors.SerializationFailure(), engine.dialect) is Outcome.REFUSED
    lost = psycopg.OperationalError("server closed the connection unexpectedly")
    assert outcome_of(lost, engine.dialect) is Outcome.AMBIGUOUS


def test_enabled_again_renews_every_epoch(world, team, store):
    """What was written while the cache was configured off is not hidden by what it still holds."""
    SQLModelCache.configure(store, namespace="world", enabled=False)
    rename(world, "unseen")
    SQLModelCache.configure(store, namespace="world")
    assert read(world) == "unseen"
    assert read(world) == "unseen"
    before = hits()

    class Later(world.Base):
        __tablename__ = "later"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert read(world) == "unseen"
    assert hits() == before + 1  # and not once more with each class that is mapped

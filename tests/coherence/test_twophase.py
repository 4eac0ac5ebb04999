"""Two-phase commit on PostgreSQL: fenced at COMMIT PREPARED, whoever sends it (B25)."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import create_engine, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, FenceError, SQLModelCache
from sqlmodel_cache.orm.connections import publish
from sqlmodel_cache.orm.connections.ledger import ledger_of
from sqlmodel_cache.protocol.write import Publication
from tests.coherence.run import PROCESSES
from tests.recording import record_sql
from tests.servers.choice import AskedFor, Unavailable
from tests.servers.databases import async_url, postgres_database
from tests.servers.postgres import PostgresServer, libpq_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

FENCE = 50  # milliseconds


class Base(DeclarativeBase):
    """Of the models here."""


class Coin(Base):
    """A row whose change is prepared first."""

    __tablename__ = "prepared_coin"
    __cache_config__ = CacheConfig()
    id: Mapped[int] = mapped_column(primary_key=True)
    side: Mapped[str]


def _may_prepare(url: str) -> bool:
    with psycopg.connect(libpq_url(url)) as connection:
        row = connection.execute("SHOW max_prepared_transactions").fetchone()
    return row is not None and int(row[0]) > 0


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of a database whose server lets transactions be prepared."""
    url = request.getfixturevalue("postgres_url")
    if _may_prepare(url):
        yield url
        return
    try:
        own = PostgresServer()
    except (Unavailable, AskedFor) as error:
        pytest.skip(f"no server: PostgreSQL with max_prepared_transactions: {error}")
    with own, postgres_database(own.url) as url:
        yield url


@pytest.fixture
def url(server: str) -> Iterator[str]:
    """Return the same with two coins in it, and nothing prepared when it is over."""
    engine = create_engine(server)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Coin(id=number, side="heads") for number in (1, 2)])
        session.commit()
    engine.dispose()
    yield server
    with psycopg.connect(libpq_url(server), autocommit=True) as connection:
        left = connection.execute("SELECT gid FROM pg_prepared_xacts").fetchall()
        for (gid,) in left:
            connection.execute(f"ROLLBACK PREPARED '{gid}'".encode())


@pytest.fixture
def engine(url: str, redis_url: str, key_prefix: str) -> Iterator[Engine]:
    """Return an engine whose coins are cached in Redis."""
    engine = create_engine(url)
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    assert [side(engine, pk) for pk in (1, 2) for _ in range(2)] == ["heads"] * 4
    assert SQLModelCache.stats().hits == 2
    yield engine
    engine.dispose()


def side(engine: Engine, pk: int = 1) -> str:
    """Return what a fresh session reads."""
    with Session(engine) as session:
        return session.get_one(Coin, pk).side


def hit(engine: Engine, pk: int = 1) -> str:
    """Return the same; it must send no SQL."""
    with record_sql(engine) as sent:
        found = side(engine, pk)
    assert not sent
    return found


def prepare(engine: Engine, xid: str, pk: int = 1, value: str = "tails") -> Any:
    """Change a coin and prepare it; return the transaction and its connection."""
    connection = engine.connect()
    transaction = connection.begin_twophase(xid)
    connection.execute(update(Coin).where(Coin.id == pk).values(side=value))
    transaction.prepare()
    return transaction, connection


def test_b25_a_session(engine: Engine) -> None:
    """Prepared: others still hit the committed row. Committed: nobody reads it again."""
    with Session(engine, twophase=True) as session:
        session.get_one(Coin, 1).side = "tails"
        session.prepare()
        assert hit(engine) == "heads"
        session.commit()
    assert side(engine) == "tails"
    assert hit(engine) == "tails"
    assert hit(engine, 2) == "heads"


def test_b25_a_row_read_between_is_stored_for_as_long_as_it_is_true(engine: Engine) -> None:
    """A cold row filled between PREPARE and COMMIT is dropped at the COMMIT."""
    with Session(engine, twophase=True) as session:
        session.get_one(Coin, 1).side = "tails"
        session.prepare()
        SQLModelCache.invalidate(Coin, 1)
        assert [side(engine), hit(engine)] == ["heads", "heads"]
        session.commit()
    assert side(engine) == "tails"


def test_b25_rolled_back(engine: Engine) -> None:
    """A prepared transaction that is rolled back leaves the cached row alone."""
    with Session(engine, twophase=True) as session:
        session.get_one(Coin, 1).side = "tails"
        session.prepare()
        session.rollback()
    assert hit(engine) == "heads"


def test_b25_a_session_that_only_read(engine: Engine) -> None:
    """It drops nothing."""
    with Session(engine, twophase=True) as session:
        session.get_one(Coin, 1, execution_options={"cache": False})
        session.commit()
    assert hit(engine) == "heads"


@pytest.mark.parametrize("prepared", [True, False])
def test_b25_a_core_transaction(engine: Engine, prepared: bool) -> None:
    """Its row, and no other, is dropped, prepared or committed in one phase."""
    with engine.connect() as connection:
        transaction = connection.begin_twophase("core")
        connection.execute(update(Coin).where(Coin.id == 1).values(side="tails"))
        if prepared:
            transaction.prepare()
        assert hit(engine) == "heads"
        transaction.commit()
    assert side(engine) == "tails"
    assert hit(engine, 2) == "heads"


@pytest.mark.parametrize("ending", ["commit", "rollback", "recover"])
def test_b25_rows_that_a_statement_returns(engine: Engine, url: str, ending: str) -> None:
    """They are told by their RETURNING before the PREPARE, and forgotten at the COMMIT PREPARED."""
    connection = engine.connect()
    transaction = connection.begin_twophase("returned")
    change = update(Coin).where(Coin.id + 0 == 1).values(side="tails")
    connection.execute(change.returning(Coin.side, Coin.id))  # nobody reads them
    ledger = ledger_of(connection)
    assert ledger is not None
    touched = ledger.frames.capture()
    assert (len(touched.rows), touched.tables) == (1, frozenset())
    transaction.prepare()
    assert [hit(engine), hit(engine, 2)] == ["heads", "heads"]
    if ending == "recover":
        connection.invalidate()
        with engine.connect() as other:
            other.commit_prepared("returned", recover=True)
    else:
        getattr(transaction, ending)()
        assert hit(engine, 2) == "heads"
    connection.close()
    assert side(engine) == ("heads" if ending == "rollback" else "tails")
    assert hit(engine) == side(engine)


def test_b25_the_connection_was_reset_before(engine: Engine) -> None:
    """What was prepared is remembered beside the connection that prepared it."""
    transaction, connection = prepare(engine, "reset")
    ledger = ledger_of(connection)
    assert ledger is not None
    ledger.end()
    transaction.commit()
    connection.close()
    assert side(engine) == "tails"
    assert hit(engine, 2) == "heads"


@pytest.mark.parametrize("known", [True, False], ids=["same process", "unknown"])
def test_b25_recovered_by_another_connection(engine: Engine, url: str, known: bool) -> None:
    """`commit_prepared(recover=True)` drops everything: nobody knows what it wrote."""
    if known:
        _, connection = prepare(engine, "lost")
        connection.invalidate()
    else:
        with psycopg.connect(libpq_url(url)) as outside:
            outside.execute("UPDATE prepared_coin SET side = 'tails' WHERE id = 1")
            outside.execute("PREPARE TRANSACTION 'lost'")
    assert hit(engine) == "heads"
    recoverer = create_engine(url)
    with recoverer.connect() as connection:
        (xid,) = (each for each in connection.recover_twophase() if "lost" in each)
        connection.commit_prepared(xid, recover=True)
    recoverer.dispose()
    assert side(engine) == "tails"


def test_b25_recovered_and_rolled_back(engine: Engine) -> None:
    """`rollback_prepared(recover=True)` drops nothing."""
    _, connection = prepare(engine, "undone")
    connection.invalidate()
    with engine.connect() as other:
        other.rollback_prepared("undone", recover=True)
    assert hit(engine) == "heads"


@pytest.mark.parametrize("spelling", ["COMMIT PREPARED '{}'", "commit/**/prepared '{}' ; "])
def test_b25_as_text(engine: Engine, spelling: str) -> None:
    """`COMMIT PREPARED` in text drops everything, before it is sent and after."""
    _, connection = prepare(engine, "text")
    connection.invalidate()
    plain = engine.execution_options(isolation_level="AUTOCOMMIT")
    with plain.connect() as connection:
        connection.execute(text(spelling.format("text")))
        assert side(engine) == "tails"
    assert [side(engine), hit(engine), side(engine, 2)] == ["tails", "tails", "heads"]


def test_b25_prepared_as_text(engine: Engine) -> None:
    """A session that prepares by text publishes at the COMMIT PREPARED, once more."""
    with Session(engine) as session:
        session.get_one(Coin, 1).side = "tails"
        session.flush()
        session.execute(text("PREPARE TRANSACTION 'mine'"))
        session.commit()
    assert [side(engine), hit(engine)] == ["heads", "heads"]
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("COMMIT PREPARED 'mine'"))
    assert side(engine) == "tails"


def test_b25_rollback_prepared_as_text(engine: Engine) -> None:
    """`ROLLBACK PREPARED` in text drops nothing."""
    _, connection = prepare(engine, "undone")
    connection.invalidate()
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("ROLLBACK PREPARED 'undone'"))
    assert hit(engine) == "heads"


def test_b25_a_recovery_that_cannot_be_fenced(
    engine: Engine, redis_url: str, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 'abort' it stays prepared, to be tried again: somebody decided to commit it."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix, on_fence_failure="abort")
    _, connection = prepare(engine, "again")
    connection.invalidate()
    with engine.connect() as connection:
        with monkeypatch.context() as patched:
            patched.setattr(publish.Publishing, "fence", lambda one: False)
            with pytest.raises(FenceError):
                connection.commit_prepared("again", recover=True)
        assert connection.recover_twophase() == ["again"]
        connection.commit_prepared("again", recover=True)
    assert side(engine) == "tails"


def _die(url: str, redis_url: str, prefix: str, step: str) -> None:
    """Prepare a change, begin to commit it, and be killed."""
    vars(publish)["Publication"] = partial(Publication, duration=FENCE)
    engine = create_engine(url)
    SQLModelCache.configure(redis_url, key_prefix=prefix)
    transaction, _ = prepare(engine, "orphan")
    if step == "after PREPARE":
        os.kill(os.getpid(), signal.SIGKILL)

    def killed(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    psycopg.Connection.tpc_commit = killed  # type: ignore[method-assign]
    transaction.commit()


@pytest.mark.parametrize("step", ["after PREPARE", "after fence"])
def test_b25_a_writer_that_died(
    engine: Engine, url: str, redis_url: str, key_prefix: str, step: str
) -> None:
    """Its fence has run out, rows are cached anew, and a recovery leaves nothing stale."""
    process = PROCESSES.Process(target=_die, args=(url, redis_url, key_prefix, step))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    _wait_for_a_hit(engine)  # the fence is gone
    with engine.connect() as connection:
        (xid,) = (each for each in connection.recover_twophase() if "orphan" in each)
        connection.commit_prepared(xid, recover=True)
    assert side(engine) == "tails"
    assert hit(engine) == "tails"


def _wait_for_a_hit(engine: Engine) -> None:
    for _ in range(1_000):
        with record_sql(engine) as sent:
            assert side(engine) == "heads"
        if not sent:
            return
    raise AssertionError("the fence of a dead writer never ended")


@pytest.mark.parametrize("ending", ["commit", "rollback", "recover"])
async def test_b25_asyncio(engine: Engine, url: str, ending: str) -> None:
    """The same through asyncpg, whose dialect says COMMIT PREPARED as a statement."""
    asynchronous = create_async_engine(async_url(url))
    try:
        await _asyncio(asynchronous, ending)
    finally:
        await asynchronous.dispose()
    expected = "heads" if ending == "rollback" else "tails"
    assert [side(engine), hit(engine)] == [expected, expected]


async def _asyncio(asynchronous: Any, ending: str) -> None:
    if ending == "recover":
        async with asynchronous.connect() as connection:
            await connection.run_sync(_prepare_and_leave)
        async with asynchronous.connect() as connection:
            await connection.run_sync(lambda sync: sync.commit_prepared("left", recover=True))
        return
    async with AsyncSession(asynchronous, twophase=True) as session:
        (await session.get_one(Coin, 1)).side = "tails"
        await session.run_sync(lambda sync: sync.prepare())
        await getattr(session, ending)()


def _prepare_and_leave(connection: Any) -> None:
    transaction = connection.begin_twophase("left")
    connection.execute(update(Coin).where(Coin.id == 1).values(side="tails"))
    transaction.prepare()
    connection.invalidate()

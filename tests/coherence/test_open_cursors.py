"""A half-read cursor of SQLite holds its whole connection to an older state of a WAL file (S4)."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import ClauseElement, Executable, create_engine, event, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache
from sqlmodel_cache.orm.connections.cursors import is_half_read
from tests.recording import record_sql, stable_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

ROWS = 50  # more than any driver reads ahead


class Base(DeclarativeBase):
    """Of the models here."""


class Coin(Base):
    """What is read and written."""

    __tablename__ = "cursor_coin"
    __cache_config__ = CacheConfig()
    id: Mapped[int] = mapped_column(primary_key=True)
    side: Mapped[str]


class Line(Base):
    """What is read slowly."""

    __tablename__ = "cursor_line"
    id: Mapped[int] = mapped_column(primary_key=True)


class Turn(Executable, ClauseElement):
    """A statement of the user's own."""

    inherit_cache = False


def _wal(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a WAL file with one coin and many lines."""
    path = tmp_path / "wal.sqlite3"
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", _wal)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Coin), [{"id": 1, "side": "heads"}, {"id": 2, "side": "heads"}])
        connection.execute(insert(Line), [{"id": number} for number in range(ROWS)])
    engine.dispose()
    return path


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    """Return the engine of the slow reader; the cache is configured."""
    engine = create_engine(f"sqlite:///{path}")
    SQLModelCache.configure("memory://")
    yield engine
    engine.dispose()


@pytest.fixture
def writer(path: Path) -> Iterator[Engine]:
    """Return the engine of somebody else."""
    engine = create_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


def turn(writer: Engine, pk: int = 1, side: str = "tails") -> None:
    """Commit a change of a coin on another connection."""
    with writer.begin() as connection:
        connection.execute(update(Coin).where(Coin.id == pk).values(side=side))


def side(engine: Engine, pk: int = 1) -> str:
    """Return what a fresh session reads."""
    with Session(engine) as session:
        return session.get_one(Coin, pk).side


def _yield_per(session: Session) -> Any:
    return iter(session.scalars(select(Line).execution_options(yield_per=5)))


def _unread(session: Session) -> Any:
    return session.execute(select(Line))


def _core(session: Session) -> Any:
    return iter(session.connection().execute(select(Line.id)))


def _text(session: Session) -> Any:
    return session.execute(text("SELECT id FROM cursor_line"))


def _partitions(session: Session) -> Any:
    return session.connection().execute(select(Line.id)).partitions(3)


def _driver_sql(session: Session) -> Any:
    return session.connection().exec_driver_sql("SELECT id FROM cursor_line")


HALF_READ = (_yield_per, _unread, _core, _text, _partitions, _driver_sql)


@pytest.mark.parametrize("opened", HALF_READ, ids=lambda opened: opened.__name__.strip("_"))
def test_nothing_is_filled_below_an_open_cursor(
    engine: Engine, writer: Engine, opened: Any
) -> None:
    """The row that the cursor's state had is read, and not stored."""
    with Session(engine) as session:
        half_read = opened(session)
        if opened is not _unread:
            next(half_read) if hasattr(half_read, "__next__") else half_read.fetchone()
        turn(writer)
        assert session.get_one(Coin, 1).side == "heads"  # held to the older state
        assert SQLModelCache.stats().fills == 0
        del half_read
    assert side(writer) == "tails"


@pytest.mark.parametrize("opened", HALF_READ, ids=lambda opened: opened.__name__.strip("_"))
def test_no_hit_is_newer_than_an_open_cursor(engine: Engine, writer: Engine, opened: Any) -> None:
    """What others stored since is not given to a connection that is held to the older state."""
    with Session(engine) as session:
        half_read = opened(session)
        if opened is not _unread:
            next(half_read) if hasattr(half_read, "__next__") else half_read.fetchone()
        turn(writer)
        assert side(writer) == "tails"  # and is stored now
        assert session.get_one(Coin, 1).side == "heads"
        assert SQLModelCache.stats().bypasses == {"snapshot": 1}
        del half_read
    assert side(engine) == "tails"


def test_a_result_that_was_read_to_its_end_holds_nothing(engine: Engine) -> None:
    """Hits come again while the result itself is still there, as in a loop over it."""
    side(engine)
    with Session(engine) as session:
        for read in (
            lambda result: result.all(),
            lambda result: [result.fetchone() for _ in range(ROWS + 1)],
            lambda result: list(result),
            lambda result: result.first(),
            lambda result: result.close(),
        ):
            result = session.connection().execute(select(Line.id))
            read(result)
            with record_sql(engine) as sent:
                assert session.get_one(Coin, 1).side == "heads"
            assert not sent
            session.expunge_all()
        for number, _ in enumerate(session.scalars(select(Line))):
            if number == 3:
                with record_sql(engine) as sent:
                    session.get_one(Coin, 1)
                assert not sent


def test_a_stream_holds_until_it_is_gone(engine: Engine) -> None:
    """After a `yield_per` loop has ended, and its result with it, hits come again."""
    side(engine)
    with Session(engine) as session:
        for _ in session.scalars(select(Line).execution_options(yield_per=5)):
            pass
        gc.collect()
        with record_sql(engine) as sent:
            assert session.get_one(Coin, 1).side == "heads"
    assert not sent


def test_a_cursor_left_over_from_another_checkout(engine: Engine, writer: Engine) -> None:
    """A result that outlives its session still holds the pooled connection."""
    with Session(engine) as session:
        left_over = session.execute(select(Line))
    turn(writer)
    with Session(engine) as session:
        assert session.get_one(Coin, 1).side == "heads"  # the same pooled connection
    assert SQLModelCache.stats().fills == 0
    del left_over
    assert side(engine) == "tails"


def test_a_commit_does_not_let_go(engine: Engine, writer: Engine) -> None:
    """Neither COMMIT nor ROLLBACK ends a SELECT that is being read."""
    for ending in (Session.commit, Session.rollback):
        with Session(engine) as session:
            half_read = session.execute(select(Line))
            ending(session)
            turn(writer, side=ending.__name__)
            assert session.get_one(Coin, 1).side != ending.__name__
            assert SQLModelCache.stats().fills == 0
            del half_read


def test_a_result_without_rows_holds_nothing(engine: Engine) -> None:
    """Of an UPDATE that SQLAlchemy does not know for one, and whose result somebody keeps."""

    @compiles(Turn)
    def render(element: Turn, compiler: Any, **how: Any) -> str:
        return "UPDATE cursor_coin SET side = 'tails' WHERE id = 1"

    side(engine)
    with Session(engine) as session:
        result = session.execute(Turn())
        session.commit()
    assert [side(engine), side(engine)] == ["tails", "tails"]
    assert SQLModelCache.stats().hits == 1
    del result


def test_what_is_remembered_of_results_is_bounded(engine: Engine) -> None:
    """Results that nobody read to their end are forgotten once they are gone."""
    with engine.connect() as connection:
        kept = [connection.execute(select(Line.id)) for _ in range(2)]
        for _ in range(200):
            connection.execute(select(Line.id)).fetchone()
        (watched,) = (each for each in connection.info.values() if hasattr(each, "contexts"))
        assert len(watched.contexts) < 50
        assert is_half_read(connection)
        for result in kept:
            result.close()
        assert not is_half_read(connection)
        assert not watched.contexts


@pytest.mark.parametrize("how", ["stream", "execute"], ids=stable_id)
async def test_async_streams(path: Path, engine: Engine, writer: Engine, how: str) -> None:
    """A server-side cursor of aiosqlite holds; a buffered result does not."""
    asynchronous = create_async_engine(f"sqlite+aiosqlite:///{path}")
    side(writer)
    try:
        await _async_streams(asynchronous, writer, how)
    finally:
        await asynchronous.dispose()


async def _async_streams(asynchronous: AsyncEngine, writer: Engine, how: str) -> None:
    async with AsyncSession(asynchronous) as session:
        if how == "stream":
            result: Any = await session.stream(select(Line).execution_options(yield_per=5))
            await result.fetchone()
            turn(writer)
            assert side(writer) == "tails"
            assert (await session.get_one(Coin, 1)).side == "heads"
            assert SQLModelCache.stats().bypasses == {"snapshot": 1}
            await result.close()
        else:
            result = await session.execute(select(Line))
            turn(writer)
            assert side(writer) == "tails"
            assert (await session.get_one(Coin, 1)).side == "tails"
            assert SQLModelCache.stats().hits == 1
        session.expunge_all()
        del result
        assert (await session.get_one(Coin, 1)).side == "tails"

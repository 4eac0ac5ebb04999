"""The isolation matrix: every kind of transaction against every interleaving that could harm it.

Each interleaving is forced, step by step in one thread, and is judged by what the database itself
says: to the transaction under test, and to somebody outside. Nothing depends on time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import StaticPool, String, create_engine, event, insert, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine


class Base(DeclarativeBase):
    """Of the model here."""


class Coin(Base):
    """What is read and written."""

    __tablename__ = "isolation_coin"
    __cache_config__ = CacheConfig()
    id: Mapped[int] = mapped_column(primary_key=True)
    side: Mapped[str] = mapped_column(String(20))


class Violation(AssertionError):
    """A row was given, or left behind, that the database does not say."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One kind of transaction.

    `begin`: the text by which its transactions are begun, None to leave it to the driver.
    `hits`: with `configure(snapshot_hits=True)`.
    """

    name: str
    server: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    journal: str | None = None
    begin: str | None = None
    hits: bool = False


def _level(level: str) -> dict[str, Any]:
    return {"isolation_level": level}


SETUPS: Final = (
    Setup("PostgreSQL READ COMMITTED", "postgresql", _level("READ COMMITTED")),
    Setup("PostgreSQL REPEATABLE READ", "postgresql", _level("REPEATABLE READ")),
    Setup("PostgreSQL SERIALIZABLE", "postgresql", _level("SERIALIZABLE")),
    Setup("PostgreSQL AUTOCOMMIT", "postgresql", _level("AUTOCOMMIT")),
    Setup(
        "PostgreSQL, BEGIN ISOLATION LEVEL REPEATABLE READ",
        "postgresql",
        begin="BEGIN ISOLATION LEVEL REPEATABLE READ",
    ),
    Setup("MariaDB READ UNCOMMITTED", "mariadb", _level("READ UNCOMMITTED")),
    Setup("MariaDB READ COMMITTED", "mariadb", _level("READ COMMITTED")),
    Setup("MariaDB REPEATABLE READ", "mariadb", _level("REPEATABLE READ")),
    Setup(
        "MariaDB AUTOCOMMIT, START TRANSACTION",
        "mariadb",
        _level("AUTOCOMMIT"),
        begin="START TRANSACTION",
    ),
    Setup("SQLite rollback journal, legacy driver", "sqlite", journal="DELETE"),
    Setup("SQLite rollback journal, BEGIN", "sqlite", journal="DELETE", begin="BEGIN"),
    Setup("SQLite WAL, legacy driver", "sqlite", journal="WAL"),
    Setup("SQLite WAL, BEGIN", "sqlite", journal="WAL", begin="BEGIN"),
    Setup("SQLite WAL, BEGIN IMMEDIATE", "sqlite", journal="WAL", begin="BEGIN IMMEDIATE"),
    Setup("SQLite WAL, AUTOCOMMIT", "sqlite", _level("AUTOCOMMIT"), journal="WAL"),
    Setup("SQLite in memory, StaticPool", "sqlite", {"poolclass": StaticPool}),
    Setup("PostgreSQL snapshot_hits", "postgresql", _level("REPEATABLE READ"), hits=True),
    Setup("MariaDB snapshot_hits", "mariadb", _level("REPEATABLE READ"), hits=True),
    Setup("SQLite WAL snapshot_hits", "sqlite", journal="WAL", begin="BEGIN", hits=True),
)


@dataclass(frozen=True, slots=True)
class Place:
    """`engine`: of the transaction under test; `outside`: everybody else's."""

    engine: Engine
    outside: Engine

    @property
    def shared(self) -> bool:
        """Tell whether all have one connection."""
        return self.engine is self.outside

    def truth(self) -> str:
        """Return what the database says to somebody outside."""
        with self.outside.connect() as connection:
            return connection.execute(select(Coin.side).where(Coin.id == 1)).scalar_one()

    def read(self) -> str:
        """Return what a fresh session outside reads."""
        with Session(self.outside) as session:
            return session.get_one(Coin, 1).side

    def turn(self) -> None:
        """Commit a change from outside."""
        with Session(self.outside) as session:
            session.get_one(Coin, 1, execution_options={"cache": False}).side = "tails"
            session.commit()

    def check(self) -> None:
        """Raise Violation unless the cache says what the database says, now and at rest."""
        truth = self.truth()
        for found in (self.read(), self.read()):
            _same(found, truth)


def _same(found: object, wanted: object) -> None:
    if found != wanted:
        raise Violation(f"{found!r}, and the database says {wanted!r}")


def _said(session: Session) -> str:
    """Return what the database says to this very transaction."""
    return session.execute(select(Coin.side).where(Coin.id == 1)).scalar_one()


def old_snapshot_fill(place: Place) -> None:
    """Look up a row that somebody changed after the transaction's first statement."""
    with Session(place.engine) as session:
        _said(session)
        place.turn()
        found = session.get_one(Coin, 1).side
        _same(found, _said(session))
        session.rollback()
    place.check()


def dirty_fill(place: Place) -> None:
    """Look up a row that somebody has written, who then rolls back."""
    with Session(place.outside) as writer, Session(place.engine) as session:
        writer.get_one(Coin, 1, execution_options={"cache": False}).side = "tails"
        writer.flush()
        found = session.get_one(Coin, 1).side
        _same(found, _said(session))
        writer.rollback()
    place.check()
    _same(place.read(), "heads")


def dirty_meanwhile(place: Place) -> None:
    """Look up a row that somebody writes before its SELECT, who rolls back as it arrives."""
    with Session(place.outside) as writer, Session(place.engine) as session:
        coin = writer.get_one(Coin, 1, execution_options={"cache": False})

        def write(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
            if "FROM isolation_coin" in statement and coin.side == "heads":
                coin.side = "tails"
                writer.flush()

        def roll_back(*_: Any) -> None:
            writer.rollback()

        event.listen(place.engine, "before_cursor_execute", write)
        event.listen(Coin, "load", roll_back)
        try:
            session.get_one(Coin, 1)
        finally:
            event.remove(Coin, "load", roll_back)
            event.remove(place.engine, "before_cursor_execute", write)
    place.check()
    _same(place.read(), "heads")


def hit_newer_than_snapshot(place: Place) -> None:
    """Look up a row that somebody stored after the transaction's first statement."""
    with Session(place.engine) as session:
        _said(session)
        place.turn()
        place.check()  # and it is stored
        found = session.get_one(Coin, 1).side
        _same(found, _said(session))
    place.check()


def fill_after_own_write(place: Place) -> None:
    """Look up a row after having written another one, and roll back."""
    fills = SQLModelCache.stats().fills
    with Session(place.engine) as session:
        session.get_one(Coin, 2, execution_options={"cache": False}).side = "tails"
        session.flush()
        _same(session.get_one(Coin, 1).side, "heads")
        _same(SQLModelCache.stats().fills, fills)
        session.rollback()
    place.check()


def read_own_write(place: Place) -> None:
    """Look up what the transaction has written; others go on reading what is committed."""
    place.read()
    with Session(place.engine) as session:
        session.get_one(Coin, 1).side = "tails"
        session.flush()
        session.expunge_all()
        _same(session.get_one(Coin, 1).side, "tails")
        if not place.shared:
            place.check()
        session.commit()
    place.check()
    _same(place.read(), "tails")


def lost_rollback(place: Place) -> None:
    """Write, roll back, and look the row up again."""
    place.read()
    with Session(place.engine) as session:
        session.get_one(Coin, 1).side = "tails"
        session.flush()
        session.rollback()
        session.expunge_all()
        found = session.get_one(Coin, 1).side
        _same(found, _said(session))
    place.check()


INTERLEAVINGS: Final[tuple[Callable[[Place], None], ...]] = (
    old_snapshot_fill,
    dirty_fill,
    dirty_meanwhile,
    hit_newer_than_snapshot,
    fill_after_own_write,
    read_own_write,
    lost_rollback,
)


def title(interleaving: Callable[[Place], None]) -> str:
    """Return the name of an interleaving as the table has it."""
    return interleaving.__name__.replace("_", " ")


@contextmanager
def opened(setup: Setup, url: str | None, folder: Path) -> Iterator[Place]:
    """Make the engines of a setup, and two coins; `url` is its server's, None for SQLite."""
    shared = setup.settings.get("poolclass") is StaticPool
    if url is None:
        url = "sqlite://" if shared else f"sqlite:///{folder / 'isolation.sqlite3'}"
    settings = dict(setup.settings)
    if setup.server == "sqlite":
        settings["connect_args"] = {"timeout": 0}
    engine = create_engine(url, **settings)
    plain = {name: settings[name] for name in ("connect_args",) if name in settings}
    outside = engine if shared else create_engine(url, **plain)
    if setup.journal is not None:
        event.listen(outside, "connect", _journal(setup.journal))
    if setup.begin is not None:
        if setup.server == "sqlite":
            event.listen(engine, "connect", _leave_it_to_us)
        event.listen(engine, "begin", _begin(setup.begin))
    try:
        Base.metadata.drop_all(outside)
        Base.metadata.create_all(outside)
        with outside.begin() as connection:
            rows = [{"id": number, "side": "heads"} for number in (1, 2)]
            connection.execute(insert(Coin), rows)
        SQLModelCache.configure("memory://", snapshot_hits=setup.hits)
        for each in (engine, outside):  # an engine's first lookup asks the database who it is
            with Session(each) as session:
                session.get(Coin, 0)
            with Session(each) as session:  # and from here on the end of the last one is known
                _said(session)
        yield Place(engine, outside)
        Base.metadata.drop_all(outside)
    finally:
        SQLModelCache.reset()
        engine.dispose()
        outside.dispose()


def _journal(mode: str) -> Callable[[Any, Any], None]:
    def on_connect(connection: Any, record: Any) -> None:
        connection.execute(f"PRAGMA journal_mode = {mode}").close()

    return on_connect


def _leave_it_to_us(connection: Any, record: Any) -> None:
    connection.isolation_level = None


def _begin(statement: str) -> Callable[[Any], None]:
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql(statement)

    return on_begin


def judged(place: Place, interleaving: Callable[[Place], None]) -> str:
    """Return "ok", or "locked out" where the database does not let it happen; raises Violation."""
    try:
        interleaving(place)
    except OperationalError as error:
        if "locked" not in str(error.orig):
            raise
        return "locked out"
    return "ok"


def run(urls: Mapping[str, str | None], folder: Path) -> list[list[str]]:
    """Return the rows of the table: one for each setup, whose first cell names it.

    `urls` has a URL for each server that is there, and None for SQLite.
    """
    rows = []
    for setup in SETUPS:
        cells = [setup.name]
        for interleaving in INTERLEAVINGS:
            if setup.server not in urls:
                cells.append("not run")
                continue
            place = folder / f"{len(rows)}-{interleaving.__name__}"
            place.mkdir()
            with opened(setup, urls[setup.server], place) as where:
                try:
                    cells.append(judged(where, interleaving))
                except Violation as error:
                    cells.append(f"**VIOLATION** ({error})")
        rows.append(cells)
    return rows

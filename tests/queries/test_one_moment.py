"""Rows that one SELECT would have had of one moment are of one moment, some cached and some not.

Three rows have the same version, and a commit raises that of all. It comes at each step of a
reader, which must never see two versions at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import pytest
from sqlalchemy import ForeignKey, MetaData, create_engine, delete, event, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqlmodel_cache import SQLModelCache, cached, get_many
from sqlmodel_cache.protocol import read
from sqlmodel_cache.transport import MemoryTransport
from tests.queries.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path


class Base(DeclarativeBase):
    """Base of the models below."""

    metadata = MetaData()


@cached(collections=("accounts",))
class Bank(Base):
    """Has accounts."""

    __tablename__ = "moment_bank"
    id: Mapped[int] = mapped_column(primary_key=True)
    accounts: Mapped[list[Account]] = relationship(order_by="Account.id", viewonly=True)


@cached(queries="asked")
class Account(Base):
    """What a commit changes several of."""

    __tablename__ = "moment_account"
    id: Mapped[int] = mapped_column(primary_key=True)
    bank_id: Mapped[int] = mapped_column(ForeignKey("moment_bank.id"))
    version: Mapped[int] = mapped_column(default=0)


@cached
class Card(Base):
    """Brings an account along, all those of a list by one SELECT."""

    __tablename__ = "moment_card"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("moment_account.id"))
    account: Mapped[Account] = relationship(lazy="selectin", viewonly=True)


@cached
class Key(Base):
    """Brings an account along, by a join."""

    __tablename__ = "moment_key"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("moment_account.id"))
    account: Mapped[Account] = relationship(lazy="joined", viewonly=True)


# Until it is known where they lead, every cached model of the process is taken for a target.
Base.registry.configure()

_TABLES: list[Any] = [each.__table__ for each in (Bank, Account, Card, Key)]
IDS = [1, 2, 3]
_LIST = select(Account).where(Account.bank_id == 1).order_by(Account.id)

READS: dict[str, Callable[[Session], Any]] = {
    "get_many": lambda session: get_many(session, Account, IDS),
    "in": lambda session: session.scalars(select(Account).where(Account.id.in_(IDS))).all(),
    "list": lambda session: session.scalars(_LIST, execution_options={"cache": True}).all(),
    "collection": lambda session: session.get_one(Bank, 1).accounts,
    "selectin": lambda session: [card.account for card in get_many(session, Card, IDS)],
    "joined": lambda session: [key.account for key in get_many(session, Key, IDS)],
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Any]:
    """Return an engine of a database with the tables."""
    made = create_engine(f"sqlite:///{tmp_path / 'moment.sqlite3'}")
    event.listen(made, "connect", _set_up)
    Base.metadata.create_all(made)
    yield made
    made.dispose()


def _set_up(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = WAL")


def _begin(engine: Any) -> None:
    with engine.begin() as connection:
        for table in reversed(_TABLES):
            connection.execute(delete(table))
        connection.execute(insert(Bank), [{"id": 1}])
        rows: list[dict[str, int]] = [{"id": pk, "bank_id": 1} for pk in IDS]
        connection.execute(insert(Account), rows)
        for model in (Card, Key):
            connection.execute(insert(model), [{"id": pk, "account_id": pk} for pk in IDS])


def _versions(session: Session, kind: str) -> list[int | None]:
    return [each and each.version for each in READS[kind](session)]


def _read(engine: Any, kind: str) -> list[int | None]:
    with Session(engine) as session:
        return _versions(session, kind)


def _raise(session: Session) -> None:
    for account in session.scalars(select(Account), execution_options={"cache": False}):
        account.version += 1


def _delete(session: Session) -> None:
    for account in session.scalars(select(Account), execution_options={"cache": False}):
        session.delete(account)


def _raise_all(session: Session) -> None:
    session.execute(update(Account).values(version=1))


def seen_at_each_step(
    engine: Any, kind: str, gone: list[int], reads: Callable[[], Any], **given: Any
) -> list[list[int | None]]:
    """Return what a reader sees with a commit at its first step, at its second, and so on.

    `gone` are not cached when it begins.
    """
    found: list[list[int | None]] = []
    while True:
        transport = MemoryTransport()
        SQLModelCache.configure(transport, key_prefix="moment", namespace="moment")
        stage = Stage(given.get("reader", engine), transport)
        _begin(engine)
        for _ in range(3):
            _read(engine, kind)
        for pk in gone:
            for keys in transport.sweep("moment:v1:{moment:moment_account:", f":i{pk}"):
                transport.unlink(keys)

        def commits() -> None:
            with Session(engine) as session:
                given.get("write", _raise)(session)
                session.commit()
            for _ in range(3):
                _read(engine, kind)  # others have them cached at once

        stage.at[len(found)] = commits
        with stage.watched():
            seen = reads()
        if stage.at:
            return found
        found.append(seen)


def _mixed(found: list[list[int | None]]) -> list[str]:
    assert len(found) > 1
    wrong = [seen for seen in found if seen not in (found[0], [0, 0, 0])]
    return [str(seen) for seen in wrong]


@pytest.mark.parametrize("kind", READS)
@pytest.mark.parametrize("write", [_raise, _raise_all, _delete])
@pytest.mark.parametrize("gone", [[], [2], [1, 2, 3]], ids=str)
def test_a_commit_of_all_rows_is_seen_as_a_whole(
    engine: Any, kind: str, write: Any, gone: list[int]
) -> None:
    """Whatever was cached of them, and whenever it comes."""
    found = seen_at_each_step(engine, kind, gone, lambda: _read(engine, kind), write=write)
    if write is not _delete:
        assert found[0] == [1, 1, 1]
    assert _mixed(found) == []


@pytest.mark.parametrize("kind", READS)
def test_a_session_that_knows_some(engine: Any, kind: str) -> None:
    """What a commit of its own has expired comes with the rest."""

    def reads() -> list[int | None]:
        with Session(engine) as session:
            kept = session.get_one(Account, 1, execution_options={"cache": False})
            session.commit()
            assert kept in session
            return _versions(session, kind)

    assert _mixed(seen_at_each_step(engine, kind, [3], reads)) == []


@pytest.mark.parametrize("kind", READS)
def test_from_a_coroutine(engine: Any, kind: str) -> None:
    """The same from an AsyncSession."""

    async def reads() -> list[int | None]:
        async with AsyncSession(reader) as session:
            return await session.run_sync(_versions, kind)

    with asyncio.Runner() as runner:
        reader = create_async_engine(engine.url.set(drivername="sqlite+aiosqlite"))
        steps = reader.sync_engine
        found = seen_at_each_step(engine, kind, [2], lambda: runner.run(reads()), reader=steps)
        runner.run(reader.dispose())
    assert _mixed(found) == []


@pytest.mark.parametrize("kind", READS)
@pytest.mark.parametrize("gone", [[2], [1, 2, 3]], ids=str)
def test_each_is_announced_once(engine: Any, kind: str, gone: list[int]) -> None:
    """As by one load, with the values that it keeps: what was loaded in vain is let go."""
    told: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()

    def on_load(account: Account, _context: Any) -> None:
        told.setdefault(account, []).append(("load", account.version))

    def on_refresh(account: Account, _context: Any, names: Any) -> None:
        told.setdefault(account, []).append(("refresh", names))

    def reads() -> list[int | None]:
        with Session(engine) as session:
            found = READS[kind](session)
            assert [told[each] for each in found] == [[("load", each.version)] for each in found]
            return [each.version for each in found]

    event.listen(Account, "load", on_load)
    event.listen(Account, "refresh", on_refresh)
    try:
        assert _mixed(seen_at_each_step(engine, kind, gone, reads)) == []
    finally:
        event.remove(Account, "load", on_load)
        event.remove(Account, "refresh", on_refresh)


@pytest.mark.parametrize("kind", READS)
def test_a_listener_that_keeps_them(engine: Any, kind: str) -> None:
    """What was loaded in vain stays in the session then, and gets the values of the rest."""
    kept: list[Account] = []

    def on_load(account: Account, _context: Any) -> None:
        kept.append(account)

    event.listen(Account, "load", on_load)
    try:
        assert _mixed(seen_at_each_step(engine, kind, [2], lambda: _read(engine, kind))) == []
    finally:
        event.remove(Account, "load", on_load)
    assert kept


def test_without_the_second_look_it_is_seen(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken on purpose: then hits are older than what is loaded beside them."""
    monkeypatch.setattr(read, "unchanged", _unlooked)
    for kind in READS:
        assert _mixed(seen_at_each_step(engine, kind, [2], lambda kind=kind: _read(engine, kind)))


def _unlooked(seen: Any) -> Any:
    yield from ()
    return True

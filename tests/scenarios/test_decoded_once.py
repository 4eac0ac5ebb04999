"""B27, in process: a row is decoded once, and no two sessions share what can be changed."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterator
from typing import Any

import pytest
from freezegun import freeze_time
from sqlalchemy import JSON, PickleType, create_engine
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from sqlmodel_cache import CacheConfig, SQLModelCache
from sqlmodel_cache.orm.model.reader import Reader
from sqlmodel_cache.transport import MemoryTransport


class Colour(enum.Enum):
    """A value that is one object in all sessions anyhow."""

    RED = "red"


class Base(DeclarativeBase):
    """Of the models of this file."""


class Firm(Base):
    """Of values that nobody can change."""

    __tablename__ = "decoded_firm"
    __cache_config__ = CacheConfig(ttl=60)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="firm")
    since: Mapped[dt.datetime] = mapped_column(default=dt.datetime(2026, 11, 22))
    colour: Mapped[Colour] = mapped_column(default=Colour.RED)
    kind: Mapped[str] = mapped_column(default="firm")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "firm"}


class Large(Firm):
    """A subclass, with a reader of its own."""

    __mapper_args__ = {"polymorphic_identity": "large"}


class Loose(Base):
    """Of values that anybody can."""

    __tablename__ = "decoded_loose"
    __cache_config__ = CacheConfig(ttl=60)

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[Any] = mapped_column(JSON, default=lambda: {"list": [1]})
    noticed: Mapped[Any] = mapped_column(MutableDict.as_mutable(JSON), default=lambda: {"a": 1})


class Partial(Base):
    """Of a value that is never stored."""

    __tablename__ = "decoded_partial"
    __cache_config__ = CacheConfig(ttl=60)

    id: Mapped[int] = mapped_column(primary_key=True)
    blob: Mapped[Any] = mapped_column(PickleType, default=lambda: {"a": 1})


@pytest.fixture
def engine() -> Iterator[Any]:
    """Open a database with a row of each."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    SQLModelCache.configure("memory://")
    with Session(engine) as session:
        session.add_all([Firm(id=1), Large(id=2), Loose(id=1), Partial(id=1)])
        session.commit()
    yield engine
    SQLModelCache.reset()
    engine.dispose()


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the keys of the envelopes that were opened."""
    opened: list[str] = []
    real = Reader.verify

    def verify(self: Reader, entry: Any, value: bytes, epoch: bytes | None) -> object:
        opened.append(entry.pk)
        return real(self, entry, value, epoch)

    monkeypatch.setattr(Reader, "verify", verify)
    return opened


def read(engine: Any, model: Any, pk: int, times: int = 1) -> list[Any]:
    """Get a row in as many sessions."""
    found = []
    for _ in range(times):
        with Session(engine) as session:
            found.append(session.get(model, pk))
    return found


def test_b27_a_row_is_decoded_once(engine: Any, verified: list[str]) -> None:
    """And every session makes an instance of its own."""
    one, two, three = read(engine, Firm, 1, 4)[1:]
    assert len(verified) == 1
    assert one is not two
    assert one.since == two.since == three.since == dt.datetime(2026, 11, 22)
    assert one.colour is Colour.RED
    one.name = "other"
    assert two.name == "firm"


def test_b27_what_can_be_changed_is_decoded_for_each(engine: Any, verified: list[str]) -> None:
    """A change that one session makes in place is nothing to the next."""
    _, one, two = read(engine, Loose, 1, 3)
    assert len(verified) == 2
    one.data["list"].append(2)
    one.noticed["a"] = 2
    assert two.data == {"list": [1]}
    (three,) = read(engine, Loose, 1)
    assert (three.data, three.noticed) == ({"list": [1]}, {"a": 1})


def test_b27_what_is_never_stored(engine: Any) -> None:
    """It loads on access after each hit."""
    for _ in range(3):
        with Session(engine) as session:
            found = session.get(Partial, 1)
            assert found is not None
            assert found.blob == {"a": 1}
    assert SQLModelCache.stats().hits == 2


def test_b27_a_commit_ends_it(engine: Any) -> None:
    """The bytes go, and what was made of them."""
    read(engine, Firm, 1, 2)
    with Session(engine) as session:
        session.get(Firm, 1).name = "renamed"
        session.commit()
    assert [firm.name for firm in read(engine, Firm, 1, 3)] == ["renamed"] * 3
    SQLModelCache.invalidate(Firm)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE decoded_firm SET name = 'behind'")
    assert [firm.name for firm in read(engine, Firm, 1, 3)] == ["behind"] * 3


def test_b27_a_frozen_clock_ends_it(engine: Any) -> None:
    """To the second, as it ends an envelope."""
    with freeze_time("2026-11-22 12:00:00") as clock:
        read(engine, Firm, 1, 3)
        before = SQLModelCache.stats().misses
        clock.tick(59)
        read(engine, Firm, 1)
        assert SQLModelCache.stats().misses == before
        clock.tick(1)
        read(engine, Firm, 1)
        assert SQLModelCache.stats().misses == before + 1


def test_b27_each_class_reads_for_itself(engine: Any) -> None:
    """One row, asked for through its class and through the base, in either order."""
    for model in (Firm, Large, Firm, Large):
        (found,) = read(engine, model, 2)
        assert type(found) is Large
    (firm,) = read(engine, Firm, 1)
    assert type(firm) is Firm
    assert read(engine, Large, 1, 2) == [None, None]


def test_b27_two_configurations_of_one_store(engine: Any) -> None:
    """The second reads anew what the first made of it."""
    transport = MemoryTransport()
    for _ in range(2):
        SQLModelCache.configure(transport, namespace="same")
        assert [firm.name for firm in read(engine, Firm, 1, 3)] == ["firm"] * 3
    assert SQLModelCache.stats().misses == 0

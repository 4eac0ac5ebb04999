"""Somebody cleared the events of mappers, ours among them: as test suites do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, event, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, Session, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache
from sqlmodel_cache.orm import activation
from sqlmodel_cache.orm.model.tables import table_map
from tests.recording import record_sql


@pytest.fixture
def cleared() -> Iterator[None]:
    """Leave out what tells the library of new classes."""
    listeners = {
        "after_mapper_constructed": activation._on_new_mapper,
        "mapper_configured": activation._on_configured_mapper,
    }
    for name, listener in listeners.items():
        event.remove(Mapper, name, listener)
    yield
    activation.guard()
    for name, listener in listeners.items():
        assert event.contains(Mapper, name, listener)


@pytest.mark.usefixtures("cleared")
def test_a_class_that_nobody_told_of(sqlite_url: str) -> None:
    """It is cached, and its writes are heard of."""
    engine = create_engine(sqlite_url)
    SQLModelCache.configure("memory://")
    table_map()  # of the classes so far

    class Base(DeclarativeBase):
        pass

    class Late(Base):
        __tablename__ = "late"
        __cache_config__ = CacheConfig()
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Late(id=1, name="old"))
        session.commit()
    with Session(engine) as session:
        session.get(Late, 1)
    with record_sql(engine) as sent, Session(engine) as session:
        assert session.get_one(Late, 1).name == "old"
    assert not sent
    with Session(engine) as session:
        session.execute(update(Late).values(name="new"))
        session.commit()
    with Session(engine) as session:
        assert session.get_one(Late, 1).name == "new"
    engine.dispose()
    Base.registry.dispose()

"""Another Table object of a mapped table, whose columns are called otherwise (`key=`)."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, insert, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, get_by
from sqlmodel_cache.orm.model.tables import table_map
from sqlmodel_cache.orm.writes.statements import analyse

OTHER = Table(
    "port",
    MetaData(),
    Column("id", Integer, key="number", primary_key=True),
    Column("name", String, key="title"),
    Column("code", String, key="id"),  # and one that is called like another's column
)


@pytest.fixture
def ports(world):
    """Return the mapped class of the same table, in a world where ships refer to it."""

    class Port(world.Base):
        __tablename__ = "port"
        __cache_config__ = CacheConfig(queries=True, unique=("code",), negative_ttl=60)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column()
        code: Mapped[str] = mapped_column(unique=True, default="c")

    class Ship(world.Base):
        __tablename__ = "ship"
        __cache_config__ = CacheConfig()
        id: Mapped[int] = mapped_column(primary_key=True)
        port_id: Mapped[int] = mapped_column(ForeignKey("port.id", onupdate="CASCADE"))

    world.Base.metadata.create_all(world.engine)
    with Session(world.engine) as session:
        session.add_all([Port(id=1, name="a", code="one"), Port(id=2, name="b", code="two")])
        session.commit()
    return Port


def test_a_key_that_others_refer_to(world, ports):
    """What the database changes by itself is forgotten: columns count by their names."""
    statement = update(OTHER).values(number=OTHER.c.number + 1)
    assert "ship" in analyse(statement.compile(world.engine), table_map()).tables
    statement = update(OTHER).values(id="x")  # the key of another column
    assert "ship" not in analyse(statement.compile(world.engine), table_map()).tables


@pytest.mark.parametrize("many", [False, True])
def test_inserts(world, ports, many):
    """The rows that appear are those of their keys, and of their values."""
    for _ in range(2):
        with Session(world.engine) as session:
            assert session.get(ports, 7) is None
            assert get_by(session, ports, code="x") is None
    row = {"number": 7, "title": "g", "id": "x"}
    with world.engine.begin() as connection:
        if many:
            connection.execute(insert(OTHER).values([row, {**row, "number": 8, "id": "y"}]))
        else:
            connection.execute(insert(OTHER), row)
        rows, tables = world.touched(connection)
        assert ("port", "i7") in rows
        assert not tables
    with Session(world.engine) as session:
        assert session.get(ports, 7).name == "g"
        assert get_by(session, ports, code="x").id == 7


def test_updates(world, ports):
    """A value that appears is forgotten as absent."""
    for _ in range(2):
        with Session(world.engine) as session:
            assert get_by(session, ports, code="new") is None
    with world.engine.begin() as connection:
        connection.execute(update(OTHER).where(OTHER.c.number == 1).values(id="new"))
    with Session(world.engine) as session:
        assert get_by(session, ports, code="new").id == 1

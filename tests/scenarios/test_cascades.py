"""What the database does by itself down foreign keys (B16, B17, B19): nobody reads it old."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlmodel_cache import CacheConfig
from tests.scenarios.harness import DATABASES, World


class Base(DeclarativeBase):
    """Of the models here, all of them cached."""

    metadata = MetaData()
    __cache_config__ = CacheConfig(negative_ttl=60)


links = Table(
    "cascade_link",
    Base.metadata,
    Column("parent_id", ForeignKey("cascade_parent.id", ondelete="CASCADE", onupdate="CASCADE")),
    Column("node_id", ForeignKey("cascade_node.id", ondelete="CASCADE")),
)


class Parent(Base):
    """The row that is deleted, or gets another key."""

    __tablename__ = "cascade_parent"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(50), default="")
    children: Mapped[list[Child]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, passive_updates=True
    )
    loose: Mapped[list[Loose]] = relationship(passive_deletes="all")
    nodes: Mapped[list[Node]] = relationship(secondary=links, passive_deletes=True)


class Child(Base):
    """Deleted with its parent, and follows its key."""

    __tablename__ = "cascade_child"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent_id: Mapped[int] = mapped_column(
        ForeignKey("cascade_parent.id", ondelete="CASCADE", onupdate="CASCADE")
    )


class Grandchild(Base):
    """Deleted with its parent's parent."""

    __tablename__ = "cascade_grandchild"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    child_id: Mapped[int] = mapped_column(ForeignKey("cascade_child.id", ondelete="CASCADE"))


class Loose(Base):
    """Outlives its parent."""

    __tablename__ = "cascade_loose"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent_id: Mapped[int | None] = mapped_column(
        ForeignKey("cascade_parent.id", ondelete="SET NULL", onupdate="CASCADE")
    )


class Fallback(Base):
    """Goes to parent 9. MariaDB cannot do that."""

    __tablename__ = "cascade_fallback"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent_id: Mapped[int] = mapped_column(
        ForeignKey("cascade_parent.id", ondelete="SET DEFAULT", onupdate="CASCADE"),
        server_default="9",
    )


class Twin(Base):
    """Its key is its parent's, so it gets another one with it; and so on."""

    __tablename__ = "cascade_twin"
    id: Mapped[int] = mapped_column(
        ForeignKey("cascade_parent.id", ondelete="CASCADE", onupdate="CASCADE"),
        primary_key=True,
        autoincrement=False,
    )


class Follower(Base):
    """Follows the twin's key."""

    __tablename__ = "cascade_follower"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    twin_id: Mapped[int] = mapped_column(
        ForeignKey("cascade_twin.id", ondelete="CASCADE", onupdate="CASCADE")
    )


class Node(Base):
    """Refers to its own table."""

    __tablename__ = "cascade_node"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("cascade_node.id", ondelete="CASCADE"))


class Pair(Base):
    """Two columns make the key."""

    __tablename__ = "cascade_pair"
    a: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    b: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Half(Base):
    """Refers to a pair."""

    __tablename__ = "cascade_half"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    a: Mapped[int | None] = mapped_column()
    b: Mapped[int | None] = mapped_column()
    __table_args__ = (
        ForeignKeyConstraint(
            ["a", "b"], ["cascade_pair.a", "cascade_pair.b"], ondelete="CASCADE", onupdate="CASCADE"
        ),
    )


def _rows(world: World) -> list[Any]:
    found = [
        *(Parent(id=number) for number in (1, 2, 9)),
        *(Child(id=number, parent_id=number) for number in (1, 2)),
        *(Grandchild(id=number, child_id=number) for number in (1, 2)),
        *(Loose(id=number, parent_id=number) for number in (1, 2)),
        *(Twin(id=number) for number in (1, 2)),
        *(Follower(id=number, twin_id=number) for number in (1, 2)),
        Node(id=1),
        Node(id=2, parent_id=1),
        Node(id=3, parent_id=2),
        Node(id=4),
        *(Pair(a=number, b=number) for number in (1, 2)),
        *(Half(id=number, a=number, b=number) for number in (1, 2)),
    ]
    if world.database != "mariadb":
        found += [Fallback(id=number, parent_id=number) for number in (1, 2)]
    return found


@pytest.fixture
def family(
    request: pytest.FixtureRequest, make_world: Callable[..., World]
) -> Iterator[tuple[World, list[tuple[Any, Any]]]]:
    """Return a world with every row in it, and the keys of all rows, there or not yet."""
    world = make_world(*request.param)
    tables = [
        table
        for table in Base.metadata.sorted_tables
        if table.name != "cascade_fallback" or world.database != "mariadb"
    ]
    Base.metadata.create_all(world.outside, tables)
    keys: list[tuple[Any, Any]] = []
    with world.session() as session:
        for row in _rows(world):
            session.add(row)
            session.flush()
        session.execute(links.insert().values(parent_id=1, node_id=4))
        session.commit()
    for row in _rows(world):
        one = type(row).__mapper__.primary_key_from_instance(row)
        keys.append((type(row), one[0] if len(one) == 1 else tuple(one)))
    keys += [(Parent, 10), (Twin, 10), (Pair, (10, 1))]
    for model, pk in keys:
        world.warm(model, pk)
    yield world, keys
    Base.metadata.drop_all(world.outside, tables)


def _nobody_reads_it_old(world: World, keys: list[tuple[Any, Any]]) -> set[str]:
    """Compare what a get reads with the database, row by row; return the models that changed."""
    changed = set()
    for model, pk in keys:
        row, found = world.row(model, pk), world.get(model, pk)
        if row is None:
            assert found is None, (model, pk)
            changed.add(model.__name__)
        else:
            assert {name: getattr(found, name) for name in row} == dict(row), (model, pk)
    return changed


worlds = pytest.mark.parametrize(
    "family",
    [("sync", "memory", name) for name in DATABASES] + [("async", "redis", "postgresql")],
    ids="-".join,
    indirect=True,
)


def _orm_delete(world: World, session: Any) -> None:
    session.delete(session.get(Parent, 1))
    session.commit()


DELETES: dict[str, Callable[[World, Any], Any]] = {
    "orm": _orm_delete,
    "statement": lambda w, s: s.execute(delete(Parent).where(Parent.id == 1)),
    "in": lambda w, s: s.execute(delete(Parent).where(Parent.id.in_([1]))),
    "other-column": lambda w, s: s.execute(delete(Parent).where(Parent.id < 2)),
    "core": lambda w, s: s.execute(delete(Parent.__table__).where(Parent.__table__.c.id == 1)),  # type: ignore[arg-type]
    "text": lambda w, s: s.execute(text("DELETE FROM cascade_parent WHERE id = 1")),
    "declared": lambda w, s: s.execute(
        text("DELETE FROM cascade_parent WHERE id = 1"),
        execution_options={"cache_invalidates": [Parent]},
    ),
}


@worlds
@pytest.mark.parametrize("way", DELETES)
def test_b16_delete(family: tuple[World, list[tuple[Any, Any]]], way: str) -> None:
    """CASCADE, SET NULL and SET DEFAULT, and chains of them, however the parent is deleted."""
    world, keys = family
    with world.session() as session:
        DELETES[way](world, session)
        session.commit()
    changed = _nobody_reads_it_old(world, keys)
    assert {"Parent", "Child", "Grandchild", "Twin", "Follower"} <= changed
    assert world.get(Loose, 1).parent_id is None
    if world.database != "mariadb":
        assert world.get(Fallback, 1).parent_id == 9
    if way not in ("text",):
        assert world.hit(Pair, (1, 1)).a == 1  # nothing leads there


REKEYS: dict[str, Callable[[Any], Any]] = {
    "statement": lambda s: s.execute(update(Parent).where(Parent.id == 1).values(id=10)),
    "executemany": lambda s: s.execute(
        update(Parent.__table__).where(Parent.__table__.c.id == bindparam("old")),  # type: ignore[arg-type]
        [{"old": 1, "id": 10}],
    ),
    "text": lambda s: s.execute(text("UPDATE cascade_parent SET id = 10 WHERE id = 1")),
}


@worlds
@pytest.mark.parametrize("way", [*REKEYS, "orm"])
def test_b19_another_key(family: tuple[World, list[tuple[Any, Any]]], way: str) -> None:
    """ON UPDATE CASCADE, and chains of it; the former key and the new one are both read anew."""
    world, keys = family
    with world.session() as session:
        if way == "orm":
            session.get(Parent, 1).id = 10
        else:
            REKEYS[way](session)
        session.commit()
    changed = _nobody_reads_it_old(world, keys)
    assert {"Parent", "Twin"} <= changed
    assert world.get(Parent, 10) is not None
    assert world.get(Twin, 10) is not None
    assert world.get(Child, 1).parent_id == world.get(Follower, 1).twin_id == 10


@worlds
@pytest.mark.parametrize("verb", ["delete", "update"])
def test_b16_composite_keys(family: tuple[World, list[tuple[Any, Any]]], verb: str) -> None:
    """A foreign key of two columns."""
    world, keys = family
    pinned = (Pair.a == 1, Pair.b == 1)
    with world.session() as session:
        if verb == "delete":
            session.execute(delete(Pair).where(*pinned))
        else:
            session.execute(update(Pair).where(*pinned).values(a=10))
        session.commit()
    assert "Pair" in _nobody_reads_it_old(world, keys)
    if verb == "update":
        assert world.get(Pair, (10, 1)) is not None
        assert world.get(Half, 1).a == 10
    else:
        assert world.get(Half, 1) is None


@worlds
@pytest.mark.parametrize("via", ["session", "engine"])
def test_b16_a_table_that_refers_to_itself(
    family: tuple[World, list[tuple[Any, Any]]], via: str
) -> None:
    """Children and their children go, too."""
    world, keys = family
    with world.session() if via == "session" else world.begin() as target:
        target.execute(delete(Node).where(Node.id == 1))
        if via == "session":
            target.commit()
    _nobody_reads_it_old(world, keys)
    assert [world.get(Node, pk) is None for pk in (1, 2, 3, 4)] == [True, True, True, False]


@worlds
def test_b16_nothing_is_dropped_without_a_commit(
    family: tuple[World, list[tuple[Any, Any]]],
) -> None:
    """A rollback leaves the dependants as they were; the session itself saw them go."""
    world, keys = family
    if world.database == "sqlite":
        pytest.skip("a reader would wait for the writer")
    with world.session() as session:
        session.execute(delete(Parent).where(Parent.id == 1))
        assert session.get(Child, 1) is None
        assert world.hit(Child, 1).parent_id == 1
        session.rollback()
    for model, pk in keys:
        world.hit(model, pk)


@worlds
def test_b17_association_rows(family: tuple[World, list[tuple[Any, Any]]]) -> None:
    """Rows of a secondary table are no entries: writing them drops neither side's rows."""
    world, keys = family
    with world.session() as session:
        session.execute(links.insert().values(parent_id=2, node_id=4))
        session.execute(links.delete().where(links.c.parent_id == 1))
        session.commit()
    assert world.hit(Parent, 1).id == 1
    assert world.hit(Node, 4).id == 4
    assert _nobody_reads_it_old(world, keys) == {"Parent", "Twin", "Pair"}  # those never there

"""Mappings that nobody generates: each once, by hand, compared like the generated ones."""

import datetime as dt
import enum
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import PrivateAttr
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    PickleType,
    String,
    case,
    column,
    create_engine,
    event,
    exc,
    insert,
    inspect,
    table,
)
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Mapper,
    Session,
    column_property,
    deferred,
    mapped_column,
    registry,
    relationship,
)
from sqlmodel import Field, Relationship, SQLModel

from sqlmodel_cache import CacheConfig, SQLModelCache
from tests.equivalence import scripts
from tests.equivalence.arena import Arena, NotHit, Target
from tests.equivalence.kinds import Encrypted
from tests.equivalence.snapshot import snapshot

CACHED = CacheConfig(ttl=300)
EVERY = scripts.SCRIPTS


class Shelf:
    """A transport with nothing but the three methods, whose content can be looked at."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def set(self, key: str, value: bytes, ttl: int) -> None:
        self.values[key] = value

    def delete(self, *keys: str) -> None:
        for key in keys:
            self.values.pop(key, None)


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    """Return an engine of an empty database."""
    made = create_engine(sqlite_url)
    yield made
    made.dispose()


@pytest.fixture
def declarative() -> Iterator[Any]:
    """Return a declarative base of the test's own."""

    class Base(DeclarativeBase):
        pass

    yield Base
    Base.registry.dispose()


@pytest.fixture
def sqlmodel() -> Iterator[Any]:
    """Return an SQLModel base of the test's own."""
    own = registry()

    class Base(SQLModel, registry=own):
        pass

    yield Base
    own.dispose()


def ready(engine: Engine, metadata: Any, *objects: Any, transport: Any = "memory://") -> Arena:
    """Return an arena over a database with these rows, and a configured cache."""
    metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(objects)
        session.commit()
    SQLModelCache.configure(transport)
    return Arena(engine)


def same(arena: Arena, target: Target, *more: scripts.Callable[[Session, Any], Any]) -> None:
    """Fill, then compare hits with loads."""
    arena.fill(target)
    arena.check(target, *EVERY, *more)


def test_the_encrypted_column_is_encrypted_in_the_store(engine: Engine, declarative: Any) -> None:
    """The decorator's own bind side writes into the cache."""

    class Patient(declarative):
        __tablename__ = "patient"
        __cache_config__ = CACHED
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        illness: Mapped[str] = mapped_column(Encrypted)

    shelf = Shelf()
    row = Patient(id=1, name="a public name", illness="a secret illness")
    arena = ready(engine, declarative.metadata, row, transport=shelf)
    same(arena, Target(Patient, 1))
    stored = b"".join(shelf.values.values())
    assert b"a public name" in stored
    assert b"secret" not in stored


def test_a_pickled_column_loads_on_access(engine: Engine, declarative: Any) -> None:
    """It is not stored; everything else is, and its access is one statement."""

    class Thing(declarative):
        __tablename__ = "thing"
        __cache_config__ = CACHED
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        blob: Mapped[Any] = mapped_column(PickleType)

    shelf = Shelf()
    blob = {"pickled": [1]}
    arena = ready(engine, declarative.metadata, Thing(id=1, name="n", blob=blob), transport=shelf)
    target = Target(Thing, 1)
    arena.fill(target)
    assert b"pickled" not in b"".join(shelf.values.values())
    with arena.session() as session:
        thing = arena.hit(session, target)
        assert inspect(thing).unloaded == {"blob"}
        arena.sent.clear()
        assert thing.name == "n"
        assert arena.sent == []
        assert thing.blob == blob
        assert len(arena.sent) == 1
        assert not session.dirty
        thing.name = "m"
        session.flush()
        assert arena.sent[-1] == ("UPDATE thing SET name=? WHERE thing.id = ?", ("m", 1))


class Rank(str, enum.Enum):  # noqa: UP042  as SQLModel's users write it
    PAWN = "p"
    KING = "k"


@pytest.mark.filterwarnings("ignore:Dialect sqlite:sqlalchemy.exc.SAWarning")
def test_an_sqlmodel_of_annotations(engine: Engine, sqlmodel: Any) -> None:
    """SQLModel's own choice of column types, private attributes, fields set, relationships."""

    class Team(sqlmodel, table=True):
        __tablename__ = "team"
        id: int | None = Field(default=None, primary_key=True)

    class Hero(sqlmodel, table=True):
        __tablename__ = "hero"
        __cache_config__ = CACHED
        id: uuid.UUID = Field(default_factory=uuid.uuid4, primary_key=True)
        name: str = Field(index=True, max_length=50)
        age: int | None = None
        weight: float
        alive: bool = True
        rank: Rank = Rank.PAWN
        money: Decimal = Field(max_digits=10, decimal_places=2)
        born: dt.date
        woken: dt.time
        seen: dt.datetime
        slept: dt.timedelta
        photo: bytes
        token: uuid.UUID
        team_id: int | None = Field(default=None, foreign_key="team.id")
        team: Team | None = Relationship()
        _secret: list[int] = PrivateAttr(default_factory=list)
        _plain: int = PrivateAttr(default=3)

    key = uuid.uuid4()
    berlin = dt.timezone(dt.timedelta(hours=2))
    hero = Hero(
        id=key, name="Ö", age=None, weight=1.5, rank=Rank.KING, money=Decimal("1.50"),
        born=dt.date(2000, 2, 29), woken=dt.time(7, 30), slept=dt.timedelta(hours=8),
        seen=dt.datetime(2024, 10, 27, 2, 30, tzinfo=berlin), photo=b"\x00", token=uuid.uuid4(),
        team_id=1,
    )  # fmt: skip
    arena = ready(engine, sqlmodel.metadata, Team(id=1), hero)
    same(arena, Target(Hero, key), _pydantic)


def _pydantic(session: Session, instance: Any) -> Any:
    return (
        dict(sorted(instance.model_dump().items())),  # a load fills it in any order
        instance.model_fields_set,
        scripts.outcome(lambda: instance._secret),
        scripts.outcome(lambda: setattr(instance, "_plain", 4)),
        scripts.outcome(lambda: sorted(instance.model_copy().model_dump())),
        instance.team.id,
    )


def test_a_hierarchy_told_by_an_expression(engine: Engine, declarative: Any) -> None:
    """`polymorphic_on` is a CASE: whatever the get is, its instance is a load's."""

    class Animal(declarative):
        __tablename__ = "animal"
        __cache_config__ = CACHED
        id: Mapped[int] = mapped_column(primary_key=True)
        legs: Mapped[int]
        __mapper_args__ = {
            "polymorphic_on": case((column("legs") == 2, "bird"), else_="animal"),
            "polymorphic_identity": "animal",
        }

    class Bird(Animal):
        song: Mapped[str | None]
        __mapper_args__ = {"polymorphic_identity": "bird"}

    arena = ready(engine, declarative.metadata, Animal(id=1, legs=4), Bird(id=2, legs=2, song="la"))
    for target in (Target(Animal, 1), Target(Animal, 2), Target(Bird, 2), Target(Bird, 1)):
        seen = []
        for way in (arena.load, arena.any_way, arena.any_way):
            with arena.session() as session:
                seen.append(snapshot(session, way(session, target)))
        assert seen[0] == seen[1] == seen[2]


# Never unmapped: ConcreteBase leaves a hook behind that 2.0 would call at every configuration.
class Unions(DeclarativeBase):
    pass


class Employee(ConcreteBase, Unions):
    __tablename__ = "employee"
    __cache_config__ = CACHED
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_identity": "employee", "concrete": True}


class Manager(Employee):
    __tablename__ = "manager"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    staff: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "manager", "concrete": True}


def test_a_union_of_concrete_tables(engine: Engine) -> None:
    """Through the base a get reads a union, as a load does; either way it is a hit."""
    rows = Employee(id=1, name="e"), Manager(id=2, name="m", staff=3)
    arena = ready(engine, Unions.metadata, *rows)
    same(arena, Target(Manager, 2))
    same(arena, Target(Employee, 1))
    same(arena, Target(Employee, 2))


@pytest.mark.parametrize("how", ["flush", "core", "bulk", "delete", "explicit"])
def test_a_union_hears_of_writes_to_its_tables(engine: Engine, how: str) -> None:
    """A row of a concrete table is forgotten under the base's key as well."""
    arena = ready(
        engine, Unions.metadata, Manager(id=2, name="m", staff=3), Employee(id=1, name="e")
    )
    for model in (Employee, Manager, Employee, Manager):
        with arena.session() as session:
            assert session.get(model, 2).name == "m"
    table = Manager.__table__
    with arena.session() as session:
        if how == "flush":
            session.get(Employee, 2).name = "new"
        elif how == "core":
            session.execute(sa.update(table).where(table.c.id == 2).values(name="new"))
        elif how == "bulk":
            session.execute(sa.update(table).values(name="new"))
        elif how == "delete":
            session.delete(session.get(Manager, 2))
        else:
            with engine.connect() as connection:
                raw = connection.connection.driver_connection
                raw.execute("UPDATE manager SET name = 'new'")
                raw.commit()
            SQLModelCache.invalidate(Manager, 2)
        session.commit()
    for model in (Employee, Manager):
        with arena.session() as session:
            found = session.get(model, 2)
            assert found is None if how == "delete" else found.name == "new"


def test_an_attribute_of_two_columns(engine: Engine, declarative: Any) -> None:
    """A joined class whose key has another name, and an attribute over both tables' columns."""

    class Node(declarative):
        __tablename__ = "node"
        __cache_config__ = CACHED
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "node"}

    class Leaf(Node):
        __tablename__ = "leaf"
        node_id = column_property(
            Column("node_id", ForeignKey("node.id"), primary_key=True), Node.__table__.c.id
        )
        color: Mapped[str]
        __mapper_args__ = {"polymorphic_identity": "leaf"}

    arena = ready(engine, declarative.metadata, Leaf(id=1, color="green"))
    same(arena, Target(Leaf, 1))
    same(arena, Target(Node, 1))


def test_a_listener_on_every_mapper(engine: Engine, declarative: Any) -> None:
    """A listener that stands on all mappers, and first, changes a hit as it changes a load."""

    class Word(declarative):
        __tablename__ = "word"
        __cache_config__ = CACHED
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

    arena = ready(engine, declarative.metadata, Word(id=1, text="x"))

    def doubled(target: Any, context: Any) -> None:
        if isinstance(target, Word):
            target.text = target.text * 2

    event.listen(Mapper, "load", doubled)
    try:
        same(arena, Target(Word, 1))
    finally:
        event.remove(Mapper, "load", doubled)


@pytest.mark.parametrize("name", ["load", "loaded_as_persistent"])
def test_a_listener_that_raises(name: str, engine: Engine, declarative: Any) -> None:
    """Its exception comes out of a hit as it comes out of a load."""

    class Word(declarative):
        __tablename__ = "word"
        __cache_config__ = CACHED
        id: Mapped[int] = mapped_column(primary_key=True)

    arena = ready(engine, declarative.metadata, Word(id=1))
    arena.fill(Target(Word, 1))

    def refuse(*_: Any) -> None:
        raise LookupError("refused")

    seen = []
    ways: list[Callable[[Session, Target], Any]] = [arena.load, arena.any_way]
    for way in ways:
        with arena.session() as session:
            whom: Any = Word if name == "load" else session
            event.listen(whom, name, refuse)
            with pytest.raises(LookupError, match="refused"):
                way(session, Target(Word, 1))
            event.remove(whom, name, refuse)
            seen.append((len(session.identity_map), session.in_transaction(), session.is_active))
            seen[-1] += (way(session, Target(Word, 1)).id,)
    assert seen[0] == seen[1]


def test_a_class_whose_mapping_failed(engine: Engine, declarative: Any) -> None:
    """What it leaves in its registry stops neither reads nor writes of others."""

    class Sound(declarative):
        __tablename__ = "sound"
        __cache_config__ = CACHED
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(exc.ArgumentError):

        class Broken(declarative):  # no primary key
            __tablename__ = "broken"
            __cache_config__ = CACHED
            name: Mapped[str]

    arena = ready(engine, Sound.__table__.metadata, Sound(id=1))
    same(arena, Target(Sound, 1))


def test_the_eager_relationship_of_an_expired_column(engine: Engine, declarative: Any) -> None:
    """Lazy relationships of every spelling are not loaded by a hit, and load on access."""

    class Author(declarative):
        __tablename__ = "author"
        __cache_config__ = CACHED
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = deferred(mapped_column(String), raiseload=True)
        books: Mapped[list["Book"]] = relationship(lazy="raise")
        sold: Mapped[list["Book"]] = relationship(viewonly=True)
        later: DynamicMapped["Book"] = relationship(viewonly=True)

    class Book(declarative):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))

    arena = ready(engine, declarative.metadata, Author(id=1, name="n"), Book(id=1, author_id=1))

    def access(session: Session, author: Any) -> Any:
        return (
            [book.id for book in author.sold],
            [book.id for book in author.later],
            scripts.outcome(lambda: author.books),
            scripts.outcome(lambda: author.name),
        )

    target = Target(Author, 1)
    arena.fill(target)
    arena.check(target, access)


def test_a_subquery_is_no_table(engine: Engine) -> None:
    """A class over a SELECT is not cached, and works."""
    own = registry()
    numbers = table("numbers", column("id", Integer), column("name", String))
    chosen = numbers.select().where(numbers.c.id > 0).subquery()

    class Chosen:
        __cache_config__ = CACHED

    own.map_imperatively(Chosen, chosen, primary_key=[chosen.c.id])
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE numbers (id INTEGER, name TEXT)")
        connection.execute(insert(numbers), [{"id": 1, "name": "one"}])
    SQLModelCache.configure("memory://")
    arena = Arena(engine)
    arena.fill(Target(Chosen, 1))
    with arena.session() as session:
        with pytest.raises(NotHit, match="selectable"):
            arena.hit(session, Target(Chosen, 1))
        assert session.get(Chosen, 1).name == "one"
    own.dispose()

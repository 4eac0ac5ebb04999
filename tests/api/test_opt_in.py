"""Three spellings to opt a class in, however it is mapped, and what inheritance makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, String, Table
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    configure_mappers,
    mapped_column,
    registry,
)
from sqlmodel import Field, SQLModel

from sqlmodel_cache import CacheConfig, CachedModel, ConfigurationError, SQLModelCache, cached
from tests.api.models import Plain, fill, is_cached


def attribute() -> Any:
    """Opt in by attribute."""

    class Base(SQLModel, registry=registry()):
        pass

    class Row(Base, table=True):
        __cache_config__ = CacheConfig(ttl=300)

        id: int = Field(primary_key=True)

    return Row


def mixin() -> Any:
    """Opt in by base class."""

    class Base(CachedModel, registry=registry()):
        pass

    class Row(Base, table=True):
        id: int = Field(primary_key=True)

    return Row


def decorator() -> Any:
    """Opt in by decorator with arguments."""

    class Base(SQLModel, registry=registry()):
        pass

    @cached(ttl=300)
    class Row(Base, table=True):
        id: int = Field(primary_key=True)

    return Row


def bare_decorator() -> Any:
    """Opt in by decorator alone."""

    class Base(SQLModel, registry=registry()):
        pass

    @cached
    class Row(Base, table=True):
        id: int = Field(primary_key=True)

    return Row


def declarative_decorator() -> Any:
    """Opt a plain declarative class in by decorator."""

    class Base(DeclarativeBase):
        pass

    @cached
    class Row(Base):
        __tablename__ = "row"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Row


def declarative_attribute() -> Any:
    """Opt a plain declarative class in by attribute."""

    class Base(DeclarativeBase):
        pass

    class Row(Base):
        __tablename__ = "row"
        __cache_config__ = CacheConfig(ttl=300)
        id: Mapped[int] = mapped_column(primary_key=True)

    return Row


def imperative_before() -> Any:
    """Opt in first, map imperatively afterwards."""
    mappers = registry()

    @cached(ttl=300)
    class Row:
        def __init__(self, id: int) -> None:
            self.id = id

    mappers.map_imperatively(
        Row, Table("row", mappers.metadata, Column("id", Integer, primary_key=True))
    )
    return Row


def imperative_after() -> Any:
    """Map imperatively first, opt in afterwards."""
    mappers = registry()

    class Row:
        def __init__(self, id: int) -> None:
            self.id = id

    mappers.map_imperatively(
        Row, Table("row", mappers.metadata, Column("id", Integer, primary_key=True))
    )
    Row.metadata = mappers.metadata  # type: ignore[attr-defined]
    return cached(Row)


def dataclass_mapped() -> Any:
    """Opt a class mapped as a dataclass in."""

    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    @cached
    class Row(Base):
        __tablename__ = "row"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Row


SPELLINGS = [
    attribute, mixin, decorator, bare_decorator, declarative_decorator, declarative_attribute,
    imperative_before, imperative_after, dataclass_mapped,
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda each: each.__name__)
def test_opted_in_class_is_cached(engine: Engine, spelling: Any) -> None:
    """The second get of a row is a hit, and a write ends it."""
    SQLModelCache.configure("memory://")
    row = spelling()
    if not hasattr(row, "metadata"):
        row.metadata = row.__mapper__.local_table.metadata
    fill(engine, row(id=1))
    assert isinstance(row.__cache_config__, CacheConfig)
    assert is_cached(engine, row)
    with Session(engine) as session:
        session.delete(session.get_one(row, 1))
        session.commit()
    with Session(engine) as session:
        assert session.get(row, 1) is None


def test_decorators_return_the_class_itself() -> None:
    """`@cached` wraps nothing."""

    class Some:
        pass

    assert cached(Some) is Some
    assert cached(ttl=3)(Some) is Some
    assert Some.__cache_config__ == CacheConfig(ttl=3)  # type: ignore[attr-defined]


def test_a_bare_decorator_keeps_what_the_class_says() -> None:
    """`@cached` without settings above a class with a `__cache_config__` of its own."""

    class Base(SQLModel, registry=registry()):
        pass

    said = CacheConfig(ttl=7)

    @cached
    class Row(Base, table=True):
        __cache_config__ = said

        id: int = Field(primary_key=True)

    assert Row.__cache_config__ is said

    @cached
    class Heir(Row):
        pass

    assert Heir.__cache_config__ == CacheConfig()


def test_class_that_did_not_opt_in_is_not_cached(engine: Engine) -> None:
    """Nothing is asked, counted or stored."""
    SQLModelCache.configure("memory://")
    fill(engine, Plain(id=1))
    assert not is_cached(engine, Plain)
    assert "Plain" not in SQLModelCache.stats().models


def test_attribute_assigned_after_class_creation_counts(engine: Engine) -> None:
    """As long as the mappers are not configured yet."""

    class Base(SQLModel, registry=registry()):
        pass

    class Row(Base, table=True):
        id: int = Field(primary_key=True)

    Row.__cache_config__ = CacheConfig(ttl=5)  # type: ignore[attr-defined]
    SQLModelCache.configure("memory://")
    fill(engine, Row(id=1))
    assert is_cached(engine, Row)


def test_decoration_after_configure_and_first_use_counts(engine: Engine) -> None:
    """What was worked out about an uncached class is forgotten, for reads and for writes."""
    SQLModelCache.configure("memory://")

    class Base(SQLModel, registry=registry()):
        pass

    class Row(Base, table=True):
        id: int = Field(primary_key=True)
        name: str = ""

    fill(engine, Row(id=1))
    assert not is_cached(engine, Row)
    cached(Row)
    assert is_cached(engine, Row)
    with Session(engine) as session:
        session.get_one(Row, 1).name = "new"
        session.commit()
    with Session(engine) as session:
        assert session.get_one(Row, 1).name == "new"


def test_one_config_may_be_shared(engine: Engine) -> None:
    """A CacheConfig is a value without an owner."""
    shared = CacheConfig(ttl=9)

    class Base(SQLModel, registry=registry()):
        pass

    class First(Base, table=True):
        __cache_config__ = shared
        id: int = Field(primary_key=True)

    class Second(Base, table=True):
        __cache_config__ = shared
        id: int = Field(primary_key=True)

    SQLModelCache.configure("memory://")
    fill(engine, First(id=1), Second(id=1))
    assert is_cached(engine, First)
    assert is_cached(engine, Second)
    assert set(SQLModelCache.stats().models) == {"First", "Second"}


def test_base_without_a_table_hands_its_config_down(engine: Engine) -> None:
    """The policy is found over the MRO, and a subclass may replace it or switch it off."""

    class Base(SQLModel, registry=registry()):
        __cache_config__ = CacheConfig(ttl=0)

    class Heir(Base, table=True):
        id: int = Field(primary_key=True)

    class Override(Base, table=True):
        __cache_config__ = CacheConfig(ttl=60)
        id: int = Field(primary_key=True)

    class Off(Base, table=True):
        __cache_config__ = CacheConfig(enabled=False)
        id: int = Field(primary_key=True)

    SQLModelCache.configure("memory://")
    fill(engine, Heir(id=1), Override(id=1), Off(id=1))
    assert not is_cached(engine, Heir)
    assert is_cached(engine, Override)
    assert not is_cached(engine, Off)
    assert SQLModelCache.stats().models["Heir"].misses == 2
    assert SQLModelCache.stats().models["Off"].bypasses == {"model_off": 2}


def test_mixins_own_default_counts_last(engine: Engine) -> None:
    """A base's explicit setting is not shadowed by the order in which the bases stand."""

    class Policy:
        __cache_config__ = CacheConfig(enabled=False)

    class Base(CachedModel, registry=registry()):
        pass

    class Row(Base, Policy, table=True):  # type: ignore[misc]
        id: int = Field(primary_key=True)

    SQLModelCache.configure("memory://")
    fill(engine, Row(id=1))
    assert not is_cached(engine, Row)
    assert SQLModelCache.stats().bypasses == {"model_off": 2}


def test_mixin_with_a_ttl_of_its_own(engine: Engine) -> None:
    """`__cache_config__` on a CachedModel replaces the mixin's."""

    class Base(CachedModel, registry=registry()):
        pass

    class Row(Base, table=True):
        __cache_config__ = CacheConfig(ttl=0)
        id: int = Field(primary_key=True)

    SQLModelCache.configure("memory://")
    fill(engine, Row(id=1))
    assert not is_cached(engine, Row)


def test_mapped_inheritance_inherits_and_switches_off(engine: Engine) -> None:
    """A subclass of a cached class is cached; one that is switched off still invalidates."""

    class Base(DeclarativeBase):
        pass

    @cached
    class Animal(Base):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        name: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        __mapper_args__ = {"polymorphic_identity": "dog"}

    class Cat(Animal):
        __cache_config__ = CacheConfig(enabled=False)
        __mapper_args__ = {"polymorphic_identity": "cat"}

    SQLModelCache.configure("memory://")
    fill(engine, Dog(id=1, name="Rex"), Cat(id=2, name="Tom"))
    assert is_cached(engine, Dog, 1)
    assert not is_cached(engine, Cat, 2)
    assert is_cached(engine, Animal, 2)
    with Session(engine) as session:
        session.get_one(Cat, 2).name = "Tim"
        session.commit()
    with Session(engine) as session:
        assert session.get_one(Animal, 2).name == "Tim"


def test_get_takes_a_mapper_too(engine: Engine) -> None:
    """`session.get(mapper, key)` is the same lookup."""

    class Base(SQLModel, registry=registry()):
        pass

    @cached
    class Row(Base, table=True):
        id: int = Field(primary_key=True)

    SQLModelCache.configure("memory://")
    fill(engine, Row(id=1))
    assert is_cached(engine, Row.__mapper__)  # type: ignore[attr-defined]


def test_the_base_class_goes_with_a_metaclass_of_the_users(engine: Engine) -> None:
    """`CachedModel` has SQLModel's own metaclass, so that it mixes with any SQLModel there is."""

    class Named(type(SQLModel)):  # type: ignore[misc]
        """Somebody's own."""

    class Base(SQLModel, metaclass=Named):
        pass

    class Row(Base, CachedModel, table=True, registry=registry()):  # type: ignore[call-arg]
        id: int | None = Field(default=None, primary_key=True)

    assert type(CachedModel) is type(SQLModel)
    assert Row.__cache_config__ == CacheConfig()


class Shaky(DeclarativeBase):
    """A base whose registry has a model that is right and some that are not."""


class Sound(Shaky):
    __tablename__ = "sound"
    __cache_config__ = CacheConfig()
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10), default="sound")
    name: Mapped[str] = mapped_column(String(10), default="old")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "sound"}


def wrong_table() -> Any:
    """Map a table with a wrong policy."""

    class Wrong(Shaky):
        __tablename__ = "wrong"
        __cache_config__ = CacheConfig(ttl=-1)
        id: Mapped[int] = mapped_column(primary_key=True)


def wrong_heir() -> Any:
    """Inherit from a sound class, with a wrong policy."""

    class WrongHeir(Sound):
        __cache_config__ = CacheConfig(ttl=-1)
        __mapper_args__ = {"polymorphic_identity": "wrong"}


def wrong_sqlmodel() -> Any:
    """Write a SQLModel with a wrong policy."""

    class Base(SQLModel, registry=registry()):
        pass

    class Wrong(Base, table=True):
        __cache_config__ = CacheConfig(ttl=-1)
        id: int = Field(primary_key=True)


def wrong_imperative() -> Any:
    """Map a class with a wrong policy imperatively; the class outlives the error."""

    class WrongKept:
        __cache_config__ = CacheConfig(ttl=-1)

    kept.append(WrongKept)
    table = Table("kept", Shaky.metadata, Column("id", Integer, primary_key=True))
    Shaky.registry.map_imperatively(WrongKept, table)


kept: list[Any] = []


@pytest.mark.parametrize(
    "mistake",
    [wrong_table, wrong_heir, wrong_sqlmodel, wrong_imperative],
    ids=lambda each: each.__name__,
)
def test_wrong_policy_is_found_at_the_class_statement(engine: Engine, mistake: Any) -> None:
    """The traceback has its line, and every other class of the registry goes on working."""
    with pytest.raises(ConfigurationError, match=r"Wrong.*ttl=-1.*use an int") as raised:
        mistake()
    assert mistake.__name__ in {entry.name for entry in raised.traceback}
    SQLModelCache.configure("memory://")
    configure_mappers()
    fill(engine, Sound(id=1))
    assert is_cached(engine, Sound)
    with Session(engine) as session:
        session.get_one(Sound, 1).name = "new"
        session.commit()
    with Session(engine) as session:
        assert session.get_one(Sound, 1).name == "new"


def test_class_that_was_refused_may_be_put_right(engine: Engine) -> None:
    """A class mapped imperatively outlives the error; until it is put right its reads raise."""
    cls = type("Row", (), {"__cache_config__": CacheConfig(ttl=-1)})
    mappers = registry()
    table = Table("row", mappers.metadata, Column("id", Integer, primary_key=True))
    with pytest.raises(ConfigurationError, match="ttl=-1"):
        mappers.map_imperatively(cls, table)
    SQLModelCache.configure("memory://")
    mappers.metadata.create_all(engine)
    with Session(engine) as session, pytest.raises(ConfigurationError, match="ttl=-1"):
        session.get(cls, 1)
    cls.__cache_config__ = CacheConfig(ttl=5)  # type: ignore[attr-defined]
    row = cls()
    row.id = 1  # type: ignore[attr-defined]
    cls.metadata = mappers.metadata  # type: ignore[attr-defined]
    fill(engine, row)
    assert is_cached(engine, cls)
    with Session(engine) as session:
        session.delete(session.get_one(cls, 1))
        session.commit()
    with Session(engine) as session:
        assert session.get(cls, 1) is None


def test_wrong_policy_assigned_later_is_found_when_mappers_are_configured() -> None:
    """Never at the first request."""

    class Base(DeclarativeBase):
        pass

    class Wrong(Base):
        __tablename__ = "wrong"
        id: Mapped[int] = mapped_column(primary_key=True)

    Wrong.__cache_config__ = CacheConfig(ttl=-1)  # type: ignore[attr-defined]
    try:
        with pytest.raises(ConfigurationError, match=r"Wrong.*ttl=-1.*use an int"):
            configure_mappers()
    finally:
        Base.registry.dispose()

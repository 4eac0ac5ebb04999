"""The models of all scenarios, in a registry of their own; tables begin with `scenario_`."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    DDL,
    Computed,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    event,
    func,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    deferred,
    mapped_column,
    registry,
    relationship,
    synonym,
)
from sqlmodel import Field, SQLModel

from sqlmodel_cache import CacheConfig, CachedModel, cached

if TYPE_CHECKING:
    from sqlalchemy import Engine

_SQLMODELS = registry()


class Base(DeclarativeBase):
    """Base of the plain SQLAlchemy models."""

    metadata = MetaData()


class _Cached(CachedModel, registry=_SQLMODELS):
    """Base of the SQLModel ones that are cached."""


class _Uncached(SQLModel, registry=_SQLMODELS):
    """Base of those that are not."""


class Hero(_Cached, table=True):
    """The usual cached row."""

    __tablename__ = "scenario_hero"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=String(200))
    power: int = 0


class Town(_Cached, table=True):
    """Another cached row, with a ghost: that a town does not exist is remembered."""

    __tablename__ = "scenario_town"
    __cache_config__ = CacheConfig(negative_ttl=60)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=String(200))


class Brief(_Cached, table=True):
    """A row with a TTL of its own."""

    __tablename__ = "scenario_brief"
    __cache_config__ = CacheConfig(ttl=20)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=String(200))


class Fleeting(_Cached, table=True):
    """A row that is stored only if a call wants it."""

    __tablename__ = "scenario_fleeting"
    __cache_config__ = CacheConfig(ttl=0)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=String(200))


class Wavering(_Cached, table=True):
    """A row whose TTL is cut at random."""

    __tablename__ = "scenario_wavering"
    __cache_config__ = CacheConfig(ttl=100, jitter=0.5)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=String(200))


class Fresh(_Cached, table=True):
    """A row that one caller loads again shortly before it ends."""

    __tablename__ = "scenario_fresh"
    __cache_config__ = CacheConfig(ttl=100, negative_ttl=100, refresh_ahead=1)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=String(200))


class Packed(_Cached, table=True):
    """A row that is packed if it is long."""

    __tablename__ = "scenario_packed"
    __cache_config__ = CacheConfig(compress="zstd")

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=Text())


class PackedByZlib(_Cached, table=True):
    """The same, without a package."""

    __tablename__ = "scenario_packed_by_zlib"
    __cache_config__ = CacheConfig(compress="zlib")

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=Text())


class PackedByLz4(_Cached, table=True):
    """The same, fast."""

    __tablename__ = "scenario_packed_by_lz4"
    __cache_config__ = CacheConfig(compress="lz4")

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=Text())


class LongHero(_Cached, table=True):
    """A row of any length that says nothing about packing."""

    __tablename__ = "scenario_long_hero"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=Text())


class Unpacked(_Cached, table=True):
    """A row that is never packed, whatever the others are."""

    __tablename__ = "scenario_unpacked"
    __cache_config__ = CacheConfig(compress=False)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=Text())


class Shadowed(_Cached, table=True):
    """A row that the database answers, with a ghost, and the cache is compared with."""

    __tablename__ = "scenario_shadowed"
    __cache_config__ = CacheConfig(mode="shadow", negative_ttl=60)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=String(200))
    power: int = 0


class Note(_Uncached, table=True):
    """A row of a model that never opted in."""

    __tablename__ = "scenario_note"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=String(200))


class Badge(_Cached, table=True):
    """A row that a unique constraint can refuse at flush."""

    __tablename__ = "scenario_badge"
    __table_args__ = (UniqueConstraint("code"),)

    id: int | None = Field(default=None, primary_key=True)
    code: str = Field(sa_type=String(200))


class Member(_Cached, table=True):
    """Looked up by text, by a number, and by two columns together."""

    __tablename__ = "scenario_member"
    __table_args__ = (
        UniqueConstraint("org", "seat"),
        Index("scenario_member_no", "no", unique=True),
    )
    __cache_config__ = CacheConfig(unique=("email", "no", ("seat", "org")), negative_ttl=60)

    id: int | None = Field(default=None, primary_key=True)
    email: str | None = Field(default=None, unique=True, sa_type=String(200))
    no: int | None = Field(default=None)
    org: int | None = Field(default=None)
    seat: int | None = Field(default=None)
    name: str = Field(default="", sa_type=String(200))


class Errand(_Cached, table=True):
    """A row whose foreign key is checked at COMMIT (where the database can do that)."""

    __tablename__ = "scenario_errand"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(sa_type=String(200))
    hero_id: int | None = Field(
        default=None,
        sa_column_args=[ForeignKey("scenario_hero.id", deferrable=True, initially="DEFERRED")],
    )


# Primary keys


class Word(_Cached, table=True):
    """Keyed by text."""

    __tablename__ = "scenario_word"

    id: str = Field(primary_key=True, sa_type=String(500))
    name: str = Field(sa_type=String(200))


class Token(_Cached, table=True):
    """Keyed by a UUID."""

    __tablename__ = "scenario_token"

    id: uuid.UUID = Field(default_factory=uuid.uuid4, primary_key=True)
    name: str = Field(sa_type=String(200))


class Day(_Cached, table=True):
    """Keyed by a date."""

    __tablename__ = "scenario_day"

    id: dt.date = Field(primary_key=True)
    name: str = Field(sa_type=String(200))


@cached
class Seat(Base):
    """Keyed by two columns, one of which has a second name."""

    __tablename__ = "scenario_seat"

    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[str] = mapped_column(String(100), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), default="")
    line: Mapped[int] = synonym("row")


# Mappings


@cached
class Memo(Base):
    """A deferred column, and a group of them."""

    __tablename__ = "scenario_memo"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    body: Mapped[str] = deferred(mapped_column(Text, default=""))


@cached
class Animal(Base):
    """Single-table inheritance."""

    __tablename__ = "scenario_animal"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(200))
    __mapper_args__: Any = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Cat(Animal):
    """An Animal with a column of its own."""

    lives: Mapped[int | None] = mapped_column(default=None)
    __mapper_args__: Any = {"polymorphic_identity": "cat"}


class Dog(Animal):
    """Its sibling."""

    tricks: Mapped[int | None] = mapped_column(default=None)
    __mapper_args__: Any = {"polymorphic_identity": "dog"}


@cached
class Person(Base):
    """Joined-table inheritance."""

    __tablename__ = "scenario_person"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(200))
    __mapper_args__: Any = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Engineer(Person):
    """A Person in two tables."""

    __tablename__ = "scenario_engineer"

    id: Mapped[int] = mapped_column(ForeignKey("scenario_person.id"), primary_key=True)
    language: Mapped[str] = mapped_column(String(50), default="")
    __mapper_args__: Any = {"polymorphic_identity": "engineer"}


class Manager(Person):
    """Their sibling."""

    __tablename__ = "scenario_manager"

    id: Mapped[int] = mapped_column(ForeignKey("scenario_person.id"), primary_key=True)
    budget: Mapped[int] = mapped_column(default=0)
    __mapper_args__: Any = {"polymorphic_identity": "manager"}


@cached
class Shape(Base):
    """Concrete inheritance: each class has a table, and numbers of its own."""

    __tablename__ = "scenario_shape"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(200))


class Circle(Shape):
    """A Shape in a table apart."""

    __tablename__ = "scenario_circle"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(200))
    radius: Mapped[int] = mapped_column(default=1)
    __mapper_args__: Any = {"concrete": True}


@cached
class Draft(Base):
    """A row with a version counter."""

    __tablename__ = "scenario_draft"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    version: Mapped[int] = mapped_column()
    __mapper_args__: Any = {"version_id_col": version}


@cached
class Invoice(Base):
    """What the database itself writes: a default, a computed column, and by trigger a count."""

    __tablename__ = "scenario_invoice"

    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int] = mapped_column()
    currency: Mapped[str] = mapped_column(String(3), server_default="EUR")
    created: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    doubled: Mapped[int] = mapped_column(Integer, Computed("amount * 2", persisted=True))
    changes: Mapped[int] = mapped_column(server_default="0")


@cached
class Product(Base):
    """A table that several releases of a program map, each in its own way."""

    __tablename__ = "scenario_product"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(200))
    stock: Mapped[int | None] = mapped_column()


# What is bypassed for now


@cached
class Team(Base):
    """A parent whose children a load brings along."""

    __tablename__ = "scenario_team"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    players: Mapped[list[Player]] = relationship(lazy="selectin", back_populates="team")


@cached
class Player(Base):
    """A child; its parent is loaded on access."""

    __tablename__ = "scenario_player"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_team.id"), default=None)
    team: Mapped[Team | None] = relationship(back_populates="players")


@cached
class Label(Base):
    """A column that is computed by the SELECT."""

    __tablename__ = "scenario_label"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    loud: Mapped[str] = column_property(func.upper(name))


_TRIGGERS = {
    "sqlite": [
        "CREATE TRIGGER scenario_count AFTER UPDATE OF amount ON scenario_invoice BEGIN"
        " UPDATE scenario_invoice SET changes = changes + 1 WHERE id = NEW.id; END"
    ],
    "mysql": [
        "CREATE TRIGGER scenario_count BEFORE UPDATE ON scenario_invoice FOR EACH ROW"
        " SET NEW.changes = OLD.changes + 1"
    ],
    "postgresql": [
        "CREATE FUNCTION scenario_counted() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.changes := OLD.changes + 1; RETURN NEW; END $$",
        "CREATE TRIGGER scenario_count BEFORE UPDATE ON scenario_invoice FOR EACH ROW"
        " EXECUTE FUNCTION scenario_counted()",
    ],
}
for _dialect, _statements in _TRIGGERS.items():
    for _statement in _statements:
        event.listen(
            Base.metadata.tables["scenario_invoice"],
            "after_create",
            DDL(_statement).execute_if(dialect=_dialect),  # type: ignore[no-untyped-call]
        )


def create_tables(engine: Engine) -> None:
    """Make every table of this file; MariaDB knows no deferred constraints."""
    tables = dict(_SQLMODELS.metadata.tables)
    if engine.dialect.name in ("mysql", "mariadb"):
        del tables["scenario_errand"]
    _SQLMODELS.metadata.create_all(engine, list(tables.values()))
    Base.metadata.create_all(engine)

"""The models of the scenarios about relationships; tables begin with `scenario_`."""

from __future__ import annotations

from sqlalchemy import ForeignKey, ForeignKeyConstraint, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from sqlmodel_cache import CacheConfig, cached
from tests.scenarios.models import Base


@cached
class Country(Base):
    """What others lead to."""

    __tablename__ = "scenario_country"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))


@cached
class City(Base):
    """Brings its country along, and its quarters."""

    __tablename__ = "scenario_city"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    country_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_country.id"))
    country: Mapped[Country | None] = relationship(lazy="joined")
    quarters: Mapped[list[Quarter]] = relationship(
        lazy="selectin", back_populates="city", order_by="Quarter.id"
    )


@cached
class Quarter(Base):
    """Part of a city, which is loaded on access; its twin brings one along."""

    __tablename__ = "scenario_quarter"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    city_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_city.id"))
    city: Mapped[City | None] = relationship(back_populates="quarters")


@cached
class Flight(Base):
    """Brings two countries along, in two ways."""

    __tablename__ = "scenario_flight"

    id: Mapped[int] = mapped_column(primary_key=True)
    origin_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_country.id"))
    target_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_country.id"))
    origin: Mapped[Country | None] = relationship(foreign_keys=origin_id, lazy="selectin")
    target: Mapped[Country | None] = relationship(foreign_keys=target_id, lazy="joined")


@cached(unique=("code",))
class Parcel(Base):
    """Brings countries along in every way that there is, and one that comes on access."""

    __tablename__ = "scenario_parcel"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[int | None] = mapped_column(unique=True)
    one_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_country.id"))
    two_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_country.id"))
    three_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_country.id"))
    four_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_country.id"))
    selected: Mapped[Country | None] = relationship(foreign_keys=one_id, lazy="selectin")
    joined: Mapped[Country | None] = relationship(foreign_keys=two_id, lazy="joined")
    at_once: Mapped[Country | None] = relationship(foreign_keys=three_id, lazy="immediate")
    queried: Mapped[Country | None] = relationship(foreign_keys=four_id, lazy="subquery")
    later: Mapped[Country | None] = relationship(
        foreign_keys=one_id, lazy="select", overlaps="selected"
    )
    labels: Mapped[list[Sticker]] = relationship(back_populates="parcel", lazy="subquery")
    stickers: Mapped[list[Sticker]] = relationship(viewonly=True, lazy="selectin")


@cached
class Sticker(Base):
    """On a parcel, which it brings along."""

    __tablename__ = "scenario_sticker"

    id: Mapped[int] = mapped_column(primary_key=True)
    parcel_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_parcel.id"))
    parcel: Mapped[Parcel | None] = relationship(back_populates="labels", lazy="select")


@cached
class Cart(Base):
    """Has a parcel on it, which comes along with all that it brings."""

    __tablename__ = "scenario_cart"

    id: Mapped[int] = mapped_column(primary_key=True)
    first_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_parcel.id"))
    second_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_parcel.id"))
    first: Mapped[Parcel | None] = relationship(foreign_keys=first_id, lazy="selectin")
    second: Mapped[Parcel | None] = relationship(foreign_keys=second_id, lazy="selectin")


@cached(negative_ttl=60)
class Owner(Base):
    """One of whom another table may have a part; remembered if there is none."""

    __tablename__ = "scenario_owner"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "owner"}


class Company(Owner):
    """An owner of another class."""

    __mapper_args__ = {"polymorphic_identity": "company"}


@cached
class House(Base):
    """Points to owners in several ways; no constraint holds the first."""

    __tablename__ = "scenario_house"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column()
    owner: Mapped[Owner | None] = relationship(
        primaryjoin="foreign(House.owner_id) == Owner.id", lazy="select"
    )
    company: Mapped[Company | None] = relationship(
        primaryjoin="foreign(House.owner_id) == Company.id", viewonly=True
    )
    loud: Mapped[Owner | None] = relationship(
        primaryjoin="and_(foreign(House.owner_id) == Owner.id, Owner.name == 'LOUD')",
        viewonly=True,
    )
    never: Mapped[Owner | None] = relationship(
        primaryjoin="foreign(House.owner_id) == Owner.id", viewonly=True, lazy="raise"
    )
    unasked: Mapped[Owner | None] = relationship(
        primaryjoin="foreign(House.owner_id) == Owner.id", viewonly=True, lazy="raise_on_sql"
    )


@cached
class Shelf(Base):
    """Keyed by two columns."""

    __tablename__ = "scenario_shelf"

    room: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(200))


@cached
class Book(Base):
    """On a shelf; its columns name the key in another order."""

    __tablename__ = "scenario_book"
    __table_args__ = (
        ForeignKeyConstraint(["room", "place"], ["scenario_shelf.room", "scenario_shelf.place"]),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[int | None] = mapped_column()
    room: Mapped[int | None] = mapped_column()
    shelf: Mapped[Shelf | None] = relationship()
    cover: Mapped[Cover | None] = relationship(back_populates="book", uselist=False)


class Cover(Base):
    """Not cached; one to one."""

    __tablename__ = "scenario_cover"

    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("scenario_book.id"), unique=True)
    book: Mapped[Book] = relationship(back_populates="cover")


class Silent(Base):
    """Is not read from the cache."""

    __tablename__ = "scenario_silent"
    __cache_config__ = CacheConfig(enabled=False)

    id: Mapped[int] = mapped_column(primary_key=True)
    country_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_country.id"))
    country: Mapped[Country | None] = relationship(lazy="immediate")

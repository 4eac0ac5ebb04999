"""The models of the scenarios about collections; tables begin with `scenario_c_`."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, String, Table
from sqlalchemy.orm import Mapped, mapped_column, relationship

from sqlmodel_cache import cached
from tests.scenarios.models import Base

worn = Table(
    "scenario_c_worn",
    Base.metadata,
    Column("member_id", ForeignKey("scenario_c_member.id", ondelete="CASCADE"), primary_key=True),
    Column("badge_id", ForeignKey("scenario_c_badge.id", ondelete="CASCADE"), primary_key=True),
)


@cached(ttl=60, collections=("members", "stars", "mascot"))
class Club(Base):
    """Has members in an order of theirs, some of them by a condition, and a mascot."""

    __tablename__ = "scenario_c_club"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    members: Mapped[list[Member]] = relationship(
        back_populates="club", order_by="Member.name", foreign_keys="Member.club_id"
    )
    stars: Mapped[list[Member]] = relationship(
        primaryjoin="and_(Club.id == foreign(Member.club_id), Member.goals > 9)",
        order_by="Member.id",
        viewonly=True,
    )
    mascot: Mapped[Mascot | None] = relationship(back_populates="club")
    fans: Mapped[list[Member]] = relationship(foreign_keys="Member.fan_of_id", order_by="Member.id")


@cached(ttl=60, collections=("badges",))
class Member(Base):
    """Of a club, with badges; a fan of another one."""

    __tablename__ = "scenario_c_member"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    goals: Mapped[int] = mapped_column(default=0)
    note: Mapped[str | None] = mapped_column(String(200))
    club_id: Mapped[int | None] = mapped_column(
        ForeignKey("scenario_c_club.id", ondelete="SET NULL")
    )
    fan_of_id: Mapped[int | None] = mapped_column(
        ForeignKey("scenario_c_club.id", ondelete="SET NULL")
    )
    club: Mapped[Club | None] = relationship(
        back_populates="members", foreign_keys="Member.club_id"
    )
    badges: Mapped[list[Badge]] = relationship(
        secondary=worn, back_populates="members", order_by="Badge.id"
    )


@cached(ttl=60, collections=("members",))
class Badge(Base):
    """Worn by members; through an association table that no class is mapped to."""

    __tablename__ = "scenario_c_badge"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    members: Mapped[set[Member]] = relationship(secondary=worn, back_populates="badges")


@cached
class Mascot(Base):
    """One of a club: that has no key of it, so it is looked for like a collection."""

    __tablename__ = "scenario_c_mascot"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    club_id: Mapped[int | None] = mapped_column(ForeignKey("scenario_c_club.id"), unique=True)
    club: Mapped[Club | None] = relationship(back_populates="mascot")


@cached(ttl=60, collections=("lamps",))
class Street(Base):
    """Brings its lamps along with a load."""

    __tablename__ = "scenario_c_street"

    id: Mapped[int] = mapped_column(primary_key=True)
    lamps: Mapped[list[Lamp]] = relationship(lazy="selectin", order_by="Lamp.id")


@cached
class Lamp(Base):
    """In a street."""

    __tablename__ = "scenario_c_lamp"

    id: Mapped[int] = mapped_column(primary_key=True)
    street_id: Mapped[int] = mapped_column(ForeignKey("scenario_c_street.id"))


@cached(ttl=60, collections=("letters", "papers"))
class Drawer(Base):
    """Of things that bring it along."""

    __tablename__ = "scenario_c_drawer"

    id: Mapped[int] = mapped_column(primary_key=True)
    letters: Mapped[list[Letter]] = relationship(back_populates="drawer")
    papers: Mapped[list[Paper]] = relationship(back_populates="drawer")


@cached
class Letter(Base):
    """Joins its drawer."""

    __tablename__ = "scenario_c_letter"

    id: Mapped[int] = mapped_column(primary_key=True)
    drawer_id: Mapped[int] = mapped_column(ForeignKey("scenario_c_drawer.id"))
    drawer: Mapped[Drawer] = relationship(back_populates="letters", lazy="joined")


@cached
class Paper(Base):
    """Has its drawer loaded after it."""

    __tablename__ = "scenario_c_paper"

    id: Mapped[int] = mapped_column(primary_key=True)
    drawer_id: Mapped[int] = mapped_column(ForeignKey("scenario_c_drawer.id"))
    drawer: Mapped[Drawer] = relationship(back_populates="papers", lazy="selectin")


# Until it is known where they lead, every cached model of the process is taken for a target.
Base.registry.configure()

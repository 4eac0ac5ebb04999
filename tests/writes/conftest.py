"""Models with every kind of table that a write can reach, in a SQLite file of their own."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace

import pytest
from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache
from sqlmodel_cache.orm.connections.ledger import ledger_of


class CommitHook(sqlite3.Connection):
    """A driver connection whose COMMIT a test can make fail, or lose the reply of."""

    on_commit = None

    def commit(self):
        hook = CommitHook.on_commit
        if hook is None:
            super().commit()
        else:
            hook(super().commit)


@pytest.fixture
def on_commit():
    """Return a setter: the hook receives the real commit and decides."""
    yield lambda hook: setattr(CommitHook, "on_commit", staticmethod(hook) if hook else None)
    CommitHook.on_commit = None


@pytest.fixture
def world(tmp_path):
    """Return models, an engine, and `touched(connection)`: what its commit would publish."""

    class Base(DeclarativeBase):
        pass

    class Team(Base):
        __tablename__ = "team"
        __cache_config__ = CacheConfig()
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="")

    class Hero(Base):
        __tablename__ = "hero"
        __cache_config__ = CacheConfig()
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="")
        kind: Mapped[str] = mapped_column(default="hero")
        team_id: Mapped[int | None] = mapped_column(ForeignKey("team.id", ondelete="CASCADE"))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "hero"}

    class Flyer(Hero):
        __tablename__ = "flyer"
        hero_id: Mapped[int] = mapped_column(ForeignKey("hero.id"), primary_key=True)
        height: Mapped[int] = mapped_column(default=0)
        __mapper_args__ = {"polymorphic_identity": "flyer"}

    class Badge(Base):
        __tablename__ = "badge"
        __cache_config__ = CacheConfig()
        code: Mapped[str] = mapped_column(primary_key=True)
        hero_id: Mapped[int | None] = mapped_column(ForeignKey("hero.id", ondelete="SET NULL"))

    class Ghost(Base):
        __tablename__ = "ghost"
        __cache_config__ = CacheConfig(negative_ttl=60)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="")

    class Seat(Base):
        __tablename__ = "seat"
        __cache_config__ = CacheConfig(negative_ttl=60, unique=("number",))
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(unique=True)

    class Log(Base):
        __tablename__ = "log"
        id: Mapped[int] = mapped_column(primary_key=True)

    engine = create_engine(f"sqlite:///{tmp_path}/world.db", connect_args={"factory": CommitHook})
    Base.metadata.create_all(engine)
    SQLModelCache.configure("memory://", namespace="world")

    def touched(connection):
        ledger = ledger_of(connection)
        if ledger is None:
            return set(), set()
        captured = ledger.frames.capture()
        return set(captured.rows), set(captured.tables)

    yield SimpleNamespace(
        Base=Base,
        Team=Team,
        Hero=Hero,
        Flyer=Flyer,
        Badge=Badge,
        Ghost=Ghost,
        Seat=Seat,
        Log=Log,
        engine=engine,
        touched=touched,
    )
    engine.dispose()
    Base.registry.dispose()

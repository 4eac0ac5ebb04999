"""Session classes that choose an engine at each statement, as SQLAlchemy's own recipe does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Update, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache
from tests.recording import record_sql


class Base(DeclarativeBase):
    """Tables of this file."""


class Hero(Base):
    """A cached row."""

    __tablename__ = "routing_hero"
    __cache_config__ = CacheConfig(ttl=60)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def engines(tmp_path: Path) -> dict[str, Engine]:
    """Return a leader, and a follower that has not heard of the last write."""
    made = {name: create_engine(f"sqlite:///{tmp_path / name}") for name in ("leader", "follower")}
    for name, engine in made.items():
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Hero(id=1, name="new" if name == "leader" else "old"))
            session.commit()
    return made


def routed(engines: dict[str, Engine], order: list[str]) -> type[Session]:
    """Return a session class that writes to the leader and reads from engines in this order."""

    class Routing(Session):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, **_: Any) -> Any:
            if self._flushing or isinstance(clause, Update) or clause is None:
                return engines["leader"]
            return engines[order.pop(0)]

    return Routing


@pytest.mark.parametrize("leader_first", [True, False])
def test_b24_a_row_that_came_over_another_engine_is_not_stored(
    engines: dict[str, Engine], leader_first: bool
) -> None:
    """Judged at the leader, loaded from a follower that lags: nobody else is given that row."""
    SQLModelCache.configure("memory://", namespace="one")
    with routed(engines, ["leader", "follower"])() as session:
        if leader_first:
            session.connection()
        assert session.get_one(Hero, 1).name == "old"
    with Session(engines["leader"]) as session:
        assert session.get_one(Hero, 1).name == "new"


def test_b24_the_engine_that_was_judged_is_the_one_that_is_asked(
    engines: dict[str, Engine],
) -> None:
    """The database behind it says who it is, not the one that the session would choose next."""
    SQLModelCache.configure("memory://")
    for expected in ("old", "new"):
        with routed(engines, ["follower", "leader"])() as session:
            session.get(Hero, 1)
        with Session(engines["follower" if expected == "old" else "leader"]) as session:
            assert session.get_one(Hero, 1).name == expected


def test_b24_a_session_that_routes_by_statement_is_served(engines: dict[str, Engine]) -> None:
    """The engine is asked for as a load asks for it, and the second get is a hit."""
    SQLModelCache.configure("memory://")
    for expected in (1, 0):
        with (
            record_sql(engines["follower"]) as statements,
            routed(engines, ["follower"] * 9)() as session,
        ):
            assert session.get_one(Hero, 1).name == "old"
        assert len([one for one in statements if "routing_hero" in str(one)]) == expected

"""`merge()`, whose own get may be a hit, and `with_parent()`, which is no read by key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, ForeignKey, Integer, create_engine, inspect, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    make_transient,
    mapped_column,
    relationship,
    with_parent,
)
from sqlalchemy.orm.exc import StaleDataError

from sqlmodel_cache import CacheConfig, SQLModelCache
from tests.recording import record_sql


class Base(DeclarativeBase):
    """Tables of this file."""

    __cache_config__ = CacheConfig(ttl=60)


class Team(Base):
    """The parent."""

    __tablename__ = "merge_team"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    heroes: Mapped[list[Hero]] = relationship(back_populates="team", cascade="all")


class Hero(Base):
    """The child, with a version."""

    __tablename__ = "merge_hero"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    power: Mapped[int] = mapped_column(default=0)
    version = mapped_column(Integer, nullable=False)
    team_id: Mapped[int | None] = mapped_column(ForeignKey("merge_team.id"))
    team: Mapped[Team | None] = relationship(back_populates="heroes")
    __mapper_args__ = {"version_id_col": version}


@pytest.fixture(params=["memory", "redis"])
def engine(sqlite_url: str, request: pytest.FixtureRequest, key_prefix: str) -> Iterator[Engine]:
    """Return a database with one team of two heroes, all of them in the cache."""
    made = create_engine(sqlite_url)
    Base.metadata.create_all(made)
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    SQLModelCache.configure(url, key_prefix=key_prefix)
    with Session(made) as session:
        session.add(Team(id=1, name="first", heroes=[Hero(id=1, name="a"), Hero(id=2, name="b")]))
        session.commit()
    with Session(made) as session:
        for model, pk in ((Team, 1), (Hero, 1), (Hero, 2)):
            session.get_one(model, pk)
    yield made
    SQLModelCache.reset()
    made.dispose()


def detached(engine: Engine, pk: int = 1) -> Hero:
    """Return a hero of a session that is closed."""
    with Session(engine) as session:
        return session.get_one(Hero, pk)


def name_of(engine: Engine, pk: int = 1) -> str:
    """Return the name that everybody else reads."""
    with Session(engine) as session:
        return session.get_one(Hero, pk).name


def test_merging_what_did_not_change_sends_nothing(engine: Engine) -> None:
    """The row to merge into is a hit; nothing is dirty, nothing is flushed."""
    hero = detached(engine)
    with record_sql(engine) as sent, Session(engine) as session:
        merged = session.merge(hero)
        assert merged is not hero
        assert not session.is_modified(merged)
        session.commit()
    assert sent == []


def test_merging_a_change_updates_what_differs(engine: Engine) -> None:
    """One UPDATE of one column, and everybody sees it."""
    hero = detached(engine)
    hero.name = "merged"
    with record_sql(engine) as sent, Session(engine) as session:
        merged = session.merge(hero)
        assert inspect(merged).attrs.name.history.deleted == ["a"]
        assert inspect(merged).attrs.power.history.unchanged == [0]
        session.commit()
    assert len(sent) == 1
    assert sent[0].startswith("UPDATE merge_hero SET name=?, version=? WHERE")
    assert name_of(engine) == "merged"


def test_merging_an_old_version_fails_as_without_a_cache(engine: Engine) -> None:
    """The row merged into is the newest, so its version tells that the detached one is old."""
    hero = detached(engine)
    hero.name = "too late"
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "meanwhile"
        session.commit()
    for _ in range(2):  # from the database, then from the cache
        with Session(engine) as session, pytest.raises(StaleDataError):
            session.merge(hero)
        assert name_of(engine) == "meanwhile"


def test_merging_a_transient_object_finds_the_row(engine: Engine) -> None:
    """A key that exists is an UPDATE, one that does not an INSERT that all can read then."""
    for pk in (2, 3):
        with Session(engine) as session:
            session.merge(Hero(id=pk, name="new", power=pk))
            session.commit()
        assert name_of(engine, pk) == "new"


def test_merging_what_was_deleted_inserts_it_again(engine: Engine) -> None:
    """The cache does not resurrect the row that somebody deleted."""
    hero = detached(engine)
    with Session(engine) as session:
        session.delete(session.get_one(Hero, 1))
        session.commit()
    make_transient(hero)
    with record_sql(engine) as sent, Session(engine) as session:
        session.merge(hero)
        session.commit()
    assert sent.starting("INSERT INTO merge_hero")
    assert name_of(engine) == "a"


def test_merging_along_relationships(engine: Engine) -> None:
    """A graph merges as it does without a cache; each changed row is forgotten."""
    with Session(engine) as session:
        team = session.get_one(Team, 1)
        assert [hero.name for hero in team.heroes] == ["a", "b"]
    team.heroes[0].name = "x"
    team.name = "second"
    with Session(engine) as session:
        merged = session.merge(team)
        assert [hero.name for hero in merged.heroes] == ["x", "b"]
        session.commit()
    assert name_of(engine) == "x"
    with Session(engine) as session:
        assert session.get_one(Hero, 2).team.name == "second"


def test_a_merge_that_is_rolled_back_publishes_nothing(engine: Engine) -> None:
    """Nor when the database refused it: the entry is kept, or filled again by the next reader."""
    hero = detached(engine)
    hero.name = None  # type: ignore[assignment]
    with Session(engine) as session:
        session.merge(hero)
        with pytest.raises(IntegrityError):
            session.commit()
    assert name_of(engine) == "a"
    with record_sql(engine) as sent:
        assert name_of(engine) == "a"
    assert sent == []


def test_with_parent_reads_the_database(engine: Engine) -> None:
    """It is a query over a foreign key: as without a cache, and it sees each commit."""
    query = "SELECT merge_hero"
    for names in (["a", "b"], ["a", "new"]):
        with Session(engine) as session:
            team = session.get_one(Team, 1)
            with record_sql(engine) as sent:
                found = session.scalars(
                    select(Hero).where(with_parent(team, Team.heroes)).order_by(Hero.id)
                ).all()
            assert [hero.name for hero in found] == names
            assert len(sent.starting(query)) == 1
            session.get_one(Hero, 2).name = "new"
            session.commit()

"""Horizontal sharding: `ShardedSession` and identity tokens (B24)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, inspect, update
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache
from tests.recording import record_sql


class Base(DeclarativeBase):
    """Tables of this file."""


class Hero(Base):
    """A row that lives in the shard of its key's parity, or where a call says."""

    __tablename__ = "shards_hero"
    __cache_config__ = CacheConfig(ttl=60, negative_ttl=60)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


NAMES = ("even", "odd")


class Shards:
    """Two databases, and sessions over both."""

    def __init__(self, engines: dict[str, Engine]) -> None:
        self.engines = engines

    def session(self, chosen: Any = None) -> ShardedSession:
        """Return a session; `chosen(pk)` names the shards in which a key may be."""
        names = chosen or (lambda pk: [NAMES[pk % 2]])
        return ShardedSession(
            shard_chooser=lambda mapper, instance, clause=None: NAMES[instance.id % 2],
            identity_chooser=lambda mapper, pk, **_: names(pk[0]),
            execute_chooser=lambda state: NAMES,
            shards=self.engines,
        )

    @contextmanager
    def no_sql(self) -> Iterator[None]:
        """Fail if any shard is asked anything inside."""
        with record_sql(self.engines["even"]) as one, record_sql(self.engines["odd"]) as other:
            yield
        assert [*one, *other] == []


@pytest.fixture(params=["memory", "redis"])
def shards(tmp_path: Path, request: pytest.FixtureRequest, key_prefix: str) -> Iterator[Shards]:
    """Return two shards, with rows 1 and 2 where they belong, and row 7 in each of them."""
    engines = {name: create_engine(f"sqlite:///{tmp_path / name}") for name in NAMES}
    for name, engine in engines.items():
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Hero(id=1 if name == "odd" else 2, name=name))
            session.add(Hero(id=7, name=f"seven of {name}"))
            session.commit()
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    SQLModelCache.configure(url, key_prefix=key_prefix)
    yield Shards(engines)
    SQLModelCache.reset()
    for engine in engines.values():
        engine.dispose()


def test_b24_a_get_of_a_sharded_session_is_a_hit(shards: Shards) -> None:
    """The chooser names the shard; the instance is as a load leaves it."""
    states = []
    for asked in range(2):
        with shards.session() as session:
            if asked:
                with shards.no_sql():
                    found = [session.get_one(Hero, pk) for pk in (1, 2)]
            else:
                found = [session.get_one(Hero, pk) for pk in (1, 2)]
            assert [hero.name for hero in found] == ["odd", "even"]
            assert session.get(Hero, 1) is found[0]
            states.append([(inspect(hero).key, inspect(hero).identity_token) for hero in found])
            found[0].name = "changed"  # the session knows where it belongs
            session.flush()
            session.rollback()
    assert states[0] == states[1]


def test_b24_rows_of_two_shards_never_meet(shards: Shards) -> None:
    """One key, two rows, told apart by the call's identity_token, also in one session."""
    for asked in range(2):
        with shards.session() as session:
            for name in NAMES:
                if asked:
                    with shards.no_sql():
                        found = session.get_one(Hero, 7, identity_token=name)
                else:
                    found = session.get_one(Hero, 7, identity_token=name)
                assert found.name == f"seven of {name}"
                assert session.get_one(Hero, 7, identity_token=name) is found
    with Session(shards.engines["odd"]) as session, shards.no_sql():
        assert session.get_one(Hero, 7).name == "seven of odd"  # the same database, the same row


def test_b24_a_write_in_a_shard_is_seen_by_everybody(shards: Shards) -> None:
    """By flush, by a bulk statement, by a plain session on the shard's engine."""
    for change in ("flush", "bulk", "plain"):
        with shards.session() as session:
            session.get_one(Hero, 1)
            session.get_one(Hero, 7, identity_token="even")
        if change == "flush":
            with shards.session() as session:
                session.get_one(Hero, 1).name = change
                session.commit()
        elif change == "bulk":
            with shards.session() as session:
                session.execute(update(Hero).where(Hero.id == 1).values(name=change))
                session.commit()
        else:
            with Session(shards.engines["odd"]) as session:
                session.get_one(Hero, 1).name = change
                session.commit()
        with shards.session() as session:
            assert session.get_one(Hero, 1).name == change
            assert session.get_one(Hero, 7, identity_token="even").name == "seven of even"


def test_b24_a_key_that_may_be_in_several_shards_is_a_bypass(shards: Shards) -> None:
    """Only the database knows which; and that no row is there is never remembered."""
    with shards.session(lambda pk: NAMES) as session:
        assert session.get_one(Hero, 1).name == "odd"
    assert SQLModelCache.stats().bypasses == {"session_class": 1}
    with shards.session() as session:
        assert session.get(Hero, 99) is None
    with shards.session() as session:
        session.add(Hero(id=99, name="new"))
        session.commit()
    with shards.session() as session:
        assert session.get_one(Hero, 99).name == "new"
    assert SQLModelCache.stats().fills == 1


def test_b24_a_token_without_shards_is_a_bypass(shards: Shards) -> None:
    """A plain session takes a token for a name only; what it means is not ours to know."""
    with Session(shards.engines["odd"]) as session:
        assert inspect(session.get_one(Hero, 1, identity_token="mine")).identity_token == "mine"
    assert SQLModelCache.stats().bypasses == {"identity_token": 1}

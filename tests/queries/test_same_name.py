"""Two databases have a table of the same name, of another model: each commit forgets its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis
from sqlalchemy import MetaData, create_engine, inspect, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import SQLModelCache, cached
from sqlmodel_cache.keys import local_channel
from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.model.tables import forget_table_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def model() -> Iterator[Callable[..., Any]]:
    """Map a class of that name; it is gone after the test, as beside it caches need a secret."""
    known: list[Any] = []

    def make(**settings: Any) -> Any:
        class Base(DeclarativeBase):
            metadata = MetaData()

        known.append(Base.registry)

        @cached(**settings)
        class Hero(Base):
            __tablename__ = "same_hero"
            id: Mapped[int] = mapped_column(primary_key=True)
            team_id: Mapped[int] = mapped_column(index=True)

        return Hero

    yield make
    SQLModelCache.reset()
    for each in known:
        each.dispose()


@pytest.mark.parametrize("mapped", ["before", "after"])
@pytest.mark.parametrize(
    "other", [{}, {"hash_keys": True}, {"queries": True, "query_columns": ()}], ids=str
)
@pytest.mark.parametrize("own", [{}, {"queries": True}], ids=str)
def test_another_models_settings(
    model: Callable[..., Any],
    own: dict[str, Any],
    other: dict[str, Any],
    mapped: str,
    tmp_path: Path,
) -> None:
    """Whatever the other model of that name wants: rows and results of ours are forgotten."""
    models = [model(**each) for each in ((own, other) if mapped == "before" else (other, own))]
    hero = models[0 if mapped == "before" else 1]
    engine = create_engine(f"sqlite:///{tmp_path / 'own.sqlite3'}")
    hero.metadata.create_all(engine)
    SQLModelCache.configure("memory://", key_secret=b"0123456789abcdef0123456789abcdef")
    with Session(engine) as session:
        session.add_all([hero(id=1, team_id=1), hero(id=2, team_id=2)])
        session.commit()

    def seen() -> list[Any]:
        with Session(engine) as session:
            asked = [select(hero.id).where(hero.team_id == team) for team in (1, 2)]
            return [session.get(hero, 1).team_id, *(session.scalars(each).all() for each in asked)]

    for _ in range(3):
        assert seen() == [1, [1], [2]]
    with Session(engine) as session:
        session.get_one(hero, 1).team_id = 2
        session.commit()
    assert seen() == [2, [], [1, 2]]
    engine.dispose()


@pytest.mark.parametrize("first", ["ours", "the other"])
@pytest.mark.parametrize("how", ["row", "model"])
def test_copies_of_ours_alone(
    model: Callable[..., Any],
    how: str,
    first: str,
    tmp_path: Path,
    redis_url: str,
    key_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Processes that may have copies hear of a commit, whichever model is known first."""
    models = [model(local_ttl=100), model()]
    hero = models[0]
    if first == "the other":
        models.reverse()
    monkeypatch.setattr(
        _sqlalchemy, "all_mappers", lambda: iter([inspect(each) for each in models])
    )
    forget_table_map()
    engine = create_engine(f"sqlite:///{tmp_path / 'own.sqlite3'}")
    hero.metadata.create_all(engine)
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    with Session(engine) as session:
        session.add_all([hero(id=1, team_id=1), hero(id=2, team_id=2)])
        session.commit()
    with redis.Redis.from_url(redis_url) as client, client.pubsub() as heard:
        heard.subscribe(local_channel(key_prefix))
        assert heard.get_message(timeout=20)
        with Session(engine) as session:
            if how == "row":
                session.get_one(hero, 1).team_id = 3  # its fence goes ahead
            else:
                session.execute(update(hero).where(hero.team_id < 3).values(team_id=3))
            session.commit()
        said = heard.get_message(timeout=5)
    assert said is not None
    assert b"same_hero" in said["data"]
    engine.dispose()

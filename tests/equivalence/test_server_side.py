"""B20: what the database makes of a row is what is cached, never what was flushed.

Server defaults, computed columns, triggers, and types that round: after each write, the next get
of anybody is what a load says, and so is the hit after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    Computed,
    Engine,
    FetchedValue,
    Numeric,
    String,
    create_engine,
    func,
    inspect,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache
from tests.equivalence.arena import Arena, Target

MAKE_TRIGGERS = {
    "sqlite": [
        """CREATE TRIGGER stamp_i AFTER INSERT ON {table} BEGIN
           UPDATE {table} SET stamp = 'inserted ' || NEW.name WHERE id = NEW.id; END""",
        """CREATE TRIGGER stamp_u AFTER UPDATE OF name ON {table} BEGIN
           UPDATE {table} SET stamp = 'updated ' || NEW.name WHERE id = NEW.id; END""",
    ],
    "postgresql": [
        """CREATE FUNCTION stamp_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           NEW.stamp := CASE TG_OP WHEN 'INSERT' THEN 'inserted ' ELSE 'updated ' END || NEW.name;
           RETURN NEW; END $$""",
        """CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON {table}
           FOR EACH ROW EXECUTE FUNCTION stamp_{table}()""",
    ],
    "mysql": [
        """CREATE TRIGGER stamp_i BEFORE INSERT ON {table} FOR EACH ROW
           SET NEW.stamp = CONCAT('inserted ', NEW.name)""",
        """CREATE TRIGGER stamp_u BEFORE UPDATE ON {table} FOR EACH ROW
           SET NEW.stamp = CONCAT('updated ', NEW.name)""",
    ],
}


def declare(eager_defaults: Any) -> Any:
    """Return a fresh cached class whose columns the server fills in, or changes."""

    class Base(DeclarativeBase):
        pass

    class Item(Base):
        __tablename__ = "item"
        __cache_config__ = CacheConfig(ttl=300)
        __mapper_args__ = {"eager_defaults": eager_defaults}

        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))
        price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
        state: Mapped[str] = mapped_column(String(20), server_default="new")
        double: Mapped[Decimal | None] = mapped_column(
            Numeric(10, 2), Computed("price * 2", persisted=True)
        )
        stamp: Mapped[str | None] = mapped_column(
            String(80), server_default=FetchedValue(), server_onupdate=FetchedValue()
        )
        shout: Mapped[str | None] = mapped_column(
            String(50), default=func.upper("made"), onupdate=func.upper("changed")
        )

    return Item


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Return an engine of each server."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url", "mysql": "mariadb_url"}
    made = create_engine(request.getfixturevalue(fixture[request.param]))
    yield made
    made.dispose()


@pytest.fixture(params=["auto", True, False], ids="eager_defaults={}".format)
def arena(request: pytest.FixtureRequest, engine: Engine) -> Iterator[tuple[Arena, Any]]:
    """Return the arena and the class, its table with triggers, no rows."""
    item = declare(request.param)
    item.metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in MAKE_TRIGGERS[engine.dialect.name]:
            connection.execute(text(statement.format(table="item")))
    SQLModelCache.configure("memory://")
    yield Arena(engine), item
    item.metadata.drop_all(engine)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("DROP FUNCTION stamp_item()"))
    item.registry.dispose()


def add(session: Session, item: Any) -> Any:
    """Add a row that leaves much to the server, and rounds a price."""
    made = item(id=1, name="anvil", price=Decimal("1.999"))
    session.add(made)
    return made


def check(arena: Arena, item: Any) -> None:
    """Compare the next get, which fills, and the one after it, which hits, with a load."""
    target = Target(item, 1)
    arena.fill(target)
    arena.check(target)


def test_after_an_insert(arena: tuple[Arena, Any]) -> None:
    """Nothing of what was flushed is found in the cache."""
    field, item = arena
    with field.session() as session:
        add(session, item)
        session.commit()
    check(field, item)
    with field.session() as session:
        row = field.hit(session, Target(item, 1))
        assert row.stamp == "inserted anvil"
        assert (row.state, row.shout) == ("new", "MADE")
        assert row.double == row.price * 2


def test_after_a_get_by_the_writer_itself(arena: tuple[Arena, Any]) -> None:
    """Reads between flush and commit fill nothing; those after the commit fill what they read."""
    field, item = arena
    with field.session(expire_on_commit=False) as session:
        add(session, item)
        session.flush()
        fills = SQLModelCache.stats().fills
        session.expunge_all()
        session.get(item, 1)
        assert SQLModelCache.stats().fills == fills
        session.commit()
        session.expunge_all()
        session.get(item, 1)
    check(field, item)


@pytest.mark.parametrize("way", ["attribute", "statement", "expression"])
def test_after_an_update(way: str, arena: tuple[Arena, Any]) -> None:
    """An entry from before is gone, and what the update's values were is not in its place."""
    field, item = arena
    with field.session() as session:
        add(session, item)
        session.commit()
    check(field, item)
    with field.session(expire_on_commit=False) as session:
        row = session.get(item, 1)
        if way == "attribute":
            row.name, row.price = "hammer", Decimal("2.999")
        elif way == "expression":
            row.name, row.price = "hammer", item.price + Decimal("1.5")
        else:
            session.execute(update(item).where(item.id == 1).values(name="hammer", price=7))
        session.commit()
    check(field, item)
    with field.session() as session:
        row = field.hit(session, Target(item, 1))
        assert row.stamp == "updated hammer"
        assert row.shout == "CHANGED"
        assert row.double == row.price * 2


def test_after_a_rollback(arena: tuple[Arena, Any]) -> None:
    """What was flushed and rolled back was never there."""
    field, item = arena
    with field.session() as session:
        add(session, item)
        session.commit()
    check(field, item)
    with field.session() as session:
        session.get(item, 1).name = "hammer"
        session.flush()
        session.rollback()
    with field.session() as session:
        assert field.hit(session, Target(item, 1)).stamp == "inserted anvil"


def test_a_flushed_object_of_its_own_session(arena: tuple[Arena, Any]) -> None:
    """The session that flushed loads the server's values as it would without a cache."""
    field, item = arena
    seen: list[Any] = []
    steps: list[Callable[[Session, Any], Any]] = [
        lambda session, row: sorted(inspect(row).unloaded),
        lambda session, row: (row.state, row.stamp, row.double, row.price, row.shout),
    ]
    for cache in (True, False):
        with field.session() as session:
            row = add(session, item)
            session.flush()
            field.sent.clear()
            seen.append([[step(session, row) for step in steps], list(field.sent)])
            if cache:
                session.rollback()
                SQLModelCache.reset()
    assert seen[0] == seen[1]

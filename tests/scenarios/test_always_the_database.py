"""Calls that ask for the database get it (B6, B7, B8)."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Hero


def _stale(world: World) -> int:
    """Return a row whose cached value is older than the database's, which nobody noticed."""
    pk: int = world.store(Hero(name="cached"))
    world.warm(Hero, pk)
    world.behind_the_back(f"UPDATE scenario_hero SET name = 'stored' WHERE id = {pk}")
    assert world.hit(Hero, pk).name == "cached"
    return pk


def test_b06_refresh_reads_the_database(world: World) -> None:
    """A refresh sends a SELECT and shows what the database has."""
    pk = _stale(world)
    with world.session() as session:
        hero = session.get(Hero, pk)
        with world.one_select():
            session.refresh(hero)
        assert hero.name == "stored"


@on_sqlite
def test_b06_attributes_expired_by_a_commit_come_from_the_database(world: World) -> None:
    """After commit() an instance that came from the cache is loaded by SELECT."""
    pk = _stale(world)
    with world.session() as session:
        hero = session.get(Hero, pk)
        session.commit()
        with world.one_select():
            assert world.attribute(session, hero, "name") == "stored"


@on_sqlite
def test_b06_a_get_of_an_expired_instance_comes_from_the_database(world: World) -> None:
    """SQLAlchemy refreshes an expired instance on get; the cache is not asked."""
    pk = _stale(world)
    with world.session() as session:
        hero = session.get(Hero, pk)
        session.expire(hero)
        with world.one_select():
            assert session.get(Hero, pk) is hero
        assert hero.name == "stored"


@on_sqlite
def test_b06_an_expired_instance_whose_row_is_gone(world: World) -> None:
    """A get of it returns None although the cache still knows the row."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as session:
        hero = session.get(Hero, pk)
        session.expire(hero)
        world.behind_the_back(f"DELETE FROM scenario_hero WHERE id = {pk}")
        with world.sql() as sent:
            assert session.get(Hero, pk) is None
        assert sent.starting("SELECT")


@pytest.mark.parametrize("spelling", ["argument", "option"])
@on_sqlite
def test_b07_populate_existing_reads_the_database(world: World, spelling: str) -> None:
    """The cache is not asked, whether the instance is present or not."""
    pk = _stale(world)
    how = (
        {"populate_existing": True}
        if spelling == "argument"
        else {"execution_options": {"populate_existing": True}}
    )
    with world.session() as session:
        with world.one_select():
            assert session.get(Hero, pk, **how).name == "stored"
        session.get(Hero, pk).name = "local"
        with world.session() as other, world.one_select():
            assert other.get(Hero, pk, **how).name == "stored"


@on_sqlite
def test_b07_populate_existing_overwrites_what_is_present(world: World) -> None:
    """Local changes are replaced by the database's values, as without a cache."""
    pk = _stale(world)
    with world.session(autoflush=False) as session:
        hero = session.get(Hero, pk)
        hero.name = "local"
        assert session.get(Hero, pk, populate_existing=True) is hero
        assert hero.name == "stored"
        assert not session.is_modified(hero)


def test_b08_with_for_update_takes_the_lock(world: World) -> None:
    """The SELECT is sent though the row is cached; another connection cannot lock it too."""
    pk = _stale(world)
    with world.session() as session:
        with world.sql() as sent:
            assert session.get(Hero, pk, with_for_update=True).name == "stored"
        assert len(sent) == 1
        if world.database == "sqlite":
            return  # knows no row locks and ignores the clause
        assert "FOR UPDATE" in sent[0]
        with world.outside.connect() as other, pytest.raises(DBAPIError):
            other.execute(select(Hero.id).where(Hero.id == pk).with_for_update(nowait=True))
        session.rollback()


def test_b08_for_update_options_and_refresh(world: World) -> None:
    """A dictionary of options counts; `False` asks for nothing and stays a hit."""
    pk = _stale(world)
    with world.session() as session, world.one_select():
        assert session.get(Hero, pk, with_for_update={"read": True}).name == "stored"
    assert world.hit(Hero, pk, with_for_update=False).name == "cached"
    with world.session() as session:
        hero = session.get(Hero, pk)
        with world.one_select():
            session.refresh(hero, with_for_update=True)
        assert hero.name == "stored"

"""A hit takes its place in the session as a load would (B21, B22)."""

from __future__ import annotations

import pytest
from sqlalchemy import insert
from sqlalchemy.orm.exc import ObjectDeletedError

from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Hero, Town

# B21: inserts


def test_b21_an_absent_row_is_remembered(world: World) -> None:
    """With `negative_ttl` the second get of nothing is a hit."""
    pk = int(world.fresh[:7], 16)
    assert world.miss(Town, pk) is None
    assert world.hit(Town, pk) is None


@on_sqlite
def test_b21_without_negative_ttl_nothing_is_remembered(world: World) -> None:
    """Each get of nothing asks the database."""
    pk = int(world.fresh[:7], 16)
    assert world.miss(Hero, pk) is None
    assert world.miss(Hero, pk) is None
    assert world.backing.values() == {}


@pytest.mark.parametrize("way", ["orm", "bulk", "core"])
def test_b21_an_insert_clears_the_negative_entry(world: World, way: str) -> None:
    """However the row came, the next get finds it, and in every session."""
    pk = int(world.fresh[:7], 16)
    world.get(Town, pk)
    assert world.hit(Town, pk) is None
    if way == "core":
        with world.begin() as connection:
            connection.execute(insert(Town).values(id=pk, name="Rome"))
    else:
        with world.session() as session:
            if way == "orm":
                session.add(Town(id=pk, name="Rome"))
            else:
                session.execute(insert(Town), [{"id": pk, "name": "Rome"}])
            session.commit()
    assert world.miss(Town, pk).name == "Rome"
    assert world.hit(Town, pk).name == "Rome"


def test_b21_an_insert_whose_key_the_database_makes(world: World) -> None:
    """The key that comes next is known to be absent; the row that takes it is found."""
    last = world.store(Town(name="last"))
    for pk in (last + 1, last + 2):
        world.get(Town, pk)
    assert world.hit(Town, last + 1) is None
    with world.session() as session:
        town = Town(name="Rome")
        session.add(town)
        session.commit()
        pk = world.attribute(session, town, "id")
    assert pk in (last + 1, last + 2)
    assert world.get(Town, pk).name == "Rome"
    assert world.hit(Town, pk).name == "Rome"


@on_sqlite
def test_b21_an_uncommitted_insert_is_absent_for_others(world: World) -> None:
    """The writer finds its row before the commit; a rollback leaves it absent."""
    pk = int(world.fresh[:7], 16)
    world.get(Town, pk)
    with world.session() as session:
        session.add(Town(id=pk, name="Rome"))
        session.flush()
        session.expunge_all()
        with world.one_select():
            assert session.get(Town, pk).name == "Rome"
        assert world.hit(Town, pk) is None
        session.rollback()
    assert world.hit(Town, pk) is None


def test_b21_a_deleted_row_becomes_absent_and_comes_back(world: World) -> None:
    """Delete, remember its absence, insert again: each get tells the truth."""
    pk = world.store(Town(name="old"))
    world.warm(Town, pk)
    with world.session() as session:
        session.delete(session.get(Town, pk))
        session.commit()
    assert world.miss(Town, pk) is None
    assert world.hit(Town, pk) is None
    with world.session() as session:
        session.add(Town(id=pk, name="new"))
        session.commit()
    assert world.miss(Town, pk).name == "new"


# B22: other objects of that identity in the session


def test_b22_a_hit_is_persistent_clean_and_the_same_object_again(world: World) -> None:
    """A second get and a query return that very instance; a flush writes nothing."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as session:
        with world.no_sql():
            hero = session.get(Hero, pk)
            assert session.get(Hero, pk) is hero
            assert session.get_one(Hero, pk) is hero
            assert hero in session
            assert not session.is_modified(hero)
            session.flush()
        assert session.in_transaction()


@on_sqlite
def test_b22_a_modified_instance_is_not_shadowed(world: World) -> None:
    """A get of an object with unflushed changes gives the object, changes and all."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session(autoflush=False) as session:
        hero = session.get(Hero, pk)
        hero.name = "Bea"
        with world.no_sql():
            assert session.get(Hero, pk) is hero
        assert hero.name == "Bea"


@on_sqlite
def test_b22_a_pending_object_of_that_identity(world: World) -> None:
    """Autoflush inserts it first; the get reads it, what the INSERT left out included."""
    pk = int(world.fresh[:7], 16)
    world.get(Town, pk)
    assert world.hit(Town, pk) is None
    with world.session() as session:
        town = Town(id=pk, name="Rome")
        session.add(town)
        with world.sql() as sent:
            assert session.get(Town, pk) is town
        assert [text.split()[0] for text in sent] == ["INSERT", "SELECT"]
        session.rollback()


@on_sqlite
def test_b22_a_pending_object_without_autoflush(world: World) -> None:
    """Without autoflush the get sees only what is in the database: nothing."""
    pk = int(world.fresh[:7], 16)
    with world.session(autoflush=False) as session:
        session.add(Town(id=pk, name="Rome"))
        assert session.get(Town, pk) is None
    with world.session() as session:
        session.add(Town(id=pk, name="Rome"))
        with session.no_autoflush, world.no_sql():
            assert session.get(Town, pk) is None


@on_sqlite
def test_b22_unrelated_changes_are_flushed_by_a_get(world: World) -> None:
    """A get that would be a hit autoflushes first, as a load does."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as session:
        session.add(Town(name="Rome"))
        with world.sql() as sent:
            assert session.get(Hero, pk).name == "Ann"
        assert sent.starting("INSERT")
        session.rollback()


def test_b22_a_deleted_object_is_not_resurrected(world: World) -> None:
    """After delete and flush the get returns None though the cache knows the row."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as session:
        hero = session.get(Hero, pk)
        session.delete(hero)
        session.flush()
        with world.one_select():
            assert session.get(Hero, pk) is None
        assert world.hit(Hero, pk).name == "Ann"
        session.rollback()
        assert session.get(Hero, pk) is hero
    assert world.hit(Hero, pk).name == "Ann"


@on_sqlite
def test_b22_a_deleted_object_before_its_flush(world: World) -> None:
    """Marked for deletion and not flushed, it is still in the identity map: as without a cache."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.session() as session:
        hero = session.get(Hero, pk)
        session.delete(hero)
        with world.no_sql():
            assert session.get(Hero, pk) is hero
        session.commit()
        assert session.get(Hero, pk) is None
    assert world.get(Hero, pk) is None


def test_b22_a_hit_expires_at_commit_and_rollback(world: World) -> None:
    """An instance from the cache lives by the session's rules."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    for ending in ("commit", "rollback"):
        with world.session() as session:
            with world.no_sql():
                hero = session.get(Hero, pk)
            getattr(session, ending)()
            with world.one_select():
                assert world.attribute(session, hero, "name") == "Ann"
    with world.session() as session:
        hero = session.get(Hero, pk)
        session.commit()
        world.behind_the_back(f"DELETE FROM scenario_hero WHERE id = {pk}")
        with pytest.raises(ObjectDeletedError):
            world.attribute(session, hero, "name")


@on_sqlite
def test_b22_a_detached_hit_merges_as_a_load(world: World) -> None:
    """What was changed outside of a session is merged over the cached row, and written."""
    pk = world.store(Hero(name="Ann", power=1))
    hero = world.warm(Hero, pk)
    hero.power = 2
    with world.session() as session:
        with world.no_sql():
            merged = session.merge(hero)
        assert merged is not hero
        session.commit()
    assert world.row(Hero, pk)["power"] == 2
    assert world.miss(Hero, pk).power == 2

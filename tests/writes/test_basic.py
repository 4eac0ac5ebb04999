"""A transport with only get, set and delete: rows are named before a bulk statement, or lost."""

from __future__ import annotations

import pytest
from sqlalchemy import bindparam, delete, text, update
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache, UnsupportedError


class Dict:
    """The smallest transport that there can be."""

    def __init__(self):
        self.data = {}
        self.asked = []

    def get(self, key):
        self.asked.append("get")
        return self.data.get(key)

    def set(self, key, value, ttl):
        self.asked.append("set")
        self.data[key] = value

    def delete(self, *keys):
        self.asked.append("delete")
        for key in keys:
            self.data.pop(key, None)


@pytest.fixture
def store(world):
    """Return a dict transport with teams 1 to 3 in it."""
    store = Dict()
    SQLModelCache.configure(store, namespace="world")
    with Session(world.engine) as session:
        session.add_all([world.Team(id=number, name="old") for number in (1, 2, 3)])
        session.commit()
    with Session(world.engine) as session:
        for number in (1, 2, 3):
            session.get(world.Team, number)
    store.asked.clear()
    return store


def names(world):
    """Return what three sessions read."""
    with Session(world.engine) as session:
        return [session.get(world.Team, number).name for number in (1, 2, 3)]


def test_a_hit_is_one_get(world, store):
    """No lock, no epoch: one call."""
    with Session(world.engine) as session:
        session.get(world.Team, 1)
    assert store.asked == ["get"]


def test_a_miss_is_one_set(world, store):
    """A miss asks once and stores once."""
    store.data.clear()
    with Session(world.engine) as session:
        session.get(world.Team, 1)
    assert store.asked == ["get", "set"]


def test_a_commit_deletes_once_afterwards(world, store):
    """A written row is deleted after the commit."""
    with Session(world.engine) as session:
        session.get(world.Team, 1).name = "new"
        session.flush()
        store.asked.clear()
        session.commit()
    assert store.asked == ["delete"]
    assert names(world) == ["new", "old", "old"]


def test_a_commit_in_doubt_deletes_too(world, store, on_commit):
    """It may have taken place, and such a store has no fences."""

    def lose_reply(commit):
        commit()
        raise TimeoutError

    with Session(world.engine) as session:
        session.get(world.Team, 1).name = "new"
        session.flush()
        on_commit(lose_reply)
        with pytest.raises(TimeoutError):
            session.commit()
        on_commit(None)
    assert names(world) == ["new", "old", "old"]


def test_bulk_update_selects_what_it_will_change(world, store):
    """The affected keys are asked for before the statement; others stay cached."""
    table = world.Team.__table__
    with world.engine.begin() as connection:
        connection.execute(update(table).where(table.c.id > 1).values(name="new"))
    assert len(store.data) == 1
    assert names(world) == ["old", "new", "new"]
    assert SQLModelCache.stats().lost == 0


def test_bulk_update_with_a_cached_form(world, store):
    """The second execution of one compiled form uses its own values, IN lists too."""
    table = world.Team.__table__
    for numbers in ([1], [2, 3]):
        with world.engine.begin() as connection:
            connection.execute(update(table).where(table.c.id.in_(numbers)).values(name="new"))
    assert store.data == {}
    assert names(world) == ["new", "new", "new"]


def test_bulk_executemany(world, store):
    """Each parameter set is asked for."""
    table = world.Team.__table__
    with world.engine.begin() as connection:
        connection.execute(
            update(table).where(table.c.name == bindparam("was")).values(name="new"),
            [{"was": "nobody"}, {"was": "old"}],
        )
    assert names(world) == ["new", "new", "new"]


def test_bulk_delete(world, store):
    """A DELETE asks as well."""
    with Session(world.engine) as session:
        session.execute(delete(world.Team).where(world.Team.name == "old"))
        session.commit()
    assert store.data == {}


def test_raw_text_is_lost_and_said(world, store, caplog):
    """What cannot be named cannot be forgotten: counted and logged, and commit() succeeds."""
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE team SET name = 'new'"))
    assert SQLModelCache.stats().lost > 0
    assert any(record.levelname == "ERROR" for record in caplog.records)


def test_explicit_calls_say_what_they_cannot_do(world, store):
    """Forgetting a model needs epochs; forgetting a row does not."""
    SQLModelCache.invalidate(world.Team, 1)
    assert len(store.data) == 2
    with pytest.raises(UnsupportedError):
        SQLModelCache.invalidate(world.Team)
    with pytest.raises(UnsupportedError):
        SQLModelCache.clear()


def test_enabled_again(world, store, caplog):
    """What went by while it was off cannot be forgotten: that is said once, and reads go on."""
    SQLModelCache.configure(store, namespace="world", enabled=False)
    with Session(world.engine) as session:
        session.get(world.Team, 1).name = "unseen"
        session.commit()
    caplog.clear()
    SQLModelCache.configure(store, namespace="world")
    assert names(world) == names(world) == ["old", "old", "old"]
    assert SQLModelCache.stats().lost == 1
    (said,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert "Team" in said

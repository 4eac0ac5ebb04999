"""Statements that name their rows leave the others cached; what another connection reads (B13)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, insert, or_, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from tests.scenarios.harness import World
from tests.scenarios.models import Hero, Town


def _three(world: World) -> list[int]:
    """Return the keys of three cached heroes."""
    keys: list[int] = world.store(*(Hero(name=f"n{number}") for number in range(3)))
    for pk in keys:
        world.warm(Hero, pk)
    return keys


def _upsert(world: World, rows: list[dict[str, Any]]) -> Any:
    if world.database == "mariadb":
        return mysql.insert(Hero).values(rows).on_duplicate_key_update(power=7)
    make: Any = sqlite.insert if world.database == "sqlite" else postgresql.insert
    return make(Hero).values(rows).on_conflict_do_update(index_elements=["id"], set_={"power": 7})


# (statement, the places of the rows that it writes)
STATEMENTS: dict[str, tuple[Any, set[int]]] = {
    "equal": (lambda w, k: update(Hero).where(Hero.id == k[0]).values(power=7), {0}),
    "in": (lambda w, k: update(Hero).where(Hero.id.in_([k[0], k[2]])).values(power=7), {0, 2}),
    "or": (
        lambda w, k: update(Hero).where(or_(Hero.id == k[0], Hero.id == k[2])).values(power=7),
        {0, 2},
    ),
    "upsert": (lambda w, k: _upsert(w, [{"id": k[0], "name": "new"}]), {0}),
    "upserts": (
        lambda w, k: _upsert(w, [{"id": pk, "name": "new"} for pk in (k[0], k[2])]),
        {0, 2},
    ),
}


@pytest.mark.parametrize("via", ["session", "engine"])
@pytest.mark.parametrize("which", STATEMENTS)
def test_b13_other_rows_stay_cached(world: World, which: str, via: str) -> None:
    """Written rows are read anew, by others after the commit; the rest are hits."""
    make, written = STATEMENTS[which]
    keys = _three(world)
    with world.session() if via == "session" else world.begin() as target:
        target.execute(make(world, keys))
        assert [world.hit(Hero, pk).power for pk in keys] == [0, 0, 0]
        if via == "session":
            target.commit()
    for place, pk in enumerate(keys):
        if place in written:
            assert world.row(Hero, pk)["power"] == 7
            assert world.miss(Hero, pk).power == 7
        assert world.hit(Hero, pk).power == (7 if place in written else 0)


@pytest.mark.parametrize("synchronize", ["auto", "evaluate", "fetch", False])
@pytest.mark.parametrize("verb", ["update", "delete"])
@pytest.mark.parametrize("pinned", [True, False], ids=["in", "other-column"])
def test_b13_synchronize_session(
    world: World, verb: str, synchronize: str | bool, pinned: bool
) -> None:
    """In every mode, with the row loaded in the session or not."""
    keys = _three(world)
    criteria = Hero.id.in_(keys[:2]) if pinned else Hero.name.in_(["n0", "n1"])  # type: ignore[union-attr,attr-defined]
    statement: Any = update(Hero).where(criteria).values(power=7)
    if verb == "delete":
        statement = delete(Hero).where(criteria)
    with world.session() as session:
        session.get(Hero, keys[0])
        session.execute(statement, execution_options={"synchronize_session": synchronize})
        session.commit()
    for pk in keys[:2]:
        row, found = world.row(Hero, pk), world.miss(Hero, pk)
        if verb == "update":
            assert row["power"] == found.power == 7
        else:
            assert row is found is None
    if pinned:
        assert world.hit(Hero, keys[2]).power == 0
    assert world.get(Hero, keys[2]).power == world.row(Hero, keys[2])["power"] == 0


BULK = {
    "bulk_update_mappings": lambda s, heroes: s.bulk_update_mappings(
        Hero, [{"id": one.id, "power": 7} for one in heroes]
    ),
    "bulk_save_objects": lambda s, heroes: s.bulk_save_objects(heroes),
    "execute": lambda s, heroes: s.execute(
        update(Hero), [{"id": one.id, "power": 7} for one in heroes]
    ),
}


@pytest.mark.parametrize("which", BULK)
def test_b13_bulk_methods(world: World, which: str) -> None:
    """The legacy bulk methods, and their successor, write the rows that they are given."""
    keys = _three(world)
    heroes = [world.hit(Hero, pk) for pk in keys[:2]]
    for hero in heroes:
        hero.power = 7
    with world.session() as session:
        run = session.run_sync if world.mode == "async" else lambda work: work(session)
        run(lambda plain: BULK[which](plain, heroes))
        session.commit()
    for pk in keys[:2]:
        assert world.miss(Hero, pk).power == world.row(Hero, pk)["power"] == 7
    assert world.hit(Hero, keys[2]).power == 0


@pytest.mark.parametrize("how", ["core", "values", "orm"])
def test_b21_a_key_of_zero_on_mariadb(make_world: Callable[..., World], how: str) -> None:
    """It asks for a generated key: that one's absence is not remembered any longer."""
    world = make_world("sync", "memory", "mariadb")
    new = world.store(Town(name="before")) + 1
    assert world.get(Town, new) is None
    assert world.hit(Town, new) is None
    with world.session() as session:
        if how == "orm":
            session.add(Town(id=0, name="Rome"))
        elif how == "core":
            session.execute(insert(Town.__table__), [{"id": 0, "name": "Rome"}])
        else:
            session.execute(insert(Town).values([{"id": 0, "name": "Rome"}]))
        session.commit()
    assert world.row(Town, new)["name"] == "Rome"
    assert world.get(Town, new).name == "Rome"

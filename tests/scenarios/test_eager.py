"""Relationships that a load loads with the row: there after a hit as well (B10)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from sqlmodel_cache import SQLModelCache, get_many
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Player, Team
from tests.scenarios.relation_models import City, Country, Flight, Quarter, Silent


def test_b10_a_collection_is_there_after_a_hit(world: World) -> None:
    """One SELECT for the collection, none for the row; no MissingGreenlet."""
    pk = world.store(Team(name="reds", players=[Player(name="Ann"), Player(name="Bea")]))
    world.get(Team, pk)
    with world.session() as session:
        with world.one_select():
            team = session.get(Team, pk)
        with world.no_sql():
            assert sorted(player.name for player in team.players) == ["Ann", "Bea"]
        assert all("team" not in vars(player) for player in team.players)
    assert world.stats().models["Team"].hits == 1
    assert not world.stats().bypasses


def test_b10_targets_by_key_come_from_the_cache(world: World) -> None:
    """Cold targets are loaded one by one and filled; then nothing is asked of the database."""
    one, two = world.store(Country(name="A"), Country(name="B"))
    pk = world.store(Flight(origin_id=one, target_id=two))
    # On MariaDB the first target's SELECT makes the snapshot, from which nothing is filled.
    snapshots = world.database == "mariadb"
    for selects in (2, 2, 1, 0) if snapshots else (2, 2, 0):
        with world.session() as session:
            with world.sql() as sent:
                flight = session.get(Flight, pk)
            assert len(sent) == selects
            assert (vars(flight)["origin"].name, vars(flight)["target"].name) == ("A", "B")
    with world.session() as session:
        session.get(Country, one).name = "C"
        session.commit()
    with world.session() as session:
        assert session.get(Flight, pk).origin.name == "C"


def test_b10_all_targets_in_one_round_trip(make_world: Any, commandstats: Any) -> None:
    """One MGET for the row, one for all that comes along with it."""
    world = make_world("sync", "redis", "sqlite")
    one, two = world.store(Country(name="A"), Country(name="B"))
    pk = world.store(Flight(origin_id=one, target_id=two))
    for _ in range(2):
        world.get(Flight, pk)
    with world.session() as session, world.no_sql(), commandstats() as commands:
        session.get(Flight, pk)
    assert commands.get("mget", 0) <= 3  # keys of two shards are two commands of one pipeline
    assert set(commands) <= {"mget", "get"}


@on_sqlite
def test_b10_what_comes_along_brings_others_along(world: World) -> None:
    """A city from a quarter: its country from the cache, its quarters from the database."""
    country = world.store(Country(name="A"))
    city = world.store(City(name="c", country_id=country))
    quarter = world.store(Quarter(name="q", city_id=city))
    world.get(City, city)
    world.get(Country, country)
    with world.session() as session, world.one_select():
        found = session.get(City, city)
        assert vars(found)["country"].id == country
        assert [each.id for each in vars(found)["quarters"]] == [quarter]


@on_sqlite
def test_b10_cache_false_holds_for_all_of_it(world: World) -> None:
    """What is loaded with the row belongs to the call."""
    country = world.store(Country(name="A"))
    pk = world.store(Flight(origin_id=country, target_id=country))
    world.warm(Country, country)
    with world.session() as session, world.sql() as sent:
        session.get(Flight, pk, execution_options={"cache": False})
    assert len(sent) == 2
    silent = world.store(Silent(country_id=country))
    before = world.stats().models["Country"].hits
    with world.session() as session, world.sql() as sent:
        session.get(Silent, silent, execution_options={"cache": False})
    assert len(sent) == 2
    assert world.stats().models["Country"].hits == before


@on_sqlite
def test_b10_select_and_get_many(world: World) -> None:
    """Reads by key in any spelling bring the same along, targets of all rows together."""
    countries = world.store(Country(name="A"), Country(name="B"), Country(name="C"))
    keys = world.store(*(Flight(origin_id=each, target_id=countries[0]) for each in countries))
    for key in (*keys, *keys):
        world.get(Flight, key)
    with world.session() as session, world.no_sql():
        flight = session.scalars(select(Flight).where(Flight.id == keys[1])).one()
        assert vars(flight)["origin"].name == "B"
    if world.mode == "sync":
        with world.session() as session, world.no_sql():
            found = get_many(session, Flight, keys)
            assert [vars(each)["origin"].name for each in found if each] == ["A", "B", "C"]


@on_sqlite
def test_b10_an_instance_without_its_relationships(world: World) -> None:
    """A select() that meets one loads them on it, as without a cache."""
    pk = world.store(Team(name="reds", players=[Player(name="Ann")]))
    for _ in range(2):
        world.get(Team, pk)
    with world.session() as session:
        team = session.get(Team, pk)
        session.expire(team, ["players"])
        session.scalars(select(Team).where(Team.id == pk)).one()
        assert "players" in vars(team)


@on_sqlite
def test_b22_changes_in_the_session(world: World) -> None:
    """A pending child is flushed before and found; a deleted target is gone."""
    pk = world.store(Team(name="reds", players=[Player(name="Ann")]))
    world.get(Team, pk)
    with world.session() as session:
        session.add(Player(name="Bea", team_id=pk))
        team = session.get(Team, pk)
        assert sorted(player.name for player in team.players) == ["Ann", "Bea"]
        session.rollback()


def test_b10_a_joined_load_fills_its_own_row_only(make_world: Any) -> None:
    """Rows that a join brought are stored by no lease of theirs."""
    world = make_world("sync", "memory", "sqlite")
    country = world.store(Country(name="A"))
    pk = world.store(Flight(origin_id=None, target_id=country))
    world.get(Flight, pk)
    assert len(world.backing.values()) == 1
    assert world.stats().models["Flight"].fills == 1


def test_reset_leaves_lazy_loaders_alone(sqlite_url: str) -> None:
    """After `reset()` SQLAlchemy's lazy loader is what it was."""
    from sqlmodel_cache.orm._strategies import LazyLoader

    before = LazyLoader.__dict__["_emit_lazyload"]
    SQLModelCache.configure("memory://")
    assert LazyLoader.__dict__["_emit_lazyload"] is not before
    SQLModelCache.reset()
    assert LazyLoader.__dict__["_emit_lazyload"] is before

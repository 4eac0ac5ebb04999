"""`get(..., options=[...])`: the row from the cache, relationships as the options say (B9)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import (
    defaultload,
    joinedload,
    lazyload,
    load_only,
    raiseload,
    selectinload,
    undefer,
)

from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Hero, Memo, Player, Team
from tests.scenarios.relation_models import City, Country, Quarter


def test_b09_the_row_is_a_hit(world: World) -> None:
    """One SELECT for the collection; a get with options fills the entry of any other."""
    pk = world.store(City(name="c", quarters=[Quarter(name="p"), Quarter(name="q")]))
    for option in (selectinload, joinedload):
        world.get(City, pk, options=[lazyload(City.country), lazyload(City.quarters)])
        with world.session() as session:
            with world.one_select():
                city = session.get(City, pk, options=[option(City.quarters)])
            with world.no_sql():
                assert [each.name for each in city.quarters] == ["p", "q"]
    assert not world.stats().bypasses
    assert world.stats().models["City"].fills == 1


@on_sqlite
def test_b09_many_to_one_from_the_cache(world: World) -> None:
    """What the option names is looked up by its key; below it options go on."""
    country = world.store(Country(name="A"))
    city = world.store(City(name="c", country_id=country))
    quarter = world.store(Quarter(name="q", city_id=city))
    for _ in range(3):
        world.get(Quarter, quarter, options=[selectinload(Quarter.city).lazyload(City.quarters)])
    team = world.store(Team(name="t"))
    player = world.store(Player(name="p", team_id=team))
    world.warm(Player, player)
    world.get(Team, team)
    with world.session() as session:
        with world.no_sql():  # the team's players lead back: a load leaves them out as well
            found = session.get(Player, player, options=[joinedload(Player.team)])
        assert vars(found)["team"].name == "t"
        assert len(inspect(found).load_options) == 1
        assert len(inspect(found.team).load_options) == 1


@on_sqlite
@pytest.mark.parametrize(
    "options",
    [
        [selectinload(City.quarters), joinedload(City.quarters)],
        [joinedload(City.country), lazyload(City.country)],
    ],
    ids=["eager", "not eager"],
)
def test_b09_options_that_contradict_each_other(world: World, options: list[Any]) -> None:
    """SQLAlchemy refuses them, also where the row is in the cache."""
    pk = world.store(City(name="c"))
    world.get(City, pk)
    with pytest.raises(InvalidRequestError, match="conflict"):
        world.get(City, pk, options=options)
    world.get(City, pk, options=options[:1] * 2)
    assert world.stats().bypasses["loader_options"] == 1


@on_sqlite
def test_b09_an_eager_default_can_be_switched_off(world: World) -> None:
    """With `lazyload` nothing comes along, and the hit needs no SQL."""
    pk = world.store(Team(name="reds", players=[Player(name="Ann")]))
    world.get(Team, pk)
    with world.session() as session:
        with world.no_sql():
            team = session.get(Team, pk, options=[lazyload(Team.players)])
        assert "players" not in vars(team)
        with world.one_select():
            assert len(world.attribute(session, team, "players")) == 1


@on_sqlite
def test_b09_options_below_reach_later_loads(world: World) -> None:
    """`defaultload(...).raiseload(...)` waits for the lazy load and then raises, hit or not."""
    team = world.store(Team(name="reds"))
    player = world.store(Player(name="p", team_id=team))
    option = defaultload(Player.team).raiseload(Team.players)
    for _ in range(3):
        with world.session() as session:
            found = session.get(Player, player, options=[option])
            reds = world.attribute(session, found, "team")
            with pytest.raises(InvalidRequestError, match="raise"):
                world.attribute(session, reds, "players")


@on_sqlite
@pytest.mark.parametrize(
    "option",
    [
        lambda: load_only(Hero.name),
        lambda: undefer(Hero.name),
        lambda: raiseload("*"),
        lambda: lazyload("*"),
    ],
    ids=["load_only", "undefer", "raise all", "lazy all"],
)
def test_b09_other_options_are_bypasses(world: World, option: object) -> None:
    """Options of columns and wildcards: the database, with the reason."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    assert callable(option)
    world.miss(Hero, pk, options=[option()])
    assert world.stats().bypasses == {"loader_options": 1}


@on_sqlite
def test_b09_criteria_in_an_option(world: World) -> None:
    """`selectinload(Team.players.and_(...))` is right, and a bypass."""
    pk = world.store(Team(name="reds", players=[Player(name="Ann"), Player(name="Bea")]))
    world.get(Team, pk)
    criteria = selectinload(Team.players.and_(Player.name == "Ann"))
    with world.session() as session:
        team = session.get(Team, pk, options=[criteria])
        assert [player.name for player in team.players] == ["Ann"]
    assert world.stats().bypasses == {"loader_options": 1}
    assert len(world.get(Team, pk).players) == 2


@on_sqlite
def test_b11_deferred_columns_and_relationship_options(world: World) -> None:
    """An undeferred column is a bypass and stores nothing that others would read."""
    pk = world.store(Memo(title="t", body="b"))
    world.warm(Memo, pk)
    assert vars(world.miss(Memo, pk, options=[undefer(Memo.body)]))["body"] == "b"
    assert "body" not in vars(world.hit(Memo, pk))

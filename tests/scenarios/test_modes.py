"""How a cache is switched on in a running fleet: modes, shares, and checks of what it says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, select, text

from sqlmodel_cache import ConfigurationError, SQLModelCache, aget_many, get_many
from sqlmodel_cache.orm.reads import decide
from tests.scenarios.harness import MODES, STORES, World
from tests.scenarios.models import Hero, Member, Player, Shadowed, Team, Town

if TYPE_CHECKING:
    from tests.recording import Commands

Make = Callable[..., World]
WAYS = list(product(MODES, STORES))
ways = pytest.mark.parametrize(("mode", "store"), WAYS, ids=[f"{m}-{s}" for m, s in WAYS])


def again(world: World, key_prefix: str, **settings: Any) -> None:
    """Configure anew over the same store, as the next release of an application would."""
    SQLModelCache.configure(world.backing.transport, key_prefix=key_prefix, **settings)


def counts(model: str = "Hero") -> dict[str, int]:
    """Return what was counted of comparisons."""
    found = SQLModelCache.stats().models[model]
    names = ("shadow_same", "shadow_different", "shadow_unsure", "verified", "inconsistent")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


@contextmanager
def committed_between(world: World, statement: str) -> Iterator[None]:
    """Commit an update of somebody else's just before the next SELECT of the world's is sent."""
    sync_engine = getattr(world.engine, "sync_engine", world.engine)
    pending = [statement]

    def before(conn: Any, cursor: Any, sql: str, *rest: Any) -> None:
        if pending and sql.startswith("SELECT"):
            with world.outside.begin() as connection:
                connection.execute(text(pending.pop()))

    event.listen(sync_engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(sync_engine, "before_cursor_execute", before)
    assert not pending


# mode="invalidate"


@ways
def test_invalidate_neither_reads_nor_stores(make_world: Make, mode: str, store: str) -> None:
    """Each read is the database's, and leaves nothing in the store."""
    world = make_world(mode, store, "sqlite", mode="invalidate")
    pk = world.store(Hero(name="Ann"))
    for _ in range(2):
        assert world.miss(Hero, pk).name == "Ann"
    assert world.backing.values() == {}
    stats = world.stats().models["Hero"]
    assert (stats.hits, stats.misses, stats.bypasses["mode_invalidate"]) == (0, 0, 3)


@ways
def test_invalidate_still_invalidates(
    make_world: Make, key_prefix: str, mode: str, store: str
) -> None:
    """What others have stored is gone when such a process commits."""
    world = make_world(mode, store, "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    again(world, key_prefix, mode="invalidate")
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        session.commit()
    again(world, key_prefix)
    assert world.miss(Hero, pk).name == "Bea"


def test_invalidate_asks_the_store_nothing(
    make_world: Make, commandstats: Callable[[], Any]
) -> None:
    """A read costs no round trip."""
    world = make_world("sync", "redis", "sqlite", mode="invalidate")
    pk = world.store(Hero(name="Ann"))
    commands: Commands
    with commandstats() as commands:
        world.miss(Hero, pk)
    assert commands == {}


# mode="shadow"


@ways
def test_shadow_answers_from_the_database(make_world: Make, mode: str, store: str) -> None:
    """The first read stores the row, each later one is compared; nobody is given the copy."""
    world = make_world(mode, store, "sqlite", mode="shadow")
    pk = world.store(Hero(name="Ann"))
    for _ in range(3):
        assert world.miss(Hero, pk).name == "Ann"
    stats = world.stats().models["Hero"]
    assert (stats.hits, stats.misses, stats.fills) == (0, 2, 1)  # one was of a row that is not
    assert stats.bypasses == {"mode_shadow": 2}
    assert counts() == {"shadow_same": 2}


@ways
def test_shadow_finds_what_was_written_behind_its_back(
    make_world: Make, caplog: pytest.LogCaptureFixture, mode: str, store: str
) -> None:
    """The names of the columns are counted and logged, once; no value and no key is."""
    world = make_world(mode, store, "sqlite", mode="shadow")
    pk = world.store(Hero(name="Ann", power=1))
    world.get(Hero, pk)
    world.behind_the_back(f"UPDATE scenario_hero SET name = 'Secret', power = 7 WHERE id = {pk}")
    with caplog.at_level(logging.ERROR, "sqlmodel_cache"):
        for _ in range(2):
            assert world.miss(Hero, pk).name == "Secret"
    assert counts() == {"shadow_different": 2}
    assert world.stats().models["Hero"].differing == {"name": 2, "power": 2}
    (line,) = caplog.messages
    assert "Hero" in line
    assert "(name, power)" in line
    assert "Secret" not in line
    assert "Ann" not in line
    assert f":{pk}" not in line


@ways
def test_shadow_of_a_row_that_is_gone_or_new(make_world: Make, mode: str, store: str) -> None:
    """Existence is compared too, in both directions."""
    world = make_world(mode, store, "sqlite")
    pk = world.store(Shadowed(name="Ann"))
    world.get(Shadowed, pk)
    world.behind_the_back(f"DELETE FROM scenario_shadowed WHERE id = {pk}")
    assert world.miss(Shadowed, pk) is None
    assert world.miss(Shadowed, pk + 1) is None
    assert world.miss(Shadowed, pk + 1) is None
    assert counts("Shadowed") == {"shadow_same": 1, "shadow_different": 1}
    world.behind_the_back(
        f"INSERT INTO scenario_shadowed (id, name, power) VALUES ({pk + 1}, 'x', 0)"
    )
    assert world.miss(Shadowed, pk + 1).name == "x"
    assert counts("Shadowed") == {"shadow_same": 1, "shadow_different": 2}
    assert world.stats().models["Shadowed"].differing == {"(existence)": 2}


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"])
@ways
def test_shadow_is_not_fooled_by_a_commit_in_between(
    make_world: Make, mode: str, store: str, database: str
) -> None:
    """A row that changed between GET and SELECT is no difference: nobody can tell."""
    world = make_world(mode, store, database, mode="shadow")
    pk = world.store(Hero(name="Ann"))
    world.get(Hero, pk)
    with committed_between(world, f"UPDATE scenario_hero SET name = 'Bea' WHERE id = {pk}"):
        assert world.miss(Hero, pk).name == "Bea"
    assert counts() == {"shadow_unsure": 1}
    world.get(Hero, pk)
    world.get(Hero, pk)
    assert counts() == {"shadow_unsure": 1, "shadow_same": 1}


@pytest.mark.parametrize("mode", MODES)
def test_shadow_is_not_fooled_by_a_value_that_came_back(make_world: Make, mode: str) -> None:
    """A to B and back to A, stored anew meanwhile: other bytes, so no difference is claimed."""
    world = make_world(mode, "redis", "postgresql", mode="shadow")
    pk = world.store(Hero(name="Ann"))
    world.get(Hero, pk)

    def back(conn: Any, cursor: Any, sql: str, *rest: Any) -> None:
        if not done:
            done.append(sql)
            with world.plain() as session:
                session.get(Hero, pk).name = "Ann"
                session.commit()
            with world.plain() as session:
                assert session.get(Hero, pk).name == "Ann"  # stores it

    done: list[str] = []
    sync_engine = getattr(world.engine, "sync_engine", world.engine)
    with committed_between(world, f"UPDATE scenario_hero SET name = 'Bea' WHERE id = {pk}"):
        event.listen(sync_engine, "after_cursor_execute", back)
        try:
            assert world.miss(Hero, pk).name == "Bea"
        finally:
            event.remove(sync_engine, "after_cursor_execute", back)
    assert len(world.backing.values()) == 1
    assert counts() == {"shadow_unsure": 1}


def test_shadow_under_eventual_is_never_sure_of_a_difference(make_world: Make) -> None:
    """There an old row may be there for the moment between COMMIT and delete."""
    world = make_world("sync", "memory", "sqlite", mode="shadow", consistency="eventual")
    pk = world.store(Hero(name="Ann"))
    world.get(Hero, pk)
    world.behind_the_back(f"UPDATE scenario_hero SET name = 'Bea' WHERE id = {pk}")
    world.get(Hero, pk)
    assert counts() == {"shadow_unsure": 1}


@ways
def test_shadow_of_every_way_to_read_by_key(make_world: Make, mode: str, store: str) -> None:
    """select, IN, get_many, a lazy load and a unique key: all are answered by the database."""
    world = make_world(mode, store, "sqlite", mode="shadow")
    one, two = world.store(Hero(name="Ann"), Hero(name="Bea"))
    team = world.store(Team(name="reds"))
    player = world.store(Player(name="Cid", team_id=team))
    world.store(Member(email=world.fresh))

    def many(session: Any) -> list[Any]:
        if mode == "sync":
            return get_many(session, Hero, [one, two])
        found: Any = world.loop.run_until_complete(aget_many(session._wrapped, Hero, [one, two]))
        return list(found)

    ways_to_read: list[Callable[[Any], Any]] = [
        lambda session: session.execute(select(Hero).where(Hero.id == one)).scalars().all(),
        lambda session: session.execute(select(Hero).where(Hero.id.in_([one, two]))).all(),
        many,
        lambda session: world.attribute(session, session.get(Player, player), "team"),
        lambda session: session.execute(select(Member).where(Member.email == world.fresh)).all(),
    ]
    for read in ways_to_read:
        for _ in range(2):
            with world.session() as session, world.sql() as sent:
                assert read(session)
            assert sent.starting("SELECT"), read
    stats = world.stats()
    assert stats.hits == 0
    assert stats.shadow_different == stats.shadow_unsure == 0
    assert counts("Hero")["shadow_same"] >= 4
    assert counts("Team") == {"shadow_same": 1}
    assert counts("Player") == {"shadow_same": 1}


def test_shadow_of_own_uncommitted_rows_claims_nothing(make_world: Make) -> None:
    """A transaction that wrote sees what others do not: it compares nothing."""
    world = make_world("sync", "redis", "postgresql", mode="shadow")
    one, two = world.store(Hero(name="Ann"), Hero(name="Bea"))
    world.get(Hero, one)
    world.get(Hero, two)
    with world.session() as session:
        session.execute(text(f"UPDATE scenario_hero SET name = 'x' WHERE id = {one}"))
        assert session.get(Hero, one).name == "x"
        session.rollback()
    with world.session() as session:
        session.get(Hero, one).name = "y"
        session.flush()
        session.get(Hero, two)
    assert "shadow_different" not in counts()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_shadow_in_a_snapshot_claims_nothing(make_world: Make, database: str) -> None:
    """REPEATABLE READ sees an old row for good reason."""
    world = make_world("sync", "redis", database, mode="shadow")
    pk, _other = world.store(Hero(name="Ann"), Hero(name="Other"))
    with world.session() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        session.execute(text("SELECT 1 FROM scenario_hero")).all()
        with world.plain() as elsewhere:
            elsewhere.get(Hero, pk).name = "Bea"
            elsewhere.commit()
            elsewhere.get(Hero, pk)
        assert session.get(Hero, pk).name == "Ann"
    assert "shadow_different" not in counts()


# verify


@ways
def test_verify_gives_the_row_of_the_database(make_world: Make, mode: str, store: str) -> None:
    """A wrong entry is found, counted, dropped, and not served."""
    world = make_world(mode, store, "sqlite", verify=1.0)
    pk = world.store(Hero(name="Ann"))
    world.get(Hero, pk)
    assert world.miss(Hero, pk).name == "Ann"
    assert counts() == {"verified": 1}
    world.behind_the_back(f"UPDATE scenario_hero SET name = 'Bea' WHERE id = {pk}")
    assert world.miss(Hero, pk).name == "Bea"
    assert counts() == {"verified": 2, "inconsistent": 1}
    assert world.backing.values() == {}
    assert world.miss(Hero, pk).name == "Bea"  # stores it anew
    assert world.miss(Hero, pk).name == "Bea"
    assert counts() == {"verified": 3, "inconsistent": 1}
    assert world.stats().models["Hero"].hits == 3


@ways
def test_verify_draws_a_share(
    make_world: Make, monkeypatch: pytest.MonkeyPatch, mode: str, store: str
) -> None:
    """Of a hundred hits, those that the lot falls on; the others send no SQL."""
    world = make_world(mode, store, "sqlite", verify=0.25)
    pk = world.store(Hero(name="Ann"))
    world.get(Hero, pk)
    draw = iter([0.5, 0.24, 0.25, 0.0])
    monkeypatch.setattr(decide.random, "random", lambda: next(draw))
    world.hit(Hero, pk)
    world.miss(Hero, pk)
    world.hit(Hero, pk)
    world.miss(Hero, pk)
    assert counts() == {"verified": 2}


def test_verify_does_not_take_a_commit_in_between_for_a_fault(make_world: Make) -> None:
    """Not counted at all."""
    world = make_world("sync", "redis", "postgresql", verify=1.0)
    pk = world.store(Hero(name="Ann"))
    world.get(Hero, pk)
    with committed_between(world, f"UPDATE scenario_hero SET name = 'Bea' WHERE id = {pk}"):
        assert world.miss(Hero, pk).name == "Bea"
    assert counts() == {}


# sample


@ways
def test_sample_lets_a_share_in(
    make_world: Make, monkeypatch: pytest.MonkeyPatch, mode: str, store: str
) -> None:
    """One lot for each lookup; the others use no cache at all."""
    world = make_world(mode, store, "sqlite", sample=0.05)
    pk = world.store(Hero(name="Ann"))
    draw = iter([0.01, 0.05, 0.04, 0.9])
    monkeypatch.setattr(decide.random, "random", lambda: next(draw))
    world.miss(Hero, pk)  # stored
    world.miss(Hero, pk)
    world.hit(Hero, pk)
    world.miss(Hero, pk)
    assert world.stats().models["Hero"].bypasses["not_sampled"] >= 2


def test_sample_of_nothing_and_of_a_shadow(make_world: Make) -> None:
    """0 lets nobody in; in shadow the share is compared."""
    world = make_world("sync", "memory", "sqlite", mode="shadow", sample=0)
    pk = world.store(Hero(name="Ann"))
    world.get(Hero, pk)
    world.get(Hero, pk)
    assert world.stats().models["Hero"].bypasses == {"not_sampled": 3}
    assert world.backing.values() == {}


# Whose word counts


def test_a_models_own_mode_comes_first(make_world: Make) -> None:
    """One model in shadow where the others only invalidate."""
    world = make_world("sync", "memory", "sqlite", mode="invalidate")
    shadowed, town = world.store(Shadowed(name="Ann")), world.store(Town(name="Ulm"))
    for _ in range(2):
        world.miss(Shadowed, shadowed)
        world.miss(Town, town)
    assert counts("Shadowed") == {"shadow_same": 1}
    assert world.stats().models["Town"].bypasses == {"mode_invalidate": 2}


@pytest.mark.parametrize("said", ["invalidate", "INVALIDATE"])
def test_the_environment_limits_every_model(
    make_world: Make, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """SQLMODEL_CACHE_MODE counts more than what code says."""
    monkeypatch.setenv("SQLMODEL_CACHE_MODE", said)
    world = make_world("sync", "memory", "sqlite")
    pk = world.store(Shadowed(name="Ann"))
    world.miss(Shadowed, pk)
    assert world.stats().models["Shadowed"].bypasses == {"mode_invalidate": 1}


def test_the_environment_switches_nothing_on(
    make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a limit: "on" leaves the code's word alone."""
    monkeypatch.setenv("SQLMODEL_CACHE_MODE", "on")
    world = make_world("sync", "memory", "sqlite", mode="invalidate")
    pk = world.store(Hero(name="Ann"))
    world.miss(Hero, pk)
    assert world.stats().models["Hero"].bypasses["mode_invalidate"] == 2


def test_a_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in an emergency must not look like a success."""
    monkeypatch.setenv("SQLMODEL_CACHE_MODE", "off")
    with pytest.raises(ConfigurationError, match="SQLMODEL_CACHE_MODE"):
        SQLModelCache.configure("memory://")


@pytest.mark.parametrize(
    "wrong", [{"mode": "of"}, {"sample": 5}, {"sample": True}, {"verify": -0.1}, {"verify": "1"}]
)
def test_values_that_cannot_work(wrong: dict[str, Any]) -> None:
    """Refused where they are said."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        SQLModelCache.configure("memory://", **wrong)


def test_explain_knows_the_mode(make_world: Make) -> None:
    """Without drawing a lot."""
    world = make_world("sync", "memory", "sqlite", mode="invalidate")
    pk = world.store(Hero(name="Ann"))
    with world.session() as session:
        assert SQLModelCache.explain(session, Hero, pk).reason == "mode_invalidate"
        assert SQLModelCache.explain(session, Shadowed, pk).reason == "mode_shadow"

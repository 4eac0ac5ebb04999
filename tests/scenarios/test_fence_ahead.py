"""The fence of a row that `commit()` flushes travels while the database works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm.exc import StaleDataError

from sqlmodel_cache import FenceError, _state
from sqlmodel_cache.orm.connections import publish
from sqlmodel_cache.protocol.ops import Fence, Release
from sqlmodel_cache.transport.breaker import NORMAL
from sqlmodel_cache.transport.lines import RedisLineTransport
from sqlmodel_cache.transport.owing import Sent
from tests.scenarios.collection_models import Base as CollectionBase
from tests.scenarios.harness import World
from tests.scenarios.models import Hero, Town, Word
from tests.scenarios.query_models import Base, Squad

MakeWorld = Callable[..., World]


@pytest.fixture(autouse=True)
def lists_are_known() -> None:
    """Configure the models with collections: until then every row may be in one of their lists."""
    CollectionBase.registry.configure(cascade=True)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def world(request: pytest.FixtureRequest, make_world: MakeWorld) -> World:
    """Set up plain sessions over Redis."""
    return make_world("sync", "redis", request.param)


@pytest.fixture
def ops(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the fences and releases that go out, and those that arrive, as they do."""
    told: list[Any] = []
    perform, send, arrived = RedisLineTransport.perform, RedisLineTransport.send, Sent.arrived

    def performing(self: RedisLineTransport, op: Any) -> Any:
        if type(op) in (Fence, Release):
            told.append(op)
        return perform(self, op)

    def sending(self: RedisLineTransport, op: Any, *heard: Any) -> Any:
        if type(op) is Fence:
            told.extend(["ahead", op])
        return send(self, op, *heard)

    def arriving(self: Sent) -> bool:
        told.append("arrived")
        return arrived(self)

    monkeypatch.setattr(RedisLineTransport, "perform", performing)
    monkeypatch.setattr(RedisLineTransport, "send", sending)
    monkeypatch.setattr(Sent, "arrived", arriving)
    return told


def kinds(ops: list[Any]) -> list[str]:
    """Return what happened, by name."""
    return [one if isinstance(one, str) else type(one).__name__.lower() for one in ops]


@contextmanager
def telling(engine: Any, told: list[Any], verb: str) -> Iterator[None]:
    """Note in `told` when the database has executed a statement."""

    def after(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(verb):
            told.append(verb)

    event.listen(engine, "after_cursor_execute", after)
    try:
        yield
    finally:
        event.remove(engine, "after_cursor_execute", after)


def cached(world: World) -> int:
    """Store a row and have it cached; return its key."""
    pk: int = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    return pk


@pytest.mark.parametrize("loaded", [True, False], ids=["connected", "not yet"])
def test_it_is_sent_before_the_statement(world: World, ops: list[Any], loaded: bool) -> None:
    """And waited for after it: one fence and one release for a commit, of one writer."""
    pk = cached(world)
    with world.session() as session, telling(world.engine, ops, "UPDATE"):
        hero = session.get(Hero, pk, execution_options={"cache": not loaded})
        ops.clear()
        hero.name = "Bea"
        session.commit()
    assert kinds(ops) == ["ahead", "fence", "UPDATE", "arrived", "release"]
    assert ops[1].writer == ops[4].writer
    assert world.miss(Hero, pk).name == "Bea" == world.row(Hero, pk)["name"]
    assert world.hit(Hero, pk).name == "Bea"
    assert world.stats().invalidations == 2  # the row was inserted, too


def test_readers_meanwhile_fill_nothing(world: World, ops: list[Any]) -> None:
    """From the moment it stands until the release they read what is committed."""
    pk = cached(world)

    def look(*_: Any) -> None:
        assert world.get(Hero, pk).name == "Ann"
        assert world.get(Hero, pk).name == "Ann"

    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        ops.clear()
        event.listen(session, "after_flush_postexec", look)
        before = world.stats()
        session.commit()
    # The connection of the fence is the only one: a lookup reads its reply on the way.
    assert world.stats().fills == before.fills
    assert kinds(ops) == ["ahead", "fence", "arrived", "release"]
    assert world.miss(Hero, pk).name == "Bea"


def test_a_flush_that_fails_releases_it(world: World, ops: list[Any]) -> None:
    """Nothing changed: the row may be cached again at once."""
    pk = cached(world)
    with world.session() as session:
        hero = session.get(Hero, pk)
        table = world.outside.dialect.identifier_preparer.format_table(Hero.__table__)
        world.behind_the_back(f"DELETE FROM {table} WHERE id = {pk}")
        hero.name = "Bea"
        ops.clear()
        with pytest.raises(StaleDataError):
            session.commit()
    assert kinds(ops) == ["ahead", "fence", "arrived", "release"]
    world.store(Hero(id=pk, name="Cid"))
    assert world.warm(Hero, pk).name == "Cid"


def test_what_it_does_not_cover_is_fenced_as_ever(world: World, ops: list[Any]) -> None:
    """Two tables, two statements: the second row under the same writer, and one release."""
    pk = cached(world)
    town = world.store(Town(name="Rome"))
    world.warm(Town, town)
    with world.session() as session:
        hero, place = session.get(Hero, pk), session.get(Town, town)
        hero.name, place.name = "Bea", "Oslo"
        ops.clear()
        session.commit()
    assert kinds(ops) == ["ahead", "fence", "arrived", "fence", "release"]
    ahead, fence, release = ops[1], ops[3], ops[4]
    assert ahead.writer == fence.writer == release.writer
    assert len(ahead.entries) == 1
    assert set(fence.entries) == set(release.entries) > set(ahead.entries)
    assert world.miss(Hero, pk).name == "Bea"
    assert world.miss(Town, town).name == "Oslo"
    assert world.warm(Hero, pk).name == "Bea"


def test_many_rows_of_one_statement(world: World, ops: list[Any]) -> None:
    """All are fenced ahead together."""
    keys = world.store(*[Hero(name="Ann") for _ in range(5)])
    with world.session() as session:
        for pk in keys:
            session.get(Hero, pk).name = "Bea"
        ops.clear()
        session.commit()
    assert kinds(ops) == ["ahead", "fence", "arrived", "release"]
    assert len(ops[1].entries) == 5


def test_one_that_may_run_out_is_set_again(
    world: World, ops: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flush took too long: the fence must outlive the COMMIT."""
    monkeypatch.setattr(publish, "FRESH", 0.0)
    pk = cached(world)
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        ops.clear()
        session.commit()
    assert kinds(ops) == ["ahead", "fence", "arrived", "fence", "release"]
    assert len({op.writer for op in ops if not isinstance(op, str)}) == 1


def test_only_what_is_committed_at_once(make_world: MakeWorld, ops: list[Any]) -> None:
    """Not by a flush, nor by a savepoint's end: the transaction may go on for minutes."""
    world = make_world("sync", "redis", "postgresql")
    pk = cached(world)
    ops.clear()
    with world.session() as session:
        with session.begin_nested():
            session.get(Hero, pk).name = "Bea"
        session.get(Hero, pk).name = "Cid"
        session.flush()
        assert world.hit(Hero, pk).name == "Ann"
        assert ops == []
        session.commit()
    assert kinds(ops) == ["fence", "release"]
    assert world.miss(Hero, pk).name == "Cid"


def test_flushed_before_and_in_the_commit(world: World, ops: list[Any]) -> None:
    """What the transaction wrote before is fenced ahead, too."""
    one, other = cached(world), cached(world)
    with world.session() as session:
        session.get(Hero, one).name = "Bea"
        session.flush()
        session.get(Hero, other).name = "Bea"
        ops.clear()
        session.commit()
    assert kinds(ops) == ["ahead", "fence", "arrived", "release"]
    assert len(ops[1].entries) == 2
    assert world.miss(Hero, one).name == world.miss(Hero, other).name == "Bea"


def test_a_block_of_begin(world: World, ops: list[Any]) -> None:
    """`with session.begin():` commits as `commit()` does."""
    pk = cached(world)
    ops.clear()
    with world.session() as session, session.begin():
        session.get(Hero, pk).name = "Bea"
    assert kinds(ops) == ["ahead", "fence", "arrived", "release"]


def test_the_next_transaction_of_a_session(world: World, ops: list[Any]) -> None:
    """Each has its own."""
    pk = cached(world)
    with world.session() as session:
        for name in ("Bea", "Cid"):
            session.get(Hero, pk).name = name
            ops.clear()
            session.commit()
            assert kinds(ops) == ["ahead", "fence", "arrived", "release"]
        session.get(Hero, pk).name = "Dan"
        ops.clear()
        session.flush()
        assert ops == []
        session.rollback()
    assert world.get(Hero, pk).name == "Cid"


@pytest.mark.parametrize("lost", ["reply", "script"])
def test_one_that_does_not_arrive_is_set_again(
    world: World, ops: list[Any], lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection broke meanwhile, or the server forgot its scripts: the usual fence."""
    pk = cached(world)
    client = world.backing._client  # type: ignore[attr-defined]

    def lose(*_: Any) -> None:
        if lost == "reply":
            _state.active.stores.sync._idle[-1].connection.disconnect()

    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        event.listen(session, "after_flush_postexec", lose)
        if lost == "script":
            client.script_flush()
        ops.clear()
        session.commit()
    assert kinds(ops) == ["ahead", "fence", "arrived", "fence", "release"]
    assert len({op.writer for op in ops if not isinstance(op, str)}) == 1
    assert world.miss(Hero, pk).name == "Bea"
    assert world.hit(Hero, pk).name == "Bea"


def test_abort_is_held_to_it(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `abort`, a fence that neither arrives nor can be set again aborts the commit."""
    world = make_world("sync", "redis", "postgresql", on_fence_failure="abort")
    pk = cached(world)
    perform = RedisLineTransport.perform

    def failing(self: RedisLineTransport, op: Any) -> Any:
        if type(op) is Fence:
            raise ConnectionError
        return perform(self, op)

    monkeypatch.setattr(RedisLineTransport, "perform", failing)
    monkeypatch.setattr(Sent, "arrived", lambda self: False)
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        with pytest.raises(FenceError):
            session.commit()
    assert world.row(Hero, pk)["name"] == "Ann"


def test_a_refused_commit_releases_it(world: World, ops: list[Any]) -> None:
    """Somebody's listener stops the commit after the flush: the rollback releases."""
    pk = cached(world)

    def stop(*_: Any) -> None:
        raise ValueError("no")

    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        event.listen(session, "after_flush_postexec", stop)
        ops.clear()
        with pytest.raises(ValueError, match="no"):
            session.commit()
        session.rollback()
    assert kinds(ops) == ["ahead", "fence", "arrived", "release"]
    assert world.miss(Hero, pk).name == "Ann"
    assert world.hit(Hero, pk).name == "Ann"


@pytest.mark.parametrize("store", ["memory", "tiered"])
def test_stores_that_need_none(make_world: MakeWorld, ops: list[Any], store: str) -> None:
    """A store in this process answers at once; a tier drops its copy when the fence is set."""
    world = make_world("sync", store, "sqlite")
    pk = cached(world)
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        ops.clear()
        session.commit()
    assert "ahead" not in kinds(ops)
    assert world.get(Hero, pk).name == "Bea"


def test_async_sessions_wait(make_world: MakeWorld, ops: list[Any]) -> None:
    """In a greenlet the store is asked by the event loop."""
    world = make_world("async", "redis", "sqlite")
    pk = cached(world)
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        ops.clear()
        session.commit()
    assert ops == []
    assert world.miss(Hero, pk).name == "Bea"


def test_eventual_has_no_fence(make_world: MakeWorld, ops: list[Any]) -> None:
    """Nothing is sent before the COMMIT."""
    world = make_world("sync", "redis", "sqlite", consistency="eventual")
    pk = cached(world)
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        ops.clear()
        session.commit()
    assert kinds(ops) == ["release"]


def test_an_outage_is_found_out_once(world: World, ops: list[Any]) -> None:
    """While the breaker is open nothing is sent ahead."""
    pk = cached(world)
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        ops.clear()
        _state.active.stores.breaker.failed(NORMAL, "away")
        session.commit()
    assert kinds(ops) == ["fence", "release"]
    assert world.miss(Hero, pk).name == "Bea"


def test_a_key_that_may_have_another_spelling(make_world: MakeWorld, ops: list[Any]) -> None:
    """Before the unit of work names the row, text stands for the whole table: fenced as ever."""
    world = make_world("sync", "redis", "postgresql")
    pk = world.store(Word(id=world.fresh, name="one"))
    world.warm(Word, pk)
    with world.session() as session:
        session.get(Word, pk).name = "two"
        ops.clear()
        session.commit()
    assert kinds(ops) == ["fence", "release"]
    assert ops[0].shards == ()
    assert world.miss(Word, pk).name == "two"


def test_models_whose_queries_are_cached(make_world: MakeWorld, ops: list[Any]) -> None:
    """The cache has to tell what a row had before, under the row's lock: fenced as ever."""
    world = make_world("sync", "redis", "postgresql")
    Base.metadata.create_all(world.outside)
    pk = world.store(Squad(id=int(world.fresh[:7], 16), name="A"))
    world.warm(Squad, pk)
    with world.session() as session:
        session.get(Squad, pk).name = "B"
        ops.clear()
        session.commit()
    assert kinds(ops) == ["fence", "release"]
    assert world.miss(Squad, pk).name == "B"

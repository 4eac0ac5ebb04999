"""The store is away at a commit: the commit succeeds, and what it invalidates is not forgotten."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy.orm import Session, sessionmaker

from sqlmodel_cache import SQLModelCache, _state, cached_sessionmaker, clock
from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol.ops import Fence, Fenced, Lease, Release
from sqlmodel_cache.protocol.write import Publication
from sqlmodel_cache.transport import backlog as backlogs
from sqlmodel_cache.transport.backlog import Backlog
from sqlmodel_cache.transport.stores import open_stores
from tests.writes.scripted import ScriptedTransport


@pytest.fixture
def store(world):
    """Return the store, with team 1 cached, and a switch that takes it away from writers."""
    store = ScriptedTransport()
    SQLModelCache.configure(store, namespace="world")
    with Session(world.engine) as session:
        session.add(world.Team(id=1, name="old"))
        session.commit()
    read(world)
    store.away = lambda *kinds: setattr(store, "on", lambda op: fail(op, kinds))
    store.back = lambda: setattr(store, "on", lambda op: None)
    return store


def fail(op, kinds):
    """Fail operations of these kinds."""
    if isinstance(op, kinds):
        raise ConnectionError


def read(world, factory=None):
    """Return what a fresh session reads of team 1."""
    with factory() if factory else Session(world.engine) as session:
        return session.get(world.Team, 1).name


def rename(world, name):
    """Write team 1 through the ORM and commit."""
    with Session(world.engine) as session:
        session.get(world.Team, 1).name = name
        session.commit()


def drained(seconds=10.0):
    """Wait until the backlog is empty, at most `seconds`."""
    until = clock.real() + seconds
    while len(_state.active.backlog) and clock.real() < until:
        threading.Event().wait(0.01)
    return not len(_state.active.backlog)


@pytest.mark.parametrize("kinds", [(Fence, Release), (Release,)])
def test_commit_succeeds_and_waits(world, store, caplog, kinds):
    """commit() succeeds; the invalidation is queued, counted, and nothing of the row is logged."""
    store.away(*kinds)
    rename(world, "secret")
    stats = SQLModelCache.stats()
    assert (stats.queue, stats.lost) == (1, 0)
    assert "secret" not in caplog.text
    store.back()
    assert drained()


def test_own_process_does_not_believe_the_store(world, store):
    """Until the store has been told, this process reads the row from the database."""
    store.away(Fence, Release)
    rename(world, "new")
    assert read(world) == "new"
    assert SQLModelCache.stats().bypasses["invalidation_queued"] >= 1
    store.back()


def test_told_as_soon_as_it_is_back(world, store):
    """Somebody else's cache is stale while the store is away, and right once it is back."""
    factory = sessionmaker(world.engine)
    other = cached_sessionmaker(factory, transport=store, namespace="world")
    assert read(world, other) == "old"
    _state.carried.clear()  # another process: this one's commits do not fence in its cache
    store.away(Fence, Release)
    rename(world, "new")
    assert read(world, other) == "old"
    store.back()
    assert drained()
    assert read(world, other) == "new"
    assert SQLModelCache.stats().queue == 0


def test_one_failed_fence_speaks_for_the_next(world, store):
    """An outage costs one time-out a second, not one for each commit."""
    store.away(Fence, Release)
    rename(world, "a")
    store.asked.clear()
    for name in "bcd":
        rename(world, name)
    assert "Fence" not in store.names()
    assert SQLModelCache.stats().errors >= 4
    store.back()
    assert drained()
    rename(world, "e")
    assert "Fence" in store.names()


def test_what_never_comes_back_is_lost_and_said(world, store, caplog):
    """At reset() it is tried once more; what is left is counted and logged as an error."""
    store.away(Fence, Release)
    rename(world, "new")
    cache = _state.active
    SQLModelCache.reset()
    assert cache.tally.snapshot("closed", 0).lost == 1
    assert any(record.levelname == "ERROR" for record in caplog.records)
    assert not [one for one in threading.enumerate() if "backlog" in one.name]


def test_reset_publishes_what_waits(world, store):
    """A store that is back by then is told at reset()."""
    store.away(Fence, Release)
    rename(world, "new")
    store.back()
    cache = _state.active
    SQLModelCache.reset()
    assert cache.tally.snapshot("closed", 0).lost == 0


def test_a_commit_in_doubt_waits_as_a_fence(world, store, on_commit):
    """The COMMIT may still land: a release would let a reader store what was there before."""

    def lose(commit):
        store.away(Fence, Release)
        raise TimeoutError("no reply to COMMIT")

    with Session(world.engine) as session:
        session.get(world.Team, 1).name = "perhaps"
        session.flush()
        on_commit(lose)
        with pytest.raises(TimeoutError):
            session.commit()
        on_commit(None)
    store.back()
    store.asked.clear()
    assert drained()
    assert [op for op in store.names() if op != "Get"] == ["Fence"]
    assert read(world) == "old"
    assert "Fill" not in store.names()


@pytest.mark.parametrize("waiting", [Release("w", (), ()), Fence("w", (), (), 60_000)], ids=repr)
def test_overflow_becomes_whole_models(monkeypatch, waiting):
    """Past its limit the backlog gives up rows for their shards, of which there are few."""
    monkeypatch.setattr(backlogs, "LIMIT", 10)
    lost = []
    store = ScriptedTransport()
    store.on = lambda op: fail(op, (Fence, Release))
    backlog = Backlog(open_stores(store), lost.append)
    space = KeySpace("p", "n", "team")
    entries = [space.entry(f"i{number}") for number in range(100)]
    for entry in entries:
        backlog.add(replace(waiting, entries=(entry,)), tried=True)
    assert len(backlog) <= len(space.shards) + 10
    assert all(backlog.holds(entry) for entry in entries)
    store.on = lambda op: None
    backlog.close()
    assert lost == []
    assert len(backlog) == 0
    fenced = {type(store.perform(Lease(e, "t", bytes(12), None, 1))) is Fenced for e in entries}
    assert fenced == {type(waiting) is Fence}


def test_what_fails_holds_nobody_up():
    """One node of a Cluster is down: what waits for the others is told to them."""
    space = KeySpace("p", "n", "team")
    down, up = (Release("w", (space.entry(pk),), ()) for pk in ("i1", "i2"))
    store = ScriptedTransport()
    store.on = lambda op: fail(op, Release) if op == down else None
    backlog = Backlog(open_stores(store), [].append)
    backlog.add(down, tried=True)
    backlog.add(up, tried=True)
    until = clock.real() + 10
    while up in backlog.waiting and clock.real() < until:
        threading.Event().wait(0.01)
    assert backlog.waiting == [down]
    backlog.close()


def test_a_node_that_is_down_speaks_for_itself():
    """On a Cluster the next fence is tried, unless it goes where the last one failed."""
    space = KeySpace("p", "n", "team")
    entries = [space.entry(f"i{number}") for number in range(50)]
    other = next(one for one in entries if one.shard != entries[0].shard)
    for cluster in (False, True):
        store = ScriptedTransport()
        store.cluster = cluster
        store.on = lambda op: fail(op, Release)
        backlog = Backlog(open_stores(store), [].append)
        backlog.add(Release("w", entries[:1], ()), tried=True)
        assert backlog.speaks_for(Publication((*entries[:1], other), ()))
        assert backlog.speaks_for(Publication((), (entries[0].shard,)))
        assert backlog.speaks_for(Publication((other,), ())) is not cluster
        backlog.close()


def test_nothing_is_started_without_need():
    """No thread exists until something fails."""
    store = ScriptedTransport()
    backlog = Backlog(open_stores(store), SimpleNamespace)
    assert not [one for one in threading.enumerate() if "backlog" in one.name]
    backlog.close()

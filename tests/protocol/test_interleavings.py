"""Interleavings of note, as scripts: who does what, in this order, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from sqlmodel_cache.protocol.ops import Fence, Lease, Release, Wait
from sqlmodel_cache.protocol.read import Held, Hit, Miss, Steps, abandon, fill, lookup
from sqlmodel_cache.protocol.write import Outcome, Publication
from tests.protocol.actors import ENTRY, PATIENCE
from tests.protocol.model import Fresh, Rules, Store, encode, verify


class Stage:
    """A store, a database of one row, and everybody's steps taken in the order of the script."""

    def __init__(self) -> None:
        self.store = Store()
        self.version = 0
        self._names = 0

    def perform(self, op: object) -> object:
        """Execute one operation, also one executed before."""
        self._names += 1
        token = op.token if isinstance(op, Lease) else ""
        fresh = Fresh(b"epoch %d " % self._names, f"{token}.{self._names}")
        reply, self.store = Rules().perform(self.store, op, fresh)
        return reply

    def run(self, steps: Steps[Any]) -> Any:
        """Run a generator to its end; waits are over at once."""
        reply: object = None
        while True:
            try:
                op = steps.send(reply)
            except StopIteration as stop:
                return stop.value
            reply = None if isinstance(op, Wait) else self.perform(op)

    def look(self) -> Hit | Miss:
        """Look the row up."""
        outcome: Hit | Miss = self.run(lookup(ENTRY, verify, PATIENCE))
        return outcome

    def lease(self) -> Held:
        """Look the row up, find nothing, and get the lease."""
        outcome = self.look()
        assert isinstance(outcome, Miss)
        assert outcome.held is not None
        return outcome.held

    def fill(self, held: Held, version: int) -> bool:
        """Fill with what a SELECT has seen."""
        stored: bool = self.run(fill(held, encode(held.epoch, version), 60_000))
        return stored

    def warm(self) -> None:
        """Read the row into the store."""
        assert self.fill(self.lease(), self.version)
        assert self.look() == Hit(self.version)


@pytest.fixture
def stage() -> Stage:
    """Return an empty stage."""
    return Stage()


ROW = Publication((ENTRY,), (), writer="row")
OTHER = Publication((ENTRY,), (), writer="other")
MODEL = Publication((), (ENTRY.shard,), writer="model")


@pytest.mark.parametrize("writer", [ROW, MODEL])
def test_a_stale_set_is_refused(stage: Stage, writer: Publication) -> None:
    """A reader selects, a writer passes, the reader fills: too late."""
    held = stage.lease()
    seen = stage.version
    stage.run(writer.fence())
    stage.version += 1
    stage.run(writer.settle(Outcome.COMMITTED))
    assert not stage.fill(held, seen)
    stage.warm()


def test_a_herd_reads_the_database_once(stage: Stage) -> None:
    """One holds the lease, the others wait and hit."""
    held = stage.lease()
    others = [lookup(ENTRY, verify, PATIENCE) for _ in range(50)]
    for other in others:
        lease = other.send(stage.perform(next(other)))
        assert isinstance(other.send(stage.perform(lease)), Wait)
    assert stage.fill(held, stage.version)
    for other in others:
        with pytest.raises(StopIteration) as stop:
            other.send(stage.perform(other.send(None)))
        assert stop.value.value == Hit(0)


def test_a_herd_behind_a_dead_reader_goes_to_the_database(stage: Stage) -> None:
    """After a bounded wait, and nobody fills until the lease has run out."""
    stage.lease()
    assert stage.look() == Miss(None)
    stage.store = stage.store.expired(None)
    stage.warm()


def test_an_abandoned_lease_is_free_at_once(stage: Stage) -> None:
    """A row that cannot be stored keeps nobody waiting."""
    stage.run(abandon(stage.lease()))
    stage.warm()


def test_a_refused_fill_spends_its_lease(stage: Stage) -> None:
    """The next reader need not wait for a lease that is good for nothing."""
    held = stage.lease()
    stage.run(MODEL.fence())
    stage.run(MODEL.settle(Outcome.COMMITTED))
    assert not stage.fill(held, 0)
    assert stage.store.lease is None


@pytest.mark.parametrize("writer", [ROW, MODEL])
def test_a_writer_that_dies_after_its_commit(stage: Stage, writer: Publication) -> None:
    """Readers go to the database until its fence runs out; then the new row is filled."""
    stage.warm()
    stage.run(writer.fence())
    stage.version += 1
    for _ in range(3):
        assert stage.look() == Miss(None)
    stage.store = stage.store.expired(writer.writer)
    stage.warm()


def test_two_writers_of_one_key(stage: Stage) -> None:
    """The end of one does not lift the fence of the other."""
    stage.warm()
    stage.run(ROW.fence())
    stage.run(OTHER.fence())
    stage.run(OTHER.settle(Outcome.REFUSED))
    assert stage.look() == Miss(None)
    stage.version += 1
    stage.run(ROW.settle(Outcome.COMMITTED))
    stage.warm()


def test_an_ambiguous_commit_is_never_filled_around(stage: Stage) -> None:
    """Its fence was evicted and a reader came in before the server committed after all."""
    stage.run(ROW.fence())
    stage.store = stage.store.evicted("lock")
    held = stage.lease()
    seen = stage.version
    stage.run(ROW.settle(Outcome.AMBIGUOUS))
    assert not stage.fill(held, seen)
    stage.version += 1
    assert stage.look() == Miss(None)
    stage.store = stage.store.expired("row")
    stage.warm()


@pytest.mark.parametrize(("writer", "key"), [(ROW, "lock"), (MODEL, "epoch-lock")])
def test_a_release_deletes_what_came_in_behind_an_evicted_fence(
    stage: Stage, writer: Publication, key: str
) -> None:
    """Unconditionally: it cannot know what it missed."""
    stage.run(writer.fence())
    stage.store = stage.store.evicted(key)
    stage.warm()
    stage.version += 1
    stage.run(writer.settle(Outcome.COMMITTED))
    assert isinstance(stage.look(), Miss)


def test_a_late_release_harms_nothing(stage: Stage) -> None:
    """Executed again under another writer's fence, it deletes a value and no fence."""
    stage.run(ROW.fence())
    stage.run(ROW.settle(Outcome.COMMITTED))
    stage.run(OTHER.fence())
    stage.perform(Release("row", (ENTRY,), ()))
    assert stage.look() == Miss(None)
    stage.run(OTHER.settle(Outcome.COMMITTED))
    stage.warm()
    stage.perform(Release("row", (ENTRY,), ()))
    assert isinstance(stage.look(), Miss)


def test_a_late_fence_only_delays(stage: Stage) -> None:
    """Readers go to the database until it runs out."""
    stage.run(ROW.fence())
    stage.run(ROW.settle(Outcome.COMMITTED))
    stage.perform(Fence("row", (ENTRY,), (), 60_000))
    assert stage.look() == Miss(None)
    stage.store = stage.store.expired("row")
    stage.warm()


def test_a_late_lease_revives_no_grant(stage: Stage) -> None:
    """A retrying client sent it twice; the second is executed after a writer has passed."""
    steps = lookup(ENTRY, verify, PATIENCE)
    lease = steps.send(stage.perform(next(steps)))
    with pytest.raises(StopIteration) as stop:
        steps.send(stage.perform(lease))
    stage.run(ROW.fence())
    stage.version += 1
    stage.run(ROW.settle(Outcome.COMMITTED))
    stage.perform(lease)
    assert not stage.fill(stop.value.value.held, 0)


def test_a_late_lease_revives_no_epoch(stage: Stage) -> None:
    """Else every value under it would come back."""
    steps = lookup(ENTRY, verify, PATIENCE)
    lease = steps.send(stage.perform(next(steps)))
    with pytest.raises(StopIteration) as stop:
        steps.send(stage.perform(lease))
    assert stage.fill(stop.value.value.held, 0)
    stage.run(MODEL.fence())
    stage.version += 1
    stage.run(MODEL.settle(Outcome.COMMITTED))
    assert stage.store.value is not None
    stage.perform(lease)
    assert isinstance(stage.look(), Miss)


def test_an_evicted_epoch_brings_nothing_back(stage: Stage) -> None:
    """A new one is minted, and the old value stays dead."""
    stage.warm()
    stage.store = stage.store.evicted("epoch")
    stage.lease()
    assert stage.store.value is not None
    assert isinstance(stage.look(), Miss)

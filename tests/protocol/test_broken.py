"""Each rule of the protocol is needed: without it, the same world shows a stale read.

Every broken protocol is met by the smallest world that exposes it. The right protocol lives in
that world too and survives, so it is the flaw that was found and not the world.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.protocol.ops import Fence, Fill, Lease, Release, Reply
from sqlmodel_cache.protocol.write import Outcome, Publication
from tests.protocol.actors import ENTRY, Actor, bulk, reading, row, writing
from tests.protocol.explore import FAULTS, Explorer, Violation
from tests.protocol.model import Fresh, Rules, Store

if TYPE_CHECKING:
    from sqlmodel_cache.protocol.read import Steps


class FillsUnconditionally(Rules):
    def fill_is_allowed(self, store: Store, op: Fill) -> bool:
        return True


class FillsWithAnyLease(Rules):
    def fill_is_allowed(self, store: Store, op: Fill) -> bool:
        return store.lease is not None and store.epoch == op.epoch and not store.fenced


class FillsWithoutLock(Rules):
    def fill_is_allowed(self, store: Store, op: Fill) -> bool:
        absent = store.lease is None and not store.writers
        return super().fill_is_allowed(store._replace(lease=op.token) if absent else store, op)


class FillsUnderAnyEpoch(Rules):
    def fill_is_allowed(self, store: Store, op: Fill) -> bool:
        return super().fill_is_allowed(store._replace(epoch=op.epoch), op)


class CountsWriters(Rules):
    def fence(self, store: Store, op: Fence) -> Store:
        return super().fence(store, Fence(f"#{min(len(store.writers), 2)}", op.entries, (), 1))

    def release(self, store: Store, op: Release) -> Store:
        return super().release(store, Release(f"#{len(store.writers) - 1}", op.entries, ()))


class LastWriterWins(Rules):
    def fence(self, store: Store, op: Fence) -> Store:
        return super().fence(store, op)._replace(writers=frozenset((op.writer,)))


class ReleasesOnlyItsOwn(Rules):
    def release(self, store: Store, op: Release) -> Store:
        return super().release(store, op) if op.writer in store.writers | store.whole else store


class ReleaseKeepsLease(Rules):
    def release(self, store: Store, op: Release) -> Store:
        return super().release(store, op)._replace(lease=store.lease)


class FenceKeepsLease(Rules):
    def fence(self, store: Store, op: Fence) -> Store:
        return super().fence(store, op)._replace(lease=store.lease)


class FenceKeepsValue(Rules):
    def fence(self, store: Store, op: Fence) -> Store:
        return super().fence(store, op)._replace(value=store.value)


class EpochOnlyBefore(Rules):
    def release(self, store: Store, op: Release) -> Store:
        return super().release(store, op)._replace(epoch=store.epoch)


class EpochOnlyAfter(Rules):
    def fence(self, store: Store, op: Fence) -> Store:
        return super().fence(store, op)._replace(epoch=store.epoch)


class LeasesUnderRowFence(Rules):
    def lease_is_fenced(self, store: Store) -> bool:
        return bool(store.whole)


class LeasesUnderWholeFence(Rules):
    def lease_is_fenced(self, store: Store) -> bool:
        return bool(store.writers)


class NeverLooksAtWholeFences(LeasesUnderWholeFence):
    def fill_is_allowed(self, store: Store, op: Fill) -> bool:
        return super().fill_is_allowed(store._replace(whole=frozenset()), op)


class FillsUnderRowFence(Rules):
    def fill_is_allowed(self, store: Store, op: Fill) -> bool:
        return super().fill_is_allowed(store._replace(writers=frozenset()), op)


class FillsUnderWholeFence(Rules):
    def fill_is_allowed(self, store: Store, op: Fill) -> bool:
        return super().fill_is_allowed(store._replace(whole=frozenset()), op)


class DefaultEpoch(Rules):
    def get(self, store: Store) -> Reply:
        return Reply(store.value, store.epoch or b"0")

    def mint(self, op: Lease, fresh: Fresh) -> bytes:
        return b"0"


class MintsWhatIsProposed(Rules):
    def mint(self, op: Lease, fresh: Fresh) -> bytes:
        return op.epoch


class GrantsByTokenAlone(Rules):
    def name_grant(self, op: Lease, fresh: Fresh) -> str:
        return f"{op.token}.0"


class ReleasesWhenInDoubt(Publication):
    def settle(self, outcome: Outcome) -> Steps[None]:
        yield Release(self.writer, self.entries, self.shards)


class QueuesReleases(Publication):
    """What the store did not take is tried again: of a COMMIT in doubt, too, as a Release."""

    def settle(self, outcome: Outcome) -> Steps[None]:
        try:
            yield from super().settle(outcome)
        except UnavailableError:
            yield Release(self.writer, self.entries, self.shards)


class World:
    """Some actors, and what can go wrong."""

    def __init__(
        self, *writers: Actor, faults: str = "", readers: int = 1, proposals: bytes = b""
    ) -> None:
        self._writers = writers
        self._readers = [reading(f"r{n}", proposals=proposals) for n in range(readers)]
        self._faults = faults.split()

    def explore(self, promise: str, flaw: type[Rules] | list[Actor] = Rules) -> int:
        """Visit it all, under broken rules or with broken writers; raises `Violation`."""
        rules, writers = (Rules(), flaw) if isinstance(flaw, list) else (flaw(), self._writers)
        return Explorer(rules, self._readers, writers, faults=self._faults, promise=promise).run()


def eventual(publication: Publication) -> Publication:
    """Return the same commit without its fence."""
    return replace(publication, strict=False)


ROW, MODEL = Publication((ENTRY,), (), writer="w0"), Publication((), (ENTRY.shard,), writer="w0")

# what is wrong: (with what or whom, in which world, which promises break there)
BROKEN: Final[dict[str, tuple[type[Rules] | list[Actor], World, str]]] = {
    "a fill without a lease": (FillsUnconditionally, World(row("w0")), "S1 S2 S3"),
    "a fill under another's lease": (
        FillsWithAnyLease,
        World(row("w0"), readers=2, faults="expire"),
        "S1 S2 S3",
    ),
    "an absent lock accepted in fill": (FillsWithoutLock, World(row("w0")), "S1 S2 S3"),
    "no fence, row": ([writing(eventual(ROW))], World(row("w0")), "S1 S3"),
    "no fence, model": ([writing(eventual(MODEL))], World(bulk("w0")), "S1 S3"),
    "a fence that keeps the value": (FenceKeepsValue, World(row("w0")), "S1"),
    "a fence that keeps the lease": (FenceKeepsLease, World(row("w0"), faults="expire"), "S1 S3"),
    "leases under a row's fence": (
        LeasesUnderRowFence,
        World(row("w0"), faults="expire"),
        "S1 S3",
    ),
    "a counter of writers": (CountsWriters, World(row("w0", "w1"), faults="replay"), "S1 S3"),
    "the last writer wins": (LastWriterWins, World(row("w0"), row("w1")), "S1 S3"),
    "one writer id per connection": (
        [row("w0", "w0")],
        World(row("w0", "w1"), faults="replay"),
        "S1 S3",
    ),
    "a conditional release, row": (
        ReleasesOnlyItsOwn,
        World(row("w0"), faults="evict"),
        "S1 S2 S3",
    ),
    "a conditional release, model": (
        ReleasesOnlyItsOwn,
        World(bulk("w0"), faults="evict"),
        "S1 S2 S3",
    ),
    "a release that keeps the lease": (
        ReleaseKeepsLease,
        World(row("w0"), faults="evict"),
        "S1 S2 S3",
    ),
    "a release when the outcome is ambiguous": (
        [writing(ReleasesWhenInDoubt((ENTRY,), (), writer="w0"))],
        World(row("w0"), faults="ambiguous"),
        "S1 S3",
    ),
    "a release in the queue when the outcome is ambiguous": (
        [writing(QueuesReleases((ENTRY,), (), writer="w0"))],
        World(row("w0"), faults="ambiguous lose"),
        "S1 S3",
    ),
    "the epoch deleted only before": (
        EpochOnlyBefore,
        World(bulk("w0"), faults="evict"),
        "S1 S2 S3",
    ),
    "the epoch deleted only after": (EpochOnlyAfter, World(bulk("w0")), "S1"),
    "the epoch-lock unchecked in lease": (
        LeasesUnderWholeFence,
        World(bulk("w0"), faults="expire"),
        "S1 S3",
    ),
    "the epoch-lock unchecked in lease and fill": (
        NeverLooksAtWholeFences,
        World(bulk("w0")),
        "S1",
    ),
    "a default epoch": (DefaultEpoch, World(bulk("w0")), "S1 S2 S3"),
    "an epoch minted again by a replay": (
        MintsWhatIsProposed,
        World(bulk("w0"), faults="replay", proposals=b"ABCDEF"),
        "S1 S2 S3",
    ),
    "a grant given again by a replay": (
        GrantsByTokenAlone,
        World(row("w0"), faults="replay"),
        "S1 S2 S3",
    ),
}


@pytest.mark.parametrize("wrong", BROKEN)
def test_a_broken_protocol_is_caught(wrong: str) -> None:
    """The flaw breaks these promises, in a world where the right protocol keeps them."""
    flaw, world, promises = BROKEN[wrong]
    for promise in promises.split():
        assert world.explore(promise) > 30
        with pytest.raises(Violation, match=f"{promise} is violated"):
            world.explore(promise, flaw)


def test_a_reader_that_ignores_the_epoch_is_caught() -> None:
    """Its hit is judged, and not only what the store holds."""
    readers = [reading(token, verify=lambda value, epoch: value[-1]) for token in ("r0", "r1")]
    with pytest.raises(Violation, match=r"then r.: Get -> Reply\(value=b'"):
        Explorer(Rules(), readers, [bulk("w0")]).run()


def test_the_way_to_a_violation_is_told() -> None:
    """The shortest trace of the stale set that leases are for."""
    flaw, world, _ = BROKEN["an absent lock accepted in fill"]
    with pytest.raises(Violation) as caught:
        world.explore("S1", flaw)
    steps = [line.strip() for line in str(caught.value).splitlines()]
    assert steps[-4:] == [
        "w0: Commit committed",
        "w0: Release",
        "r0: Fill -> True",
        "0 can be read, but commit 1 has landed",
    ]


@pytest.mark.parametrize("rules", [FillsUnderWholeFence, FillsUnderRowFence, FillsUnderAnyEpoch])
def test_a_check_that_nothing_depends_on(rules: type[Rules]) -> None:
    """What `fill` asks beyond its lease is implied: a second line, should the first be broken.

    A fence deletes lease or epoch as it comes, and none is made while it stands; a value under
    an old epoch cannot be read.
    """
    readers, writers = [reading("r0")], [row("w0"), bulk("w1")]
    assert Explorer(rules(), readers, writers).run() > 25_000


def test_fill_is_the_second_line() -> None:
    """Without the check in `lease`, the one in `fill` still holds until the fence runs out."""
    readers, writers = [reading("r0")], [bulk("w0")]
    faults = FAULTS - {"expire", "evict"}
    assert Explorer(LeasesUnderWholeFence(), readers, writers, faults=faults).run() > 100
    with pytest.raises(Violation):
        Explorer(NeverLooksAtWholeFences(), readers, writers, faults=faults).run()

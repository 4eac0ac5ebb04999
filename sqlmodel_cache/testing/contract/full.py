"""What every full transport must do: one that has `perform`, see `sqlmodel_cache.protocol.ops`.

Nothing here waits: a duration is either `LONG` or `OVER`, which has passed when it begins.
"""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, Any

import pytest

from sqlmodel_cache.keys import Entry, KeySpace, switchboard
from sqlmodel_cache.protocol.ops import (
    Abandon,
    Fence,
    Fenced,
    Fill,
    Get,
    GetMany,
    Granted,
    Inspect,
    Lease,
    Leased,
    Release,
    Reply,
    Sight,
    Switches,
    Turn,
)
from sqlmodel_cache.testing.contract.store import StoreFixtures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlmodel_cache.testing.contract.store import Store

LONG = 10_000_000  # milliseconds
OVER = 0
EPOCH = b"abcdefghijkl"
WRITER, OTHER = "1" * 32, "2" * 32


def lease(entry: Entry, token: str = "a" * 32, *, duration: int = LONG, **changes: Any) -> Lease:
    """Return an ordinary lease."""
    return Lease(entry, token, EPOCH, changes.get("rejected"), duration)


def envelope(epoch: bytes, body: bytes = b"row") -> bytes:
    """Return a value as the protocol sees it: two bytes, the epoch, and the rest."""
    return b"\x01\x00" + epoch + body


def fill(entry: Entry, grant: Granted, body: bytes = b"row", ttl: int = LONG) -> Fill:
    """Return the fill that a grant allows."""
    return Fill(entry, grant.token, grant.epoch, envelope(grant.epoch, body), ttl)


def store_row(store: Store, entry: Entry, body: bytes = b"row") -> Granted:
    """Lease and fill; return the grant."""
    grant = store.perform(lease(entry))
    assert store.perform(fill(entry, grant, body)) is True
    return grant  # type: ignore[no-any-return]


def rows(*entries: Entry, writer: str = WRITER, duration: int = LONG) -> Fence:
    """Return a fence of rows."""
    return Fence(writer, entries, (), duration)


class TransportContract(StoreFixtures):
    """The whole protocol. Inherit, and provide a fixture `transport` that yields an empty one.

    A full transport that has `get`, `set` and `delete` as well, which are needed where it is to be
    used by hand, passes `CacheTransportContract` too.
    """

    def test_an_absent_entry_has_neither_value_nor_epoch(
        self, store: Store, space: KeySpace
    ) -> None:
        """A miss is two Nones."""
        assert store.perform(Get(space.entry("1"))) == Reply(None, None)

    def test_a_filled_entry_is_read_with_its_epoch(self, store: Store, space: KeySpace) -> None:
        """What was filled under a grant is what a get sees."""
        entry = space.entry("1")
        grant = store_row(store, entry)
        assert store.perform(Get(entry)) == Reply(envelope(grant.epoch), grant.epoch)

    def test_only_one_reader_holds_the_lease(self, store: Store, space: KeySpace) -> None:
        """The second token waits; the first is answered the same grant again."""
        entry = space.entry("1")
        first = store.perform(lease(entry))
        assert store.perform(lease(entry, "b" * 32)) == Leased()
        assert store.perform(lease(entry)) == first

    def test_a_lease_that_is_over_is_free_and_fills_nothing(
        self, store: Store, space: KeySpace
    ) -> None:
        """A dead reader delays nobody, and cannot come back."""
        entry = space.entry("1")
        dead = store.perform(lease(entry, duration=OVER))
        assert isinstance(dead, Granted)
        assert store.perform(fill(entry, dead)) is False
        assert isinstance(store.perform(lease(entry, "b" * 32)), Granted)
        assert store.perform(fill(entry, dead)) is False

    def test_a_lease_is_spent_by_its_fill(self, store: Store, space: KeySpace) -> None:
        """Stored once; a repetition is refused and harms nothing."""
        entry = space.entry("1")
        grant = store_row(store, entry)
        assert store.perform(fill(entry, grant, b"again")) is False
        assert store.perform(Get(entry)).value == envelope(grant.epoch)

    def test_a_refused_fill_spends_the_lease_too(self, store: Store, space: KeySpace) -> None:
        """Nobody waits for a reader that was refused."""
        entry = space.entry("1")
        grant = store.perform(lease(entry))
        assert store.perform(Fill(entry, grant.token, b"x" * 12, b"value", LONG)) is False
        assert isinstance(store.perform(lease(entry, "b" * 32)), Granted)

    def test_only_the_grant_itself_fills(self, store: Store, space: KeySpace) -> None:
        """Neither the token it was asked with, nor another entry's grant."""
        entry, other = space.entry("1"), space.entry("2")
        grant = store.perform(lease(entry))
        asked = Fill(entry, "a" * 32, grant.epoch, envelope(grant.epoch), LONG)
        assert grant.token != "a" * 32
        assert store.perform(asked) is False
        assert store.perform(fill(other, grant)) is False
        assert store.perform(fill(entry, grant)) is True

    def test_a_value_without_a_lifetime_is_not_stored(self, store: Store, space: KeySpace) -> None:
        """A ttl of zero stores nothing."""
        entry = space.entry("1")
        grant = store.perform(lease(entry))
        assert store.perform(fill(entry, grant, ttl=0)) is False
        assert store.perform(Get(entry)).value is None

    def test_a_lease_is_answered_a_value_that_is_there(self, store: Store, space: KeySpace) -> None:
        """Somebody filled it meanwhile."""
        entry = space.entry("1")
        grant = store_row(store, entry)
        found = store.perform(lease(entry, "b" * 32))
        assert found == Reply(envelope(grant.epoch), grant.epoch)

    def test_a_rejected_value_can_be_replaced(self, store: Store, space: KeySpace) -> None:
        """The reader names what it could not read, and is given the right to replace it."""
        entry = space.entry("1")
        old = store_row(store, entry)
        digest = sha1(envelope(old.epoch)).hexdigest()
        grant = store.perform(lease(entry, "b" * 32, rejected=digest))
        assert isinstance(grant, Granted)
        assert store.perform(fill(entry, grant, b"new")) is True
        assert store.perform(Get(entry)).value == envelope(grant.epoch, b"new")

    def test_an_unreadable_value_of_no_epoch_is_no_value(
        self, store: Store, space: KeySpace
    ) -> None:
        """Foreign bytes under our key do not stop a fill."""
        if not store.is_small:
            pytest.skip("without set(), nobody can put foreign bytes there")
        entry = space.entry("1")
        for foreign in (b"", b"x", b"\x01\x00" + b"y" * 12 + b"row"):
            store.set(entry.value, foreign, 1000)
            grant = store.perform(lease(entry))
            assert isinstance(grant, Granted)
            store.perform(Abandon(entry, grant.token))

    def test_an_abandoned_lease_is_free(self, store: Store, space: KeySpace) -> None:
        """The next reader need not wait; a lease of somebody else's stays."""
        entry = space.entry("1")
        grant = store.perform(lease(entry))
        store.perform(Abandon(entry, "b" * 32))
        assert store.perform(lease(entry, "b" * 32)) == Leased()
        assert store.perform(Abandon(entry, grant.token)) is None
        assert isinstance(store.perform(lease(entry, "b" * 32)), Granted)

    def test_a_fence_forgets_the_row_and_keeps_it_forgotten(
        self, store: Store, space: KeySpace
    ) -> None:
        """No value, no new lease, and the lease from before is dead for good."""
        entry, waiting = space.entry("1"), space.entry("2")
        store_row(store, entry)
        early = store.perform(lease(waiting))
        assert store.perform(rows(entry, waiting)) is None
        assert store.perform(Get(entry)).value is None
        assert store.perform(lease(entry)) == Fenced()
        assert store.perform(fill(waiting, early)) is False
        store.perform(Release(WRITER, (entry, waiting), ()))
        assert store.perform(fill(waiting, early)) is False
        assert isinstance(store.perform(lease(entry)), Granted)

    def test_a_fence_that_ran_out_has_killed_the_leases_before_it(
        self, store: Store, space: KeySpace
    ) -> None:
        """A writer that died after its COMMIT leaves no reader with an old row and a right."""
        entry, other = space.entry("1"), space.entry("2")
        row, model = store.perform(lease(entry)), store.perform(lease(other))
        store.perform(Fence(WRITER, (entry,), (other.shard,), OVER))
        assert store.perform(fill(entry, row)) is False
        assert store.perform(fill(other, model)) is False

    def test_the_last_of_two_writers_lifts_the_fence(self, store: Store, space: KeySpace) -> None:
        """Writers are a set: neither a count nor the last one."""
        entry = space.entry("1")
        store.perform(rows(entry))
        store.perform(rows(entry, writer=OTHER))
        store.perform(rows(entry, writer=OTHER))
        store.perform(Release(OTHER, (entry,), ()))
        store.perform(Release(OTHER, (entry,), ()))
        assert store.perform(lease(entry)) == Fenced()
        store.perform(Release(WRITER, (entry,), ()))
        assert isinstance(store.perform(lease(entry)), Granted)

    def test_each_writer_has_its_own_deadline(self, store: Store, space: KeySpace) -> None:
        """A short fence does not shorten a long one, and a dead writer holds up nobody."""
        entry = space.entry("1")
        store.perform(rows(entry))
        store.perform(rows(entry, writer=OTHER, duration=OVER))
        assert store.perform(lease(entry)) == Fenced()
        store.perform(Release(WRITER, (entry,), ()))
        assert isinstance(store.perform(lease(entry)), Granted)

    def test_a_release_forgets_unconditionally(self, store: Store, space: KeySpace) -> None:
        """Had the fence been evicted, a stale value or lease may have come in."""
        entry, waiting = space.entry("1"), space.entry("2")
        store_row(store, entry)
        early = store.perform(lease(waiting))
        store.perform(Release(WRITER, (entry, waiting), ()))
        assert store.perform(Get(entry)).value is None
        assert store.perform(fill(waiting, early)) is False

    def test_a_model_is_forgotten_whole(self, store: Store, space: KeySpace) -> None:
        """No epoch, no lease, no fill, whatever the number of rows; then a new epoch."""
        entry, waiting = space.entry("1"), space.entry("2")
        old = store_row(store, entry)
        early = store.perform(lease(waiting))
        store.perform(Fence(WRITER, (), tuple(space), LONG))
        assert store.perform(Get(entry)).epoch is None
        assert store.perform(lease(entry)) == Fenced()
        assert store.perform(fill(waiting, early)) is False
        store.perform(Release(WRITER, (), tuple(space)))
        new = store.perform(lease(entry))
        assert isinstance(new, Granted)
        assert new.epoch != old.epoch
        assert store.perform(fill(waiting, early)) is False

    def test_a_model_release_renews_the_epoch_again(self, store: Store, space: KeySpace) -> None:
        """What came in under an evicted fence dies."""
        entry = space.entry("1")
        store_row(store, entry)
        store.perform(Release(WRITER, (), tuple(space)))
        assert store.perform(Get(entry)).epoch is None

    def test_two_whole_model_writers(self, store: Store, space: KeySpace) -> None:
        """The epoch-lock is a set as well."""
        entry = space.entry("1")
        store.perform(Fence(WRITER, (), tuple(space), LONG))
        store.perform(Fence(OTHER, (), tuple(space), LONG))
        store.perform(Fence("3" * 32, (), tuple(space), OVER))
        store.perform(Release(WRITER, (), tuple(space)))
        assert store.perform(lease(entry)) == Fenced()
        store.perform(Release(OTHER, (), tuple(space)))
        assert isinstance(store.perform(lease(entry)), Granted)

    def test_a_late_replay_of_a_lease_revives_nothing(self, store: Store, space: KeySpace) -> None:
        """The same request after a commit is a new grant, and mints a new epoch."""
        entry = space.entry("1")
        first = store.perform(lease(entry))
        store.perform(Fence(WRITER, (entry,), tuple(space), LONG))
        store.perform(Release(WRITER, (entry,), tuple(space)))
        _next_millisecond(store, space.entry("absent"))
        replayed = store.perform(lease(entry))
        assert replayed.token != first.token
        assert replayed.epoch != first.epoch
        assert store.perform(fill(entry, first)) is False

    def test_an_epoch_keeps_what_the_reader_said_of_the_server(
        self, store: Store, space: KeySpace
    ) -> None:
        """Bytes 0-3 and 8-11 are the caller's, 4-7 the store's clock."""
        grant = store.perform(lease(space.entry("1")))
        assert grant.epoch[:4] + grant.epoch[8:] == EPOCH[:4] + EPOCH[8:]
        assert len(grant.epoch) == 12

    def test_an_epoch_of_another_run_is_none(self, store: Store, space: KeySpace) -> None:
        """A lease for this run mints over it, and every value under it dies."""
        entry, other = space.entry("1"), next(_same_shard(space))
        old = store_row(store, entry)
        store_row(store, other)
        answer = store.perform(Lease(entry, "b" * 32, b"....----mnop", None, LONG))
        assert isinstance(answer, Granted)
        assert (answer.epoch[:4], answer.epoch[8:]) == (b"....", b"mnop")
        for dead in (entry, other):
            reply = store.perform(Get(dead))
            assert reply == Reply(envelope(old.epoch), answer.epoch)
        assert store.perform(fill(entry, answer)) is True
        assert store.perform(Get(entry)) == Reply(envelope(answer.epoch), answer.epoch)

    def test_a_fill_from_another_run_is_refused(self, store: Store, space: KeySpace) -> None:
        """Its epoch has been replaced, whoever holds the lease."""
        entry, other = space.entry("1"), next(_same_shard(space))
        early = store.perform(lease(entry))
        store.perform(Lease(other, "b" * 32, b"....----mnop", None, LONG))
        assert store.perform(fill(entry, early)) is False

    def test_an_unknown_run_takes_any_epoch(self, store: Store, space: KeySpace) -> None:
        """Who does not know the server's name finds what is there, and changes nothing."""
        entry, other = space.entry("1"), next(_same_shard(space))
        grant = store_row(store, entry)
        unknown = b"--------\0\0\0\0"
        found = store.perform(Lease(entry, "b" * 32, unknown, None, LONG))
        assert found == Reply(envelope(grant.epoch), grant.epoch)
        assert store.perform(Lease(other, "b" * 32, unknown, None, LONG)).epoch == grant.epoch

    def test_an_inspection_sees_everything_and_changes_nothing(
        self, store: Store, space: KeySpace
    ) -> None:
        """Value, epoch and life; a lease; fences of the row and of its model. Twice the same."""
        entry = space.entry("1")
        assert store.perform(Inspect(entry)) == Sight(None, None)
        grant = store.perform(lease(entry))
        for _ in range(2):
            seen = store.perform(Inspect(entry))
            assert (seen.value, seen.epoch, seen.left, seen.fenced) == (
                None, grant.epoch, None, None,
            )  # fmt: skip
            assert 0 < seen.leased <= LONG
        assert store.perform(fill(entry, grant)) is True
        seen = store.perform(Inspect(entry))
        assert (seen.value, seen.fenced, seen.leased) == (envelope(grant.epoch), None, None)
        assert 0 < seen.left <= LONG
        for writer in (rows(entry), Fence(WRITER, (), (entry.shard,), LONG)):
            store.perform(writer)
            assert 0 < store.perform(Inspect(entry)).fenced <= LONG
            store.perform(Release(WRITER, (entry,), (entry.shard,)))
            assert store.perform(Inspect(entry)).fenced is None

    def test_many_are_read_in_the_order_asked(self, store: Store, space: KeySpace) -> None:
        """Over all shards, with repetitions and absent ones; and nothing at all."""
        entries = [space.entry(str(number)) for number in range(40)]
        grants = {entry: store_row(store, entry, entry.pk.encode()) for entry in entries[::2]}
        asked = (*reversed(entries), entries[0], entries[0])
        replies = store.perform(GetMany(asked))
        assert [reply.value for reply in replies] == [
            envelope(grants[entry].epoch, entry.pk.encode()) if entry in grants else None
            for entry in asked
        ]
        assert [reply.epoch for reply in replies] == [
            store.perform(Get(entry)).epoch for entry in asked
        ]
        assert store.perform(GetMany(asked, together=True)) == replies
        assert store.perform(GetMany(())) == []

    def test_a_large_commit(self, store: Store, space: KeySpace) -> None:
        """More rows than a pipeline holds are fenced and released all the same."""
        entries = tuple(space.entry(str(number)) for number in range(1100))
        store_row(store, entries[0])
        store.perform(Fence(WRITER, entries, tuple(space), LONG))
        assert store.perform(lease(entries[0])) == Fenced()
        assert store.perform(lease(entries[-1])) == Fenced()
        store.perform(Release(WRITER, (), tuple(space)))
        assert store.perform(lease(entries[0])) == Fenced()
        store.perform(Release(WRITER, entries, ()))
        assert isinstance(store.perform(lease(entries[0])), Granted)
        assert isinstance(store.perform(lease(entries[-1])), Granted)
        assert [reply.value for reply in store.perform(GetMany(entries))] == [None] * 1100

    def test_a_commit_that_touched_nothing(self, store: Store) -> None:
        """Empty fences and releases are nothing to do."""
        assert store.perform(Fence(WRITER, (), (), LONG)) is None
        assert store.perform(Release(WRITER, (), ())) is None

    def test_a_switchboard(self, store: Store, space: KeySpace) -> None:
        """Names are put there and taken away, any number of times; boards do not mix."""
        board = switchboard(space.shards[0].head.partition(":")[0])
        assert store.perform(Switches(board)) == frozenset()
        for name in ("hero", "*", "hero"):
            store.perform(Turn(board, name, True))
        assert store.perform(Switches(board)) == {"hero", "*"}
        assert store.perform(Switches(f"{board}2")) == frozenset()
        for name in ("hero", "hero", "absent"):
            store.perform(Turn(board, name, False))
        assert store.perform(Switches(board)) == {"*"}
        store.perform(Turn(board, "*", False))
        assert store.perform(Switches(board)) == frozenset()


def _same_shard(space: KeySpace) -> Iterator[Entry]:
    """Yield entries that share their epoch with entry "1"."""
    shard = space.entry("1").shard
    return (entry for n in range(2, 999) if (entry := space.entry(str(n))).shard == shard)


def _next_millisecond(store: Store, absent: Entry) -> None:
    """Let the store's clock move: inside a script some servers count milliseconds only."""
    for _ in range(50):
        store.perform(Get(absent))

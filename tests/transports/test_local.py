"""Copies in this process: every order in which a read, a message and a write can meet."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from freezegun import freeze_time

from sqlmodel_cache import clock
from sqlmodel_cache.codec.envelope import seal
from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol.ops import Fence, Release, Reply
from sqlmodel_cache.transport.local import LocalRows

if TYPE_CHECKING:
    from sqlmodel_cache.keys import Entry

EPOCH = b"abcdefghijkl"
WRITER, OTHER = "1" * 32, "2" * 32
LONG = 10_000_000  # milliseconds
SPACE = KeySpace("prefix", "ns", "hero", 300)
ROW = SPACE.entry("1")
SAME_SHARD = next(e for e in map(SPACE.entry, map(str, range(2, 99))) if e.shard == ROW.shard)
ELSEWHERE = next(e for e in map(SPACE.entry, map(str, range(2, 99))) if e.shard != ROW.shard)


def answer(entry: Entry, body: bytes = b"row", ttl: int = 300) -> Reply:
    """Return what the store says of an entry."""
    value = seal(entry.value, EPOCH, bytes(8), body, stored_at=clock.now(), ttl=ttl)
    return Reply(value, EPOCH)


@pytest.fixture
def rows() -> LocalRows:
    """Return copies, with messages coming in."""
    made = LocalRows()
    made.hear(clock.real() + 1000, 0.001)
    return made


def read(rows: LocalRows, entry: Entry, **settings: int) -> Reply:
    """Read an entry as nobody interferes."""
    ticket = rows.ticket(entry.shard)
    reply = answer(entry, **settings)  # type: ignore[arg-type]
    rows.keep(entry, reply, ticket)
    return reply


def test_what_was_read_is_found(rows: LocalRows) -> None:
    """With its epoch, and a place to remember what was decoded."""
    reply = read(rows, ROW)
    found = rows.find(ROW)
    assert found == reply
    assert found is not None
    assert found.kept is not None


@pytest.mark.parametrize(
    "message", [ROW.value, SAME_SHARD.value, ROW.shard.epoch], ids=["row", "neighbour", "shard"]
)
def test_a_message_between_question_and_answer(rows: LocalRows, message: str) -> None:
    """What was asked before a message of its shard is not kept after it."""
    ticket = rows.ticket(ROW.shard)
    reply = answer(ROW)
    rows.told(message)
    rows.keep(ROW, reply, ticket)
    assert rows.find(ROW) is None


def test_a_message_of_another_shard_is_nothing(rows: LocalRows) -> None:
    """Shards are invalidated apart."""
    ticket = rows.ticket(ROW.shard)
    rows.told(ELSEWHERE.value)
    rows.told(ELSEWHERE.shard.epoch)
    rows.keep(ROW, answer(ROW), ticket)
    assert rows.find(ROW) is not None


def test_a_message_before_the_question(rows: LocalRows) -> None:
    """The store was asked after the writer was there: its answer is good."""
    read(rows, ROW)
    rows.told(ROW.value)
    assert rows.find(ROW) is None
    read(rows, ROW)
    assert rows.find(ROW) is not None


def test_a_message_drops_one_row(rows: LocalRows) -> None:
    """Its neighbours stay."""
    read(rows, ROW)
    read(rows, SAME_SHARD)
    rows.told(ROW.value)
    assert rows.find(ROW) is None
    assert rows.find(SAME_SHARD) is not None


def test_a_message_of_a_whole_shard(rows: LocalRows) -> None:
    """All its copies go, those of others stay, and new ones are kept."""
    for entry in (ROW, SAME_SHARD, ELSEWHERE):
        read(rows, entry)
    rows.told(ROW.shard.epoch)
    assert [rows.find(e) is None for e in (ROW, SAME_SHARD, ELSEWHERE)] == [True, True, False]
    read(rows, ROW)
    assert rows.find(ROW) is not None


@pytest.mark.parametrize(
    "key", ["", "}", "{}:", "nonsense", "prefix:v1:{ns:hero:0}", "\ufffd"], ids=range(6)
)
def test_a_strangers_message_is_nothing(rows: LocalRows, key: str) -> None:
    """Anybody may publish anything."""
    read(rows, ROW)
    rows.told(key)
    assert rows.find(ROW) is not None


@pytest.mark.parametrize("whole", [False, True], ids=["row", "model"])
def test_own_commits_are_seen_at_once(rows: LocalRows, whole: bool) -> None:
    """Dropped at the fence, not kept before the release, and no answer from before it after."""
    touched = ((), (ROW.shard,)) if whole else ((ROW,), ())
    read(rows, ROW)
    rows.fence(Fence(WRITER, *touched, LONG))
    assert rows.find(ROW) is None
    early = rows.ticket(ROW.shard)
    reply = read(rows, ROW)
    assert rows.find(ROW) is None
    rows.release(Release(WRITER, *touched))
    rows.keep(ROW, reply, early)
    assert rows.find(ROW) is None
    read(rows, ROW)
    assert rows.find(ROW) is not None


def test_two_writers_of_one_shard(rows: LocalRows) -> None:
    """The release of one does not end the fence of the other."""
    rows.fence(Fence(WRITER, (ROW,), (), LONG))
    rows.fence(Fence(OTHER, (), (ROW.shard,), LONG))
    rows.release(Release(WRITER, (ROW,), ()))
    read(rows, ROW)
    assert rows.find(ROW) is None
    rows.release(Release(OTHER, (), (ROW.shard,)))
    read(rows, ROW)
    assert rows.find(ROW) is not None


def test_a_fence_that_nobody_releases_ends(rows: LocalRows) -> None:
    """An ambiguous COMMIT keeps copies away until its deadline."""
    rows.fence(Fence(WRITER, (ROW,), (), 0))
    read(rows, ROW)
    assert rows.find(ROW) is not None


def test_fences_survive_a_broken_stream(rows: LocalRows) -> None:
    """What this process is committing stays fenced when everything is forgotten."""
    rows.fence(Fence(WRITER, (ROW,), (), LONG))
    rows.empty()
    rows.hear(clock.real() + 1000, 0.001)
    read(rows, ROW)
    assert rows.find(ROW) is None


def test_a_broken_stream_empties(rows: LocalRows) -> None:
    """Nothing is used or kept until somebody listens again."""
    read(rows, ROW)
    before = rows.ticket(ROW.shard)
    rows.empty()
    assert len(rows) == 0
    assert rows.ticket(ROW.shard) is None
    rows.keep(ROW, answer(ROW), None)
    rows.hear(clock.real() + 1000, 0.001)
    rows.keep(ROW, answer(ROW), before)  # asked before the break, answered after it
    assert rows.find(ROW) is None
    read(rows, ROW)
    assert rows.find(ROW) is not None
    assert rows.stats().emptied == 1


def test_copies_are_unused_while_the_stream_is_silent(rows: LocalRows) -> None:
    """A stopped process, or one with a dead line, need not notice anything to be right."""
    read(rows, ROW)
    rows.hear(clock.real(), 0.001)
    assert rows.find(ROW) is None
    assert rows.ticket(ROW.shard) is None
    rows.hear(clock.real() + 1000, 0.001)  # it answered: no message was missed
    assert rows.find(ROW) is not None


def test_a_value_of_another_epoch_is_not_kept(rows: LocalRows) -> None:
    """Nor is nothing."""
    good = answer(ROW)
    for reply in (Reply(good.value, b"another one!"), Reply(good.value, None), Reply(None, EPOCH)):
        rows.keep(ROW, reply, rows.ticket(ROW.shard))
    assert len(rows) == 0


def test_a_copy_ends_with_its_local_ttl(rows: LocalRows) -> None:
    """By a clock that users may freeze."""
    read(rows, ROW)
    with freeze_time(timedelta(seconds=299)):
        assert rows.find(ROW) is not None
    with freeze_time(timedelta(seconds=301)):
        assert rows.find(ROW) is None


def test_a_copy_ends_with_its_value(rows: LocalRows) -> None:
    """What is about to expire in the store lives no longer here."""
    read(rows, ROW, ttl=10)
    with freeze_time(timedelta(seconds=9)):
        assert rows.find(ROW) is not None
    with freeze_time(timedelta(seconds=11)):
        assert rows.find(ROW) is None


def test_copies_are_bounded_by_number() -> None:
    """The least recently used goes first."""
    rows = LocalRows(max_entries=2)
    rows.hear(clock.real() + 1000, 0.001)
    read(rows, ROW)
    read(rows, SAME_SHARD)
    rows.find(ROW)
    read(rows, ELSEWHERE)
    assert [rows.find(e) is None for e in (ROW, SAME_SHARD, ELSEWHERE)] == [False, True, False]


def test_copies_are_bounded_by_bytes() -> None:
    """Whatever their number; and what is gone no longer counts."""
    rows = LocalRows(max_bytes=10_000)
    rows.hear(clock.real() + 1000, 0.001)
    for number in range(100):
        read(rows, SPACE.entry(str(number)), body=bytes(100))  # type: ignore[arg-type]
    assert 0 < len(rows) < 10
    assert 0 < rows.stats().bytes <= 10_000
    read(rows, ROW, body=bytes(10_000))  # type: ignore[arg-type]
    assert rows.find(ROW) is None
    rows.empty()
    assert rows.stats().bytes == 0


def test_shards_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand tenants do not fill the memory with what is known of their shards."""
    monkeypatch.setattr("sqlmodel_cache.transport.local._MAX_SHARDS", 4)
    rows = LocalRows()
    rows.hear(clock.real() + 1000, 0.001)
    early = rows.ticket(ROW.shard)
    for tenant in range(9):
        read(rows, KeySpace("prefix", f"t{tenant}", "hero", 300).entry("1"))
    assert len(rows) <= 4
    rows.keep(ROW, answer(ROW), early)
    assert rows.find(ROW) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_empty(rows: LocalRows) -> None:
    """It hears nothing, so it has nothing; a lock that was held at the fork is nobody's."""
    read(rows, ROW)
    with rows._lock:
        child = os.fork()
        if not child:
            ok = rows.find(ROW) is None and rows.ticket(ROW.shard) is None and not len(rows)
            rows.told(ROW.value)
            os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert rows.find(ROW) is not None

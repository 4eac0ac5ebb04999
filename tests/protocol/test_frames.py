"""The savepoint stack forgets what was rolled back, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlmodel_cache.protocol.frames import Frames, Touched


@pytest.fixture
def frames() -> Frames:
    """Return the stack of a connection in a transaction that wrote nothing."""
    return Frames()


def touched(rows: str = "", tables: str = "") -> Touched:
    """Return what these one-letter rows and tables amount to."""
    return Touched(frozenset(rows), frozenset(tables))


def test_a_new_transaction_has_touched_nothing(frames: Frames) -> None:
    """Nothing is touched before the first write."""
    assert frames.capture() == touched()
    assert not frames.wrote
    assert not frames.is_touched("r", "T")


def test_capture_clears_nothing(frames: Frames) -> None:
    """A commit that fails must still know what to release."""
    frames.touch_row("r")
    frames.touch_table("T")
    assert frames.capture() == frames.capture() == touched("r", "T")


def test_a_row_is_touched_by_its_key_or_by_its_table(frames: Frames) -> None:
    """Either makes the database answer for it."""
    frames.touch_row("r")
    frames.touch_table("T")
    assert frames.is_touched("r", "U")
    assert frames.is_touched("s", "T")
    assert not frames.is_touched("s", "U")


def test_a_released_savepoint_belongs_to_its_parent(frames: Frames) -> None:
    """What was poured down is rolled back with the savepoint below."""
    frames.savepoint("outer")
    frames.savepoint("inner")
    frames.touch_row("r")
    frames.release("inner")
    assert frames.capture() == touched("r")
    frames.rollback_to("outer")
    assert frames.capture() == touched()


def test_rolling_back_discards_only_what_came_since(frames: Frames) -> None:
    """The frames below keep theirs, and the connection has still written."""
    frames.touch_row("a")
    frames.savepoint("s")
    frames.touch_row("b")
    frames.touch_table("T")
    frames.rollback_to("s")
    assert frames.capture() == touched("a")
    assert not frames.is_touched("b", "T")
    assert frames.wrote


def test_wrote_survives_until_the_root_ends(frames: Frames) -> None:
    """A trigger may have done what no frame knows."""
    frames.savepoint("s")
    frames.touch_row("r")
    frames.rollback_to("s")
    assert frames.wrote
    frames.clear()
    assert not frames.wrote


def test_a_savepoint_lives_on_after_a_rollback_to_it(frames: Frames) -> None:
    """SQL keeps it: one can roll back to it again."""
    frames.savepoint("s")
    for _ in range(2):
        frames.touch_row("r")
        frames.rollback_to("s")
        assert frames.capture() == touched()


def test_the_latest_of_two_savepoints_of_one_name_wins(frames: Frames) -> None:
    """Releasing it uncovers the earlier, as SQL says."""
    frames.savepoint("s")
    frames.touch_row("a")
    frames.savepoint("s")
    frames.touch_row("b")
    frames.rollback_to("s")
    assert frames.capture() == touched("a")
    frames.release("s")
    frames.rollback_to("s")
    assert frames.capture() == touched()


def test_releasing_an_outer_savepoint_ends_the_inner_ones(frames: Frames) -> None:
    """Afterwards the inner name is unknown."""
    frames.savepoint("outer")
    frames.savepoint("inner")
    frames.touch_row("r")
    frames.release("outer")
    frames.rollback_to("inner")
    assert frames.capture() == touched("r")


def test_unknown_names_change_nothing(frames: Frames) -> None:
    """A savepoint made before we listened leaves everything dirty."""
    frames.savepoint("s")
    frames.touch_row("r")
    frames.release("never")
    frames.rollback_to("never")
    assert frames.capture() == touched("r")
    frames.rollback_to("s")
    assert frames.capture() == touched()


def test_equal_frames_are_not_confused(frames: Frames) -> None:
    """Two empty savepoints are two places."""
    frames.savepoint("s")
    frames.savepoint("s")
    frames.touch_row("r")
    frames.release("s")
    frames.rollback_to("s")
    assert frames.capture() == touched()


def test_an_insert_without_a_name_touches_its_table(frames: Frames) -> None:
    """Until every expected insert is named, any row of the table may be the new one."""
    frames.expect_inserts("T", 2)
    frames.name_insert("T", "a")
    assert frames.capture() == touched("a", "T")
    assert frames.is_touched("z", "T")
    frames.name_insert("T", "b")
    assert frames.capture() == touched("ab")
    assert not frames.is_touched("z", "T")


def test_a_key_its_statement_knew_names_no_expected_insert(frames: Frames) -> None:
    """One flush inserts rows with keys and rows without: the first must not pay for the second."""
    frames.touch_row("a")
    frames.expect_inserts("T", 1)
    frames.name_insert("T", "a")
    assert frames.capture() == touched("a", "T")
    frames.name_insert("T", "b")
    assert frames.capture() == touched("ab")


def test_an_insert_nobody_expected_is_touched_all_the_same(frames: Frames) -> None:
    """Doubt leaves more touched."""
    frames.name_insert("T", "a")
    assert frames.capture() == touched("a")
    assert frames.wrote


def test_a_name_belongs_to_the_frame_of_its_insert(frames: Frames) -> None:
    """A savepoint between an insert and its name takes nothing away."""
    frames.expect_inserts("T", 1)
    frames.savepoint("s")
    frames.name_insert("T", "a")
    frames.rollback_to("s")
    assert frames.capture() == touched("a")


def test_expected_inserts_are_released_and_rolled_back(frames: Frames) -> None:
    """They share the fate of their savepoint."""
    frames.savepoint("s")
    frames.expect_inserts("T", 1)
    frames.savepoint("t")
    frames.expect_inserts("U", 1)
    frames.rollback_to("t")
    assert frames.capture() == touched("", "T")
    frames.release("s")
    assert frames.capture() == touched("", "T")


def test_rows_named_after_their_statement(frames: Frames) -> None:
    """They count as any row until then, and as none if it changed none."""
    frames.touch_row("q")
    frames.expect_rows("T")
    assert frames.is_touched("r", "T")
    assert frames.capture() == touched("q", "T")
    frames.name_rows("T", ["r", "s"])
    assert frames.capture() == touched("qrs")
    frames.expect_rows("T")
    frames.name_rows("T", [])
    assert frames.capture() == touched("qrs")
    frames.name_rows("T", ["t"])  # nobody expected them
    assert frames.capture() == touched("qrst")


def test_rows_named_that_nobody_expected(frames: Frames) -> None:
    """They are rows that were written, and the end of the root forgets them."""
    frames.name_rows("T", ["r"])
    assert frames.wrote
    assert frames.is_touched("r", "T")
    frames.clear()
    assert frames.capture() == touched()
    assert not frames.is_touched("r", "T")


def test_rows_named_belong_to_their_statements_frame(frames: Frames) -> None:
    """Also if somebody began a savepoint meanwhile; what another statement touched stays."""
    frames.savepoint("a")
    frames.expect_rows("T")
    frames.savepoint("b")
    frames.touch_table("T")
    frames.name_rows("T", ["r"])
    assert frames.capture() == touched("r", "T")
    frames.rollback_to("b")
    assert frames.capture() == touched("r")
    frames.rollback_to("a")
    assert frames.capture() == touched()


def test_the_end_of_the_root_forgets_everything(frames: Frames) -> None:
    """Also its savepoints: their names mean nothing to the next transaction."""
    frames.touch_table("T")
    frames.savepoint("s")
    frames.expect_inserts("U", 1)
    frames.clear()
    assert frames.capture() == touched()
    assert not frames.wrote
    frames.touch_row("r")
    frames.rollback_to("s")
    assert frames.capture() == touched("r")


# The oracle keeps the whole transaction as a list and replays it; only what it forgets differs.

NAMES = st.sampled_from("st")
CALLS = st.one_of(
    st.tuples(st.sampled_from(["touch_row", "touch_table"]), st.sampled_from("abAB")),
    st.tuples(st.sampled_from(["savepoint", "release", "rollback_to"]), NAMES),
    st.tuples(st.just("expect_inserts"), st.sampled_from("AB"), st.integers(1, 2)),
    st.tuples(st.just("name_insert"), st.sampled_from("AB"), st.sampled_from("abcd")),
)


def oracle(calls: list[tuple[Any, ...]]) -> Touched:
    """Return what a flat list of events with savepoint marks in it amounts to."""
    log: list[list[Any]] = []
    for call, *arguments in calls:
        marks = [at for at, event in enumerate(log) if event == ["savepoint", arguments[0]]]
        if call == "release":
            if marks:
                log[marks[-1] :] = [e for e in log[marks[-1] :] if e[0] != "savepoint"]
        elif call == "rollback_to":
            if marks:
                del log[marks[-1] + 1 :]
        elif call == "expect_inserts":
            log += [["insert", arguments[0]] for _ in range(arguments[1])]
        elif call == "name_insert":
            table, key = arguments
            unnamed = [event for event in log if event == ["insert", table]]
            if ["touch_row", key] in log:
                continue
            if unnamed:  # the latest: equal lists, so by identity
                at = max(at for at, event in enumerate(log) if event is unnamed[-1])
                log[at] = ["touch_row", key]
            else:
                log.append(["touch_row", key])
        else:
            log.append([call, *arguments])
    rows = frozenset(event[1] for event in log if event[0] == "touch_row")
    tables = frozenset(event[1] for event in log if event[0] in ("touch_table", "insert"))
    return Touched(rows, tables)


@settings(max_examples=300)
@given(st.lists(CALLS, max_size=25))
def test_any_sequence_of_calls(calls: list[tuple[Any, ...]]) -> None:
    """The stack and a flat log of the transaction agree, and `is_touched` with both."""
    frames = Frames()
    for call, *arguments in calls:
        getattr(frames, call)(*arguments)
    expected = oracle(calls)
    assert frames.capture() == expected
    assert frames.wrote == any(
        call not in ("savepoint", "release", "rollback_to") for call, *_ in calls
    )
    for key in "abcd":
        for table in "AB":
            dirty = key in expected.rows or table in expected.tables
            assert frames.is_touched(key, table) == dirty

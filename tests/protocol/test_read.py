"""The reading generators, stepped by hand: which operation follows which reply."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from inspect import GEN_CLOSED, getgeneratorstate
from typing import Any, Final

import pytest

from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.protocol.ops import (
    Abandon,
    Fenced,
    Fill,
    Get,
    Granted,
    Lease,
    Leased,
    Reply,
    Wait,
)
from sqlmodel_cache.protocol.read import (
    MISS,
    Held,
    Hit,
    Miss,
    Patience,
    Steps,
    abandon,
    after_miss,
    fill,
    lookup,
    new_epoch,
    new_token,
    peek,
)
from tests.protocol.actors import ENTRY

EPOCH: Final = b"e" * 12
NOTHING: Final = Reply(None, EPOCH)
GOOD: Final = Reply(b"good", EPOCH)
BAD: Final = Reply(b"bad", EPOCH)
BAD_DIGEST: Final = sha1(b"bad").hexdigest()
HELD: Final = Held(ENTRY, "grant", EPOCH)


def verify(value: bytes, epoch: bytes) -> object:
    """Accept everything but b"bad"."""
    assert epoch == EPOCH
    return MISS if value == b"bad" else value.decode()


def walk(steps: Steps[Any], *replies: object) -> tuple[list[Any], Any]:
    """Send the replies; return the operations asked for, and the result or `...` if none yet."""
    ops = []
    try:
        for reply in (None, *replies):
            ops.append(steps.send(reply))  # noqa: PERF401 - kept when the generator ends
    except StopIteration as stop:
        return ops, stop.value
    return ops, ...


def look(*replies: object, wait: float = 0.1) -> tuple[list[Any], Any]:
    """Walk through a lookup of `ENTRY`."""
    return walk(lookup(ENTRY, verify, Patience(lease=7_000, wait=wait, step=0.04)), *replies)


def test_a_hit_is_one_get() -> None:
    """One round trip, no lock, no lease."""
    assert look(GOOD) == ([Get(ENTRY)], Hit("good"))


def test_what_is_found_may_be_none() -> None:
    """A negative entry is a hit: only MISS is a miss."""
    steps = lookup(ENTRY, lambda value, epoch: None, Patience())
    assert walk(steps, GOOD) == ([Get(ENTRY)], Hit(None))


@pytest.mark.parametrize("seen", [NOTHING, Reply(None, None), Reply(b"good", None)])
def test_nothing_to_read_asks_for_a_lease(seen: Reply) -> None:
    """A value without an epoch is none: it is not even looked at."""
    (get, lease), result = look(seen)
    assert result is ...
    assert get == Get(ENTRY)
    assert lease == Lease(ENTRY, lease.token, lease.epoch, None, 7_000)


def test_a_grant_is_held_under_the_stores_names() -> None:
    """Token and epoch of the grant, not those that were proposed."""
    ops, result = look(NOTHING, Granted(b"minted", "token:123"))
    assert result == Miss(Held(ENTRY, "token:123", b"minted"))
    assert len(ops) == 2


def test_a_fence_sends_the_reader_to_the_database() -> None:
    """It waits for nobody and fills nothing."""
    assert look(NOTHING, Fenced())[1] == Miss(None)


def test_a_value_that_came_meanwhile_is_a_hit() -> None:
    """A lease is answered with it."""
    assert look(NOTHING, GOOD)[1] == Hit("good")


def test_anothers_lease_is_waited_for() -> None:
    """Wait, look, and ask again: with the same token, so that a replay is the same request."""
    ops, result = look(NOTHING, Leased(), None, NOTHING, Leased(), None, GOOD)
    assert [type(op) for op in ops] == [Get, Lease, Wait, Get, Lease, Wait, Get]
    assert result == Hit("good")
    assert ops[2] == Wait(0.04)
    assert ops[1].token == ops[4].token
    assert ops[1].epoch != ops[4].epoch


def test_the_wait_is_bounded() -> None:
    """Then the database answers, and nothing is filled."""
    replies = [Leased(), None, NOTHING] * 9
    ops, result = look(NOTHING, *replies, wait=0.1)
    assert result == Miss(None)
    assert sum(op.seconds for op in ops if isinstance(op, Wait)) == pytest.approx(0.12)


def test_no_patience_waits_for_nobody() -> None:
    """`wait=0` is one try."""
    ops, result = look(NOTHING, Leased(), wait=0.0)
    assert [type(op) for op in ops] == [Get, Lease]
    assert result == Miss(None)


def test_a_lease_given_back_is_taken_over() -> None:
    """Whoever waited fills in its place."""
    _, result = look(NOTHING, Leased(), None, NOTHING, Granted(EPOCH, "g"))
    assert result == Miss(Held(ENTRY, "g", EPOCH))


def test_an_unusable_value_is_named_so_that_it_can_be_replaced() -> None:
    """Another release's payload, or a corrupt one."""
    ops, result = look(BAD, Granted(EPOCH, "g"))
    assert ops[1].rejected == BAD_DIGEST
    assert result == Miss(Held(ENTRY, "g", EPOCH))


def test_unusable_values_that_keep_coming_are_left_to_the_others() -> None:
    """Two releases that replace each other's entries: the third refusal ends it."""
    ops, result = look(NOTHING, BAD, BAD, BAD)
    assert [type(op) for op in ops] == [Get, Lease, Lease, Lease]
    assert [op.rejected for op in ops[1:]] == [None, BAD_DIGEST, BAD_DIGEST]
    assert result == Miss(None)


def test_what_was_rejected_is_forgotten_when_it_is_gone() -> None:
    """The next lease names what this reader saw last."""
    ops, _ = look(BAD, Leased(), None, NOTHING)
    assert [op.rejected for op in ops if isinstance(op, Lease)] == [BAD_DIGEST, None]


def test_a_peek_leases_nothing() -> None:
    """It reads what is there."""
    assert walk(peek(ENTRY, verify), GOOD) == ([Get(ENTRY)], Hit("good"))
    for seen in (NOTHING, BAD):
        assert walk(peek(ENTRY, verify), seen) == ([Get(ENTRY)], Miss(None))


@pytest.mark.parametrize("stored", [True, False])
def test_a_fill_tells_whether_it_was_stored(stored: bool) -> None:
    """It carries the grant's token and epoch."""
    expected = Fill(ENTRY, "grant", EPOCH, b"value", 300_000)
    assert walk(fill(HELD, b"value", 300_000), stored) == ([expected], stored)


def test_an_abandoned_lease_is_the_grant() -> None:
    """Not the token that was asked with."""
    assert walk(abandon(HELD), None) == ([Abandon(ENTRY, "grant")], None)


PATHS: Final[dict[str, tuple[Callable[[], Steps[Any]], list[object]]]] = {
    "lookup": (
        lambda: lookup(ENTRY, verify, Patience(wait=0.01, step=0.005)),
        [NOTHING, Leased(), None, NOTHING, BAD, Leased(), None, BAD],
    ),
    "after_miss": (lambda: after_miss(ENTRY, verify, None, Patience()), [BAD, BAD]),
    "peek": (lambda: peek(ENTRY, verify), []),
    "fill": (lambda: fill(HELD, b"", 1), []),
    "abandon": (lambda: abandon(HELD), []),
}


@pytest.mark.parametrize(
    ("path", "step"), [(name, n) for name, (_, path) in PATHS.items() for n in range(len(path) + 1)]
)
@pytest.mark.parametrize("error", [UnavailableError("away"), KeyboardInterrupt()])
def test_a_failure_at_any_step_passes_through(path: str, step: int, error: BaseException) -> None:
    """No step swallows it, changes it, or asks the store for anything more."""
    make, replies = PATHS[path]
    steps = make()
    assert walk(steps, *replies[:step])[1] is ...
    with pytest.raises(type(error)) as caught:
        steps.throw(error)
    assert caught.value is error
    assert caught.value.__context__ is None
    assert getgeneratorstate(steps) == GEN_CLOSED


@pytest.mark.parametrize(
    ("path", "step"), [(name, n) for name, (_, path) in PATHS.items() for n in range(len(path) + 1)]
)
def test_closing_at_any_step_is_quiet(path: str, step: int) -> None:
    """A driver that is cancelled closes what it was stepping."""
    make, replies = PATHS[path]
    steps = make()
    assert walk(steps, *replies[:step])[1] is ...
    steps.close()
    assert getgeneratorstate(steps) == GEN_CLOSED


def test_tokens_and_epochs_are_random() -> None:
    """128 bits of token; an epoch of 12 bytes, the last four kept for the server's run."""
    tokens = {new_token() for _ in range(100)}
    epochs = {new_epoch() for _ in range(100)}
    assert len(tokens) == len(epochs) == 100
    assert all(len(token) == 32 and int(token, 16) >= 0 for token in tokens)
    assert all(len(epoch) == 12 and epoch.endswith(b"\0\0\0\0") for epoch in epochs)

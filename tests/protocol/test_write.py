"""The publishing generators, stepped by hand: what surrounds a COMMIT."""

from __future__ import annotations

from inspect import GEN_CLOSED, getgeneratorstate
from typing import TYPE_CHECKING, Any

import pytest

from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.protocol.ops import Fence, Release
from sqlmodel_cache.protocol.write import Outcome, Publication
from tests.protocol.actors import ENTRY

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlmodel_cache.protocol.read import Steps

ENTRIES, SHARDS = (ENTRY,), (ENTRY.shard,)
STRICT = Publication(ENTRIES, SHARDS, duration=9_000)
EVENTUAL = Publication(ENTRIES, SHARDS, strict=False)


def test_a_fence_names_everything_and_its_writer() -> None:
    """Rows and models in one operation."""
    assert list(STRICT.fence()) == [Fence(STRICT.writer, ENTRIES, SHARDS, 9_000)]


@pytest.mark.parametrize("outcome", [Outcome.COMMITTED, Outcome.REFUSED])
def test_a_known_outcome_releases(outcome: Outcome) -> None:
    """Also a refused commit: its fence must not stand until the deadline."""
    assert list(STRICT.settle(outcome)) == [Release(STRICT.writer, ENTRIES, SHARDS)]


def test_an_ambiguous_outcome_fences_again() -> None:
    """The server may still commit: whatever came in goes, and the deadline starts anew."""
    assert list(STRICT.settle(Outcome.AMBIGUOUS)) == list(STRICT.fence())


def test_eventual_does_not_fence() -> None:
    """Nothing is asked of the store before the COMMIT."""
    assert list(EVENTUAL.fence()) == []


@pytest.mark.parametrize("outcome", Outcome)
def test_eventual_forgets_after_any_outcome(outcome: Outcome) -> None:
    """There is no fence to keep."""
    assert list(EVENTUAL.settle(outcome)) == [Release(EVENTUAL.writer, ENTRIES, SHARDS)]


def test_every_attempt_has_a_writer_of_its_own() -> None:
    """A late Release of one commit must not lift the fence of the next."""
    writers = {Publication(ENTRIES, ()).writer for _ in range(100)}
    assert len(writers) == 100
    assert all(len(writer) == 32 for writer in writers)


@pytest.mark.parametrize(
    "make",
    [STRICT.fence, *(lambda o=o: STRICT.settle(o) for o in Outcome)],
    ids=["fence", *(outcome.value for outcome in Outcome)],
)
@pytest.mark.parametrize("error", [UnavailableError("away"), KeyboardInterrupt()])
def test_a_failure_passes_through(make: Callable[[], Steps[Any]], error: BaseException) -> None:
    """What a lost fence or release means is decided by the caller."""
    steps = make()
    next(steps)
    with pytest.raises(type(error)) as caught:
        steps.throw(error)
    assert caught.value is error
    assert getgeneratorstate(steps) == GEN_CLOSED

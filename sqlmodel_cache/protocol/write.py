"""Publishing one commit attempt: fence -> COMMIT -> release.

The COMMIT belongs to the caller. Strict fences before it, as IQ leases do (Ghandeharizadeh, Yap
and Nguyen, Middleware 2014), so nobody can fill what is about to change; eventual only forgets
after it. An ambiguous COMMIT is fenced again: from now until the deadline every reader goes to
the database, which alone knows the outcome, even if the first fence was evicted or ran out.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlmodel_cache.protocol.ops import Fence, Release
from sqlmodel_cache.protocol.read import new_token

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlmodel_cache.keys import Entry, Shard


class Outcome(enum.Enum):
    """What is known about a COMMIT after it returned or raised."""

    COMMITTED = "committed"
    REFUSED = "refused"  # the server answered with an error: nothing became durable
    AMBIGUOUS = "ambiguous"  # connection lost, time-out, cancellation: nobody can tell


@dataclass(slots=True, unsafe_hash=True)
class Publication:
    """The fences of one commit attempt. Its writer id is random per attempt, never reused.

    Never assigned to; not declared frozen for the reason of the operations' (`protocol.ops`).
    """

    entries: tuple[Entry, ...]
    shards: tuple[Shard, ...]
    strict: bool = True
    duration: int = 60_000  # milliseconds, longer than the longest COMMIT
    writer: str = field(default_factory=new_token)

    def fence(self) -> Generator[Fence, Any, None]:
        """Before COMMIT."""
        if self.strict:
            yield Fence(self.writer, self.entries, self.shards, self.duration)

    def settle(self, outcome: Outcome) -> Generator[Fence | Release, Any, None]:
        """After COMMIT, whatever became of it."""
        if outcome is Outcome.AMBIGUOUS and self.strict:
            yield Fence(self.writer, self.entries, self.shards, self.duration)
        else:
            yield Release(self.writer, self.entries, self.shards)

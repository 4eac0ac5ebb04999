"""The store of the model check is the store we ship: same operations, same answers.

Memory stands for all transports, which are held to each other elsewhere. Epochs are minted by
memory and handed to the model, so that values can be equal; grants are translated. Long random
walks rather than Hypothesis: most differences need four certain steps in a row.
"""

from __future__ import annotations

from hashlib import sha1
from random import Random
from typing import Any, Final
from unittest.mock import patch

import pytest

from sqlmodel_cache import clock
from sqlmodel_cache.protocol.ops import Abandon, Fence, Fill, Get, Granted, Lease, Release
from sqlmodel_cache.transport.memory import MemoryTransport
from tests.protocol.actors import ENTRY
from tests.protocol.model import Fresh, Rules, Store

LEASE_MS: Final = 4_000
FENCE_MS: Final = 2_500  # shorter, or no lease could outlive a fence
HEAD: Final = b"\x01\x00"  # an envelope: two bytes, its epoch, the rest
TOKENS: Final = ("0" * 32, "1" * 32)
WRITERS: Final = {
    "row": ((ENTRY,), ()),
    "row2": ((ENTRY,), ()),
    "model": ((), (ENTRY.shard,)),
    "both": ((ENTRY,), (ENTRY.shard,)),
}


class EnvelopeRules(Rules):
    """The model, on values that are envelopes."""

    def is_current(self, value: bytes, epoch: bytes) -> bool:
        """Look for the epoch where an envelope has it."""
        return value[2:14] == epoch


class Walk:
    """Two stores that are asked the same, and time that passes for both."""

    def __init__(self, random: Random, rules: Rules) -> None:
        self.random = random
        self.rules = rules
        self.memory = MemoryTransport()
        self.store = Store()
        self.now = 1_000.0  # seconds
        self.grants: dict[str, str] = {}  # the model's -> memory's
        self.held: list[Granted] = []  # the model's, the latest last
        self.deadlines: dict[str | None, float] = {}

    def both(self, op: object, real_op: object = None, fresh: Fresh | None = None) -> Any:
        """Ask both stores; return the model's reply after comparing it."""
        with patch.object(clock, "real", lambda: self.now):
            real: Any = self.memory.perform(real_op or op)  # type: ignore[arg-type]
        if isinstance(real, Granted):
            fresh = Fresh(real.epoch, f"{op.token}.{real.token}")  # type: ignore[attr-defined]
        mine: Any
        mine, self.store = self.rules.perform(self.store, op, fresh or Fresh(b"", ""))
        if isinstance(mine, Granted):
            assert isinstance(real, Granted)
            assert mine.epoch == real.epoch
            assert self.grants.setdefault(mine.token, real.token) == real.token
            assert len(set(self.grants.values())) == len(self.grants)
        else:
            assert mine == real
        return mine

    def lease(self) -> None:
        """Ask for a lease, now and then rejecting what is there."""
        value = self.store.value
        rejected = sha1(value).hexdigest() if value and self.random.random() < 0.3 else None
        before = self.store.lease
        epoch = self.random.randbytes(8) + bytes(4)  # of no run in particular
        op = Lease(ENTRY, self.random.choice(TOKENS), epoch, rejected, LEASE_MS)
        reply = self.both(op)
        if isinstance(reply, Granted):
            self.held = [*self.held[-3:], reply]
            if before is None:
                self.deadlines[None] = self.now + LEASE_MS / 1000

    def fill(self) -> None:
        """Fill with a recent grant: late ones and replays among them."""
        if self.held:
            held = self.random.choice(self.held)
            value = HEAD + held.epoch + self.random.randbytes(1)
            self.both(
                Fill(ENTRY, held.token, held.epoch, value, 10**9),
                Fill(ENTRY, self.grants[held.token], held.epoch, value, 10**9),
            )

    def abandon(self) -> None:
        """Give a recent grant back."""
        if self.held:
            held = self.random.choice(self.held)
            self.both(Abandon(ENTRY, held.token), Abandon(ENTRY, self.grants[held.token]))

    def fence(self) -> None:
        """Fence, once or again; again counts the deadline anew."""
        writer = self.random.choice(list(WRITERS))
        self.both(Fence(writer, *WRITERS[writer], FENCE_MS))
        self.deadlines[writer] = self.now + FENCE_MS / 1000

    def release(self) -> None:
        """Release, also without a fence, as a late replay comes."""
        writer = self.random.choice(list(WRITERS))
        self.both(Release(writer, *WRITERS[writer]))

    def wait(self) -> None:
        """Let deadlines pass."""
        self.now += self.random.choice((1.0, 3.0))
        for who, deadline in self.deadlines.items():
            if deadline <= self.now:
                self.store = self.store.expired(who)

    def evict(self) -> None:
        """Forget the value."""
        self.memory.delete(ENTRY.value)
        self.store = self.store.evicted("value")

    def step(self) -> str:
        """Do any of these and look what a reader sees; return which."""
        steps = (
            self.lease,
            self.fill,
            self.fence,
            self.release,
            self.wait,
            self.abandon,
            self.evict,
        )
        step = self.random.choices(steps, (8, 8, 4, 4, 4, 1, 1))[0]
        step()
        self.both(Get(ENTRY))
        return step.__name__


@pytest.mark.parametrize("seed", range(4))
def test_the_model_answers_as_memory_does(seed: int) -> None:
    """Any operations, deadlines and evictions in any order."""
    walk = Walk(Random(seed), EnvelopeRules())
    done = [walk.step() for _ in range(5_000)]
    assert set(done) == {"lease", "fill", "abandon", "fence", "release", "wait", "evict"}
    assert len(walk.grants) > 200

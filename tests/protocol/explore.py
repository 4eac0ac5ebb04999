"""Every state that readers, writers, the database and a failing store can reach together.

From each state go: the next step of every actor; the landing of a COMMIT whose outcome its
writer could not learn; the eviction of any key; the passing of any deadline; a late second
execution of any operation ever sent. A crash is an actor that takes no further step. There is no
bound on steps or faults: the graph is finite, and all of it is visited.

A violation is a readable value, or a hit, older than its floor:

- S1: the last commit that has landed (for a hit: when its reader started). Excused is a commit
  whose fence was evicted or ran out before it landed, or could not be set, until a Fence or
  Release of its writer is executed again: the documented "eviction of a fence together with a
  writer's death", "a paused writer that outlives its fence" and `on_fence_failure="proceed"`.
- S2: the last of these that has also returned to its caller.
- S3: as S1, but only where no lease and no fence is left: whoever has not ended has crashed.

So a run that keeps S1 has checked all three. Readability is asked in every state, which is a
further reader who starts there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from tests.protocol.far import Far, Fars
from tests.protocol.near import Near, Nears

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tests.protocol.actors import Actor
    from tests.protocol.model import Rules

FAULTS: Final = frozenset({"replay", "evict", "expire", "ambiguous", "refuse", "lose", "abandon"})


class Violation(AssertionError):
    """A stale read, and a shortest way there. Readers are alike: their names may be exchanged."""

    def __init__(self, promise: str, trace: list[str]) -> None:
        super().__init__("\n  ".join([f"{promise} is violated:", *trace]))


class Explorer:
    """Visits all that `readers` and `writers` can reach under some faults, breadth first.

    Readers are alike, but for their tokens. Without `excused` there is no exception to S1.
    """

    def __init__(
        self,
        rules: Rules,
        readers: Sequence[Actor],
        writers: Sequence[Actor],
        *,
        faults: Collection[str] = FAULTS,
        promise: str = "S1",
        excused: bool = True,
    ) -> None:
        self._promise = promise
        self._nears = Nears(rules, readers, frozenset(faults))
        self._fars = Fars(writers, frozenset(faults), promise, excused)
        self._at_rest = promise == "S3"
        self._level = 0
        self._came: dict[Far, dict[Near, int]] = {}  # the level at which each state was reached
        self._next: dict[Far, set[Near]] = {}

    def run(self) -> int:
        """Visit every state and return how many there are; raises `Violation`.

        Level by level; whole sets of near halves at once, for there are millions of moves.
        """
        self._reach(self._fars.start, {self._nears.start})
        while self._next:
            self._level += 1
            level, self._next = self._next, {}
            for far, nears in level.items():
                self._expand(far, nears)
        return sum(len(came) for came in self._came.values())

    def _expand(self, far: Far, nears: set[Near]) -> None:
        free: set[Near] = set()
        for near in nears:
            moves = self._nears.moves(near, far.commits, far.floor)
            free |= moves.free
            for move in moves.losing:
                self._reach(self._fars.exposed(far, move.lost), {move.near})
            if moves.stale and not self._at_rest:
                self._level -= 1
                self._fail(far, near, f"then {moves.stale[0].label}")
        self._reach(far, free)
        for _, op, after in self._fars.moves(far):
            self._reach(after, nears if op is None else set(map(self._nears.after(op), nears)))

    def _reach(self, far: Far, nears: set[Near]) -> None:
        came = self._came.setdefault(far, {})
        if new := nears.difference(came):
            came.update(dict.fromkeys(new, self._level))
            self._next.setdefault(far, set()).update(new)
            for near in new if far.floor else ():
                if near.readable < far.floor and (near.resting or not self._at_rest):
                    self._fail(far, near, "")

    def _fail(self, far: Far, near: Near, last: str) -> NoReturn:
        found = last or f"{near.readable} can be read"
        trace = [f"{found}, but commit {far.floor} has landed"]
        for level in range(self._level - 1, -1, -1):
            label, far, near = self._before(level, (far, near))
            trace.append(label)
        raise Violation(self._promise, trace[::-1])

    def _before(self, level: int, state: tuple[Far, Near]) -> tuple[str, Far, Near]:
        """Return a state of `level` from which one move leads to `state`, after its label."""
        for far, came in self._came.items():
            for near in [near for near, reached in came.items() if reached == level]:
                for move in self._nears.moves(near, far.commits, far.floor).every:
                    then = self._fars.exposed(far, move.lost) if move.lost else far
                    if (then, move.near) == state:
                        return move.label, far, near
                for label, op, then in self._fars.moves(far):
                    if (then, near if op is None else self._nears.after(op)(near)) == state:
                        return label, far, near
        raise AssertionError("a state without a way to it")

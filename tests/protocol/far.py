"""The far half of a state: the database and its writers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlmodel_cache.protocol.ops import Fence, Release
from sqlmodel_cache.protocol.write import Outcome
from tests.protocol.actors import LOST, Actor, Commit, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

REFUSED: Final = -1


class Attempt(NamedTuple):
    """What became of one COMMIT.

    `version`: which commit it was; 0: it has not landed; -1: it never will. `ambiguous`: its
    writer cannot know, and it may still land. `exposed`: it lost its fence before it landed, or
    was sent without one, and nothing has made up for that yet.
    """

    version: int = 0
    ambiguous: bool = False
    exposed: bool = False


class FarMove(NamedTuple):
    """One thing that can happen here: what, the operation that the store sees, and then."""

    label: str
    op: object | None
    far: Far


@dataclass(eq=False, slots=True)
class Far:
    """How many commits have landed, where each writer is, what became of its attempts.

    `floor` is the oldest version that the promise under test lets a reader see.
    """

    commits: int
    nodes: tuple[Node, ...]
    attempts: tuple[Attempt, ...]
    floor: int
    moves: list[FarMove] | None = None
    exposed: dict[frozenset[str], Far] = field(default_factory=dict)


class Fars:
    """All far halves of one exploration."""

    def __init__(
        self, writers: Sequence[Actor], faults: frozenset[str], promise: str, excused: bool
    ) -> None:
        self._excused = excused
        self._faults = faults
        self._promise = promise
        self._known: dict[object, Far] = {}
        # per attempt: the place of its writer, the number among that writer's, its id
        self._attempts = [
            (place, number, writer)
            for place, actor in enumerate(writers)
            for number, writer in enumerate(actor.writers)
        ]
        nodes = tuple(writer.start for writer in writers)
        self.start = self._far(0, nodes, (Attempt(),) * len(self._attempts))

    def __len__(self) -> int:
        return len(self._known)

    def moves(self, far: Far) -> list[FarMove]:
        """Return what can happen."""
        if far.moves is None:
            far.moves = [*self._steps(far), *self._replays(far), *self._landings(far)]
        return far.moves

    def exposed(self, far: Far, lost: frozenset[str]) -> Far:
        """Return the half after the store lost these writers' fences."""
        if lost not in far.exposed:
            attempts = self._changed(
                far.attempts,
                lambda attempt: attempt if attempt.version else attempt._replace(exposed=True),
                lost,
            )
            far.exposed[lost] = self._far(far.commits, far.nodes, attempts)
        return far.exposed[lost]

    def _steps(self, far: Far) -> Iterator[FarMove]:
        for place, node in enumerate(far.nodes):
            if isinstance(node.op, Commit):
                yield from self._commits(far, place, node, node.op.number)
            elif node.op is not None:
                attempts = self._mended(far.attempts, node.op)
                then = self._far(far.commits, self._moved(far, place, None), attempts)
                yield FarMove(_label(node, node.op), node.op, then)
                if "lose" in self._faults:
                    lost = self._far(
                        far.commits,
                        self._moved(far, place, LOST),
                        self._unfenced(far.attempts, node.op),
                    )
                    yield FarMove(f"{_label(node, node.op)} is lost", None, lost)

    def _commits(self, far: Far, place: int, node: Node, number: int) -> Iterator[FarMove]:
        index = [attempt[:2] for attempt in self._attempts].index((place, number))
        attempt = far.attempts[index]
        becomes = {Outcome.COMMITTED: attempt._replace(version=far.commits + 1)}
        if "refuse" in self._faults:
            becomes[Outcome.REFUSED] = Attempt(REFUSED)
        if "ambiguous" in self._faults:
            becomes[Outcome.AMBIGUOUS] = attempt._replace(ambiguous=True)
        for outcome, then in becomes.items():
            attempts = (*far.attempts[:index], then, *far.attempts[index + 1 :])
            after = self._far(
                max(far.commits, then.version), self._moved(far, place, outcome), attempts
            )
            yield FarMove(f"{_label(node, node.op)} {outcome.value}", None, after)

    def _landings(self, far: Far) -> Iterator[FarMove]:
        for index, attempt in enumerate(far.attempts):
            if attempt.ambiguous and not attempt.version:
                landed = attempt._replace(version=far.commits + 1)
                attempts = (*far.attempts[:index], landed, *far.attempts[index + 1 :])
                after = self._far(far.commits + 1, far.nodes, attempts)
                yield FarMove(f"{self._attempts[index][2]}: COMMIT lands", None, after)

    def _replays(self, far: Far) -> Iterator[FarMove]:
        if "replay" not in self._faults:
            return
        for node in far.nodes:
            for op in sorted(node.sent, key=repr):
                then = self._far(far.commits, far.nodes, self._mended(far.attempts, op))
                yield FarMove(f"{_label(node, op)} is executed again", op, then)

    def _moved(self, far: Far, place: int, reply: object) -> tuple[Node, ...]:
        node = far.nodes[place].step(reply)[0]
        return (*far.nodes[:place], node, *far.nodes[place + 1 :])

    def _mended(self, attempts: tuple[Attempt, ...], op: object) -> tuple[Attempt, ...]:
        assert isinstance(op, Fence | Release)
        return self._changed(
            attempts, lambda attempt: attempt._replace(exposed=False), frozenset((op.writer,))
        )

    def _unfenced(self, attempts: tuple[Attempt, ...], op: object) -> tuple[Attempt, ...]:
        """Return the attempts after an operation was lost; without its fence one is exposed."""
        if not isinstance(op, Fence):
            return attempts
        return self._changed(
            attempts,
            lambda one: one if one.version or one.ambiguous else one._replace(exposed=True),
            frozenset((op.writer,)),
        )

    def _changed(
        self,
        attempts: tuple[Attempt, ...],
        change: Callable[[Attempt], Attempt],
        writers: frozenset[str],
    ) -> tuple[Attempt, ...]:
        return tuple(
            change(attempt) if writer in writers else attempt
            for attempt, (_, _, writer) in zip(attempts, self._attempts, strict=True)
        )

    def _far(self, commits: int, nodes: tuple[Node, ...], attempts: tuple[Attempt, ...]) -> Far:
        key = commits, nodes, attempts
        if key not in self._known:
            counted = [
                max(attempt.version, 0)
                for attempt, (place, number, _) in zip(attempts, self._attempts, strict=True)
                if not (attempt.exposed and self._excused)
                and (
                    self._promise != "S2"
                    or (nodes[place].returned > number and not attempt.ambiguous)
                )
            ]
            self._known[key] = Far(*key, max(counted, default=0))
        return self._known[key]


def _label(node: Node, op: object) -> str:
    return f"{'+'.join(node.actor.writers)}: {type(op).__name__}"

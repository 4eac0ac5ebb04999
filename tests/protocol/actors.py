"""Readers and writers: the real generators, with the database between them.

A generator cannot be copied, so a `Node` stands for one at rest: where it is, what its locals
hold, which operations it has sent (any of them may be executed again, late). Stepping a node
replays its replies into a new generator; histories that leave the same locals at the same place
are one node.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from unittest.mock import patch

from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.ops import Get, Wait
from sqlmodel_cache.protocol.read import Hit, Patience, Verify, abandon, fill, lookup
from sqlmodel_cache.protocol.write import Publication
from tests.protocol.model import encode, verify
from tests.protocol.naming import names

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY: Final = KeySpace("p", "db", "hero").entry("1")
PATIENCE: Final = Patience(wait=0.005, step=0.005)  # one wait, then the database
LOST: Final = object()  # the reply to an operation that the store never saw


@dataclass(frozen=True, slots=True)
class Select:
    """The reader's SELECT; answered by the number of the last commit, None: cannot be stored."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A writer's COMMIT, the one of its publication `number`; answered by its `Outcome`."""

    number: int


Script: TypeAlias = Generator[Any, Any, Any]


def reader(verify: Verify) -> Script:
    """Read once; return the version of a hit."""
    outcome = yield from lookup(ENTRY, verify, PATIENCE)
    if isinstance(outcome, Hit):
        return outcome.found
    if (held := outcome.held) is None:
        return None  # it asks the database, and nobody else can notice
    del outcome
    version = yield Select()
    if version is None:
        yield from abandon(held)
    else:
        yield from fill(held, encode(held.epoch, version), 60_000)
    return None


def fence(publication: Publication) -> Script:
    """Fence, or proceed without one."""
    try:
        yield from publication.fence()
    except UnavailableError:
        pass


def writer(publications: tuple[Publication, ...]) -> Script:
    """Commit once per publication, as the hook around the DBAPI's commit does."""
    returned = 0  # for how many of them
    for publication in publications:
        yield from fence(publication)
        outcome = yield Commit(returned)
        try:
            yield from publication.settle(outcome)
        except UnavailableError:
            pass  # commit() succeeds all the same
        returned += 1  # noqa: SIM113 - a `Node` looks at it, also between two of them


def forerunner(publication: Publication) -> Script:
    """Commit once, with a fence that was sent ahead and one that covers all."""
    returned = 0
    yield from fence(publication)
    yield from fence(publication)
    outcome = yield Commit(returned)
    try:
        yield from publication.settle(outcome)
    except UnavailableError:
        pass
    returned += 1


def hurrier(publication: Publication) -> Script:
    """Commit once, and return to the caller before the Release is executed."""
    returned = 0
    yield from fence(publication)
    outcome = yield Commit(returned)
    returned += 1
    try:
        yield from publication.settle(outcome)
    except UnavailableError:
        pass


class Actor:
    """One script and the nodes it can be at.

    `token` is what its leases are asked with, `writers` the ids of its commits. With
    `proposals` its leases propose these epochs, one after the other; without, always the same
    one, which a right store never uses as it is.
    """

    def __init__(
        self,
        script: Callable[[], Script],
        token: str = "",
        writers: tuple[str, ...] = (),
        proposals: bytes = b"",
    ) -> None:
        self.token = token
        self.writers = writers
        self.proposals = proposals
        self._script = script
        self._proposed = 0
        self._nodes: dict[object, Node] = {}
        self.start = self.node((), frozenset())[0]

    def _propose(self) -> bytes:
        if not self.proposals:
            return b"?"
        self._proposed += 1
        return self.proposals[self._proposed - 1 : self._proposed]

    def node(self, history: tuple[object, ...], sent: frozenset[object]) -> tuple[Node, Any]:
        """Return the node that these replies lead to, and what the script returned at its end."""
        self._proposed = 0
        script = self._script()
        with (
            patch.object(read, "new_token", lambda: self.token),
            patch.object(read, "new_epoch", self._propose),
        ):
            try:
                op = next(script)
                for reply in history:
                    op = _advance(script, reply)
            except StopIteration as stop:
                return self._at(None, history, sent, (), len(self.writers)), stop.value
        returned = inspect.getgeneratorlocals(script).get("returned", 0)
        return self._at(op, history, sent, (*_frames(script), self._proposed), returned), None

    def _at(
        self,
        op: object,
        history: tuple[object, ...],
        sent: frozenset[object],
        place: object,
        returned: int,
    ) -> Node:
        key = op, sent, place, returned
        if key not in self._nodes:
            mentions = tuple(dict.fromkeys(names((op, place, *sorted(sent, key=repr)))))
            self._nodes[key] = Node(self, op, history, sent, mentions, returned)
        return self._nodes[key]


def reading(token: str, *, proposals: bytes = b"", verify: Verify = verify) -> Actor:
    """Return a reader."""
    return Actor(lambda: reader(verify), token, proposals=proposals)


def writing(*publications: Publication) -> Actor:
    """Return a writer that commits these, one after the other."""
    return Actor(lambda: writer(publications), writers=tuple(p.writer for p in publications))


def ahead(writer: str) -> Actor:
    """Return a writer of the row whose fence went ahead."""
    publication = Publication((ENTRY,), (), writer=writer)
    return Actor(lambda: forerunner(publication), writers=(writer,))


def hurrying(writer: str) -> Actor:
    """Return a writer of the row that does not wait for its Release."""
    publication = Publication((ENTRY,), (), writer=writer)
    return Actor(lambda: hurrier(publication), writers=(writer,))


def row(*ids: str) -> Actor:
    """Return a writer of the row, with one commit for each id."""
    return writing(*(Publication((ENTRY,), (), writer=writer) for writer in ids))


def bulk(*ids: str) -> Actor:
    """Return a writer of the whole model, with one commit for each id."""
    return writing(*(Publication((), (ENTRY.shard,), writer=writer) for writer in ids))


@dataclass(eq=False, slots=True)
class Node:
    """One place an actor can be at, waiting for the reply to `op` (None: it has ended).

    `mentions` are the names of the store's making that could still be used from here,
    `returned` the number of commits that have returned to their caller.
    """

    actor: Actor
    op: object
    history: tuple[object, ...]
    sent: frozenset[object]
    mentions: tuple[object, ...]
    returned: int
    _edges: dict[object, tuple[Node, Any]] = field(default_factory=dict)

    def step(self, reply: object) -> tuple[Node, Any]:
        """Return where the actor is after this reply, and what it returned if it ended."""
        if reply not in self._edges:
            sent = self.sent
            if not isinstance(self.op, Get | Select | Commit):
                sent |= {self.op}  # a lost one too: it may be under way
            self._edges[reply] = self.actor.node((*self.history, reply), sent)
        return self._edges[reply]


def _advance(script: Script, reply: object) -> object:
    op = script.throw(UnavailableError()) if reply is LOST else script.send(reply)
    while isinstance(op, Wait):
        op = script.send(None)
    return op


def _frames(script: Any) -> Iterator[object]:
    """Yield all that decides how a suspended generator goes on: place and locals, outside in."""
    while script is not None:
        yield script.gi_code, script.gi_frame.f_lasti
        yield tuple(sorted(inspect.getgeneratorlocals(script).items()))
        script = script.gi_yieldfrom

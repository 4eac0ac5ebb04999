"""The near half of a state: the store and its readers.

Halves that differ in the names the store made, or in which reader is which, are one; so
names can be used again and there are finitely many. All that a half can do is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, partial
from itertools import permutations
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlmodel_cache.protocol.ops import Get, Lease
from sqlmodel_cache.protocol.read import MISS
from tests.protocol.actors import Actor, Node, Select
from tests.protocol.model import Fresh, Rules, Store, verify
from tests.protocol.naming import EPOCHS, GRANTS, names, permutation, renamed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

NOT_READ: Final = 255  # newer than any commit
NO_NAMES: Final = Fresh(b"", "")


class NearMove(NamedTuple):
    """One thing that can happen here: what, and then.

    `lost` are the writers whose fence it took away; `hit` is a returned version and its floor.
    """

    label: str
    near: Near
    lost: frozenset[str] = frozenset()
    hit: tuple[int, int] | None = None


class NearMoves(NamedTuple):
    """All that can happen here; `free` are the halves after moves that no writer notices."""

    every: list[NearMove]
    free: frozenset[Near]
    losing: list[NearMove]
    stale: list[NearMove]


@dataclass(eq=False, slots=True)
class Near:
    """The store, where each reader is, and below what version its hit would be stale.

    `readable` is what a reader would hit now; `resting`: no lease or fence is left.
    """

    store: Store
    nodes: tuple[Node, ...]
    floors: tuple[int, ...]
    readable: int
    resting: bool
    moves: dict[tuple[int, int], NearMoves] = field(default_factory=dict)
    alone: list[NearMove] | None = None  # those of them that need no actor


class Nears:
    """All near halves of one exploration."""

    def __init__(self, rules: Rules, readers: Sequence[Actor], faults: frozenset[str]) -> None:
        self._rules = rules
        self._readers = tuple(readers)
        self._faults = faults
        self._after: dict[object, Callable[[Near], Near]] = {}
        self._raw: dict[object, Near] = {}
        self._known: dict[object, Near] = {}
        self._twins: dict[object, Node] = {}
        self._serials: dict[Node, int] = {}
        places = range(len(readers))
        alike = not any(reader.proposals for reader in readers)
        self._orders = list(permutations(places)) if alike else [tuple(places)]
        self.start = self._near(
            Store(), tuple(reader.start for reader in readers), (0,) * len(readers)
        )

    def __len__(self) -> int:
        return len(self._known)

    def moves(self, near: Near, commits: int, floor: int) -> NearMoves:
        """Return what can happen while the last commit is `commits` and a hit must show `floor`."""
        key = commits, floor
        if key not in near.moves:
            if near.alone is None:
                near.alone = [*self._replays(near), *self._losses(near)]
            every = [*self._steps(near, commits, floor), *near.alone]
            near.moves[key] = NearMoves(
                every,
                frozenset(move.near for move in every if not move.lost),
                [move for move in every if move.lost],
                [move for move in every if move.hit is not None and move.hit[0] < move.hit[1]],
            )
        return near.moves[key]

    def after(self, op: object) -> Callable[[Near], Near]:
        """Return what takes a half to the one after a writer's operation."""
        if op not in self._after:
            self._after[op] = cache(partial(self._performed, op))
        return self._after[op]

    def _performed(self, op: object, near: Near) -> Near:
        store = self._rules.perform(near.store, op, NO_NAMES)[1]
        return self._near(store, near.nodes, near.floors)

    def _steps(self, near: Near, commits: int, floor: int) -> Iterator[NearMove]:
        for place, node in enumerate(near.nodes):
            label = f"{node.actor.token}: {type(node.op).__name__}"
            if isinstance(node.op, Select):
                yield NearMove(f"{label} {commits}", self._step(near, place, commits, 0)[0])
                if "abandon" in self._faults:
                    yield NearMove(f"{label}, not storable", self._step(near, place, None, 0)[0])
            elif node.op is not None:
                reply, store = self._rules.perform(
                    near.store, node.op, self._fresh(near, node, node.op)
                )
                at_start = floor if node is node.actor.start else near.floors[place]
                then, found = self._step(near, place, reply, at_start, store)
                hit = None if found is None else (found, at_start)
                yield NearMove(f"{label} -> {reply}", then, hit=hit)

    def _step(
        self, near: Near, place: int, reply: object, floor: int, store: Store | None = None
    ) -> tuple[Near, int | None]:
        node, found = near.nodes[place].step(reply)
        if not isinstance(node.op, Get | Lease):
            floor = 0  # it will not hit any more
        nodes, floors = list(near.nodes), list(near.floors)
        nodes[place], floors[place] = node, floor
        return self._near(
            near.store if store is None else store, tuple(nodes), tuple(floors)
        ), found

    def _replays(self, near: Near) -> Iterator[NearMove]:
        if "replay" not in self._faults:
            return
        for node in near.nodes:
            for op in sorted(node.sent, key=repr):
                store = self._rules.perform(near.store, op, self._fresh(near, node, op))[1]
                if store != near.store:
                    label = f"{node.actor.token}: {type(op).__name__} is executed again"
                    yield NearMove(label, self._near(store, near.nodes, near.floors))

    def _losses(self, near: Near) -> Iterator[NearMove]:
        store = near.store
        fences = store.writers | store.whole
        losses = []
        if "evict" in self._faults:
            keys = "value", "lock", "epoch", "epoch-lock"
            losses += [(f"{key} is evicted", store.evicted(key)) for key in keys]
        if "expire" in self._faults:
            losses.append(("the lease runs out", store.expired(None)))
            losses += [(f"{who}'s fence runs out", store.expired(who)) for who in sorted(fences)]
        for label, after in losses:
            if after != store:
                lost = fences - after.writers - after.whole
                yield NearMove(label, self._near(after, near.nodes, near.floors), lost)

    def _fresh(self, near: Near, node: Node, op: object) -> Fresh:
        if not isinstance(op, Lease):
            return NO_NAMES
        used = {*names(near.store), *(name for node in near.nodes for name in node.mentions)}
        return Fresh(
            next(epoch for epoch in EPOCHS if epoch not in used),
            next(grant for grant in GRANTS[node.actor.token] if grant not in used),
        )

    # One half for all of the same kind

    def _near(self, store: Store, nodes: tuple[Node, ...], floors: tuple[int, ...]) -> Near:
        raw = store, nodes, floors
        if raw not in self._raw:
            self._raw[raw] = self._canonical(*raw)
        return self._raw[raw]

    def _canonical(self, store: Store, nodes: tuple[Node, ...], floors: tuple[int, ...]) -> Near:
        alike = []
        for order in self._orders:
            new = self._exchange(store, [nodes[place] for place in order])
            twins = tuple(
                self._twin(nodes[place], reader, new)
                for place, reader in zip(order, self._readers, strict=True)
            )
            alike.append((renamed(store, new), twins, tuple(floors[place] for place in order)))
        half = min(alike, key=self._rank)
        if half not in self._known:
            self._known[half] = self._made(*half)
        return self._known[half]

    def _rank(self, half: tuple[Store, tuple[Node, ...], tuple[int, ...]]) -> tuple[object, ...]:
        store, nodes, floors = half
        serials = [self._serials.setdefault(node, len(self._serials)) for node in nodes]
        return serials, floors, store.lease or "", store.epoch or b"", store.value or b""

    def _exchange(self, store: Store, nodes: Sequence[Node]) -> dict[Any, Any]:
        """Return new names: numbered by first appearance, and readers by their place."""
        tokens = {
            node.actor.token: reader.token
            for node, reader in zip(nodes, self._readers, strict=True)
        }
        new: dict[Any, Any] = dict(tokens)
        unused = {None: iter(EPOCHS)} | {t: iter(GRANTS[tokens[t]]) for t in tokens}
        for name in names((store.epoch, store.value, store.lease, *(n.mentions for n in nodes))):
            if name not in new:
                new[name] = next(unused[name[:2] if isinstance(name, str) else None])
        return new

    def _twin(self, node: Node, reader: Actor, new: Mapping[Any, Any]) -> Node:
        key = node, reader, tuple(new[name] for name in node.mentions)
        if key not in self._twins:
            if reader is node.actor and key[2] == node.mentions:
                self._twins[key] = node
            else:
                new = permutation({name: new[name] for name in (*node.mentions, node.actor.token)})
                sent = renamed(node.sent, new)
                self._twins[key] = reader.node(renamed(node.history, new), sent)[0]
        return self._twins[key]

    def _made(self, store: Store, nodes: tuple[Node, ...], floors: tuple[int, ...]) -> Near:
        seen = self._rules.get(store)
        readable: object = MISS
        if seen.value is not None and seen.epoch is not None:
            readable = verify(seen.value, seen.epoch)
        return Near(
            store,
            nodes,
            floors,
            readable if isinstance(readable, int) else NOT_READ,
            store.lease is None and not store.fenced,
        )

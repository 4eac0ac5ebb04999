"""A reader and a writer, each at any step of the other: store operations, statements, COMMITs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from sqlmodel_cache.keys import Entry
from sqlmodel_cache.protocol.ops import GetMany, Reply
from sqlmodel_cache.transport import MemoryTransport


class Nodes(MemoryTransport):
    """Like a Cluster of many nodes: they answer one question in any order; here, the last first."""

    looks_twice = True
    between: Callable[[], None] = staticmethod(lambda: None)

    def perform(self, op: Any) -> Any:
        """Carry out one operation, a lookup node by node; twice where all is of one moment."""
        if type(op) is not GetMany:
            return super().perform(op)
        first = self._by_node(op)
        if not (op.together and self.looks_twice):
            return first
        second = self._by_node(op)
        gone = Reply(None, None)
        return [one if one == other else gone for one, other in zip(first, second, strict=True)]

    def _by_node(self, op: GetMany) -> list[Reply]:
        found: dict[Entry, Reply] = {}
        for shard in reversed(dict.fromkeys(entry.shard for entry in op.entries)):
            mine = tuple(entry for entry in op.entries if entry.shard == shard)
            found |= dict(zip(mine, super().perform(GetMany(mine)), strict=True))
            self.between()
        return [found[entry] for entry in op.entries]


class Stage:
    """What happens at which step; `at` maps a step's number to what the other one does there."""

    def __init__(self, engine: Any, transport: Any) -> None:
        self.engine = engine
        self.transport = transport
        self.at: dict[int, Callable[[], None]] = {}
        self.steps = 0
        self.running = False

    def step(self, *_: Any) -> None:
        """Let the other one do all it does, if this is the moment."""
        if not self.running:
            return
        act = self.at.pop(self.steps, None)
        self.steps += 1
        if act is not None:
            self.running = False
            try:
                act()
            finally:
                self.running = True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count steps inside the block: before and after each operation and statement."""
        perform = self.transport.perform

        def stepping(op: Any) -> Any:
            self.step()
            reply = perform(op)
            self.step()
            return reply

        self.transport.perform = stepping
        self.transport.between = self.step
        event.listen(self.engine, "before_cursor_execute", self.step)
        event.listen(self.engine, "after_cursor_execute", self.step)
        self.steps, self.running = 0, True
        try:
            yield
        finally:
            self.running = False
            event.remove(self.engine, "before_cursor_execute", self.step)
            event.remove(self.engine, "after_cursor_execute", self.step)
            self.transport.perform = perform

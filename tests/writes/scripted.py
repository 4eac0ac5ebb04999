"""A memory transport that remembers what it was asked, and fails where a test says so."""

from __future__ import annotations

from collections.abc import Callable

from sqlmodel_cache.protocol.ops import Op
from sqlmodel_cache.transport.memory import MemoryTransport


class ScriptedTransport(MemoryTransport):
    """`on(op)` is called before each operation; what it raises is the operation's failure."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Op] = []
        self.on: Callable[[Op], object] = lambda op: None

    def perform(self, op):
        self.asked.append(op)
        self.on(op)
        return super().perform(op)

    def names(self):
        """Return the names of the operations asked since the last call of it."""
        asked, self.asked = self.asked, []
        return [type(op).__name__ for op in asked]

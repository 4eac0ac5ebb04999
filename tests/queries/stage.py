"""A reader and a writer, each at any step of the other: store operations, statements, COMMITs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from sqlmodel_cache.transport import MemoryTransport


class Stage:
    """What happens at which step; `at` maps a step's number to what the other one does there."""

    def __init__(self, engine: Any, transport: MemoryTransport) -> None:
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

        self.transport.perform = stepping  # type: ignore[method-assign]
        event.listen(self.engine, "before_cursor_execute", self.step)
        event.listen(self.engine, "after_cursor_execute", self.step)
        self.steps, self.running = 0, True
        try:
            yield
        finally:
            self.running = False
            event.remove(self.engine, "before_cursor_execute", self.step)
            event.remove(self.engine, "after_cursor_execute", self.step)
            self.transport.perform = perform  # type: ignore[method-assign]

"""What one DBAPI connection has touched since its root transaction began, savepoint by savepoint.

A stack of frames: the root's at the bottom, one more per savepoint. Releasing a savepoint pours
its frame into the one below, rolling back to it empties it. Nothing is published before the root
commits; then `capture` tells everything at once. Keys and tables are any hashable values.

Doubt always leaves more touched, never less. `wrote` survives a rollback to a savepoint, because
a trigger may have done what no frame knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable


@dataclass(frozen=True, slots=True)
class Touched:
    """What a commit must invalidate. Rows of touched tables may be among the rows too."""

    rows: frozenset[Hashable]
    tables: frozenset[Hashable]


@dataclass(slots=True)
class _Frame:
    """One savepoint's share; `pending` counts writes per table whose rows have no name yet."""

    name: str | None = None
    rows: set[Hashable] = field(default_factory=set)
    tables: set[Hashable] = field(default_factory=set)
    pending: dict[Hashable, int] = field(default_factory=dict)


class Frames:
    """The stack of one connection. `wrote`: it wrote anything since its root began."""

    __slots__ = ("_stack", "wrote")

    def __init__(self) -> None:
        self._stack = [_Frame()]
        self.wrote = False

    def touch_row(self, key: Hashable) -> None:
        """Note that the row `key` was written."""
        self.wrote = True
        self._stack[-1].rows.add(key)

    def touch_table(self, table: Hashable) -> None:
        """Note that rows of `table` were written that cannot be named."""
        self.wrote = True
        self._stack[-1].tables.add(table)

    def expect_inserts(self, table: Hashable, number: int) -> None:
        """Note that `number` rows were inserted whose keys are still to be learnt."""
        self.wrote = True
        pending = self._stack[-1].pending
        pending[table] = pending.get(table, 0) + number

    def name_insert(self, table: Hashable, key: Hashable) -> None:
        """Learn the key of an inserted row: the latest expected one's, in that one's frame.

        Unless it is touched already: its statement knew it, and those expected are others.
        """
        if any(key in frame.rows for frame in self._stack):
            return
        for frame in reversed(self._stack):
            if frame.pending.get(table):
                frame.pending[table] -= 1
                frame.rows.add(key)
                return
        self.touch_row(key)

    def expect_rows(self, table: Hashable) -> None:
        """Note that rows of `table` are about to be written that can be named when they are."""
        self.expect_inserts(table, 1)

    def name_rows(self, table: Hashable, keys: Iterable[Hashable]) -> None:
        """Learn all that `expect_rows` spoke of the last time, in that one's frame."""
        for frame in reversed(self._stack):
            if frame.pending.get(table):
                frame.pending[table] -= 1
                frame.rows.update(keys)
                return
        self.wrote = True
        self._stack[-1].rows.update(keys)

    def savepoint(self, name: str) -> None:
        """Begin a frame. A name may come twice; the later hides the earlier."""
        self._stack.append(_Frame(name))

    def release(self, name: str) -> None:
        """Pour a savepoint's frame, and those above it, into the one below it."""
        for _ in range(self._depth(name), len(self._stack)):
            frame, below = self._stack.pop(), self._stack[-1]
            below.rows |= frame.rows
            below.tables |= frame.tables
            for table, number in frame.pending.items():
                below.pending[table] = below.pending.get(table, 0) + number

    def rollback_to(self, name: str) -> None:
        """Forget what was touched since a savepoint, which goes on; if unknown, forget nothing."""
        if (depth := self._depth(name)) < len(self._stack):
            del self._stack[depth:]
            self.savepoint(name)

    def clear(self) -> None:
        """Begin anew: the root transaction has ended, or the connection was reset."""
        if self.wrote or len(self._stack) > 1:
            self._stack = [_Frame()]
            self.wrote = False

    def capture(self) -> Touched:
        """Tell what was touched, and forget nothing. What has no name touches its whole table."""
        rows: set[Hashable] = set()
        tables: set[Hashable] = set()
        for frame in self._stack:
            rows |= frame.rows
            tables |= frame.tables
            tables.update(table for table, number in frame.pending.items() if number)
        return Touched(frozenset(rows), frozenset(tables))

    def is_touched(self, key: Hashable, table: Hashable) -> bool:
        """Tell whether the row `key` of `table` may have been written."""
        return self.wrote and any(
            key in frame.rows or table in frame.tables or frame.pending.get(table, 0) > 0
            for frame in self._stack
        )

    def _depth(self, name: str) -> int:
        """Return where the latest frame of that name is; above the top if there is none."""
        for depth in range(len(self._stack) - 1, 0, -1):
            if self._stack[depth].name == name:
                return depth
        return len(self._stack)

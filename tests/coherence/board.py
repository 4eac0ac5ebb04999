"""The oracle: what has certainly been committed, in memory that all processes share.

Nobody's clock is trusted: times are CLOCK_MONOTONIC, one for all processes of a host, and a version
is published only when it is certain. Every actor has a column of its own in each row and only ever
raises it, so there are no locks, and a `kill -9` leaves nothing half written (an aligned word of
eight bytes). What is known of a row is the greatest of its columns.

- `seen`: a version that was visible to somebody. A writer publishes it when the server's reply to
  COMMIT is in, before anything else happens; a reader when the database, or a hit, showed it. So it
  follows the commit point as closely as can be observed: S1 is judged by it.
- `returned`: a version whose `commit()` has returned: S2.
- `gone`: a version that is a deletion, published before its COMMIT: excuses a `None`.
- `when`: nanoseconds of the last reply to COMMIT.
"""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COUNTERS: Final = (
    "operations",
    "hits",
    "near",
    "database",
    "absent",
    "stale_s1",
    "stale_s2",
    "stale_database",
    "commits",
    "ahead",
    "rollbacks",
    "errors",
    "ready",
)
NEAR: Final = 10_000_000  # nanoseconds after a commit on the same key
_WORD: Final = 8
_HEADER: Final = 8  # words: 0 the run is over, 1 the row committed last


@dataclass(frozen=True, slots=True)
class Known:
    """What was certain of a row before a read of it began."""

    seen: int
    returned: int
    near: bool


class Board:
    """The shared words of one run, in the file `path`. `create` first, then any process opens."""

    def __init__(self, path: Path, rows: int, slots: int) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        words = memoryview(self._map).cast("q")
        self._words = words
        self._parent = os.getppid()
        area = rows * slots
        self.seen, self.returned, self.gone, self.when = (
            [words[_HEADER + table * area + row * slots :][:slots] for row in range(rows)]
            for table in range(4)
        )
        base = _HEADER + 4 * area
        width = len(COUNTERS)
        self.counts = [words[base + slot * width :][:width] for slot in range(slots)]

    @classmethod
    def create(cls, path: Path, rows: int, slots: int) -> Board:
        """Make the file, all zero, and open it."""
        words = _HEADER + 4 * rows * slots + slots * len(COUNTERS)
        path.write_bytes(bytes(_WORD * words))
        return cls(path, rows, slots)

    @property
    def over(self) -> bool:
        """Whether the run is to end, if only because whoever started it is gone."""
        return bool(self._words[0]) or os.getppid() != self._parent

    def stop(self) -> None:
        """Have every actor end."""
        self._words[0] = 1

    @property
    def hot(self) -> int:
        """The row that was committed last."""
        return self._words[1]

    def heat(self, row: int) -> None:
        """Say that `row` is being committed."""
        self._words[1] = row

    def known(self, row: int) -> Known:
        """Return what is certain of `row` now. A read that starts after this must not be older."""
        seen, returned, when = max(self.seen[row]), max(self.returned[row]), max(self.when[row])
        return Known(seen, returned, time.monotonic_ns() - when <= NEAR)

    def totals(self) -> dict[str, int]:
        """Return the sums of all counters."""
        return {
            name: sum(counts[number] for counts in self.counts)
            for number, name in enumerate(COUNTERS)
        }


class Slot:
    """One actor's columns. A thread has one of its own; the tasks of a loop may share one."""

    def __init__(self, board: Board, number: int) -> None:
        self.board = board
        self.number = number
        self._counts = board.counts[number]

    def count(self, name: str, by: int = 1) -> None:
        """Count something."""
        self._counts[COUNTERS.index(name)] += by

    def saw(self, row: int, version: int) -> None:
        """Publish that `version` is visible."""
        mine = self.board.seen[row]
        if version > mine[self.number]:
            mine[self.number] = version

    def replied(self, row: int, version: int) -> None:
        """Publish that the server said it has committed `version`."""
        self.saw(row, version)
        self.board.when[row][self.number] = time.monotonic_ns()

    def returned(self, row: int, version: int) -> None:
        """Publish that commit() of `version` has returned."""
        mine = self.board.returned[row]
        if version > mine[self.number]:
            mine[self.number] = version

    def deletes(self, row: int, version: int) -> None:
        """Publish that `version`, not yet committed, is a deletion."""
        self.board.gone[row][self.number] = version

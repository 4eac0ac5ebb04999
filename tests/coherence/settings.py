"""What one run is made of; pickled to every process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.coherence.flaws import FLAWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One run of the harness.

    `threads` and `tasks` are numbers of actors: one process per item, of which a thread each, or
    the tasks of one loop. `writes` is the share of operations that write, `whole` the share of
    writes that name no key, `pairs` that of two rows. In a `share` of cases a delay of up to
    `dawdle` is put into each window: between SELECT and fill, a fence sent ahead and its statement,
    fence and COMMIT, COMMIT and release. Between two operations an actor pauses for `idle`. With
    `bulk` most reads are of `get_many`, whenever no commit is near; with `queries` some are of
    cached queries. A run ends early once a counter of the board is `enough`. Times are in seconds,
    `fence` in milliseconds. `flaw` names a canary.
    """

    folder: Path
    database: str
    redis: str
    prefix: str
    rows: int = 16
    threads: tuple[int, ...] = (2, 1)
    tasks: tuple[int, ...] = (4, 4)
    writes: float = 0.25
    seconds: float = 10.0
    share: float = 0.1
    dawdle: float = 0.002
    whole: float = 0.01
    pairs: float = 0.1
    idle: float = 0.0
    bulk: bool = True
    queries: bool = True
    enough: tuple[str, int] | None = None
    fence: int | None = None
    flaw: str | None = None
    abort: bool = False
    deletions: bool = True
    seed: int = 1

    @property
    def board(self) -> Path:
        """The file with the shared words."""
        return self.folder / "board"

    @property
    def evidence(self) -> Path:
        """The file in which actors report what they found, a JSON object per line."""
        return self.folder / "evidence.jsonl"

    def canary(self, name: str, *, broken: bool = True) -> Settings:
        """Return the run in which the flaw `name` shows, or its control without the flaw."""
        flaw = FLAWS[name]
        usual: dict[str, Any] = {"share": 0.5, "bulk": False, "queries": False, "dawdle": 0.005}
        return replace(
            self,
            flaw=name if broken else None,
            prefix=f"{self.prefix}-{name.replace(' ', '-')}-{broken:d}",
            folder=self.folder / f"{name.replace(' ', '-')}-{broken:d}",
            **usual | dict(flaw.run),
        )

    @property
    def slots(self) -> int:
        """Columns of the board: one per thread, one per loop, one to spare."""
        return sum(self.threads) + len(self.tasks) + 1

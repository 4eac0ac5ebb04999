"""SQLModel's own test-suite, run without the cache and with every mapped class cached.

    make suites

Its sdist and what its tests import come from the package index, into an environment of their own.
Exits with an error unless both runs have the same outcome for every test, and the cached one hits.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
_IMPORTED = (
    *("aiosqlite", "alembic", "black", "coverage", "dirty-equals", "fastapi", "freezegun"),
    *("greenlet", "httpx"),
    *("jinja2", "pytest", "pytest-asyncio", "pyyaml", "ruff", "time-machine", "typer"),
)


def main() -> int:
    """Return the exit status."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        python = _environment(place / "venv")
        suite = _unpacked(python, place)
        plain = _outcomes(python, suite, place / "plain.xml")
        cached = _outcomes(
            python, suite, place / "cached.xml", "-p", "sqlmodel_cache.testing.everywhere"
        )
    differing = {test for test in plain | cached if plain.get(test) != cached.get(test)}
    passed = sum(outcome == "passed" for outcome in plain.values())
    print(f"{len(plain)} tests, {passed} passed without the cache; {len(differing)} differ with it")
    for test in sorted(differing):
        print(f"  {test}: {plain.get(test)} without, {cached.get(test)} with the cache")
    return 1 if differing or not passed else 0


def _environment(place: Path) -> Path:
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    wanted = [f"sqlmodel=={version('sqlmodel')}", f"sqlalchemy=={version('sqlalchemy')}"]
    _run(python, "-m", "pip", "install", "-q", "-e", str(ROOT), *wanted, *_IMPORTED)
    return python


def _unpacked(python: Path, place: Path) -> Path:
    name = f"sqlmodel=={version('sqlmodel')}"
    _run(python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:",
         "-d", str(place), name)  # fmt: skip
    (archive,) = place.glob("sqlmodel-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(place, filter="data")
    return place / archive.name.removesuffix(".tar.gz")


def _outcomes(python: Path, suite: Path, report: Path, *options: str) -> dict[str, str]:
    """Run the suite and return how each of its tests ended."""
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*command, f"--junitxml={report}", "tests"],
        cwd=suite,
        env={**own, "PATH": f"{python.parent}{os.pathsep}{own['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    print("\n".join(line for line in done.stdout.splitlines() if "hits=" in line) or "no cache")
    if done.returncode > 1:  # 1: some tests failed
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    return {
        f"{case.get('classname')}::{case.get('name')}": next((e.tag for e in case), "passed")
        for case in ElementTree.parse(report).iter("testcase")
    }


def _run(python: Path, *arguments: str) -> None:
    subprocess.run([str(python), *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main())

"""Two releases of this library on one store: each invalidates what the other has stored.

The other release is that of the wheel in `SQLMODEL_CACHE_PREVIOUS_WHEEL`. Without one only this
tree under another version is tried, which shows that the test works.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.upgrades.conftest import ROOT, Process

COLUMNS = {"name": ["str", "name"]}
WHEEL = os.environ.get("SQLMODEL_CACHE_PREVIOUS_WHEEL")


@pytest.fixture(params=["renumbered", "previous"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a folder with the other release."""
    if request.param == "previous":
        if not WHEEL:
            pytest.skip("not run: SQLMODEL_CACHE_PREVIOUS_WHEEL names no wheel")
        with ZipFile(WHEEL) as wheel:
            wheel.extractall(tmp_path)
        return tmp_path
    shutil.copytree(ROOT / "sqlmodel_cache", tmp_path / "sqlmodel_cache")
    information = tmp_path / "sqlmodel_cache-0.0.9.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: sqlmodel-cache\nVersion: 0.0.9\n"
    )
    return tmp_path


def test_each_invalidates_the_other(
    library: Path, table: Callable[[str], str], start: Callable[..., Process]
) -> None:
    """A row, a whole model, and "there is no such row"; both directions."""
    name = table("name TEXT")
    processes = start(name, COLUMNS), start(name, COLUMNS, library)
    for pk, (writer, reader) in enumerate(permutations(processes), start=1):
        for process in (reader, writer):
            assert process("get", pk) is None
        writer("insert", {"id": pk, "name": "a"})
        _read_by(processes, pk, "a")
        writer("set", pk, "name", "b")
        _read_by(processes, pk, "b")
        reader("get", pk)
        writer("bulk", "name", "c")
        _read_by((reader, writer), pk, "c")


def _read_by(processes: tuple[Process, ...], pk: int, name: str) -> None:
    for process in (*processes, *processes):
        assert process("get", pk) == {"id": str(pk), "name": repr(name)}


def test_each_hits_its_own(
    library: Path, table: Callable[[str], str], start: Callable[..., Process]
) -> None:
    """The other release is one, and uses the cache."""
    name = table("name TEXT")
    here, there = start(name, COLUMNS), start(name, COLUMNS, library)
    here("insert", {"id": 1, "name": "a"})
    for process in (there, here):
        for _ in range(2):
            process("get", 1)
        assert process.hit
    here("set", 1, "name", "b")
    there("get", 1)
    there("get", 1)
    told = there("release", 1)
    assert "release" in told
    assert told != here("release", 2)

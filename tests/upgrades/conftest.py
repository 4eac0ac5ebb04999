"""Processes of two versions on one PostgreSQL and one Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """One version of the application. `get` returns the attributes as their `repr`."""

    def __init__(self, settings: dict[str, Any], library: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SQLMODEL_CACHE_")}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("actor.py")), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**environment, "PYTHONPATH": str(library)},
            text=True,
        )
        self.hit = False

    def __call__(self, *line: Any) -> Any:
        """Have one line carried out; `hit` tells afterwards whether it sent no SELECT."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process ended"
        found = json.loads(answer)
        self.hit = found["hit"]
        return found["answer"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)


@pytest.fixture
def table(postgres_url: str) -> Iterator[Callable[[str], str]]:
    """Return the function that makes a table of the test's own, with these columns."""
    engine = create_engine(postgres_url)
    made: list[str] = []

    def make(columns: str) -> str:
        name = f"upgrades_{uuid4().hex[:10]}"
        with engine.begin() as connection:
            connection.execute(text(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, {columns})"))
        made.append(name)
        return name

    yield make
    with engine.begin() as connection:
        for name in made:
            connection.execute(text(f"DROP TABLE {name}"))
    engine.dispose()


@pytest.fixture
def start(postgres_url: str, redis_url: str, key_prefix: str) -> Iterator[Callable[..., Process]]:
    """Return the function that starts a process with a model of a table's columns."""
    with ExitStack() as stack:

        def start_(table: str, columns: dict[str, list[str]], library: Path = ROOT) -> Process:
            settings = {
                "database": postgres_url,
                "redis": redis_url,
                "prefix": key_prefix,
                "table": table,
                "columns": {"id": ["int", "id"], **columns},
            }
            process = Process(settings, library)
            stack.callback(process.close)
            return process

        yield start_

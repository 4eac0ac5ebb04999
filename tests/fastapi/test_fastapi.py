"""A FastAPI application with the lifespan and the middleware: sync and async endpoints."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sqlmodel_cache import ConfigurationError, SQLModelCache, _state, aget_many
from sqlmodel_cache.fastapi import CacheMiddleware, cache_lifespan, nobody
from sqlmodel_cache.testing import FaultyTransport, temporary_cache
from tests.api.user_transports import AsyncDictTransport
from tests.testing.models import Base, Hero

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

HEROES = range(1, 21)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Yield an engine of a database with twenty heroes."""
    engine = create_engine(f"sqlite:///{tmp_path}/heroes.sqlite3")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Hero(id=number, name=f"hero {number}") for number in HEROES])
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
async def async_engine(engine: Engine) -> AsyncIterator[AsyncEngine]:
    """Yield an engine of the same database for async sessions."""
    made = create_async_engine(engine.url.set(drivername="sqlite+aiosqlite"))
    yield made
    await made.dispose()


def routes(app: FastAPI, engine: Engine, async_engine: AsyncEngine) -> None:
    """Read heroes from a thread, and from the event loop."""

    @app.get("/sync/{times}")
    def in_a_thread(times: int) -> str:
        for _ in range(times):
            with Session(engine) as session:
                session.get_one(Hero, times)
        return "read"

    @app.get("/async/{times}")
    async def in_the_loop(times: int) -> str:
        for _ in range(times):
            async with AsyncSession(async_engine) as session:
                await session.get_one(Hero, times)
            await asyncio.sleep(0)
        return "read"

    @app.get("/many")
    async def many() -> int:
        async with AsyncSession(async_engine) as session:
            return len(await aget_many(session, Hero, [1, 2, 3, 404]))

    @app.get("/tasks")
    async def tasks() -> str:
        async def read(number: int) -> None:
            async with AsyncSession(async_engine) as session:
                await session.get(Hero, number)

        await asyncio.gather(*map(read, range(1, 6)))
        return "read"

    @app.get("/late")
    async def late(background: BackgroundTasks) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            async with AsyncSession(async_engine) as session:
                await session.get(Hero, 1)
            yield b"read"

        background.add_task(in_a_thread, 3)
        return StreamingResponse(chunks())

    @app.get("/none")
    async def none() -> str:
        return "nothing read"


Make = Callable[..., FastAPI]


@pytest.fixture
def make(engine: Engine, async_engine: AsyncEngine) -> Make:
    """Return what makes an application with the middleware."""

    def make(**middleware: Any) -> FastAPI:
        app = FastAPI()
        routes(app, engine, async_engine)
        app.add_middleware(CacheMiddleware, **middleware)
        return app

    return make


def client_of(app: Any) -> httpx.AsyncClient:
    """Return a client that calls an application in this event loop."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


@pytest.mark.parametrize("store", ["memory", "redis"])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_response_tells_the_lookups_of_its_request(
    make: Make, kind: str, store: str, request: pytest.FixtureRequest, key_prefix: str
) -> None:
    """From threads and from the loop alike; a request that reads nothing says so."""
    url = "memory://" if store == "memory" else request.getfixturevalue("redis_url")
    SQLModelCache.configure(url, key_prefix=key_prefix)
    async with client_of(make()) as client:
        assert (await client.get(f"/{kind}/4")).headers["X-Cache"] == "hit=3;miss=1"
        assert (await client.get(f"/{kind}/4")).headers["X-Cache"] == "hit=4;miss=0"
        assert (await client.get("/none")).headers["X-Cache"] == "hit=0;miss=0"


async def test_concurrent_requests_do_not_mix(make: Make) -> None:
    """Forty at once, each told its own number; the total is everybody's."""
    SQLModelCache.configure("memory://")
    async with client_of(make()) as client:
        paths = [f"/{kind}/{number}" for number in HEROES for kind in ("sync", "async")]
        await asyncio.gather(*map(client.get, paths))  # now everything is cached
        before = SQLModelCache.stats().hits
        responses = await asyncio.gather(*map(client.get, paths))
    assert [response.headers["X-Cache"] for response in responses] == [
        f"hit={number};miss=0" for number in HEROES for _ in range(2)
    ]
    assert SQLModelCache.stats().hits - before == 2 * sum(HEROES)


async def test_many_and_tasks_are_counted_row_by_row(make: Make) -> None:
    """`get_many` counts as many lookups as rows; tasks of a request count for it."""
    SQLModelCache.configure("memory://")
    async with client_of(make()) as client:
        assert (await client.get("/many")).headers["X-Cache"] == "hit=0;miss=4"
        assert (await client.get("/tasks")).headers["X-Cache"] == "hit=3;miss=2"


async def test_what_comes_after_the_start_is_not_told(make: Make) -> None:
    """The header has left when a stream or a background task reads."""
    SQLModelCache.configure("memory://")
    async with client_of(make()) as client:
        response = await client.get("/late")
    assert (response.text, response.headers["X-Cache"]) == ("read", "hit=0;miss=0")
    assert SQLModelCache.stats().reads == 4


async def test_failures_and_bypasses_are_told_where_there_are_any(make: Make) -> None:
    """So that one request shows whether the store was asked at all, and answered."""
    faulty = FaultyTransport()
    SQLModelCache.configure(faulty)
    async with client_of(make()) as client:
        faulty.fail("get")
        assert (await client.get("/sync/2")).headers["X-Cache"] == (
            "hit=0;miss=0;bypass=1;failure=1"
        )


async def test_nobody_may_bypass_unless_somebody_says_so(make: Make) -> None:
    """The header alone does nothing."""
    SQLModelCache.configure("memory://")
    async with client_of(make()) as client:
        await client.get("/sync/1")
        response = await client.get("/sync/1", headers={"X-Cache-Bypass": "1"})
    assert response.headers["X-Cache"] == "hit=1;miss=0"
    assert nobody(None) is False  # type: ignore[arg-type]


def by_token(connection: Any) -> bool:
    """Authorise who knows the word."""
    return connection.headers["x-cache-bypass"] == "sesame"  # type: ignore[no-any-return]


async def by_token_async(connection: Any) -> bool:
    """Authorise after asking somebody else."""
    await asyncio.sleep(0)
    return by_token(connection)


@pytest.mark.parametrize("may_bypass", [by_token, by_token_async], ids=["plain", "async"])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_authorised_request_goes_past_the_cache(
    make: Make, may_bypass: Any, kind: str
) -> None:
    """For itself alone: neither read nor stored, while others go on hitting."""
    SQLModelCache.configure("memory://")
    async with client_of(make(may_bypass=may_bypass)) as client:
        told = []
        for word in ("sesame", "", "wrong", "sesame"):
            headers = {"x-cache-bypass": word} if word else {}
            told.append((await client.get(f"/{kind}/1", headers=headers)).headers["X-Cache"])
    assert told == [
        "hit=0;miss=0;bypass=1",
        "hit=0;miss=1",
        "hit=1;miss=0",
        "hit=0;miss=0;bypass=1",
    ]


async def test_a_truthy_answer_is_no_authorisation(make: Make) -> None:
    """Only True: an object that somebody forgot to look into must not open the door."""
    SQLModelCache.configure("memory://")
    async with client_of(make(may_bypass=lambda connection: object())) as client:
        response = await client.get("/sync/1", headers={"X-Cache-Bypass": "1"})
    assert response.headers["X-Cache"] == "hit=0;miss=1"


async def test_headers_can_be_renamed_and_left_out(make: Make) -> None:
    """Without a header of counts nobody listens to the cache."""
    SQLModelCache.configure("memory://")
    settings = {"may_bypass": lambda connection: True, "bypass_header": "No-Cache"}
    async with client_of(make(counts_header=None, **settings)) as client:
        response = await client.get("/sync/1", headers={"no-cache": ""})
    assert "x-cache" not in response.headers
    assert SQLModelCache.stats().bypasses == {"bypass_block": 1}
    assert _state.active.tally._observers == ()


async def test_a_new_configuration_is_observed_too(make: Make) -> None:
    """Whichever cache is active when the request comes."""
    app = make()
    for _ in range(2):
        SQLModelCache.configure("memory://")
        async with client_of(app) as client:
            assert (await client.get("/sync/2")).headers["X-Cache"] == "hit=1;miss=1"
    assert len(_state.active.tally._observers) == 1


async def test_unconfigured_it_stands_aside(make: Make) -> None:
    """An application without a cache is served all the same."""
    async with client_of(make()) as client:
        assert (await client.get("/none")).headers["X-Cache"] == "hit=0;miss=0"


async def test_other_connections_are_passed_on() -> None:
    """Lifespan and web sockets are none of its business."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    for kind in ("lifespan", "websocket"):
        await CacheMiddleware(app)({"type": kind, "headers": []}, None, None)
    assert seen == ["lifespan", "websocket"]


@pytest.mark.parametrize(
    "settings", [{"may_bypass": True}, {"bypass_header": "a b"}, {"counts_header": "X:Y"}]
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    """When the application is built."""
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        CacheMiddleware(None, **settings)


# The lifespan


async def test_the_lifespan_wraps_the_one_there_is() -> None:
    """Configured before the inner one starts, closed after it ended; its state is passed on."""
    seen = []

    @asynccontextmanager
    async def inner(app: Any) -> AsyncIterator[dict[str, str]]:
        seen.append(SQLModelCache.get_config().default_ttl)
        yield {"key": app}
        seen.append(SQLModelCache.get_config().default_ttl)

    around = cache_lifespan("memory://", lifespan=inner, default_ttl=5)
    async with around("app") as state:
        assert state == {"key": "app"}
    assert seen == [5, 5]
    with pytest.raises(ConfigurationError):
        SQLModelCache.get_config()


async def test_the_lifespan_puts_back_what_a_test_had_configured() -> None:
    """So that a client's `with` in a test does not end the test's own cache."""
    with temporary_cache(default_ttl=7):
        async with cache_lifespan("memory://", default_ttl=5)(None):
            assert SQLModelCache.get_config().default_ttl == 5
        assert SQLModelCache.get_config().default_ttl == 7


async def test_the_lifespan_refuses_wrong_settings_at_the_start() -> None:
    """The application does not start."""
    with pytest.raises(ConfigurationError, match="default_ttl"):
        async with cache_lifespan("memory://", default_ttl=-1)(None):
            pass


async def test_the_lifespan_closes_also_when_the_application_fails() -> None:
    """What it was given is closed, and the error goes on."""
    with pytest.raises(RuntimeError):
        async with cache_lifespan("memory://")(None):
            raise RuntimeError
    assert _state.active is None


@pytest.mark.parametrize("inner", ["memory", "async"])
async def test_the_lifespan_publishes_what_waits(
    inner: str, engine: Engine, async_engine: AsyncEngine
) -> None:
    """A commit that the store did not take is told to it at the end, and nothing is lost."""
    faulty = FaultyTransport("memory://" if inner == "memory" else AsyncDictTransport())
    async with cache_lifespan(faulty)(None):
        cache = _state.active
        async with AsyncSession(async_engine) as session:
            hero = await session.get_one(Hero, 1)
            faulty.fail("release")
            hero.name = "Spider-Boy"
            await session.commit()
            assert SQLModelCache.stats().queue == 1
    assert (cache.stats().queue, cache.stats().lost) == (0, 0)
    assert faulty.asked[-1] == "release"


async def test_the_lifespan_closes_connections_of_the_loop(
    redis_url: str, key_prefix: str, async_engine: AsyncEngine
) -> None:
    """No socket is left open, which would be a warning, and warnings are errors here."""
    async with cache_lifespan(redis_url, key_prefix=key_prefix)(None):
        async with AsyncSession(async_engine) as session:
            await session.get_one(Hero, 1)
        stores = _state.active.stores
        assert len(stores.async_._tenants) == 1
    assert len(stores.async_._tenants) == 0


def test_nothing_is_imported_by_the_library_itself() -> None:
    """FastAPI is an extra: `import sqlmodel_cache` must not need it."""
    code = "import sys; sys.modules['starlette'] = sys.modules['fastapi'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "import sqlmodel_cache"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    code += "import sqlmodel_cache.fastapi"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert b"pip install sqlmodel-cache[fastapi]" in done.stderr

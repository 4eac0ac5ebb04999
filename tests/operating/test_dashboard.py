"""The dashboard by HTTP: who is let in, what it tells, what it never tells, what it does."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, Request

from sqlmodel_cache import ConfigurationError, SQLModelCache, _state
from sqlmodel_cache.dashboard import cache_dashboard
from sqlmodel_cache.dashboard.app import COOKIE, HEADER
from sqlmodel_cache.dashboard.history import SPACING
from sqlmodel_cache.events import Bypass
from tests.operating.models import Hero, Pair, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

SECRET = "Deadpond"  # the name of hero 1


def mounted(scheme: str = "http", **arguments: Any) -> httpx.AsyncClient:
    """Return a client of an application that has the dashboard at /cache."""
    app = FastAPI()
    app.mount("/cache", cache_dashboard(**arguments))
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url=f"{scheme}://test/cache")


def seen(**arguments: Any) -> httpx.AsyncClient:
    """Return a client that is let in."""
    return mounted(may_see=lambda: True, **arguments)


async def stats(client: httpx.AsyncClient) -> dict[str, Any]:
    """Return the page's data."""
    answer = await client.get("/stats.json")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def allowed(client: httpx.AsyncClient) -> dict[str, str]:
    """Load the page, and return the header that its script sends."""
    page = await client.get("/")
    token = re.search(r'name="csrf" content="([^"]+)"', page.text)
    assert token is not None
    return {HEADER: token[1]}


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what lets time pass for the dashboard alone."""
    from sqlmodel_cache import clock
    from sqlmodel_cache.dashboard import picture

    class Later:
        by = 0.0
        real = staticmethod(lambda: clock.real() + Later.by)
        wall = staticmethod(lambda: clock.wall() + Later.by)

    def pass_(seconds: float) -> None:
        Later.by += seconds

    monkeypatch.setattr(picture, "clock", Later)
    return pass_


# --- who is let in


@pytest.mark.parametrize("path", ["/", "/stats.json"])
async def test_nobody_is_let_in_by_default(path: str) -> None:
    """A dashboard that was mounted and forgotten shows nothing."""
    async with mounted() as client:
        answer = await client.get(path)
        assert answer.status_code == 403
        assert "may_see" in answer.json()["detail"]


def user_or_none(x_user: Annotated[str | None, Header()] = None) -> str | None:
    """Take a parameter of the request."""
    return x_user


def admin(user: Annotated[str | None, Depends(user_or_none)]) -> bool:
    """Depend on another dependency."""
    return user == "admin"


async def aadmin(request: Request) -> bool:
    """Look at the request, in the event loop."""
    return request.headers.get("x-user") == "admin"


def raising(user: Annotated[str | None, Depends(user_or_none)]) -> str:
    """Raise, or return a user, as most dependencies do."""
    if user != "admin":
        raise HTTPException(401, headers={"WWW-Authenticate": "Basic"})
    return user


@pytest.mark.parametrize("may_see", [user_or_none, admin, aadmin, raising])
@pytest.mark.parametrize("path", ["/", "/stats.json", "POST /clear", "POST /invalidate?model=Hero"])
async def test_dependencies_authorise(may_see: Callable[..., Any], path: str) -> None:
    """Each route asks; plain and async dependencies, with dependencies of their own."""
    method, _, path = path.rpartition(" ")
    async with mounted(may_see=may_see, actions=True) as client:
        refused = await client.request(method or "GET", path)
        assert refused.status_code in (401, 403)
        assert "csrf" not in refused.text.lower()
        let_in = await client.request(method or "GET", path, headers={"X-User": "admin"})
        assert let_in.status_code == (403 if method else 200)
        assert not method or "CSRF" in let_in.text


async def test_returning_nothing_is_no_permission() -> None:
    """`user and user.is_admin` of no user is None."""
    async with mounted(may_see=lambda: None) as client:
        assert (await client.get("/stats.json")).status_code == 403


@pytest.mark.parametrize("may_see", [True, "admin", Depends(admin)])
def test_what_cannot_be_called(may_see: Any) -> None:
    """Is refused when the application starts."""
    with pytest.raises(ConfigurationError, match="may_see"):
        cache_dashboard(may_see=may_see)


async def test_nothing_else_is_served() -> None:
    """No schema, no documentation pages."""
    async with seen() as client:
        for path in ("/docs", "/redoc", "/openapi.json", "/page.html"):
            assert (await client.get(path)).status_code == 404


# --- what it tells


async def test_what_it_tells(engine: Engine) -> None:
    """Counts, latencies and a verdict for each model; bypasses with cause and remedy."""
    SQLModelCache.configure("memory://")
    read(engine, Hero, 1, times=40)
    read(engine, Hero, 1, times=3, with_for_update=True)
    async with seen() as client:
        data = await stats(client)
    (hero,) = data["models"]
    assert (hero["name"], hero["hits"], hero["misses"]) == ("Hero", 39, 1)
    assert hero["hit_rate"] == 39 / 40
    assert hero["latencies"]["hit"]["p99"] > 0
    assert hero["verdict"] == "not known yet: 1 of 20 misses were timed"
    assert data["total"]["hits"] == 39
    assert (data["breaker"], data["queue"], data["all_processes"]) == ("closed", 0, False)
    (bypass,) = data["bypasses"]
    assert (bypass["reason"], bypass["models"]) == ("with_for_update", {"Hero": 3})
    assert "lock" in bypass["why"]
    p99s = [one["p99"] for one in data["slowest"]]
    assert p99s == sorted(p99s, reverse=True)
    assert {one["step"] for one in data["slowest"]} == {"hit", "miss", "database", "fill"}


async def test_it_never_tells_of_rows(engine: Engine) -> None:
    """Neither keys nor values, also after reads by a key that is a text."""
    SQLModelCache.configure("memory://")
    read(engine, Pair, (1, "needle-in-key"), times=2)
    assert read(engine, Hero, 1, times=2).name == SECRET
    async with seen(actions=True) as client:
        for path in ("/", "/stats.json"):
            text = (await client.get(path)).text
            assert "needle" not in text
            assert SECRET not in text


async def test_before_configure() -> None:
    """It says so, and works as soon as somebody configures."""
    async with seen() as client:
        assert await stats(client) == {"configured": False}
        assert (await client.get("/")).status_code == 200
        SQLModelCache.configure("memory://")
        assert (await stats(client))["configured"]


async def test_history(engine: Engine, passing: Callable[[float], None]) -> None:
    """Hit rate over time and recent invalidations, from one look to the next."""
    SQLModelCache.configure("memory://")
    read(engine, Hero, 1, times=5)
    async with seen() as client:
        assert (await stats(client))["history"] == []
        read(engine, Hero, 1, times=20)
        SQLModelCache.invalidate(Hero, 1)
        passing(SPACING)
        data = await stats(client)
    (interval,) = data["history"]
    assert interval["hits"] == pytest.approx(20 / SPACING, rel=0.2)
    assert interval["misses"] == 0
    (invalidated,) = data["invalidations"]
    assert invalidated["models"] == {"Hero": 1}


async def test_comparisons(engine: Engine) -> None:
    """What shadow mode and verify found, with columns by name."""
    SQLModelCache.configure("memory://", verify=1.0)
    read(engine, Hero, 1, times=3)
    with engine.begin() as connection:
        connection.connection.cursor().execute("UPDATE operate_hero SET name = 'x'")
    read(engine, Hero, 1)
    read(engine, Pair, (1, "x"))
    async with seen() as client:
        data = await stats(client)
    hero, pair = data["models"]
    assert (hero["compared"], hero["verified"], hero["inconsistent"]) == (True, 3, 1)
    assert hero["differing"] == {"name": 1}
    assert not pair["compared"]


async def test_copies_in_the_process(redis_url: str, key_prefix: str) -> None:
    """How many, and whether their messages come; None where there are none."""
    SQLModelCache.configure(f"{redis_url}?local=100", key_prefix=key_prefix)
    async with seen() as client:
        assert (await stats(client))["local"]["entries"] == 0
        SQLModelCache.configure("memory://")
        data = await stats(client)
    assert data["local"] is None
    assert not {"models", "breaker", "local"} & set(data["total"])


async def test_nobody_listens(engine: Engine) -> None:
    """Looking adds no observer: hits cost what they cost."""
    SQLModelCache.configure("memory://")
    async with seen() as client:
        await stats(client)
    assert _state.active.tally._observers == ()


async def test_all_processes(engine: Engine, redis_url: str, key_prefix: str) -> None:
    """Where processes publish their counts, the sum of all is shown."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix, publish_stats=True)
    read(engine, Hero, 1, times=3)
    _state.active._bulletin.post()
    _state.active._bulletin.after_fork()  # another process, as far as the store knows
    _state.active._bulletin.post()
    async with seen() as client:
        data = await stats(client)
    assert data["all_processes"]
    assert len(data["processes"]) == 2
    assert data["total"]["hits"] == 4
    assert all(one["since"] for one in data["processes"])


async def test_a_store_that_is_away(engine: Engine) -> None:
    """The counts of this process, and what became of the store."""
    SQLModelCache.configure("redis://127.0.0.1:1/0", publish_stats=True)
    async with seen() as client:
        assert not (await stats(client))["all_processes"]
        read(engine, Hero, 1)
        data = await stats(client)
    assert data["breaker"] == "open"
    assert data["total"]["errors"] == 1


async def test_reasons_of_another_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is deployed already may know more reasons than this one."""
    SQLModelCache.configure("memory://")
    counters = _state.active.tally.for_model("Hero")
    counters.bypass(Bypass.TOUCHED)
    counters.bypasses[type("New", (), {"value": "invented"})] = 7
    async with seen() as client:
        first, second = (await stats(client))["bypasses"]
    assert (first["reason"], first["why"]) == ("invented", "")
    assert second["why"]


# --- how the page is protected


async def test_the_page_trusts_nothing_else() -> None:
    """Its own script and style by nonce, a new one each time; no frame, no other origin."""
    async with seen() as client:
        policies = []
        for _ in range(2):
            page = await client.get("/")
            policy = page.headers["Content-Security-Policy"]
            (nonce,) = set(re.findall(r"'nonce-([^']+)'", policy))
            assert page.text.count(f'nonce="{nonce}"') == 2
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            policies.append(policy)
        assert len(set(policies)) == 2
        assert "%NONCE%" not in page.text
        assert not re.search(r"(src|href)=\"(https?:)?//", page.text)


@pytest.mark.parametrize("path", ["/", "/stats.json", "/nothing"])
@pytest.mark.parametrize("may_see", [lambda: True, lambda: False])
async def test_every_answer_is_nobody_elses(may_see: Callable[..., Any], path: str) -> None:
    """Refusals too: not stored, not sniffed, not framed."""
    async with mounted(may_see=may_see) as client:
        headers = (await client.get(path)).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


# --- what it does


async def test_read_only_by_default(engine: Engine) -> None:
    """No button, no cookie, no route."""
    SQLModelCache.configure("memory://")
    read(engine, Hero, 1, times=2)
    async with seen() as client:
        page = await client.get("/")
        assert 'name="csrf" content=""' in page.text
        assert "Set-Cookie" not in page.headers
        for path in ("/clear", "/invalidate?model=Hero"):
            assert (await client.post(path)).status_code == 404
    read(engine, Hero, 1)
    assert SQLModelCache.stats().hits == 2


@pytest.mark.parametrize("store", ["memory", "redis"])
@pytest.mark.parametrize("path", ["/clear", "/invalidate?model=Hero"])
async def test_forgetting(
    store: str, path: str, engine: Engine, key_prefix: str, request: pytest.FixtureRequest
) -> None:
    """The next read is a miss."""
    url = "memory://" if store == "memory" else request.getfixturevalue("redis_url")
    SQLModelCache.configure(url, key_prefix=key_prefix)
    read(engine, Hero, 1, times=2)
    async with seen(actions=True) as client:
        answer = await client.post(path, headers=await allowed(client))
        assert answer.status_code == 200, answer.text
        assert "forgotten" in answer.json()["done"]
    read(engine, Hero, 1)
    assert (SQLModelCache.stats().hits, SQLModelCache.stats().misses) == (1, 2)


async def test_what_cannot_be_forgotten(engine: Engine) -> None:
    """A model nobody knows; a process that has met no database; a store that is away."""
    async with seen(actions=True) as client:
        headers = await allowed(client)
        assert (await client.post("/invalidate?model=Ghost", headers=headers)).status_code == 404
        assert (await client.post("/clear", headers=headers)).status_code == 409
        SQLModelCache.configure("redis://127.0.0.1:1/0")
        assert "bind" in (await client.post("/clear", headers=headers)).json()["detail"]
        read(engine, Hero, 1)
        assert (await client.post("/clear", headers=headers)).status_code == 503


async def test_what_another_origin_could_send(engine: Engine) -> None:
    """Without the token, with another, from elsewhere by the browser's own word: refused."""
    SQLModelCache.configure("memory://")
    read(engine, Hero, 1, times=2)
    async with seen(actions=True) as client:
        right = await allowed(client)
        wrong = {HEADER: "x" * 43}
        elsewhere = right | {"Sec-Fetch-Site": "same-site"}
        for headers in ({}, wrong, {HEADER: ""}, {HEADER: b"\xe9"}, elsewhere):
            assert (await client.post("/clear", headers=headers)).status_code == 403
        client.cookies.clear()
        for cookie in ("", "short", "x" * 43 + "!"):
            headers = {HEADER: cookie, "Cookie": f"{COOKIE}={cookie}"}
            assert (await client.post("/clear", headers=headers)).status_code == 403
        assert (await client.post("/clear", headers=right)).status_code == 403
    read(engine, Hero, 1)
    assert SQLModelCache.stats().hits == 2


async def test_the_cookie() -> None:
    """For scripts of nobody, for this site, this path, and over TLS only where the page was."""
    async with seen(actions=True) as client:
        cookie = (await client.get("/")).headers["Set-Cookie"]
        assert {"HttpOnly", "Path=/cache/", "SameSite=strict"} <= set(cookie.split("; "))
        assert "Secure" not in cookie
        again = (await client.get("/")).headers["Set-Cookie"]
        assert again == cookie  # another tab goes on working
        client.cookies.clear()
        injected = {"Cookie": f'{COOKIE}="><script>'}
        page = await client.get("/", headers=injected)
        assert re.search(r'name="csrf" content="[\w-]{43}">', page.text)
    async with seen(scheme="https", actions=True) as client:
        assert "Secure" in (await client.get("/")).headers["Set-Cookie"]


async def test_who_forgot_is_logged(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """That it was done by way of the dashboard, and to which model."""
    SQLModelCache.configure("memory://")
    read(engine, Hero, 1)
    async with seen(actions=True) as client:
        with caplog.at_level("INFO", "sqlmodel_cache"):
            await client.post("/invalidate?model=Hero", headers=await allowed(client))
    assert "dashboard: Hero" in caplog.text


def test_json_is_all_it_is(engine: Engine) -> None:
    """No infinity and no NaN, which browsers cannot read, from the first look on."""
    from sqlmodel_cache.dashboard.history import History
    from sqlmodel_cache.dashboard.picture import take

    SQLModelCache.configure("memory://")
    json.dumps(take(History()), allow_nan=False)

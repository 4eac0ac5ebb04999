"""The application's tests, on the database and cache that the environment names.

HEROES_TEST_DATABASE_URL and HEROES_TEST_CACHE_URL; SQLite and memory without them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from sqlmodel import SQLModel

from examples.heroes.app import create_app
from examples.heroes.models import Hero
from examples.heroes.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

SUPPORT = {"X-Cache-Bypass": "sesame"}


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    """Yield the application, started, on an empty database and a cache of its own."""
    settings = Settings(
        database_url=os.environ.get(
            "HEROES_TEST_DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/heroes.sqlite3"
        ),
        cache_url=os.environ.get("HEROES_TEST_CACHE_URL", "memory://"),
        support_token="sesame",
        key_prefix=f"heroes-{uuid4().hex[:12]}",
    )
    app = create_app(settings)
    async with app.state.engine.begin() as connection:
        await connection.run_sync(SQLModel.metadata.drop_all)
    async with app.router.lifespan_context(app) as state:
        app.state.lifespan = state
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client; the database has one team with two heroes."""

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(app.state.lifespan)}, receive, send)

    transport = httpx.ASGITransport(app=with_state)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        await client.post("/teams", json={"name": "Preventers"})
        for name in ("Deadpond", "Rusty-Man"):
            await client.post("/heroes", json={"name": name, "secret_name": "?", "team_id": 1})
        yield client


def told(response: httpx.Response) -> str:
    """Return what became of the lookups of a request that went well."""
    assert response.status_code < 300, response.text
    return response.headers["X-Cache"]


async def test_the_second_read_sends_no_sql(
    app: FastAPI, client: httpx.AsyncClient, sql_count: Any
) -> None:
    """A hero and the team: two misses, then two hits."""
    first = await client.get("/heroes/1")
    assert first.json() == {"id": 1, "name": "Deadpond", "team": "Preventers"}
    with sql_count(app.state.engine, exactly=0):
        second = await client.get("/heroes/1")
    assert second.json() == first.json()
    assert told(second) == "hit=2;miss=0"


async def test_a_change_is_seen_by_the_next_read(client: httpx.AsyncClient) -> None:
    """Whoever made it, and however often it was read before."""
    await client.get("/heroes/1")
    await client.patch("/heroes/1", json={"name": "Spider-Boy"})
    assert (await client.get("/heroes/1")).json()["name"] == "Spider-Boy"


async def test_a_bulk_update_is_seen_too(client: httpx.AsyncClient) -> None:
    """One statement that names no hero."""
    for number in (1, 2):
        assert (await client.get(f"/heroes/{number}")).json()["team"] == "Preventers"
    assert (await client.post("/teams/1/disband")).status_code == 204
    for number in (1, 2):
        assert (await client.get(f"/heroes/{number}")).json()["team"] is None


async def test_a_deleted_hero_is_gone(client: httpx.AsyncClient, assert_not_cached: Any) -> None:
    """For every reader, at once."""
    await client.get("/heroes/1")
    assert (await client.delete("/heroes/1")).status_code == 204
    assert_not_cached(Hero, 1)
    assert (await client.get("/heroes/1")).status_code == 404


async def test_many_are_one_round_trip(client: httpx.AsyncClient) -> None:
    """Those that exist, in the order asked; and the list of all."""
    for _ in range(2):
        response = await client.get("/heroes", params={"ids": [2, 404, 1]})
        assert [hero["name"] for hero in response.json()] == ["Rusty-Man", "Deadpond"]
    assert told(response) == "hit=4;miss=1"  # two heroes, the team of each, and nobody
    assert [hero["id"] for hero in (await client.get("/heroes")).json()] == [1, 2]


async def test_support_may_go_past_the_cache(client: httpx.AsyncClient) -> None:
    """With the token, and nobody else."""
    await client.get("/heroes/1")
    assert told(await client.get("/heroes/1", headers=SUPPORT)) == "hit=0;miss=0;bypass=2"
    stranger = await client.get("/heroes/1", headers={"X-Cache-Bypass": "1"})
    assert told(stranger) == "hit=2;miss=0"


async def test_wrong_requests_are_refused(client: httpx.AsyncClient) -> None:
    """A team that does not exist is 422, a hero that does not is 404."""
    body = {"name": "Nobody", "secret_name": "?", "team_id": 404}
    assert (await client.post("/heroes", json=body)).status_code == 422
    assert (await client.patch("/heroes/1", json={"team_id": 404})).status_code == 422
    assert (await client.get("/heroes/404")).status_code == 404
    assert (await client.get("/teams/404")).status_code == 404
    assert (await client.get("/teams/1")).json() == {"id": 1, "name": "Preventers"}


async def test_readers_and_a_writer_at_once(client: httpx.AsyncClient) -> None:
    """After each rename has been answered, every read that starts then has the new name."""
    for number in range(10):
        name = f"Name {number}"
        assert (await client.patch("/heroes/1", json={"name": name})).status_code == 200
        readers = await asyncio.gather(*(client.get("/heroes/1") for _ in range(8)))
        assert {reader.json()["name"] for reader in readers} == {name}
    stats = (await client.get("/cache")).json()
    assert (stats["errors"], stats["lost"]) == (0, 0)
    assert stats["hits"] > 0

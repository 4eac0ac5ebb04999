"""Runs of the harness in bad weather: a failing network, a Redis that forgets or is full."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from redis.exceptions import ResponseError
from sqlalchemy import create_engine, event, make_url
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.transport import breaker
from tests.coherence import run, table
from tests.coherence.board import Board
from tests.coherence.proxy import Fault, Proxy
from tests.coherence.settings import Settings
from tests.coherence.victims import at_rest
from tests.servers.redis_server import RedisServer

FAULTS = (Fault.LATENCY, Fault.RESET, Fault.TRUNCATE, Fault.BLACKHOLE, Fault.ONE_WAY)
TIME_OUT = 0.2  # seconds
BALLAST = b"x" * 20_000
POLICIES = (
    "noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random",
    "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
)  # fmt: skip
SPELL = 0.4  # seconds of each fault, and of peace after it


@dataclass(frozen=True, slots=True)
class Weathered:
    """What a run in bad weather has shown."""

    result: run.Result
    survived: int
    wrong_at_rest: list[str]


def weather(settings: Settings, trouble: Callable[[], int]) -> Weathered:
    """Run the harness while `trouble()` makes some; it returns how often it did."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    table.make_table(settings.database, settings.rows)
    board = Board.create(settings.board, settings.rows, settings.slots)
    processes = run.start(settings)
    began = time.monotonic()
    try:
        run.wait_until_ready(settings, board, processes)
        survived = trouble()
    finally:
        run.finish(board, processes)
    result = run.result_of(settings, board, time.monotonic() - began, processes)
    return Weathered(result, survived, at_rest(settings))


def storm(settings: Settings, proxy: Proxy, rounds: int) -> Weathered:
    """Put every fault on the line to Redis, `rounds` times, with peace in between."""

    def trouble() -> int:
        for number in range(rounds * len(FAULTS)):
            proxy.fault = FAULTS[number % len(FAULTS)]
            proxy.latency = 0.02 if number % 2 else 1.5 * TIME_OUT
            time.sleep(SPELL)
            proxy.fault = Fault.NONE
            time.sleep(SPELL)
        return rounds * len(FAULTS)

    url = make_url(settings.redis).set(port=proxy.port, query={"socket_timeout": str(TIME_OUT)})
    stormy = replace(
        settings,
        redis=url.render_as_string(hide_password=False),
        threads=(2,),
        tasks=(4,),
        fence=1000,
        deletions=False,
    )
    return weather(stormy, trouble)


def restarts(settings: Settings, server: RedisServer, times: int) -> Weathered:
    """Kill Redis and start it again, empty, `times`."""

    def trouble() -> int:
        for _ in range(times):
            time.sleep(SPELL)
            server.kill()
            server.start()
        time.sleep(SPELL)
        return times

    return weather(_few(settings, server), trouble)


def pressed(settings: Settings, server: RedisServer, seconds: float) -> Weathered:
    """Fill a small Redis with other things, over and over: it evicts, or refuses."""

    def trouble() -> int:
        refused, number = 0, 0
        began = time.monotonic()
        with server.client() as client:
            while time.monotonic() - began < seconds:
                number += 1
                try:
                    client.set(f"ballast:{number % 400}", BALLAST, ex=60)
                except ResponseError:  # OOM, under `noeviction`
                    refused += 1
                    client.delete(f"ballast:{number % 7}")  # a little room, for a moment
                time.sleep(0.001)
            for each in range(400):
                client.delete(f"ballast:{each}")
            statistics: Any = client.info("stats")
        return refused + int(statistics["evicted_keys"])

    return weather(_few(settings, server), trouble)


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """What a Redis that does not answer costs, in milliseconds until a SELECT is sent."""

    first: float
    p99_open: float
    p99_without: float

    @property
    def added(self) -> float:
        """What an open breaker adds to the 99th percentile."""
        return self.p99_open - self.p99_without


def left_alone(settings: Settings, proxy: Proxy, times: int = 1000) -> LeftAlone:
    """Put a black hole before Redis and read; reconfigures the library in this process."""
    url = make_url(settings.redis).set(port=proxy.port, query={"socket_timeout": str(TIME_OUT)})
    table.make_table(settings.database, settings.rows)
    engine = create_engine(settings.database)
    sent: list[float] = []

    def on_statement(*_: Any) -> None:
        sent.append(time.perf_counter())

    def read(count: int, cache: bool) -> list[float]:
        spent = []
        for number in range(count):
            with Session(engine) as session:
                began = time.perf_counter()
                options = {"cache": cache}
                row = number % settings.rows
                session.get(table.model_of(row), row, execution_options=options)
                spent.append(1000 * (sent[-1] - began))
        return sorted(spent)

    event.listen(engine, "before_cursor_execute", on_statement)
    with patch.object(breaker, "FIRST_COOL_DOWN", 3600.0):
        SQLModelCache.configure(
            url.render_as_string(hide_password=False), key_prefix=settings.prefix
        )
        read(100, False)
        without = read(times, False)
        proxy.fault = Fault.BLACKHOLE
        (first,) = read(1, True)
        spent = read(times, True)
        SQLModelCache.reset()
    engine.dispose()
    return LeftAlone(first, spent[times * 99 // 100], without[times * 99 // 100])


def _few(settings: Settings, server: RedisServer) -> Settings:
    return replace(
        settings, redis=server.url, threads=(2,), tasks=(4,), fence=1000, deletions=False
    )

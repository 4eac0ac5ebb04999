"""A task that is cancelled at any of its awaits takes nobody along and leaves nothing behind.

`CancelledAt` counts the moments at which a coroutine suspends, and has its task cancelled at the
k-th: at once, or when what it waited for has just arrived and it has not woken up yet. Every k is
tried, until the coroutine gets through unharmed.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol.ops import Fenced, Get, GetMany, Granted, Lease, Leased, Release
from sqlmodel_cache.protocol.read import MISS, Hit, Patience, abandon, fill, lookup
from sqlmodel_cache.protocol.write import Outcome, Publication
from sqlmodel_cache.testing.contract.full import LONG, envelope, lease
from sqlmodel_cache.testing.contract.full import fill as fill_of
from sqlmodel_cache.transport import RedisAsyncTransport
from sqlmodel_cache.transport.breaker import Breaker, State
from sqlmodel_cache.transport.drive import adrive
from sqlmodel_cache.transport.url import open_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator

    from sqlmodel_cache.keys import Entry
    from sqlmodel_cache.protocol.read import Steps

LEASE, FENCE = 4_000, 7_000  # milliseconds
MOST = 200  # awaits of one run


class CancelledAt:
    """Await a coroutine and have the task cancelled at its `k`-th suspension."""

    def __init__(self, work: Coroutine[Any, Any, Any], k: int, *, late: bool) -> None:
        self._work = work
        self._left = k  # to be reached, if above zero
        self._late = late

    @property
    def reached(self) -> bool:
        """Tell whether there was a `k`-th suspension."""
        return self._left <= 0

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        task = asyncio.current_task()
        assert task is not None
        try:
            waited = next(steps)
            while True:
                self._left -= 1
                if self._left == 0 and self._late and isinstance(waited, asyncio.Future):
                    # Its callbacks run in order, and the task's own comes after this one.
                    waited.add_done_callback(lambda _: task.cancel())
                elif self._left == 0:
                    task.cancel()
                try:
                    yield waited
                except BaseException as error:
                    waited = steps.throw(error)
                else:
                    waited = next(steps)
        except StopIteration as stop:
            return stop.value


async def reads(transport: Any, entry: Entry, breaker: Breaker) -> None:
    """Look up, and fill."""
    outcome = await adrive(lookup(entry, verify, Patience(LEASE, 0.01)), transport, breaker)
    if isinstance(outcome, Hit) or outcome.held is None:
        return
    await adrive(fill(outcome.held, envelope(outcome.held.epoch), 60_000), transport, breaker)


async def gives_back(transport: Any, entry: Entry, breaker: Breaker) -> None:
    """Look up, and abandon."""
    outcome = await adrive(lookup(entry, verify, Patience(LEASE, 0.01)), transport, breaker)
    if not isinstance(outcome, Hit) and outcome.held is not None:
        await adrive(abandon(outcome.held), transport, breaker)


async def writes(transport: Any, entry: Entry, breaker: Breaker) -> None:
    """Publish a commit of a row, and of a whole model in another shard."""
    space = KeySpace(entry.shard.head.partition(":")[0], "other", "table")
    publication = Publication((entry,), tuple(space), duration=FENCE)
    await adrive(publication.fence(), transport, breaker)
    await adrive(publication.settle(Outcome.COMMITTED), transport, breaker)


async def reads_many(transport: Any, entry: Entry, breaker: Breaker) -> None:
    """Look up many at once."""
    space = KeySpace(entry.shard.head.partition(":")[0], "many", "table")

    def steps() -> Steps[object]:
        return (yield GetMany((entry, *(space.entry(str(n)) for n in range(30)))))

    await adrive(steps(), transport, breaker)


def verify(value: bytes, epoch: bytes) -> object:
    """Return the body of an envelope of this epoch."""
    return value[14:] if value[2:14] == epoch else MISS


@asynccontextmanager
async def by_url(url: str) -> AsyncIterator[tuple[Any, Callable[[], Any]]]:
    """Yield a transport over connections of our own, and how to look inside."""
    pair: Any = open_url(url)
    transport = pair.async_
    yield transport, lambda: transport._tenants[asyncio.get_running_loop()].transport
    await pair.aclose()


@asynccontextmanager
async def by_client(url: str) -> AsyncIterator[tuple[Any, Callable[[], Any]]]:
    """Yield a transport over a client handed to us."""
    async with redis.asyncio.Redis.from_url(url) as client:
        transport = RedisAsyncTransport(client)
        yield transport, lambda: transport


@pytest.mark.parametrize("opened", [by_url, by_client])
@pytest.mark.parametrize("run", [reads, gives_back, writes, reads_many])
@pytest.mark.parametrize("late", [False, True], ids=["at-once", "late"])
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_cancelled_at_every_await(
    redis_url: str, space: KeySpace, opened: Any, run: Any, late: bool, warm: bool
) -> None:
    """The first of its turn, and one among others; over new connections, and used ones."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        for k in range(1, MOST):
            async with opened(redis_url) as (transport, inside):
                known = await _known_rows(client, space)
                if warm:
                    await asyncio.gather(*(transport.perform(Get(one)) for one in known))
                entry, breaker = space.entry(f"victim-{k}"), Breaker()
                hurt = []
                for first in (True, False):
                    victim = CancelledAt(run(transport, entry, breaker), k, late=late)
                    hurt.append(await _with_company(transport, known, victim, first=first))
                    assert hurt[-1] is victim.reached
                await _is_in_order(transport, inside(), known)
                assert breaker.state is State.CLOSED
                await _nothing_outlives_its_time(client, transport, entry)
            if not any(hurt):
                break
        else:
            pytest.fail("it never gets through")
    assert k > 1  # it was cancelled somewhere


async def _known_rows(client: Any, space: KeySpace) -> dict[Entry, bytes]:
    """Store rows whose values everybody knows, past the transport under test."""
    transport = RedisAsyncTransport(client)
    known: dict[Entry, bytes] = {}
    for number in range(6):
        entry = space.entry(f"known-{number}")
        grant = await transport.perform(lease(entry))
        if isinstance(grant, Granted):
            await transport.perform(fill_of(entry, grant, entry.pk.encode()))
        known[entry] = entry.pk.encode()
    return known


async def _with_company(
    transport: Any, known: dict[Entry, bytes], victim: CancelledAt, *, first: bool
) -> bool:
    """Run the victim among lookups of others, which must succeed; tell whether it was cancelled."""

    async def suffers() -> None:
        await victim

    task = asyncio.ensure_future(suffers()) if first else None
    others = [asyncio.ensure_future(transport.perform(Get(entry))) for entry in known]
    if task is None:
        task = asyncio.ensure_future(suffers())
    for (_, body), reply in zip(known.items(), await asyncio.gather(*others), strict=True):
        assert reply.value[14:] == body
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert outcome is None or isinstance(outcome, asyncio.CancelledError)
    return outcome is not None


async def _is_in_order(transport: Any, inside: Any, known: dict[Entry, bytes]) -> None:
    """Every reply belongs to its question, and every connection is where it should be."""
    for _ in range(2):
        for entry, body in known.items():
            assert (await transport.perform(Get(entry))).value[14:] == body
        together = await asyncio.gather(*(transport.perform(Get(entry)) for entry in known))
        assert [reply.value[14:] for reply in together] == list(known.values())
    assert (inside._under_way, inside._waiting, inside._journeys) == (0, [], set())
    pool = inside._client.connection_pool
    lines = getattr(inside, "_idle", [])
    assert len(pool._in_use_connections) == len(lines)
    assert all(line.connection in pool._in_use_connections for line in lines)


async def _nothing_outlives_its_time(client: Any, transport: Any, entry: Entry) -> None:
    """Leases and fences end by themselves, within the time that was asked for."""
    for lock in (entry.lock, entry.shard.epoch_lock):
        assert await client.pttl(lock) <= FENCE
    held = await client.hget(entry.lock, "lease")
    if held is not None:
        seconds, micros = await client.time()
        assert int(held.split()[1]) <= seconds * 1000 + micros // 1000 + LEASE
    answer = await transport.perform(Lease(entry, "f" * 32, bytes(12), None, LEASE))
    if isinstance(answer, Leased):
        assert 0 < await client.pttl(entry.lock) <= LEASE
    elif isinstance(answer, Fenced):
        assert 0 < await client.pttl(entry.lock) <= FENCE
    elif isinstance(answer, Granted):
        assert await transport.perform(fill_of(entry, answer, ttl=LONG))
    await transport.perform(Release("0" * 32, (entry,), ()))
    assert (await transport.perform(Get(entry))).value is None

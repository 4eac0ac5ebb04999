"""Operations of one turn of the event loop travel together, and each gets its own answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from sqlmodel_cache.protocol.ops import Abandon, Fence, Fenced, Get, GetMany, Granted, Leased
from sqlmodel_cache.testing.contract.full import LONG, WRITER, envelope, fill, lease
from sqlmodel_cache.transport import RedisAsyncTransport
from tests.recording import record_commands

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlmodel_cache.keys import KeySpace
    from tests.servers.redis_server import RedisServer

pytestmark = pytest.mark.parametrize("kind", ["redis", "cluster"])


@pytest.fixture
async def transport(
    kind: str, server: RedisServer, cluster_url: str
) -> AsyncIterator[RedisAsyncTransport]:
    """Open a transport on a server of its own, or on the Cluster."""
    build = redis.asyncio.RedisCluster if kind == "cluster" else redis.asyncio.Redis
    async with build.from_url(cluster_url if kind == "cluster" else server.url) as client:
        yield RedisAsyncTransport(client)


async def test_a_hundred_lookups_are_two_commands(
    transport: RedisAsyncTransport, server: RedisServer, space: KeySpace, kind: str
) -> None:
    """The first goes alone, the other ninety-nine in one MGET; each has its own reply."""
    entries = [space.entry(str(number)) for number in range(100)]
    for entry in entries[::2]:
        grant = await transport.perform(lease(entry))
        await transport.perform(fill(entry, grant, entry.pk.encode()))
    with record_commands(server.url) as commands:
        replies = await asyncio.gather(*(transport.perform(Get(entry)) for entry in entries))
    assert commands == ({"mget": 2} if kind == "redis" else {})
    for entry, reply in zip(entries, replies, strict=True):
        expected = envelope(reply.epoch, entry.pk.encode()) if entry in entries[::2] else None
        assert reply.value == expected


async def test_lookups_one_after_another_are_plain_commands(
    transport: RedisAsyncTransport, server: RedisServer, space: KeySpace, kind: str
) -> None:
    """Nobody pays for company that is not there."""
    with record_commands(server.url) as commands:
        for number in range(5):
            await transport.perform(Get(space.entry(str(number))))
    assert commands == ({"mget": 5} if kind == "redis" else {})


async def test_a_mixed_company(transport: RedisAsyncTransport, space: KeySpace, kind: str) -> None:
    """Lookups, leases, fills and abandons of many entries, with a fence among them."""
    entries = [space.entry(str(number)) for number in range(8)]
    await transport.perform(Fence(WRITER, tuple(entries[6:]), (), LONG))
    grants = await asyncio.gather(*(transport.perform(lease(entry)) for entry in entries))
    assert [type(grant) for grant in grants] == [Granted] * 6 + [Fenced] * 2
    answers = await asyncio.gather(
        transport.perform(Get(entries[0])),
        transport.perform(fill(entries[0], grants[0])),
        transport.perform(fill(entries[1], grants[0])),
        transport.perform(Abandon(entries[2], grants[2].token)),
        transport.perform(lease(entries[3], "b" * 32)),
        transport.perform(GetMany(tuple(entries[:2]))),
        transport.perform(Get(entries[7])),
    )
    assert answers[1:5] == [True, False, None, Leased()]
    assert answers[6].value is None
    assert isinstance(await transport.perform(lease(entries[2], "b" * 32)), Granted)
    assert (await transport.perform(Get(entries[0]))).value == envelope(grants[0].epoch)


async def test_lost_scripts_in_company(
    transport: RedisAsyncTransport, space: KeySpace, kind: str
) -> None:
    """They are sent again for those who need them, and the others are not repeated."""
    await transport.perform(lease(space.entry("x")))
    await transport._client.script_flush()
    entries = [space.entry(str(number)) for number in range(5)]
    answers = await asyncio.gather(
        *(transport.perform(Get(entry)) for entry in entries),
        *(transport.perform(lease(entry)) for entry in entries),
    )
    assert [type(answer) for answer in answers[5:]] == [Granted] * 5


async def test_a_failure_is_told_to_the_one_concerned(
    transport: RedisAsyncTransport, space: KeySpace, kind: str
) -> None:
    """A lock that is no hash fails its own lease; the fellow travellers arrive."""
    broken, fine = space.entry("broken"), space.entry("fine")
    await transport._client.set(broken.lock, "not a hash")
    answers = await asyncio.gather(
        transport.perform(Get(fine)),
        transport.perform(lease(broken)),
        transport.perform(lease(fine)),
        return_exceptions=True,
    )
    assert isinstance(answers[1], redis.exceptions.ResponseError)
    assert isinstance(answers[2], Granted)


async def test_one_cancelled_passenger_is_nothing_to_the_others(
    transport: RedisAsyncTransport, space: KeySpace, kind: str
) -> None:
    """The last, or one in the middle."""
    entries = [space.entry(str(number)) for number in range(6)]
    for victim in (5, 3):
        tasks = [asyncio.create_task(transport.perform(Get(entry))) for entry in entries]
        await asyncio.sleep(0)
        tasks[victim].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled = [isinstance(answer, asyncio.CancelledError) for answer in answers]
        assert cancelled == [number == victim for number in range(6)]
    assert (transport._under_way, transport._waiting) == (0, [])


async def test_a_cancelled_journey_cancels_its_passengers(
    transport: RedisAsyncTransport, space: KeySpace, kind: str
) -> None:
    """As at the end of a loop: nobody is left waiting."""
    tasks = [asyncio.create_task(transport.perform(Get(space.entry(str(n))))) for n in range(3)]
    while not transport._journeys:
        await asyncio.sleep(0)
    (journey,) = transport._journeys
    journey.cancel()  # before its first step
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers[1:]] == [asyncio.CancelledError] * 2
    assert transport._under_way == 0


async def test_everybody_hears_of_a_dead_server(
    transport: RedisAsyncTransport, server: RedisServer, space: KeySpace, kind: str
) -> None:
    """Nobody waits for ever."""
    if kind == "cluster":
        return
    transport._client.set_retry(redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0))
    await transport.perform(Get(space.entry("1")))
    server.kill()
    asked = [Get(space.entry(str(number))) for number in range(10)]
    answers: list[Any] = await asyncio.gather(
        *(transport.perform(op) for op in asked), return_exceptions=True
    )
    assert all(isinstance(answer, redis.exceptions.ConnectionError) for answer in answers)


def test_a_loop_that_died_in_mid_turn_is_no_trap(
    kind: str, server: RedisServer, space: KeySpace
) -> None:
    """Its passengers are gone; those of the next loop depart."""
    client = redis.asyncio.Redis.from_url(server.url)
    transport = RedisAsyncTransport(client)
    op = Get(space.entry("1"))

    async def leaves_one_waiting() -> None:
        transport._under_way += 1
        transport._board(op).cancel()

    async def asks() -> Any:
        reply = await transport.perform(op)
        await client.aclose()
        return reply

    loop = asyncio.new_event_loop()
    loop.call_soon(loop.stop)
    task = loop.create_task(leaves_one_waiting())
    loop.run_forever()
    assert task.done()
    loop.close()
    assert len(transport._waiting) == 1
    assert asyncio.run(asks()).value is None

"""Redis through a `redis.asyncio.Redis` or its Cluster client, for tasks.

The twin of `sync`, and one thing more: operations of one turn of the event loop travel together.
The first to come goes at once, as one plain command; while it is under way, whatever else the
turn brings leaves as one pipeline at its end, all lookups in one MGET. Nobody waits for anything
but the end of the turn, and a thousand tasks do not need a thousand connections.

The client's package is not imported here: no event loop is needed to import this library.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlmodel_cache.protocol.ops import Fence, Get, GetMany, Op, Release, Reply
from sqlmodel_cache.transport.clients import is_cluster, vet
from sqlmodel_cache.transport.commands import (
    PER_PIPELINE,
    Command,
    is_unknown_script,
    key_by_key,
    matching,
    plan,
    plan_together,
    unlinking,
    with_source,
)
from sqlmodel_cache.transport.failures import is_moving
from sqlmodel_cache.transport.runs import ANY, judged, marked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

Passenger: TypeAlias = "tuple[Op, asyncio.Future[Any]]"

_PIPELINES_OF_THEIR_OWN: Final = frozenset({Fence, Release, GetMany})


class RedisAsyncTransport:
    """Speaks the full protocol through a client that is used as it is and never closed.

    `client` must return bytes (no `decode_responses`) and come from redis-py 5 or later;
    anything else raises `ConfigurationError`.

    Which connection serves a command is the client's secret, so values that come back with an
    old dump or a replica that lagged are not noticed here; over a URL they are (see `runs`).
    """

    _run = ANY
    dated = False  # the store's times are not known to be those of one server

    def __init__(self, client: Redis) -> None:
        vet(client, transport="RedisAsyncTransport", is_async=True)
        self._client: Any = client
        self.cluster = is_cluster(client)
        self._under_way = 0
        self._waiting: list[Passenger] = []
        self._journeys: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly

    def __repr__(self) -> str:
        return f"<RedisAsyncTransport {type(self._client).__name__}>"

    async def get(self, key: str) -> bytes | None:
        """Return cached bytes or None if the key does not exist."""
        found: bytes | None = await self._client.get(key)
        return found

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        """Store `value` under `key` with an expiry of `ttl` seconds; none at all if it is 0."""
        if ttl > 0:
            await self._client.set(key, value, ex=ttl)
        else:
            await self._client.delete(key)

    async def delete(self, *keys: str) -> None:
        """Remove one or more keys from the cache; without keys nothing is sent."""
        if keys:
            await self._client.delete(*keys)

    async def perform(self, op: Op) -> Any:
        """Carry out one operation and return its reply; raises what the client raises."""
        if self._under_way and type(op) not in _PIPELINES_OF_THEIR_OWN:
            return await self._board(op)
        self._under_way += 1
        try:
            if type(op) is Get:  # the hot path: one plain command, no plan
                entry = op.entry
                replies, run = await self._send([("MGET", entry.value, entry.shard.epoch)])
                value, epoch = replies[0]
                if run != ANY and epoch is not None and epoch[8:] != run:
                    epoch = None
                return Reply(value, epoch)
            what = plan(marked(op, self._run), cluster=self.cluster)
            replies = []
            runs = set()
            try:
                for commands in what.pipelines:
                    received, run = await self._send_known(commands)
                    replies += received
                    runs.add(run)
            except Exception as error:
                if not (is_moving(error) and isinstance(op, Fence | Release)):
                    raise
                for command in key_by_key(op):
                    await self._send_known([command])
                return None
            return judged(what.read(replies), runs)
        finally:
            self._under_way -= 1

    async def sweep(self, begin: str, end: str = "") -> AsyncIterator[list[str]]:
        """Yield the keys that begin and end so, as `RedisSyncTransport.sweep` does."""
        batch: list[str] = []
        async for key in self._client.scan_iter(match=matching(begin, end), count=PER_PIPELINE):
            batch.append(key.decode("utf-8", "replace"))
            if len(batch) == PER_PIPELINE:
                yield batch
                batch = []
        if batch:
            yield batch

    async def unlink(self, keys: Sequence[str]) -> int:
        """Remove keys, which may lie in any slots; return how many there were."""
        return sum([(await self._send([command]))[0][0] for command in unlinking(keys)])

    def _board(self, op: Op) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        if not self._waiting or self._waiting[0][1].get_loop() is not loop:
            self._waiting = []  # a loop that died in mid-turn took its passengers with it
            loop.call_soon(self._depart)
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((op, future))
        return future

    def _depart(self) -> None:
        passengers, self._waiting = self._waiting, []
        # A task of its own: that one of the passengers is cancelled is nothing to the others.
        journey = asyncio.get_running_loop().create_task(self._travel(passengers))
        self._journeys.add(journey)

        def arrived(journey: asyncio.Task[None]) -> None:
            self._journeys.discard(journey)
            for _, future in passengers:
                future.cancel()  # those without an answer: it was cancelled, perhaps unbegun

        journey.add_done_callback(arrived)

    async def _travel(self, passengers: list[Passenger]) -> None:
        self._under_way += 1
        answers: list[Any]
        try:
            answers = await self._perform_together([op for op, _ in passengers])
        except Exception as error:  # every passenger hears of it
            answers = [error] * len(passengers)
        finally:
            self._under_way -= 1
        for (_, future), answer in zip(passengers, answers, strict=True):
            if future.done():  # cancelled meanwhile
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def _perform_together(self, ops: list[Op]) -> list[Any]:
        what = plan_together([marked(op, self._run) for op in ops], cluster=self.cluster)
        (commands,) = what.pipelines
        replies, run = await self._send(commands, raise_on_error=False)
        runs = {run}
        unknown = [number for number, reply in enumerate(replies) if is_unknown_script(reply)]
        if unknown:
            again = with_source(commands[number] for number in unknown)
            repeated, run = await self._send(again, raise_on_error=False)
            runs.add(run)
            for number, reply in zip(unknown, repeated, strict=True):
                replies[number] = reply
        answers: list[Any] = judged(what.read(replies), runs)
        return answers

    async def _send_known(self, commands: list[Command]) -> tuple[list[Any], bytes]:
        try:
            return await self._send(commands)
        except Exception as error:
            if not is_unknown_script(error):
                raise
        return await self._send(with_source(commands))

    async def _send(
        self, commands: list[Command], *, raise_on_error: bool = True
    ) -> tuple[list[Any], bytes]:
        """Return the replies and the run of the server that gave them."""
        if len(commands) == 1 and raise_on_error:
            return [await self._client.execute_command(*commands[0])], ANY
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute(raise_on_error=raise_on_error), ANY

"""Redis through a `redis.asyncio.Redis` or its Cluster client, for tasks.

The twin of `sync`. The client's package is not imported here: no event loop is needed to
import this library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlmodel_cache.protocol.ops import Get, Op, Reply
from sqlmodel_cache.transport.clients import is_cluster, vet
from sqlmodel_cache.transport.commands import Command, is_unknown_script, plan, with_source

if TYPE_CHECKING:
    from redis.asyncio import Redis


class RedisAsyncTransport:
    """Speaks the full protocol through a client that is used as it is and never closed.

    `client` must return bytes (no `decode_responses`) and come from redis-py 5 or later;
    anything else raises `ConfigurationError`.
    """

    def __init__(self, client: Redis) -> None:
        vet(client, transport="RedisAsyncTransport", is_async=True)
        self._client: Any = client
        self._cluster = is_cluster(client)

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
        if type(op) is Get:  # the hot path: one plain command, no plan
            entry = op.entry
            value, epoch = await self._client.execute_command(
                "MGET", entry.value, entry.shard.epoch
            )
            return Reply(value, epoch)
        what = plan(op, cluster=self._cluster)
        replies: list[Any] = []
        for commands in what.pipelines:
            replies += await self._send_known(commands)
        return what.read(replies)

    async def _send_known(self, commands: list[Command]) -> list[Any]:
        try:
            return await self._send(commands)
        except Exception as error:
            if not is_unknown_script(error):
                raise
        return await self._send(with_source(commands))

    async def _send(self, commands: list[Command]) -> list[Any]:
        if len(commands) == 1:
            return [await self._client.execute_command(*commands[0])]
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            replies: list[Any] = await pipe.execute()
        return replies

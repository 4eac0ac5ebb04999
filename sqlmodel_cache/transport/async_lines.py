"""Redis over connections kept at hand, for the tasks of one event loop: the twin of `lines`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as HungUpError
from redis.exceptions import ResponseError

from sqlmodel_cache.transport.async_ import RedisAsyncTransport
from sqlmodel_cache.transport.lines import packed
from sqlmodel_cache.transport.runs import ANY, ASK, run_in

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from sqlmodel_cache.transport.commands import Command


class AsyncLine:
    """A connection, and the run of the server at its other end."""

    __slots__ = ("__weakref__", "connection", "run")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.run = ANY

    async def learn(self, connection: Any) -> None:
        """Ask who is there; redis-py calls this whenever it has connected again."""
        self.run = ANY
        await connection.send_command(*ASK, check_health=False)
        self.run = run_in(await _reply(connection))  # an account that may not ask gets an error


class RedisAsyncLineTransport(RedisAsyncTransport):
    """Like `RedisAsyncTransport`, for a client that nobody else uses and that does not retry.

    With `trust_failover` every run of the server is as good as any.
    """

    def __init__(self, client: Redis, *, trust_failover: bool = False) -> None:
        super().__init__(client)
        self._trusting = trust_failover
        self._idle: deque[AsyncLine] = deque()

    async def get(self, key: str) -> bytes | None:
        """Return cached bytes or None if the key does not exist."""
        found: bytes | None = (await self._send([("GET", key)]))[0][0]
        return found

    async def set(self, key: str, value: bytes, ttl: int) -> None:
        """Store `value` under `key` with an expiry of `ttl` seconds; none at all if it is 0."""
        await self._send([("SET", key, value, "EX", ttl) if ttl > 0 else ("DEL", key)])

    async def delete(self, *keys: str) -> None:
        """Remove one or more keys from the cache; without keys nothing is sent."""
        if keys:
            await self._send([("DEL", *keys)])

    async def _send(
        self, commands: list[Command], *, raise_on_error: bool = True
    ) -> tuple[list[Any], bytes]:
        request = b"".join(map(packed, commands))
        try:
            line, served = self._idle.pop(), True
        except IndexError:
            line, served = await self._new_line(), False
        try:
            try:
                replies = await _talk(line.connection, request, len(commands))
            except HungUpError:
                if not served:
                    raise
                replies = await _talk(line.connection, request, len(commands))
            self._run = run = line.run
        finally:
            self._idle.append(line)
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, ResponseError):
                    raise reply
        return replies, run

    async def _new_line(self) -> AsyncLine:
        pool = self._client.connection_pool
        try:
            connection = await pool.get_connection()
        except TypeError:  # redis-py before 5.3 wants the name of a command
            connection = await pool.get_connection("MGET")
        line = AsyncLine(connection)
        if not self._trusting:
            try:
                connection.register_connect_callback(line.learn)
                await line.learn(connection)
            except BaseException:
                await connection.disconnect(nowait=True)
                await pool.release(connection)
                raise
        return line


async def _talk(connection: Any, request: bytes, count: int) -> list[Any]:
    try:
        await connection.send_packed_command([request], check_health=False)
        return [await _reply(connection) for _ in range(count)]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error

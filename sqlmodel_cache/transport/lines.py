"""Redis over connections kept at hand, for threads: the transport of clients that we build.

A hit is one command; redis-py's pool and retry machinery around it take longer than everything
else that a hit does, the network aside. So connections are taken from the pool once and kept in a
stack of our own. What the pool would find out by a poll before each command (the server hung up
in the meantime), we find out by trying: on a connection that has served before, an operation is
sent once more over a new socket. Every operation can bear that (see `protocol.ops`).

Invariant: a line in the stack has no reply under way; one that failed is disconnected, and
redis-py connects it again when it is next used.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as HungUpError
from redis.exceptions import ResponseError

from sqlmodel_cache.protocol.ops import Get, Op, Reply
from sqlmodel_cache.transport.sync import RedisSyncTransport

if TYPE_CHECKING:
    from redis import Redis

    from sqlmodel_cache.transport.commands import Command


class RedisLineTransport(RedisSyncTransport):
    """Like `RedisSyncTransport`, for a client that nobody else uses and that does not retry."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        self._idle: deque[Any] = deque()
        self._pid = os.getpid()

    def get(self, key: str) -> bytes | None:
        """Return cached bytes or None if the key does not exist."""
        found: bytes | None = self._send([("GET", key)])[0]
        return found

    def set(self, key: str, value: bytes, ttl: int) -> None:
        """Store `value` under `key` with an expiry of `ttl` seconds; none at all if it is 0."""
        self._send([("SET", key, value, "EX", ttl) if ttl > 0 else ("DEL", key)])

    def delete(self, *keys: str) -> None:
        """Remove one or more keys from the cache; without keys nothing is sent."""
        if keys:
            self._send([("DEL", *keys)])

    def perform(self, op: Op) -> Any:
        """Carry out one operation and return its reply; raises what the client raises."""
        if type(op) is Get:  # the hot path: one plain command, packed by hand
            key, epoch = op.entry.value.encode(), op.entry.shard.epoch.encode()
            command = b"*3\r\n$4\r\nMGET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
                len(key), key, len(epoch), epoch,
            )  # fmt: skip
            return Reply(*self._exchange(command, 1)[0])
        return super().perform(op)

    def _send(self, commands: list[Command]) -> list[Any]:
        return self._exchange(b"".join(map(_packed, commands)), len(commands))

    def _exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send `count` commands and return their replies; raises the first that is an error."""
        if self._pid != os.getpid():  # a forked child must not talk over its parent's sockets
            self._idle, self._pid = deque(), os.getpid()
        try:
            line, served = self._idle.pop(), True
        except IndexError:
            line, served = self._new_line(), False
        try:
            return _talk(line, packed, count)
        except HungUpError:
            if not served:
                raise
            return _talk(line, packed, count)
        finally:
            self._idle.append(line)

    def _new_line(self) -> Any:
        pool = self._client.connection_pool
        try:
            return pool.get_connection()
        except TypeError:  # redis-py before 5.3 wants the name of a command
            return pool.get_connection("MGET")


def _talk(line: Any, packed: bytes, count: int) -> list[Any]:
    try:
        line.send_packed_command([packed], check_health=False)
        replies = [_reply(line) for _ in range(count)]
    except BaseException:
        line.disconnect()
        raise
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply
    return replies


def _reply(line: Any) -> Any:
    try:
        return line.read_response()
    except ResponseError as error:
        return error


def _packed(command: Command) -> bytes:
    """Return a command as RESP, the Redis serialization protocol, has it."""
    parts = [part if type(part) is bytes else str(part).encode() for part in command]
    return b"*%d\r\n%b" % (
        len(parts), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]),
    )  # fmt: skip

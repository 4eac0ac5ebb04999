"""Redis over connections kept at hand, for threads: the transport of clients that we build.

A hit is one command; redis-py's pool and retry machinery around it take longer than everything
else that a hit does, the network aside. So connections are taken from the pool once and kept in a
stack of our own. What the pool would find out by a poll before each command (the server hung up
in the meantime), we find out by trying: on a connection that has served before, an operation is
sent once more over a new socket. Every operation can bear that (see `protocol.ops`).

Invariants: a line in the stack has no reply under way but what it `owes`, which whoever takes it
reads before his own; one that failed is disconnected, and redis-py connects it again when it is
next used. A line knows the run of its server before it serves anything (see `runs`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import ConnectionError as HungUpError
from redis.exceptions import ResponseError

from sqlmodel_cache.protocol.ops import Get, Op, Reply
from sqlmodel_cache.transport.commands import Command, is_unknown_script, plan
from sqlmodel_cache.transport.forks import tell_of_forks
from sqlmodel_cache.transport.owing import Line, Sent, reply_of
from sqlmodel_cache.transport.runs import ANY
from sqlmodel_cache.transport.sync import RedisSyncTransport

if TYPE_CHECKING:
    from redis import Redis


class RedisLineTransport(RedisSyncTransport):
    """Like `RedisSyncTransport`, for a client that nobody else uses and that does not retry.

    `build` makes it, and another one in a forked child. With `trust_failover` every run of the
    server is as good as any.
    """

    def __init__(self, build: Callable[[], Redis], *, trust_failover: bool = False) -> None:
        super().__init__(build())
        self._build = build
        self._trusting = trust_failover
        self.dated = not trust_failover
        self._idle: deque[Line] = deque()
        self._proven: set[type] = set()  # operations that were performed since the last error
        self._of_parents: list[Any] = []
        tell_of_forks(self)

    def close(self) -> None:
        """Close every connection made so far; the next operation connects anew."""
        self._client.close()
        for line in list(self._idle):
            line.owes = None  # that will not come

    def after_fork(self) -> None:
        """Leave the parent's connections to it: both would read each other's replies."""
        # Never collected: its pool's lock may be held by a thread that is not here.
        self._of_parents.append(self._client)
        lines, self._idle = self._idle, deque()
        self._client = self._build()
        for line in lines:
            line.connection.disconnect()  # this process's copies of the sockets

    def get(self, key: str) -> bytes | None:
        """Return cached bytes or None if the key does not exist."""
        found: bytes | None = self._send([("GET", key)])[0][0]
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
            ((value, current),), run = self._exchange(command, 1)
            if run != ANY and current is not None and current[8:] != run:
                current = None
            return Reply(value, current)
        answer = super().perform(op)
        self._proven.add(type(op))
        return answer

    def send(self, op: Op, heard: Callable[[Any], object] | None = None) -> Sent | None:
        """Send `op` and wait for no reply; None: it was not sent, or may not have been.

        Nothing is connected for it. Whoever hears that it has not arrived performs it; where one
        only wants to have `heard` what came of it (see `Sent`), nobody does. So then it is sent
        only if the like was performed since the server last said an error: it knows the script.
        """
        if heard is not None and type(op) not in self._proven:
            return None

        def ended(answer: Any) -> None:
            if isinstance(answer, Exception):
                self._proven.clear()
            if heard is not None:
                heard(None if is_unknown_script(answer) else answer)

        what = plan(op, cluster=False)
        if len(what.pipelines) != 1:
            return None
        (commands,) = what.pipelines
        idle = self._idle
        try:
            line = idle.pop()
        except IndexError:
            return None
        try:
            if line.owes is not None:
                line.owes.read()
            request = b"".join(map(packed, commands))
            line.connection.send_packed_command([request], check_health=False)
            sent = line.owes = Sent(idle, line, len(commands), ended)
        except Exception:
            line.connection.disconnect()
            return None
        except BaseException:
            line.connection.disconnect()
            raise
        finally:
            idle.append(line)
        return sent

    def hear(self) -> None:
        """Have what was sent be read, so that everybody has heard of it who wanted to."""
        for line in list(self._idle):
            if (sent := line.owes) is not None:
                sent.arrived()

    def _send(self, commands: list[Command]) -> tuple[list[Any], bytes]:
        return self._exchange(b"".join(map(packed, commands)), len(commands))

    def _exchange(self, request: bytes, count: int) -> tuple[list[Any], bytes]:
        """Send `count` commands; return their replies, or raise the first error, and the run."""
        try:
            line, served = self._idle.pop(), True
        except IndexError:
            line, served = self._new_line(), False
        try:
            try:
                replies = _talk(line, request, count)
            except HungUpError:
                if not served:
                    raise
                replies = _talk(line, request, count)
            self._run = run = line.run
        finally:
            self._idle.append(line)
        for reply in replies:
            if isinstance(reply, ResponseError):
                self._proven.clear()
                raise reply
        return replies, run

    def _new_line(self) -> Line:
        pool = self._client.connection_pool
        try:
            connection = pool.get_connection()
        except TypeError:  # redis-py before 5.3 wants the name of a command
            connection = pool.get_connection("MGET")
        line = Line(connection, asks=not self._trusting)
        try:
            connection.register_connect_callback(line.learn)
            line.learn(connection)
        except BaseException:
            connection.disconnect()
            pool.release(connection)
            raise
        return line


def _talk(line: Line, request: bytes, count: int) -> list[Any]:
    connection = line.connection
    try:
        connection.send_packed_command([request], check_health=False)
        if line.owes is not None:
            line.owes.read()
        return [reply_of(connection) for _ in range(count)]
    except BaseException:
        connection.disconnect()
        raise


def pack(command: Command) -> bytes:
    """Return a command as RESP, the Redis serialization protocol, has it."""
    parts = [part if type(part) is bytes else str(part).encode() for part in command]
    return b"*%d\r\n%b" % (
        len(parts), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]),
    )  # fmt: skip


packed: Callable[[Command], bytes] = pack
with suppress(ImportError):  # the same in C, in a tenth of the time
    from hiredis import pack_command

    packed = cast("Callable[[Command], bytes]", pack_command)

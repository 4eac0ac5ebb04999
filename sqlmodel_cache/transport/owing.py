"""A connection kept at hand, and what the server still owes on it.

An operation may be sent and its replies be read later. Meanwhile the line lies with the others, so
that nobody lacks a connection for it: whoever takes it reads what it owes before his own replies,
for Redis answers in order. What it owes ends with the connection.
"""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as HungUpError
from redis.exceptions import ResponseError

from sqlmodel_cache.transport.runs import ANY, ASK, run_in

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

_LONGEST_WAIT: Final = 1.0  # seconds, for a thread that reads our replies


class Line:
    """A connection, and the run of the server at its other end, if somebody wants to know."""

    __slots__ = ("__weakref__", "_asks", "connection", "owes", "run")

    def __init__(self, connection: Any, *, asks: bool = True) -> None:
        self.connection = connection
        self.run = ANY
        self.owes: Sent | None = None
        self._asks = asks

    def learn(self, connection: Any) -> None:
        """Ask who is there; redis-py calls this whenever it has connected again."""
        if self.owes is not None:
            self.owes.end(HungUpError("connected anew"))
        self.run = ANY
        if self._asks:
            connection.send_command(*ASK, check_health=False)
            self.run = run_in(reply_of(connection))  # an account that may not ask gets an error


class Sent:
    """An operation that was sent over a line, which lies in `idle` or serves somebody else.

    `heard` is told once how it ended: its last reply, the first error among its replies, what the
    connection failed with, or None, if nobody can tell.
    """

    __slots__ = ("_count", "_good", "_heard", "_idle", "_line", "_read")

    def __init__(
        self, idle: deque[Line], line: Line, count: int, heard: Callable[[Any], object]
    ) -> None:
        self._idle = idle
        self._line = line
        self._count = count
        self._heard = heard
        self._good = False
        self._read = Lock()
        self._read.acquire()

    def arrived(self) -> bool:
        """Wait for the replies; tell whether they came and none of them is an error."""
        try:
            self._idle.remove(self._line)
        except ValueError:  # another thread has the line, and reads our replies first
            self._read.acquire(timeout=_LONGEST_WAIT)
            return self._good
        try:
            if self._line.owes is self:
                with suppress(Exception):
                    self.read()
        finally:
            self._idle.append(self._line)
        return self._good

    def read(self) -> None:
        """Read the replies, for one who has taken the line; raises what the connection does."""
        connection = self._line.connection
        try:
            replies = [reply_of(connection) for _ in range(self._count)]
        except BaseException as error:
            connection.disconnect()
            self.end(error if isinstance(error, Exception) else None)
            raise
        errors = (reply for reply in replies if isinstance(reply, ResponseError))
        self.end(next(errors, replies[-1]))

    def end(self, answer: Any) -> None:
        """Note how it ended; the line owes it no more."""
        self._line.owes = None
        self._good = not (answer is None or isinstance(answer, Exception))
        self._heard(answer)
        self._read.release()


def reply_of(connection: Any) -> Any:
    """Return the next reply, also where it is an error of the server's."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error

"""A connection kept at hand, and what the server still owes on it.

An operation may be sent and its replies be read later. Meanwhile the line lies with the others, so
that nobody lacks a connection for it: whoever takes it first reads what it owes, which has come
long since as a rule, for Redis answers in order.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError, TimeoutError

from sqlmodel_cache.transport.runs import ANY, ASK, run_in

if TYPE_CHECKING:
    from collections import deque

_LONGEST_WAIT: Final = 1.0  # seconds, for a thread that reads our replies


class Line:
    """A connection, and the run of the server at its other end."""

    __slots__ = ("__weakref__", "connection", "owes", "run")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.run = ANY
        self.owes: Sent | None = None

    def learn(self, connection: Any) -> None:
        """Ask who is there; redis-py calls this whenever it has connected again."""
        self.run = ANY
        connection.send_command(*ASK, check_health=False)
        self.run = run_in(reply_of(connection))  # an account that may not ask gets an error


class Sent:
    """An operation that was sent over a line, which lies in `idle` or serves somebody else."""

    __slots__ = ("_count", "_good", "_idle", "_line", "_read")

    def __init__(self, idle: deque[Line], line: Line, count: int) -> None:
        self._idle = idle
        self._line = line
        self._count = count
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
                self.read()
        except TimeoutError:
            return False
        finally:
            self._idle.append(self._line)
        return self._good

    def read(self) -> None:
        """Read the replies, for one who has taken the line.

        Raises TimeoutError of redis-py. A line that broke is connected again by its next use.
        """
        connection, self._line.owes = self._line.connection, None
        try:
            replies = [reply_of(connection) for _ in range(self._count)]
            self._good = not any(isinstance(reply, ResponseError) for reply in replies)
        except BaseException as error:
            connection.disconnect()
            if isinstance(error, TimeoutError) or not isinstance(error, Exception):
                raise
        finally:
            self._read.release()


def reply_of(connection: Any) -> Any:
    """Return the next reply, also where it is an error of the server's."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error

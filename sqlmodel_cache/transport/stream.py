"""A daemon thread that hears which copies of this process must go: pub/sub, by a line of its own.

The line is subscribed to one channel and sends a PING every second. The answer comes behind
every message that the server sent before it, on the same socket; so with it all is known that
happened until the PING left, and copies are good for `GOOD_FOR` seconds from then. No answer
within a second, an error or the server hanging up: everything is forgotten, and a new line is
tried after a pause. redis-py's own PubSub is not used, as it connects again without saying so.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from sqlmodel_cache import clock
from sqlmodel_cache.events import logger

if TYPE_CHECKING:
    from redis import Redis

    from sqlmodel_cache.transport.local import LocalRows

PING_EVERY: Final = 1.0  # seconds; as long may the answer take
GOOD_FOR: Final = 2 * PING_EVERY
FIRST_PAUSE: Final = 0.1  # seconds
LONGEST_PAUSE: Final = 5.0


class Silence(Exception):
    """A PING was not answered: the socket is half-open, or the server hangs."""


class Stream:
    """Listens from when it is made until `close`; tells `rows`. `client` says where to connect."""

    def __init__(self, client: Redis, channel: str, rows: LocalRows) -> None:
        self._client: Any = client
        self.channel = channel
        self._rows = rows
        self._line: Any = None
        self._stop = threading.Event()
        self._complained = False
        self._thread = threading.Thread(target=self._run, name="sqlmodel-cache-local", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up and end the thread. The client is its owner's."""
        self._stop.set()
        self._hang_up()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=GOOD_FOR)

    def leave(self) -> None:
        """Close a forked child's copy of the socket: line and thread are its parent's."""
        self._hang_up()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            try:
                self._listen()
            except Exception as error:  # whatever it is, the thread must not die of it
                heard = self._rows.good_till > 0
                self._rows.empty()
                self._hang_up()
                if self._stop.is_set():
                    return
                self._complain(error)
                pause = FIRST_PAUSE if heard else min(2 * pause, LONGEST_PAUSE)
                self._stop.wait(pause)
        self._rows.empty()

    def _listen(self) -> None:
        pool = self._client.connection_pool
        # Of a pool's settings not those for maintenance pushes: they want RESP3, or hiredis.
        settings = {
            name: value
            for name, value in pool.connection_kwargs.items()
            if not name.startswith("maint_notifications")
        }
        line = pool.connection_class(**{**settings, "protocol": 2})
        self._line = line
        line.connect()
        line.send_command("SUBSCRIBE", self.channel, check_health=False)
        line.read_response()
        asked = answered = ping_at = clock.real()
        while not self._stop.is_set():
            at = clock.real()
            if at >= ping_at:
                if answered < asked:
                    raise Silence
                line.send_command("PING", check_health=False)
                asked, ping_at = at, at + PING_EVERY
            if line.can_read(timeout=max(ping_at - clock.real(), 0.001)):
                kind, *rest = line.read_response()
                if kind == b"message":
                    self._rows.told(rest[1].decode(errors="replace"))
                elif kind == b"pong":
                    answered = clock.real()
                    self._rows.hear(asked + GOOD_FOR, answered - asked)
                    self._complained = False

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            try:
                line.disconnect()
            except Exception as error:  # it may be in use by the thread that reads it
                logger.debug("hanging up failed: %s", type(error).__name__)

    def _complain(self, error: Exception) -> None:
        """Say once per outage that copies are unused; no content, no address."""
        if not self._complained:
            self._complained = True
            logger.warning(
                "no messages about local copies (%s): every read asks the store until they come"
                " again. An account needs +subscribe, +publish, +ping and the channel.",
                type(error).__name__,
            )

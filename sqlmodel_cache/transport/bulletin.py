"""The counts of one process, put where the command line finds those of all processes.

A daemon thread stores one report every few seconds, with an expiry: a process that ends, or is
killed, is forgotten by itself. The ids of all are members of one sorted set, so that nobody has
to search for keys. A store that fails is left alone like by everybody else; what could not be
published is in the next report. A forked child publishes under an id of its own.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sqlmodel_cache import clock
from sqlmodel_cache.events import logger
from sqlmodel_cache.keys import bulletin_board
from sqlmodel_cache.stats import Stats
from sqlmodel_cache.transport.failures import is_store_failure
from sqlmodel_cache.transport.forks import tell_of_forks
from sqlmodel_cache.transport.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Callable

LIFE: Final = 30  # seconds that a report outlives its process
_FORGOTTEN: Final = 3600  # seconds after which an id is dropped, by the publishers' clocks


class Report(msgspec.Struct, frozen=True):
    """What one process publishes; `since` and `at` are seconds since 1970, by its clock."""

    process: str
    host: str
    pid: int
    since: float
    at: float
    stats: Stats


_encode: Final = msgspec.json.Encoder(enc_hook=dict).encode  # a mapping proxy is a dict
_decode: Final = msgspec.json.Decoder(Report).decode


class Bulletin:
    """Publishes what `count()` returns. `execute` carries out commands, see `sync`."""

    def __init__(
        self, execute: Callable[..., Any], prefix: str, count: Callable[[], Stats]
    ) -> None:
        self._execute = execute
        self._board = bulletin_board(prefix)
        self._count = count
        self.after_fork()
        self._ticker = Ticker("sqlmodel-cache-stats", self._tick)
        tell_of_forks(self)

    def post(self) -> None:
        """Publish the counts as they stand. Raises what the client raises."""
        at = clock.wall()
        report = Report(
            self._process, socket.gethostname(), os.getpid(), self._since, at, self._count()
        )
        self._execute(
            ("SET", f"{self._board}:{self._process}", _encode(report), "EX", LIFE),
            ("ZADD", self._board, f"{at:.3f}", self._process),
            ("ZREMRANGEBYSCORE", self._board, "-inf", f"{at - _FORGOTTEN:.3f}"),
            ("EXPIRE", self._board, _FORGOTTEN),
        )

    def close(self) -> None:
        """Stop publishing. What was published expires by itself."""
        self._ticker.close()

    def after_fork(self) -> None:
        """Publish under an id of its own in a forked child."""
        self._process = os.urandom(8).hex()
        self._since = clock.wall()

    def _tick(self) -> None:
        try:
            self.post()
        except Exception as error:
            if not is_store_failure(error):
                raise
            logger.debug("counts were not published: %s", type(error).__name__)


def collect(execute: Callable[..., Any], prefix: str) -> list[Report]:
    """Return the reports of all processes that live, or did a moment ago. Raises as `post`."""
    board = bulletin_board(prefix)
    (members,) = execute(("ZRANGE", board, 0, -1))
    if not members:
        return []
    (values,) = execute(("MGET", *(f"{board}:{member.decode()}" for member in members)))
    reports = []
    for value in values:
        try:
            reports.append(_decode(value))
        except (TypeError, msgspec.MsgspecError):  # expired; or of another release
            continue
    return reports

"""Remember that the store is down, so that not every request finds out by itself.

closed -> (a failure) -> open -> (cool-down over, one caller probes) -> half-open -> closed or
open with twice the cool-down. Only lookups are refused. Fences and releases always try: one that
is skipped would leave other processes with stale values, and one that succeeds closes the breaker.
The methods decide, change the state and return; nobody does I/O, logging included, under the
lock. After Nygard, "Release It!", without jitter: there is one breaker per store and process.
"""

from __future__ import annotations

import enum
import logging
from threading import Lock
from typing import TYPE_CHECKING, Final

from sqlmodel_cache import clock
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.protocol.ops import Fence, Release
from sqlmodel_cache.transport.forks import tell_of_forks

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("sqlmodel_cache")

FIRST_COOL_DOWN: Final = 1.0  # seconds
LONGEST_COOL_DOWN: Final = 30.0


class LeftAlone(UnavailableError):
    """The store failed a moment ago and was not asked."""


class State(enum.Enum):
    """Where the breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Pass(enum.Enum):
    """Under which title an operation was admitted; to be handed back with its outcome."""

    NORMAL = "normal"
    PROBE = "probe"  # the one lookup that finds out whether the store is back
    FORCED = "forced"  # a write while the store seems to be down


# CPython 3.11 takes 0.25 us to find a member by way of its class: as long as a whole call.
_CLOSED: Final = State.CLOSED
NORMAL: Final = Pass.NORMAL


class Breaker:
    """One per store. `real` is the clock to go by, in seconds."""

    def __init__(self, real: Callable[[], float] = clock.real) -> None:
        self._real = real
        self._lock = Lock()
        self._state = State.CLOSED
        self._cool_down = FIRST_COOL_DOWN
        self._next_try = 0.0
        self._since = 0.0
        self._denials: set[str] = set()
        tell_of_forks(self)

    def after_fork(self) -> None:
        """Keep what is known of the store in a forked child; forget who held the lock."""
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<Breaker {self._state.value}>"

    @property
    def state(self) -> State:
        """The current state."""
        return self._state

    def is_closed(self) -> bool:
        """Tell whether the store is believed to answer."""
        return self._state is _CLOSED

    def admit(self, op: object) -> Pass:
        """Let `op` through, or raise `LeftAlone` at once.

        Operations without a class of ours (a plain `get` of somebody's transport) are lookups.
        """
        if self._state is _CLOSED:  # the hot path takes no lock; a race costs one call
            return NORMAL
        if isinstance(op, Fence | Release):
            return Pass.FORCED
        with self._lock:
            if self.is_closed():  # by somebody else, meanwhile
                return Pass.NORMAL
            at = self._real()
            if at < self._next_try:
                raise LeftAlone("the cache store is down; it will be tried again soon")
            self._state = State.HALF_OPEN
            self._next_try = at + self._cool_down  # should the probe never report back
            return Pass.PROBE

    def succeeded(self, title: Pass) -> None:
        """Note that the store answered. Nothing to do for what was admitted normally."""
        if title is NORMAL:
            return
        with self._lock:
            if self._state is State.CLOSED:
                return
            self._state = State.CLOSED
            self._cool_down = FIRST_COOL_DOWN
            down = self._real() - self._since
        logger.warning("The cache store is back after %.1f s.", down)

    def failed(self, title: Pass, why: str) -> None:
        """Note that the store did not answer; `why` says it without any content."""
        with self._lock:
            at = self._real()
            opened = self._state is State.CLOSED
            if title is NORMAL and not opened:
                return  # under way when another one failed, perhaps with it: the same failure
            if opened:
                self._since = at
                self._cool_down = FIRST_COOL_DOWN
            elif title is Pass.PROBE:
                self._cool_down = min(self._cool_down * 2, LONGEST_COOL_DOWN)
            else:
                return
            self._state = State.OPEN
            self._next_try = at + self._cool_down
        if opened:
            logger.warning(
                "The cache store cannot be used: %s. The database answers, until it is back.", why
            )

    def denied(self, title: Pass, why: str) -> None:
        """Note that the store is up and refuses an operation to us: no outage. Said once."""
        self.succeeded(title)
        with self._lock:
            new = why not in self._denials
            self._denials.add(why)
        if new:
            logger.warning(
                "The cache store is up, but %s: what needs it goes to the database, and"
                " invalidations wait. Grant it to the user.",
                why,
            )

    def dropped(self, title: Pass) -> None:
        """Note that the caller was cancelled: nothing is known, and the next may probe."""
        if title is not Pass.PROBE:
            return
        with self._lock:
            if self._state is State.HALF_OPEN:
                self._state = State.OPEN
                self._next_try = self._real()

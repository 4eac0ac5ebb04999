"""Two clocks: one that users may freeze, one that nobody can.

`now()` is the age of values. It follows freezegun, so that a test can move past a TTL.
`real()` drives leases, waits, time-outs and the breaker. freezegun replaces `time.monotonic`
too, so the real functions are taken once, at import, straight from the C module.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

# freezegun patches module attributes by identity; a reference kept inside a tuple is not one.
_REAL = (time.monotonic, time.time)
_OFFSET = _REAL[1]() - _REAL[0]()


def now() -> float:
    """Return wall-clock seconds since the epoch, frozen when the user froze time."""
    return time.time()


def frozen() -> bool:
    """Tell whether wall-clock time is currently under a test's control."""
    return time.time is not _REAL[1]


# Monotonic seconds that no test tool freezes. Each hit asks twice, so no function of Python's;
# freezegun does not see through a partial either.
real: Final[Callable[[], float]] = partial(time.monotonic)


def steady() -> float:
    """Return seconds since the epoch that never step back or forward: a store's own clock."""
    return _REAL[0]() + _OFFSET


def wall() -> float:
    """Return wall-clock seconds since the epoch that no test tool freezes."""
    return _REAL[1]()

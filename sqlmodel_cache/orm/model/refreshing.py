"""Early refresh: a hit near its expiry is now and then treated as a miss, by one caller alone.

Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention" (VLDB
2015), called XFetch there: refresh if `now - delta * beta * ln(random)` is past the expiry. The
nearer the end and the slower the load, the likelier. `delta` is the mean time that this process
needed to load a row of the model; one that has loaded none yet leaves it to others.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import log
from typing import TYPE_CHECKING

from sqlmodel_cache import clock
from sqlmodel_cache.codec.envelope import ends_at

if TYPE_CHECKING:
    from sqlmodel_cache.events import Counters

draw: Callable[[], float] = random.random  # from 0 up to, but not including, 1


class Ahead:
    """Decides for one model; `beta` above 1 refreshes earlier, below 1 later."""

    __slots__ = ("_beta", "_counters")

    def __init__(self, beta: float, counters: Counters) -> None:
        self._beta = beta
        self._counters = counters

    def is_due(self, value: bytes) -> bool:
        """Tell whether the caller that read this envelope should load its row again."""
        loads = self._counters.times.get("database")
        ends = ends_at(value)
        if loads is None or ends is None:
            return False
        delta = loads.total / loads.count
        return clock.now() - delta * self._beta * log(1 - draw()) >= ends

"""A daemon thread that does one thing every few seconds, also in a forked child, until closed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from sqlmodel_cache.transport.forks import tell_of_forks

FIRST_PAUSE: Final = 0.5  # seconds; also what a forked child needs to set itself up
PAUSE: Final = 5.0


class Ticker:
    """Calls `work` half a second after it was made, and every five seconds from then on.

    By the operating system's clock, which nobody freezes. `work` handles its own errors.
    """

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self._name = name
        self._work = work
        self._start()
        tell_of_forks(self)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=PAUSE)

    def after_fork(self) -> None:
        """Go on in a forked child, where the thread does not live."""
        if not self._stop.is_set():
            self._start()

    def _start(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._stop,), name=self._name, daemon=True
        )
        self._thread.start()

    def _run(self, stop: threading.Event) -> None:
        pause = FIRST_PAUSE
        while not stop.wait(pause):
            pause = PAUSE
            self._work()

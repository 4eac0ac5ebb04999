"""What a forked child must not share with its parent: sockets, threads, locks held at the moment.

`os.fork`, `multiprocessing` by fork and prefork servers all pass here. What registers is told in
the child, before any other Python code runs there.
"""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Something that has to begin anew in a forked child."""

    def after_fork(self) -> None:
        """Begin anew; no other thread exists, and any lock may be held for ever."""


def tell_of_forks(thing: Forkable) -> None:
    """Have `thing.after_fork()` called in every forked child, for as long as it lives."""
    _alive.add(thing)


_alive: Final[WeakSet[Forkable]] = WeakSet()


def _after_fork_in_child() -> None:
    for thing in list(_alive):
        thing.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)

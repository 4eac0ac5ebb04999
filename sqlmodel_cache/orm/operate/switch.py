"""The switch of a whole deployment: models that no process reads from the cache for now.

A hash in the store, one per key prefix, names what is off. Each process reads it after a lookup
of its own that was answered, once in `PAUSE` seconds; no thread does. What is off is neither read
nor filled, and goes on being invalidated. A store that cannot be asked leaves things as they
were: nothing can be read from it either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sqlmodel_cache import clock
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import logger
from sqlmodel_cache.keys import switchboard
from sqlmodel_cache.orm import bridge
from sqlmodel_cache.protocol.ops import Switches, Turn
from sqlmodel_cache.transport.drive import adrive

if TYPE_CHECKING:
    from sqlmodel_cache.protocol.read import Steps
    from sqlmodel_cache.transport.stores import Stores

EVERYTHING: Final = "*"  # no table is called so: what names one is quoted
PAUSE: Final = 2.0  # seconds


class Switch:
    """What one cache knows of it. `due` is when to look again, by `clock.real()`."""

    __slots__ = ("_changed", "_stores", "board", "due", "off")

    def __init__(self, stores: Stores, prefix: str, changed: Callable[[], None]) -> None:
        self._stores = stores
        self._changed = changed
        self.board = switchboard(prefix)
        self.off: frozenset[str] = frozenset()
        self.due = 0.0 if stores.full else float("inf")

    def is_off(self, table: str) -> bool:
        """Tell whether nobody is to read rows of `table` from the cache."""
        return bool(self.off) and (table in self.off or EVERYTHING in self.off)

    def look(self) -> None:
        """Ask the store what is off. Raises nothing but a cancellation."""
        self.due = clock.real() + PAUSE  # first: other threads need not ask as well
        try:
            self.take(bridge.run(self._stores, self.asking()))
        except UnavailableError as error:
            logger.debug("the switch could not be looked at: %s", error)
        except Exception as error:
            self._give_up(error)

    async def alook(self) -> None:
        """Like `look`, from a coroutine."""
        self.due = clock.real() + PAUSE
        stores = self._stores
        try:
            found = await adrive(self.asking(), stores.async_ or stores.sync, stores.breaker)
            self.take(found)
        except UnavailableError as error:
            logger.debug("the switch could not be looked at: %s", error)
        except Exception as error:
            self._give_up(error)

    def take(self, off: frozenset[str]) -> None:
        """Go by what is off now."""
        former, self.off = self.off, off
        self._changed()  # also for what else may have: the level of the log
        for names, what in ((off - former, "off"), (former - off, "on again")):
            if names:
                logger.warning(
                    "The cache was switched %s for the whole deployment: %s.",
                    what,
                    ", ".join("everything" if name == EVERYTHING else name for name in names),
                )

    def turning(self, names: frozenset[str], *, off: bool) -> Steps[frozenset[str]]:
        """Turn `names` off or on, for everybody; return what is off then."""
        for name in sorted(names):
            yield Turn(self.board, name, off)
        return (yield from self.asking())

    def asking(self) -> Steps[frozenset[str]]:
        """Ask what is off."""
        off: frozenset[str] = yield Switches(self.board)
        return off

    def _give_up(self, error: Exception) -> None:
        """Ask no more: somebody's transport that does not know the question."""
        self.due = float("inf")
        logger.warning(
            "The switch of the deployment is not looked at: the transport raises %s for it.",
            type(error).__name__,
        )

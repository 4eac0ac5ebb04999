"""The switch of a whole deployment: models that no process reads from the cache for now.

A hash in the store, one per key prefix, names what is off. Each process reads it after a lookup
of its own that was answered, once in `PAUSE` seconds; no thread does. What is off is neither read
nor filled, and goes on being invalidated. A store that cannot be asked leaves things as they
were: nothing can be read from it either.

Beside it lies the hash of fingerprints of the secrets by which processes hide keys, looked at by
those that do, at the same times. Where there is more than one, a commit of one process would not
reach what another stored: whoever sees it reads nothing of these models, and forgets them whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sqlmodel_cache import clock
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import logger
from sqlmodel_cache.keys import secrets_board, switchboard
from sqlmodel_cache.orm import bridge
from sqlmodel_cache.protocol.ops import Switches, Turn
from sqlmodel_cache.transport.drive import adrive

if TYPE_CHECKING:
    from sqlmodel_cache.protocol.read import Steps
    from sqlmodel_cache.transport.stores import Stores

EVERYTHING: Final = "*"  # no table is called so: what names one is quoted
PAUSE: Final = 2.0  # seconds


class Switch:
    """What one cache knows of it. `due` is when to look again, by `clock.real()`.

    `agrees`: all secrets are the same as far as is known; None: nobody has asked yet.
    """

    __slots__ = (
        "_changed", "_fingerprint", "_hides", "_secrets", "_stores",
        "agrees", "board", "due", "off",
    )  # fmt: skip

    def __init__(
        self, stores: Stores, prefix: str, changed: Callable[[], None], fingerprint: str = ""
    ) -> None:
        self._stores = stores
        self._fingerprint = fingerprint
        self._secrets = secrets_board(prefix)
        self._hides = False  # there are keys to hide
        self.agrees: bool | None = None
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
            self.take(bridge.run(self._stores, self.looking()))
        except UnavailableError as error:
            logger.debug("the switch could not be looked at: %s", error)
        except Exception as error:
            self._give_up(error)

    async def alook(self) -> None:
        """Like `look`, from a coroutine."""
        self.due = clock.real() + PAUSE
        stores = self._stores
        try:
            found = await adrive(self.looking(), stores.async_ or stores.sync, stores.breaker)
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

    def secrets_agree(self) -> bool:
        """Tell whether all processes hide keys alike; asks the store the first time.

        Raises nothing but a cancellation: False too where it cannot be asked, until it can.
        """
        if self.agrees is None:
            self._hides = True
            try:
                bridge.run(self._stores, self.comparing())
            except UnavailableError as error:
                logger.debug("secrets could not be compared: %s", error)
            except Exception as error:
                self._give_up(error)
                self.agrees = True
        return self.agrees is True

    def comparing(self) -> Steps[None]:
        """Say which secret this process has, and see which there are."""
        if self.due == float("inf"):  # a store that cannot be asked such things
            self.agrees = True
            return
        known: frozenset[str] = yield Switches(self._secrets)
        if self._fingerprint not in known:
            yield Turn(self._secrets, self._fingerprint, True)
            known = yield Switches(self._secrets)
        former, self.agrees = self.agrees, known == {self._fingerprint}
        if not self.agrees and former is not False:
            logger.error(
                "Keys are hidden by more than one key_secret: this process has %s, others have %s."
                " Models with hash_keys are read from the database here, and forgotten whole by"
                " commits, until all have the same and SQLModelCache.purge() was called for them.",
                self._fingerprint,
                ", ".join(sorted(known - {self._fingerprint})),
            )
        elif self.agrees and former is False:
            logger.warning("Keys are hidden by one key_secret again: their models are cached.")

    def foreign_secrets(self) -> Steps[frozenset[str]]:
        """Ask which secrets others have that this process has not; says nothing of its own."""
        known: frozenset[str] = yield Switches(self._secrets)
        return known - {self._fingerprint}

    def forgetting_secrets(self) -> Steps[None]:
        """Forget which secrets there are, but one's own: processes that have another say so.

        Nor does one that hides no keys itself say which it would.
        """
        known: frozenset[str] = yield Switches(self._secrets)
        for fingerprint in sorted(known - {self._fingerprint}):
            yield Turn(self._secrets, fingerprint, False)
        if self._hides:
            yield from self.comparing()

    def looking(self) -> Steps[frozenset[str]]:
        """Ask what is off and, if any are hidden, how keys are."""
        off = yield from self.asking()
        if self._hides:
            yield from self.comparing()
        return off

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

"""What a store's error means: an outage, a refusal, or a bug of ours; in words without content.

Classes are told by name instead of being imported: `memory://` needs no Redis client, and
valkey-py is a fork. Of an error's own text only what is recognised is used: it may quote anything.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

from sqlmodel_cache.errors import UnavailableError

_CLIENT_ERRORS = frozenset({"redis.exceptions", "valkey.exceptions"})
_NO_ANSWER = frozenset({"ConnectionError", "TimeoutError", "OSError", "BusyLoadingError"})
_COMMAND = re.compile(r"to run the '([a-z]{1,20}(?:\|[a-z]{1,20})?)' command")
_TLS = re.compile(r"\[SSL: ([A-Z0-9_]{1,60})\]|handshake operation timed out")
_DATABASE = re.compile(r"DB index is out of range|invalid DB index|SELECT is not allowed")


def is_store_failure(error: BaseException) -> bool:
    """Tell whether `error` says that a store could not be asked (and not that we have a bug)."""
    if isinstance(error, OSError | TimeoutError | UnavailableError):
        return True
    if isinstance(error, RuntimeError) and "loop" in str(error):
        return True  # an async client handed to us outlived the event loop of its connections
    return bool(_client_classes(error))


def is_denied(error: BaseException) -> bool:
    """Tell whether a store that is up refuses just this operation to our user (ACL, NOPERM)."""
    return "NoPermissionError" in _client_classes(error)


def is_hung_up(error: BaseException) -> bool:
    """Tell whether a connection broke, which says nothing of whether the next one will."""
    return "ConnectionError" in _client_classes(error)


def is_moving(error: BaseException) -> bool:
    """Tell whether a Cluster that is up moves just this slot to another node.

    A client tries again for a moment, and says so if the keys of one command are still apart.
    """
    return type(error).__name__ in ("ClusterError", "TryAgainError")


def explain(error: BaseException) -> str:
    """Say what is wrong with the store, as the end of a sentence: no key, no value, no URL."""
    name = type(error).__name__
    classes = _client_classes(error)
    if is_denied(error):
        command = _COMMAND.search(str(error))
        what = f"run {command[1].upper()}" if command else "touch the keys of the cache"
        return f"its ACL does not let this user {what} (NOPERM)"
    if "AuthenticationError" in classes:
        if "required" in str(error):
            return "it wants a password, and was given none (NOAUTH)"
        return "it refuses the user name or the password (WRONGPASS)"
    if "ResponseError" in classes and _DATABASE.search(str(error)):
        return "it has no database of the number in the URL"
    for cause in _chain(error):
        # By its text too: the asyncio client of redis-py loses what its error came of.
        reason = _TLS.search(str(cause))
        if reason is not None:
            return f"the TLS handshake failed ({reason[1] or 'timed out'})"
        if isinstance(cause, ssl.SSLError):
            return f"the TLS handshake failed ({type(cause).__name__})"
    if classes and not classes & _NO_ANSWER:
        return f"it answered with an error ({name})"
    return f"it does not answer ({name})"


def as_unavailable(error: BaseException, op: object) -> UnavailableError:
    """Return what the caller sees instead of `error`: no key, no value, no URL in it."""
    return UnavailableError(f"the cache store failed in {type(op).__name__}: {explain(error)}")


def _client_classes(error: BaseException) -> set[str]:
    """Return the names of the client library's own classes that `error` is an instance of."""
    return {cls.__name__ for cls in type(error).__mro__ if cls.__module__ in _CLIENT_ERRORS}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came of."""
    found: BaseException | None = error
    for _ in range(8):  # a chain may be a circle
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__

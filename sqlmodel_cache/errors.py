"""Every exception this library raises, in one tree below `CacheError`."""

from __future__ import annotations


class CacheError(Exception):
    """Base of all errors raised by sqlmodel_cache.

    Redis errors are not among them: those are counted, logged once per outage, and the
    database answers.
    """


class ConfigurationError(CacheError):
    """The library, a model or a call is configured in a way that cannot work.

    Raised when a cached model is read before `SQLModelCache.configure()`, and for every
    invalid setting. The message names the model, the field and the remedy.
    """


class FenceError(CacheError):
    """A commit was rolled back because its keys could not be fenced.

    Only raised with `configure(on_fence_failure="abort")`.
    """


class UnavailableError(CacheError):
    """The store could not be asked: unreachable, timed out, or its breaker is open.

    Never reaches the caller of a session method; explicit calls such as
    `SQLModelCache.invalidate()` do raise it, because nothing else would tell.
    """


class UnsupportedError(CacheError):
    """An explicit call asks for something that this transport cannot do.

    A transport with only `get`, `set` and `delete` cannot forget a whole model.
    """

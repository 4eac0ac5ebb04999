"""What the caller of a lookup asked for: execution options, innermost first, and `bypass()`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any, Final

from sqlmodel_cache.config import check_seconds
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.orm._results import PREBUFFERED

# Every execution option of ours. What is nearly one of them is taken for a slip; other names that
# begin with `cache_` belong to others (`cache_key`, `cache_region` of SQLAlchemy's own recipes).
KNOWN: Final = (
    "cache", "cache_ttl", "cache_namespace", "cache_replica", "cache_invalidates", "cache_depends",
)  # fmt: skip
_KNOWN: Final = frozenset(KNOWN)
_NEAR: Final = 0.85  # difflib's ratio: a letter or so in ten

# On the SELECT of a miss: answered by key already, and no query that somebody wants cached.
OURS: Final[Mapping[str, Any]] = {"sqlmodel_cache_by_key": True}

# Options that make no other query of a statement; with any other it is left alone. One that
# declares what a statement writes makes it a write.
HARMLESS: Final = frozenset({*KNOWN, "autoflush", "prebuffer_rows"}) - {"cache_invalidates"}

bypassing: ContextVar[bool] = ContextVar("sqlmodel_cache_bypassing", default=False)


def buffered(how: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with which the statement of a miss is run."""
    given = {**(how.get("execution_options") or {}), **PREBUFFERED, **OURS}
    if not options.get("autoflush", True):
        given["autoflush"] = False
    return {**how, "execution_options": given}


@contextmanager
def bypass() -> Iterator[None]:
    """Let every lookup inside go to the database. Writes still invalidate."""
    token = bypassing.set(True)
    try:
        yield
    finally:
        bypassing.reset(token)


def checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `options` if our keys in it have values that they can have.

    Raises ConfigurationError otherwise.
    """
    for name in ("cache", "cache_replica"):
        if name in options and type(options[name]) is not bool:
            raise ConfigurationError(
                f"execution option {name}={options[name]!r} is not valid; use True or False"
            )
    if "cache_ttl" in options:
        check_seconds("execution options", "cache_ttl", options["cache_ttl"], optional=False)
    return options


def check_names(*layers: Mapping[Any, Any] | None) -> None:
    """Raise ConfigurationError for an option that is nearly one of ours and is none."""
    for layer in layers:
        for name in layer or ():
            if name in _KNOWN or not isinstance(name, str) or not name.startswith("cache_"):
                continue
            if near := get_close_matches(name.lower(), KNOWN, n=1, cutoff=_NEAR):
                raise ConfigurationError(
                    f"there is no execution option {name!r}; did you mean {near[0]!r}? There are"
                    f" {', '.join(KNOWN)}"
                )


def innermost(name: str, *layers: Mapping[str, Any] | None) -> Any:
    """Return the first value of option `name`, from the call outwards; None if nobody set it."""
    for layer in layers:
        if layer and name in layer:
            return checked(layer)[name]
    return None

"""Which server a test gets, and what its absence means: a failure or a skip.

A server that somebody asked for (by URL, or by forcing the wheels) and that does not answer is
`AskedFor`: the tests fail. One that merely cannot be had is `Unavailable`: they are skipped.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

SERVERS = "SQLMODEL_CACHE_TEST_SERVERS"


class Unavailable(Exception):
    """No such server can be had here, and none was asked for."""


class AskedFor(Exception):
    """A server was asked for by name and does not answer."""


def wheels_only() -> bool:
    """Tell whether only servers out of wheels may be used."""
    value = os.environ.get(SERVERS, "")
    if value not in ("", "wheels"):
        raise AskedFor(f"{SERVERS}={value!r} is not known: leave it empty or say 'wheels'")
    return value == "wheels"


def given_url(variable: str) -> str | None:
    """Return the URL that the environment names, or None; forced wheels go first."""
    return None if wheels_only() else os.environ.get(variable) or None


def missing(message: str) -> Unavailable | AskedFor:
    """Return the exception for a server that is neither given, nor found, nor in a wheel."""
    return AskedFor(f"{message} ({SERVERS}=wheels)") if wheels_only() else Unavailable(message)


def wheel_folder(package: str) -> Path | None:
    """Return where `package` is installed, without importing it: some start things on import."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None

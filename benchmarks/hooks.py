"""The library configured, and SQLAlchemy as it is without the library, in one process.

`without()` puts `Session.get` and the listeners back as they were before the import, so that both
sides of a ratio run in the same memory and on the same engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.orm import sessions


@contextmanager
def configured(transport: object) -> Iterator[None]:
    """Configure the library, and reset it at the end."""
    SQLModelCache.configure(transport)
    try:
        yield
    finally:
        SQLModelCache.reset()


@contextmanager
def without() -> Iterator[None]:
    """Take the library's hooks off inside the block."""
    wrapped = Session.get
    sessions.detach()
    # SQLAlchemy remembers that a class ever had listeners; a process without us has not.
    flags = [(cls, cls.__dict__["_has_events"]) for cls in (Engine, Connection)]
    for cls, _ in flags:
        cls._has_events = False
    Session.get = wrapped.__wrapped__  # type: ignore[attr-defined,method-assign]
    try:
        yield
    finally:
        Session.get = wrapped  # type: ignore[method-assign]
        for cls, flag in flags:
            cls._has_events = flag
        sessions.attach()

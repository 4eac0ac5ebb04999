"""What an engine really sent: one listener on the cursor, for as long as the block runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import event

from sqlmodel_cache.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


class Statements(list[str]):
    """The SQL sent so far, one string for each call of the driver; `len()` counts them.

    BEGIN, COMMIT and ROLLBACK go through other calls of the driver and are not among them.
    """

    def starting(self, verb: str) -> list[str]:
        """Return the statements that begin with `verb`, for example "SELECT"."""
        return [sql for sql in self if sql.lstrip().upper().startswith(verb.upper())]


class CountSQL(Protocol):
    """The type of `count_sql`, for annotations of the fixture `sql_count`."""

    def __call__(
        self, engine: Engine | AsyncEngine, *, exactly: int | None = None
    ) -> AbstractContextManager[Statements]:
        """Record what `engine` sends while the block runs."""


@contextmanager
def count_sql(engine: Engine | AsyncEngine, *, exactly: int | None = None) -> Iterator[Statements]:
    """Record every statement that `engine`, sync or async, sends while the block runs.

    With `exactly`, a block that ends well with another number of statements is an AssertionError
    that shows them. Raises ConfigurationError for what is no engine.
    """
    target: Any = getattr(engine, "sync_engine", engine)
    if not hasattr(target, "dialect") or not hasattr(target, "pool"):
        raise ConfigurationError(
            f"sql_count: {type(engine).__name__} is no engine; pass the Engine or AsyncEngine"
            " that the sessions use"
        )
    statements = Statements()

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(target, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(target, "before_cursor_execute", note)
    if exactly is not None and len(statements) != exactly:
        shown = "".join(f"\n  {' '.join(sql.split())}" for sql in statements)
        raise AssertionError(f"{exactly} statements expected, {len(statements)} sent:{shown}")

"""What really travelled: the SQL an engine sent, and the commands a Redis executed."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy import event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

# A client's hand-shake, and our own question.
_NOISE = frozenset({"hello", "auth", "select", "client|setinfo", "client|setname", "info"})


class Statements(list[str]):
    """The SQL sent so far, one string per call of the driver; `len()` counts them."""

    def starting(self, verb: str) -> list[str]:
        """Return the statements that begin with `verb`, for example "SELECT"."""
        return [sql for sql in self if sql.lstrip().upper().startswith(verb.upper())]


@contextmanager
def record_sql(engine: Engine | AsyncEngine) -> Iterator[Statements]:
    """Record every statement `engine` sends while the block runs."""
    statements = Statements()
    target = getattr(engine, "sync_engine", engine)

    def listener(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(target, "before_cursor_execute", listener)
    try:
        yield statements
    finally:
        event.remove(target, "before_cursor_execute", listener)


class Commands(dict[str, int]):
    """Calls by command name as `commandstats` has it ("mget", "evalsha"), and their sum.

    Commands that a script runs are counted by the server like any other.
    """

    @property
    def total(self) -> int:
        """How many calls there were."""
        return sum(self.values())


@contextmanager
def record_commands(url: str) -> Iterator[Commands]:
    """Record what the server at `url` executes while the block runs; filled at its end."""
    with redis.Redis.from_url(url) as client:
        before = _calls(client)
        commands = Commands()
        yield commands
        after = _calls(client)
    for name, calls in after.items():
        if name not in _NOISE and calls > before.get(name, 0):
            commands[name] = calls - before.get(name, 0)


def _calls(client: redis.Redis) -> dict[str, int]:
    stats: Any = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in stats.items()}


def stable_id(value: object) -> str:
    """Return a test id that is the same in every process: no address of an object in it."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))

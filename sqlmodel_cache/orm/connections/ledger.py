"""What one DBAPI connection has written and not yet committed, kept in its own `info`.

`Connection.info` belongs to the DBAPI connection: sessions that share one (StaticPool, an outer
transaction) share this record, so a commit publishes what all of them touched, and what a pool
invalidates takes its record along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from sqlmodel_cache import clock
from sqlmodel_cache.protocol.frames import Frames
from sqlmodel_cache.protocol.write import Outcome

_KEY: Final = "sqlmodel_cache"


class Fenced(Protocol):
    """Something that was fenced and must be settled."""

    def settle(self, outcome: Outcome) -> None:
        """Release or keep the fence."""


class Ledger:
    """Touched rows and tables of one DBAPI connection, and what else must be remembered.

    Attributes:
        frames: the savepoint stack of touched `(table, encoded key)` rows and tables.
        everything: a text that could have written anything was run in this transaction.
        aborted: a statement has failed, and the database refuses others until the transaction or
            a savepoint is rolled back.
        isolation_changed: the level is not what SQLAlchemy believes, until the root ends.
        settings: the meaning of rows was changed (search_path, role, ...) for good.
        local_settings: the same, until the root transaction ends.
        doubtful: rows whose keys came from a user's values, not from an identity, and may name
            another spelling of what the database found; until the unit of work names the row.
        namespaces: namespaces of the sessions that used this transaction, beside the default.
        ahead: fences on their way already, see `orm.connections.ahead`.
        early: fences already standing, because the driver commits each statement by itself.
        opened: a text BEGIN is in force, so that AUTOCOMMIT does not commit each statement.
        translate: the schema_translate_map of the write that is being noted.
        publishing: a two-phase transaction is being committed, by statements that say so.
        clean_since: a moment of `clock.real()` after the last of its transactions that wrote.
        begun_by: the savepoint that began the driver's transaction, whose release commits it.
        begun: who of `orm.snapshots` saw the first statement of this transaction; None: nobody.
        ended: the same of the last transaction that has ended.
        snapshot_since: a moment of `clock.real()` before which its snapshot had not begun; None
            if it has none, or if that is not known.
    """

    __slots__ = (
        "aborted",
        "ahead",
        "begun",
        "begun_by",
        "clean_since",
        "doubtful",
        "early",
        "ended",
        "everything",
        "frames",
        "isolation_changed",
        "local_settings",
        "namespaces",
        "opened",
        "publishing",
        "settings",
        "snapshot_since",
        "translate",
    )

    def __init__(self) -> None:
        self.frames = Frames()
        self.settings = self.publishing = False
        self.early: list[Fenced] = []
        self.ahead: list[Any] = []
        self.namespaces: set[str] = set()
        self.doubtful: set[tuple[str, str]] = set()
        self.begun: object = None
        self.ended: object = None
        self.snapshot_since: float | None = None
        self.begun_by: str | None = None
        self.clean_since = float("-inf")
        self.translate: Mapping[Any, Any] | None = None
        self.everything = self.isolation_changed = self.local_settings = self.opened = False
        self.aborted = False

    def doubtful_tables(self) -> set[str]:
        """Return the tables of which a row was written under a key that may be spelt otherwise."""
        return {table for table, _ in self.doubtful}

    def may_differ(self, table: str, pk: str) -> bool:
        """Tell whether this connection may see another row than everybody else."""
        return (
            self.everything
            or self.frames.is_touched((table, pk), table)
            or (bool(self.doubtful) and table in self.doubtful_tables())
        )

    @property
    def wrote(self) -> bool:
        """Tell whether anything at all was written since the root transaction began."""
        return self.frames.wrote or self.everything

    def prepared(self) -> Ledger:
        """Return what a later commit of this transaction must publish, wherever it is sent."""
        kept = Ledger()
        touched = self.frames.capture()
        for row in touched.rows:
            kept.frames.touch_row(row)
        for table in touched.tables:
            kept.frames.touch_table(table)
        kept.everything = self.everything
        kept.namespaces |= self.namespaces
        kept.doubtful |= self.doubtful
        return kept

    def end(self) -> None:
        """Forget what belonged to the transaction that just ended."""
        if self.wrote:
            self.clean_since = clock.real()
        self.frames.clear()
        self.namespaces.clear()
        self.doubtful.clear()
        if self.begun is not None:
            self.begun, self.ended = None, self.begun
        self.snapshot_since = self.begun_by = self.translate = None
        self.everything = self.isolation_changed = self.local_settings = self.opened = False
        self.aborted = False


def ledger_of(connection: Any) -> Ledger | None:
    """Return the ledger of a Connection or pooled DBAPI connection, if it has one."""
    try:
        info = connection.info
    except NotImplementedError:  # a dialect's first connection: no pool has handed it out yet
        return None
    found: Ledger | None = info.get(_KEY)
    return found


def open_ledger(connection: Any) -> Ledger:
    """Return the ledger of a Connection, made on first use."""
    info = connection.info
    found: Ledger | None = info.get(_KEY)
    if found is None:
        found = info[_KEY] = Ledger()
    return found

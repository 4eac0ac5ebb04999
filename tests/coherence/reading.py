"""Reads, each judged against what was certain when it began."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from sqlmodel_cache import get_many
from sqlmodel_cache.orm import _sqlalchemy
from tests.coherence.board import Known, Slot
from tests.coherence.table import Item, Plain, Versioned, model_of


class Judge:
    """Says of what was read whether it is stale, counts it, and keeps the evidence of the first."""

    def __init__(self, slot: Slot, evidence: Path) -> None:
        self._slot = slot
        self._evidence = evidence
        self._left = 20

    def judge(self, row: int, known: Known, item: Versioned | None) -> None:
        """Judge one read of `row` that began after `known` was true."""
        if item is None:
            self.judge_version(row, known, None, hit=False)
        else:
            self.judge_version(row, known, item.version, hit=item.from_cache)

    def judge_version(self, row: int, known: Known, found: int | None, *, hit: bool) -> None:
        """Judge the version of a row that was read, None if there was no row."""
        slot = self._slot
        slot.count("operations")
        if found is None:
            slot.count("absent")
            version = max(slot.board.gone[row])
        else:
            version = found
            if version > known.seen:
                slot.saw(row, version)
            slot.count("hits" if hit else "database")
            if hit and known.near:
                slot.count("near")
        if version >= known.seen:
            return
        if found is not None and not hit:
            slot.count("stale_database")  # impossible: the harness itself would be wrong
        else:
            slot.count("stale_s1")
            if version < known.returned:
                slot.count("stale_s2")
        self.report("stale", row=row, read=version, hit=hit, absent=found is None,
                    seen=known.seen, returned=known.returned)  # fmt: skip

    def report(self, what: str, **facts: Any) -> None:
        """Append to the evidence of this run, a few lines per actor."""
        if self._left:
            self._left -= 1
            with self._evidence.open("a") as file:
                file.write(json.dumps({"what": what, "slot": self._slot.number, **facts}) + "\n")

    def get(self, session: Session, row: int, **arguments: Any) -> None:
        """Read one row by `session.get`."""
        known = self._slot.board.known(row)
        self.judge(row, known, session.get(model_of(row), row, **arguments))

    def get_many(self, session: Session, rows: list[int]) -> None:
        """Read rows, those of a table in one round trip."""
        for model in (Item, Plain):
            own = [row for row in rows if model_of(row) is model]
            known = [self._slot.board.known(row) for row in own]
            for row, before, item in zip(own, known, get_many(session, model, own), strict=True):
                self.judge(row, before, item)

    def ask_for_rows(self, session: Session) -> None:
        """Read all items by a cached query: its list, and its rows, from the cache."""
        rows = [row for row in range(len(self._slot.board.seen)) if model_of(row) is Item]
        known = [self._slot.board.known(row) for row in rows]
        statement = select(Item).where(Item.filler > "").order_by(Item.id)
        found = session.scalars(statement, execution_options={"cache": True})
        items = {item.id: item for item in found}
        for row, before in zip(rows, known, strict=True):
            self.judge(row, before, items.get(row))

    def ask_for_columns(self, session: Session, rows: list[int]) -> None:
        """Read versions by a cached query of columns; the session must be fresh."""
        known = [self._slot.board.known(row) for row in rows]
        statement = select(Item.id, Item.version).where(Item.id.in_(rows), Item.version > 0)
        found = dict(session.execute(statement, execution_options={"cache": True}).tuples().all())
        hit = _sqlalchemy.connection_of(session, session.get_bind()) is None  # no SQL was sent
        for row, before in zip(rows, known, strict=True):
            self.judge_version(row, before, found.get(row), hit=hit)

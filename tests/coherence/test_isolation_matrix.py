"""No cell of the isolation matrix is violated, and the matrix is not blind (B23, S4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.orm.connections import cursors, isolation
from sqlmodel_cache.orm.connections.ledger import Ledger
from sqlmodel_cache.orm.reads import decide
from sqlmodel_cache.protocol.dating import StoreClock
from tests.coherence import matrix
from tests.coherence.matrix import (
    INTERLEAVINGS,
    SETUPS,
    Coin,
    Place,
    Setup,
    Violation,
    judged,
    opened,
)

if TYPE_CHECKING:
    from pathlib import Path

# Where a lock of the database keeps the harm away; everything else has to happen.
LOCKED_OUT = {
    ("SQLite rollback journal, BEGIN", "old snapshot fill"),
    ("SQLite rollback journal, BEGIN", "hit newer than snapshot"),
    ("SQLite WAL, BEGIN IMMEDIATE", "old snapshot fill"),
    ("SQLite WAL, BEGIN IMMEDIATE", "dirty fill"),
    ("SQLite WAL, BEGIN IMMEDIATE", "dirty meanwhile"),
    ("SQLite WAL, BEGIN IMMEDIATE", "hit newer than snapshot"),
}


@pytest.fixture
def place_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Setup], Place]]:
    """Return what opens a setup."""
    stack = []

    def open_(setup: Setup) -> Place:
        fixture = {"postgresql": "postgres_url", "mariadb": "mariadb_url"}.get(setup.server)
        url = None if fixture is None else request.getfixturevalue(fixture)
        stack.append(opened(setup, url, tmp_path))
        return stack[-1].__enter__()

    yield open_
    for one in reversed(stack):
        one.__exit__(None, None, None)


@pytest.mark.parametrize("interleaving", INTERLEAVINGS, ids=matrix.title)
@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.name)
def test_b23_a_cell(
    place_of: Callable[[Setup], Place], setup: Setup, interleaving: Callable[[Place], None]
) -> None:
    """Nothing is read or left behind that the database does not say."""
    verdict = judged(place_of(setup), interleaving)
    harmless = (setup.name, matrix.title(interleaving)) in LOCKED_OUT
    assert verdict == ("locked out" if harmless else "ok")


def _no_snapshots(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(isolation, "blocks", lambda bind, connection: None)
    patched.setattr(cursors, "is_half_read", lambda connection: False)


def _nothing_touched(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(Ledger, "may_differ", lambda ledger, table, pk: False)


def _fills_after_writes(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(decide.Scope, "may_fill", lambda scope, since=None: True)
    _nothing_touched(patched)


def _any_date(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(StoreClock, "before", lambda clock, run, moment, now: float("inf"))


@pytest.mark.parametrize("setup", [s for s in SETUPS if s.hits], ids=lambda setup: setup.name)
def test_s4_a_snapshot_is_given_what_was_read_before(
    place_of: Callable[[Setup], Place], setup: Setup
) -> None:
    """It hits, so the cells above say something; and a change after it began does not show."""
    place = place_of(setup)
    place.read()
    with Session(place.engine) as session:
        session.get(Coin, 2)
        hits = SQLModelCache.stats().hits
        session.execute(select(Coin.id)).all()
        assert session.get_one(Coin, 1).side == "heads"
        assert SQLModelCache.stats().hits == hits + 1
        place.turn()
        session.expire_all()
        assert session.get_one(Coin, 1).side == "heads"
    place.check()


@pytest.mark.parametrize(
    ("name", "interleaving", "broken"),
    [
        ("PostgreSQL REPEATABLE READ", matrix.old_snapshot_fill, _no_snapshots),
        ("PostgreSQL SERIALIZABLE", matrix.hit_newer_than_snapshot, _no_snapshots),
        ("MariaDB REPEATABLE READ", matrix.old_snapshot_fill, _no_snapshots),
        ("MariaDB READ UNCOMMITTED", matrix.dirty_fill, _no_snapshots),
        ("SQLite WAL, BEGIN", matrix.old_snapshot_fill, _no_snapshots),
        ("SQLite WAL, BEGIN", matrix.hit_newer_than_snapshot, _no_snapshots),
        ("PostgreSQL snapshot_hits", matrix.hit_newer_than_snapshot, _any_date),
        ("MariaDB snapshot_hits", matrix.hit_newer_than_snapshot, _any_date),
        ("SQLite WAL snapshot_hits", matrix.hit_newer_than_snapshot, _any_date),
        ("SQLite in memory, StaticPool", matrix.dirty_fill, _fills_after_writes),
        ("PostgreSQL READ COMMITTED", matrix.read_own_write, _nothing_touched),
        ("PostgreSQL READ COMMITTED", matrix.fill_after_own_write, _fills_after_writes),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_matrix_is_not_blind(
    place_of: Callable[[Setup], Place],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    interleaving: Callable[[Place], None],
    broken: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """Without the rule that a cell is for, it is violated."""
    place = place_of(next(setup for setup in SETUPS if setup.name == name))
    broken(monkeypatch)
    with pytest.raises(Violation):
        judged(place, interleaving)

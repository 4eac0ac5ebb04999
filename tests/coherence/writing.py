"""Every way to write a row, each raising its version by one under the row's lock.

A way takes a session and rows in ascending order, writes, and returns what a commit would make
visible; empty if another writer has deleted the row meanwhile. The row's lock, held until the
COMMIT, makes versions grow in the order of commits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import bindparam, insert, text, update
from sqlalchemy.orm import Session

from tests.coherence.board import Slot
from tests.coherence.steps import is_armed, promise, reach
from tests.coherence.table import model_of

Versions: TypeAlias = list[tuple[int, int]]
Way: TypeAlias = Callable[[Session, Sequence[int]], Versions]


def flush(session: Session, rows: Sequence[int]) -> Versions:
    """Change instances, each by a statement of its own; the flush is the commit's own."""
    found = [session.get(model_of(row), row, with_for_update=True) for row in rows]
    for position, item in enumerate(found):
        if item is not None:
            item.version += 1
            if position:
                item.filler = f"{item.version:040}"
    return [(item.id, item.version) for item in found if item is not None]


def bulk(session: Session, rows: Sequence[int]) -> Versions:
    """Update through the session, by primary key."""
    versions: Versions = []
    for row in rows:
        model = model_of(row)
        statement = update(model).where(model.id == row).values(version=model.version + 1)
        version = session.execute(statement.returning(model.version)).scalar()
        if version is not None:
            versions.append((row, version))
    return versions


def range_update(session: Session, rows: Sequence[int]) -> Versions:
    """Update by a condition that names no key: the whole model is forgotten."""
    model = model_of(rows[0])
    statement = update(model).where(model.id.between(rows[0], rows[0]))
    statement = statement.values(version=model.version + 1)
    found = session.execute(statement.returning(model.id, model.version)).all()
    return [(row, version) for row, version in found]


def core(session: Session, rows: Sequence[int]) -> Versions:
    """Update the table itself through the session's connection."""
    versions: Versions = []
    for row in rows:
        table = model_of(row).__table__
        statement = (
            update(table)
            .where(table.c.id == bindparam("row"))
            .values(version=table.c.version + 1)
            .returning(table.c.version)
        )
        version = session.connection().execute(statement, {"row": row}).scalar()
        if version is not None:
            versions.append((row, version))
    return versions


def raw(session: Session, rows: Sequence[int]) -> Versions:
    """Update by SQL text, after which every model is forgotten."""
    table = model_of(rows[0]).__tablename__
    statement = text(f"UPDATE {table} SET version = version + 1 WHERE id = :row RETURNING version")
    version = session.execute(statement, {"row": rows[0]}).scalar()
    return [] if version is None else [(rows[0], version)]


def replace(session: Session, rows: Sequence[int]) -> Versions:
    """Delete the row and insert it again in one transaction."""
    model = model_of(rows[0])
    item = session.get(model, rows[0], with_for_update=True)
    if item is None:
        return []
    version = item.version + 1
    session.delete(item)
    session.flush()
    session.add(model(id=rows[0], version=version))
    return [(rows[0], version)]


def savepoint(session: Session, rows: Sequence[int]) -> Versions:
    """Change within a savepoint that is released, and in one that is rolled back."""
    versions: Versions = []
    with session.begin_nested():
        versions = flush(session, rows)
    with session.begin_nested() as abandoned:
        model = model_of(rows[0])
        session.execute(update(model).where(model.id == rows[0]).values(version=10**9))
        abandoned.rollback()
    return versions


ONE_ROW: Final[tuple[Way, ...]] = (bulk, core, replace, savepoint)
WHOLE: Final[tuple[Way, ...]] = (range_update, raw)


def write(session: Session, slot: Slot, way: Way, rows: Sequence[int], *, commit: bool) -> None:
    """Write, then commit and publish; or roll back."""
    versions = way(session, rows)
    if not versions or not commit:
        session.rollback()
        slot.count("rollbacks")
        return
    promise(session, slot, versions)
    if is_armed("after flush"):
        session.flush()
        reach("after flush")
    slot.board.heat(versions[-1][0])
    session.commit()
    for row, version in versions:
        slot.returned(row, version)
    slot.count("commits")


def remove_and_restore(session: Session, slot: Slot, row: int) -> None:
    """Delete a row in one transaction and insert it in the next; a version for each."""
    model = model_of(row)
    item = session.get(model, row, with_for_update=True)
    if item is None:
        session.rollback()
        return
    version = item.version + 1
    slot.deletes(row, version)
    session.delete(item)
    _finish(session, slot, row, version)
    if version % 2:
        session.add(model(id=row, version=version + 1))
    else:
        session.execute(insert(model.__table__).values(id=row, version=version + 1, filler="y"))
    _finish(session, slot, row, version + 1)


def _finish(session: Session, slot: Slot, row: int, version: int) -> None:
    promise(session, slot, [(row, version)])
    slot.board.heat(row)
    session.commit()
    slot.returned(row, version)
    slot.count("commits")


def choose(rng: random.Random, rows: int, whole: float, pairs: float) -> tuple[Way, list[int]]:
    """Return a way to write and what: mostly one row, two in a share of `pairs`.

    A share of `whole` names no key, so that the whole model is forgotten.
    """
    if rng.random() < whole:
        return rng.choice(WHOLE), [rng.randrange(rows)]
    if rng.random() < pairs:
        return rng.choice((flush, core, bulk)), sorted(rng.sample(range(rows), 2))
    way: Any = flush if rng.random() < 0.5 else rng.choice(ONE_ROW)
    return way, [rng.randrange(rows)]

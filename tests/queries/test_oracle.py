"""A session with cached queries and one without: no difference, whatever is asked and written.

`make queries` is the long form; EXAMPLES says how many.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.orm.queries import depends, old
from sqlmodel_cache.orm.writes import stamping
from sqlmodel_cache.transport import MemoryTransport
from tests.queries import world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_REFUSED = (IntegrityError, StaleDataError)
EXAMPLES = int(os.environ.get("QUERIES_EXAMPLES") or 200)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """Return two engines of one database: the program's, and one for the judge."""
    path: Path = tmp_path_factory.mktemp("oracle") / "oracle.sqlite3"
    both = [create_engine(f"sqlite:///{path}") for _ in range(2)]
    for engine in both:
        event.listen(engine, "connect", _set_up)
    for schema in world.SCHEMAS:
        schema.base.metadata.create_all(both[0])
    yield both[0], both[1]
    for engine in both:
        engine.dispose()


def _set_up(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("foreign_keys = ON", "synchronous = OFF", "journal_mode = MEMORY"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def differences(
    engines: tuple[Any, Any], schema: world.Schema, queries: list[Any], transactions: list[Any]
) -> tuple[list[Any], int]:
    """Return where a cached answer was another than the database's, and how many were hits."""
    engine, judge = engines
    world.empty(schema, judge)
    SQLModelCache.configure(MemoryTransport(), key_prefix="oracle", namespace="oracle")
    statements = [world.query(schema, said) for said in queries]
    found: list[Any] = []

    def compare(session: Session | None, when: Any) -> None:
        for said, statement in zip(queries, statements, strict=True):
            if session is not None:
                seen = world.answer(session, statement)
                truth = world.answer(session, statement, cache=False)
            else:
                with Session(engine) as one, Session(judge) as other:
                    seen = world.answer(one, statement)
                    truth = world.answer(other, statement, cache=False)
            if seen != truth:
                found.append((when, said, seen, truth))

    for _ in range(3):
        compare(None, "at first")
    for number, (writes, end, reads) in enumerate(transactions):
        with Session(engine) as session:
            _transact(schema, session, writes, end)
            if reads and session.is_active:
                compare(session, (number, "inside"))
            try:
                session.commit() if end == "commit" else session.rollback()
            except _REFUSED:
                session.rollback()
        for _ in range(2):
            compare(None, (number, "after"))
    counts = SQLModelCache.stats().models
    return found, sum(one.hits for name, one in counts.items() if name.endswith("(queries)"))


def _transact(schema: world.Schema, session: Session, writes: list[Any], end: str) -> None:
    for said, savepoint in writes:
        try:
            if not savepoint:
                world.write(schema, session, said)
                continue
            inner = session.begin_nested()
            world.write(schema, session, said)
            inner.commit() if savepoint == "keep" else inner.rollback()
        except _REFUSED:
            session.rollback()
            return


_hits: list[int] = []


def _example(engines: Any, schema: Any, queries: Any, transactions: Any) -> None:
    found, hits = differences(engines, schema, queries, transactions)
    _hits.append(hits)
    assert found == []


_generated = given(
    schema=st.sampled_from(world.SCHEMAS),
    queries=st.lists(world.QUERIES, min_size=1, max_size=3),
    transactions=st.lists(world.TRANSACTIONS, min_size=1, max_size=4),
)
_examples = settings(max_examples=EXAMPLES)(_generated(_example))
_any_failure = settings(max_examples=300, phases=[Phase.generate])(_generated(_example))


def test_no_difference(engines: tuple[Any, Any], record_property: Any) -> None:
    """Generated schemas, queries and transactions; and most of the answers are hits."""
    _hits.clear()
    _examples(engines)
    assert sum(_hits) > len(_hits) * 2, "the queries were hardly ever cached"
    record_property("examples", len(_hits))
    record_property("hits", sum(_hits))


@pytest.mark.parametrize(
    ("module", "name", "broken"),
    [
        (old, "_granted", lambda *_: []),
        (stamping, "_new_values", lambda *_: set()),
        (depends.Need, "all", lambda need: []),
    ],
    ids=["no old values", "no new values", "no tables and columns"],
)
def test_the_judge_sees(
    engines: tuple[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    broken: Any,
) -> None:
    """What is broken deliberately is a difference."""
    monkeypatch.setattr(module, name, broken)
    with pytest.raises((AssertionError, ExceptionGroup)):
        _any_failure(engines)

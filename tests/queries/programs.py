"""Programs: queries, and what two sessions do in turn. Run with the cache and without.

The rows are the same at the start, and nothing depends on chance: so whatever a program is told,
value for value, must not depend on the cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.transport import MemoryTransport
from tests.queries.asked import Query, answer, queries, statement
from tests.queries.mapped import Entity, Schema
from tests.queries.written import Write, write, writes

# Beside its own errors, SQLAlchemy's flush raises AssertionError where a key would be empty, and
# insert() of a class that joins its subclasses AttributeError: without the cache as well.
_FAILURES = (SQLAlchemyError, AssertionError, AttributeError)


class Step(NamedTuple):
    """What one of the two sessions does: a write, or one of the words below."""

    who: int
    does: str
    what: Write | None = None
    number: int = 0


class Program(NamedTuple):
    """What is asked again and again, and what happens in between."""

    queries: list[Query]
    steps: list[Step]


_WORDS = ("commit", "commit", "commit", "rollback", "savepoint", "keep", "drop", "look", "look")


def programs(schema: Schema) -> st.SearchStrategy[Program]:
    """Draw programs that fit a schema: what is asked and written is mostly about one hierarchy."""
    families: dict[str, list[Entity]] = {}
    for entity in schema.entities.values():
        families.setdefault(entity.base, []).append(entity)
    every = list(schema.entities.values())
    return st.one_of([_programs(family, every) for family in families.values()])


def _programs(family: list[Entity], every: list[Entity]) -> st.SearchStrategy[Program]:
    who = st.sampled_from([0, 0, 1])
    near = st.tuples(who, st.just("write"), writes(family))
    far = st.tuples(who, st.just("write"), writes(every))
    word = st.tuples(who, st.sampled_from(_WORDS))
    reading = st.tuples(who, st.just("read"), st.none(), st.integers(0, 2))
    weighed = [near, word, near, word, near, far, reading]
    step = st.sampled_from(weighed).flatmap(lambda one: one).map(lambda said: Step(*said))
    asked = st.lists(queries(family), min_size=1, max_size=3)
    steps = st.lists(step, min_size=3, max_size=11)
    return st.tuples(asked, steps).map(lambda said: Program(*said))


class Run:
    """One run of a program: what it was told, in order."""

    def __init__(self, schema: Schema, program: Program) -> None:
        self.told: list[tuple[Any, ...]] = []
        self._schema = schema
        self._program = program
        self._asked = [(said, statement(schema, said)) for said in program.queries]
        self._one_writes = schema.engine.dialect.name == "sqlite"
        self._writing = [False, False]
        self._inner: list[list[Any]] = [[], []]

    def go(self) -> None:
        """Run it, from the first rows on."""
        self._schema.restart()
        for _ in range(3):  # the lists are stored, then their rows; then both are found
            self._look("at first")
        with Session(self._schema.engine) as one, Session(self._schema.engine) as other:
            both = one, other
            for number, step in enumerate(self._program.steps):
                self._step(both, step, number)
            for who, session in enumerate(both):
                self._end(session, who, "commit", "end")
        for _ in range(2):
            self._look("at last")
        self.told.append(("tables", "", self._schema.contents()))

    def _step(self, both: tuple[Session, Session], step: Step, number: int) -> None:
        session, inner = both[step.who], self._inner[step.who]
        when = f"step {number}"
        if step.does in ("write", "savepoint", "keep", "drop"):
            if self._one_writes and self._writing[1 - step.who]:  # it waits for the other
                self._end(both[1 - step.who], 1 - step.who, "commit", when)
            self._writing[step.who] = True
        match step.does:
            case "look":
                self._look(when)
            case "read":
                asked = self._asked[step.number % len(self._asked)]
                self._try(session, step.who, when, lambda: answer(self._schema, session, *asked))
            case "write":
                assert step.what is not None
                what = step.what
                self._try(session, step.who, when, lambda: write(self._schema, session, what))
            case "savepoint":
                self._try(session, step.who, when, lambda: inner.append(session.begin_nested()))
            case "keep" | "drop":
                if inner:
                    last = inner.pop()
                    ends = last.commit if step.does == "keep" else last.rollback
                    self._try(session, step.who, when, ends)
            case _:
                self._end(session, step.who, step.does, when)
                self._look(when)

    def _try(self, session: Session, who: int, when: str, does: Any) -> None:
        """Note what something returns or how it fails; then the transaction is over."""
        try:
            self.told.append((when, who, does()))
        except _FAILURES as error:
            self.told.append((when, who, type(error).__name__))
            if who in (0, 1):
                self._over(session, who)

    def _end(self, session: Session, who: int, how: str, when: str) -> None:
        try:
            session.commit() if how == "commit" else session.rollback()
        except _FAILURES as error:
            self.told.append((when, who, type(error).__name__))
        self._over(session, who)

    def _over(self, session: Session, who: int) -> None:
        session.rollback()
        self._inner[who].clear()
        self._writing[who] = False

    def _look(self, when: str) -> None:
        for asked in self._asked:
            with Session(self._schema.engine) as session:
                self._try(session, 2, when, lambda: answer(self._schema, session, *asked))  # noqa: B023


def differences(schema: Schema, program: Program) -> tuple[list[Any], int]:
    """Return what the cache made a program hear otherwise, first the first, and how many hits."""
    cached, plain = Run(schema, program), Run(schema, program)
    SQLModelCache.configure(MemoryTransport(), key_prefix="oracle", namespace="oracle")
    cached.go()
    counts = SQLModelCache.stats().models
    hits = sum(one.hits for name, one in counts.items() if name.endswith("(queries)"))
    SQLModelCache.configure(MemoryTransport(), enabled=False)
    plain.go()
    pairs = zip(cached.told, plain.told, strict=False)
    return [pair for pair in pairs if pair[0] != pair[1]], hits


def listen(engine: Any) -> None:
    """Have SQLite keep foreign keys, be quick, and have savepoints within transactions.

    On PostgreSQL two sessions write at once: who would have to wait for a lock is told so.
    """
    if engine.dialect.name == "postgresql":

        @event.listens_for(engine, "connect")
        def hurry(connection: Any, record: Any) -> None:
            connection.execute("SET lock_timeout = '5ms'")
            connection.commit()

        return

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        for pragma in ("foreign_keys = ON", "synchronous = OFF", "journal_mode = MEMORY"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "savepoint")
    def begin(connection: Any, name: str) -> None:
        driver = connection.connection.driver_connection
        if not driver.in_transaction:  # the driver begins at the first write only
            driver.execute("BEGIN IMMEDIATE")

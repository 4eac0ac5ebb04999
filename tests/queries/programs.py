"""Programs: queries, and what two sessions do in turn. Run with the cache and without.

The rows are the same at the start, and nothing depends on chance: so whatever a program is told,
value for value, must not depend on the cache.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.transport import MemoryTransport
from tests.queries.asked import Query, answer, queries, statement
from tests.queries.mapped import Entity, Schema
from tests.queries.places import within
from tests.queries.written import Write, write, writes

# Beside its own errors, SQLAlchemy's flush raises AssertionError where a key would be empty,
# insert() of a class that joins its subclasses AttributeError, and a DELETE of a join, where the
# database has none, NotImplementedError: without the cache as well.
_FAILURES = (SQLAlchemyError, AssertionError, AttributeError, NotImplementedError)


class Step(NamedTuple):
    """What one of the two sessions does: a write, or one of the words below."""

    who: int
    does: str
    what: Write | None = None
    number: int = 0


class Program(NamedTuple):
    """What is asked again and again, and what happens in between; `hits` are for snapshots."""

    queries: list[Query]
    steps: list[Step]
    hits: bool = False


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
    return st.tuples(asked, steps, st.booleans()).map(lambda said: Program(*said))


class Run:
    """One run of a program: what it was told, in order."""

    def __init__(self, schema: Schema, program: Program) -> None:
        self.told: list[tuple[Any, ...]] = []
        self._schema = schema
        self._program = program
        self._asked = [(said, statement(schema, said)) for said in program.queries]
        self._one_writes = schema.place.one_writes
        self._writing = [False, False]
        self._inner: list[list[Any]] = [[], []]

    def go(self) -> None:
        """Run it, from the first rows on."""
        self._schema.restart()
        for _ in range(3):  # the lists are stored, then their rows; then both are found
            self._look("at first")
        with self._schema.place.session() as one, self._schema.place.session() as other:
            both = one, other
            for number, step in enumerate(self._program.steps):
                self._step(both, step, number)
            for who, session in enumerate(both):
                self._end(session, who, "commit", "end")
        for _ in range(2):
            self._look("at last")
        self.told.append(("tables", "", self._schema.contents()))

    def _step(self, both: tuple[Any, Any], step: Step, number: int) -> None:
        session, inner = both[step.who], self._inner[step.who]
        when = f"step {number}"
        if step.does in ("write", "savepoint", "keep", "drop"):
            if self._one_writes and self._writing[1 - step.who]:  # it waits for the other
                self._end(both[1 - step.who], 1 - step.who, "commit", when)
            self._writing[step.who] = True
        if step.does in ("read", "write", "savepoint"):
            self._begin(session)
        tell = partial(self._try, session, step.who, when)
        match step.does:
            case "look":
                self._look(when)
            case "read":
                asked = self._asked[step.number % len(self._asked)]
                tell(lambda: answer(self._schema, session, *asked))
            case "write":
                tell(lambda: within(session, lambda plain: write(self._schema, plain, step.what)))
            case "savepoint":
                tell(lambda: inner.append(within(session, Session.begin_nested)))
            case "keep" | "drop":
                if inner:
                    last = inner.pop()
                    ends = last.commit if step.does == "keep" else last.rollback
                    tell(lambda: within(session, lambda _: ends()))
            case _:
                self._end(session, step.who, step.does, when)
                self._look(when)

    def _begin(self, session: Any) -> None:
        """Let a snapshot begin, if there is to be one.

        A hit begins none, and a load does: docs/consistency.md, "Several reads are not one
        snapshot".
        """
        if self._schema.place.snapshots and not session.in_transaction():
            look = select(func.count()).select_from(self._schema.base.metadata.sorted_tables[0])
            within(session, lambda plain: plain.connection().execute(look).all())

    def _try(self, session: Any, who: int, when: str, does: Any) -> None:
        """Note what something returns or how it fails; then the transaction is over."""
        try:
            self.told.append((when, who, does()))
        except _FAILURES as error:
            self.told.append((when, who, type(error).__name__))
            if who in (0, 1):
                self._over(session, who)

    def _end(self, session: Any, who: int, how: str, when: str) -> None:
        try:
            session.commit() if how == "commit" else session.rollback()
        except _FAILURES as error:
            self.told.append((when, who, type(error).__name__))
        self._over(session, who)

    def _over(self, session: Any, who: int) -> None:
        session.rollback()
        self._inner[who].clear()
        self._writing[who] = False

    def _look(self, when: str) -> None:
        for asked in self._asked:
            with self._schema.place.session() as session:
                self._try(session, 2, when, lambda: answer(self._schema, session, *asked))  # noqa: B023


def differences(schema: Schema, program: Program) -> tuple[list[Any], int]:
    """Return what the cache made a program hear otherwise, first the first, and how many hits."""
    cached, plain = Run(schema, program), Run(schema, program)
    SQLModelCache.configure(
        schema.place.transport(),
        key_prefix="oracle",
        namespace="oracle",
        snapshot_hits=program.hits,
    )
    cached.go()
    counts = SQLModelCache.stats().models
    hits = sum(one.hits for name, one in counts.items() if name.endswith("(queries)"))
    SQLModelCache.configure(MemoryTransport(), enabled=False)
    plain.go()
    pairs = zip(cached.told, plain.told, strict=False)
    return [pair for pair in pairs if pair[0] != pair[1]], hits

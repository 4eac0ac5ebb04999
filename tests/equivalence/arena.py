"""One database with generated rows, and the two ways to an instance: a load and a hit.

A script is run the one way and the other; what it returns, what hooks logged and which SQL was
sent must be the same. The SELECT that a load is and a hit is not happens before the script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from tests.equivalence.blueprints import Case, Row
from tests.equivalence.exactly import differences
from tests.equivalence.models import NAMES, Models, build
from tests.equivalence.snapshot import snapshot

Script = Callable[[Session, Any], Any]


@dataclass(frozen=True)
class Target:
    """What is asked for: a class and a key."""

    cls: type[Any]
    key: Any


class NotHit(AssertionError):
    """The second get was answered by the database."""


class Arena:
    """An engine, the log of what hooks and events did, and the two ways."""

    def __init__(self, engine: Engine, log: list[Any] | None = None) -> None:
        self.engine = engine
        self.log: list[Any] = [] if log is None else log
        self.sent: list[tuple[str, Any]] = []
        event.listen(engine, "before_cursor_execute", self._on_statement)

    def _on_statement(self, _c: Any, _k: Any, statement: str, parameters: Any, *_: Any) -> None:
        self.sent.append((statement, parameters))

    @contextmanager
    def session(self, **options: Any) -> Iterator[Session]:
        """Open a session whose instance events are logged."""
        with Session(self.engine, **options) as session:

            @event.listens_for(session, "loaded_as_persistent")
            def _loaded(_: Session, instance: Any) -> None:
                self.log.append(("loaded as persistent", type(instance)))

            yield session

    def load(self, session: Session, target: Target) -> Any:
        """Get from the database."""
        return session.get(target.cls, target.key, execution_options={"cache": False})

    def hit(self, session: Session, target: Target) -> Any:
        """Get from the cache; raises `NotHit` if that is not what happens."""
        before, count = SQLModelCache.stats(), len(self.sent)
        instance = session.get(target.cls, target.key)
        after = SQLModelCache.stats()
        if len(self.sent) != count or after.hits != before.hits + 1:
            reasons = {
                name: number for name, number in after.bypasses.items()
                if number != before.bypasses.get(name)
            }  # fmt: skip
            missed = "SQL after a hit" if after.hits > before.hits else "a miss"
            raise NotHit(f"{target.cls.__name__}: {reasons or missed}")
        return instance

    def any_way(self, session: Session, target: Target) -> Any:
        """Get as anybody does, from wherever."""
        return session.get(target.cls, target.key)

    def fill(self, target: Target) -> Any:
        """Get once, so that the next one can be a hit."""
        with self.session() as session:
            session.get(target.cls, target.key)

    def difference(self, target: Target, script: Script, **options: Any) -> list[str]:
        """Run `script` after a load and after a hit; return how the two differ."""
        seen = []
        for way in (self.load, self.hit):
            with self.session(**options) as session:
                self.log.clear()
                instance = way(session, target)
                events = list(self.log)
                self.sent.clear()
                self.log.clear()
                outcome = script(session, instance)
                seen.append({
                    "events of the get": events,
                    "outcome": outcome,
                    "events": list(self.log),
                    "sql": list(self.sent),
                })  # fmt: skip
                session.rollback()
        return list(differences(*seen))

    def check(self, target: Target, *scripts: Script, **options: Any) -> None:
        """Fail if any script can tell a hit from a load."""
        for script in (snapshot, *scripts):
            found = self.difference(target, script, **options)
            assert not found, f"{getattr(script, '__name__', script)}:\n" + "\n".join(found)


@contextmanager
def arena_of(case: Case) -> Iterator[tuple[Arena, Models]]:
    """Build a case's classes and rows in a database of their own; configure the cache first."""
    models = build(case.blueprint)
    engine = create_engine("sqlite://")
    try:
        models.registry.metadata.create_all(engine)
        with engine.begin() as connection:
            for row in case.rows:
                for table, values in _rows(case, models, row):
                    connection.execute(table.insert(), values)
        arena = Arena(engine, models.log)
        _listen(case, models)
        yield arena, models
    finally:
        engine.dispose()
        models.dispose()


def target_of(models: Models, row: Row, level: int | None = None) -> Target:
    """Return the question for `row`, asked through the class at `level`."""
    key = row.key if len(row.key) > 1 else row.key[0]
    return Target(models.classes[row.level if level is None else level], key)


def _rows(case: Case, models: Models, row: Row) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield what to insert into each table that holds a part of the row."""
    mapper = inspect(models.classes[row.level])
    keys = {f"k{number}": value for number, value in enumerate(row.key)}
    extra: dict[str, Any] = {"kind": NAMES[row.level], "version": 3, "parent_id": None}
    extra |= {"px": 5, "py": "five", "qx": None, "qy": "q", "rx": 1, "ry": None}
    named = {
        column.name: row.values[plan.name]
        for plan in case.blueprint.all_columns(row.level)
        for column in mapper.get_property(plan.name).columns
    }
    values = extra | keys | named
    for table in mapper.tables:
        yield table, {column.name: values[column.name] for column in table.columns
                      if column.name in values}  # fmt: skip


def _listen(case: Case, models: Models) -> None:
    """Add the load events of a blueprint's features, and one that only logs."""
    base = models.classes[0]

    @event.listens_for(base, "load", propagate=True)
    def _load(instance: Any, context: Any) -> None:
        models.log.append(("load", type(instance)))
        if "load event" in case.blueprint.features:
            setattr(instance, case.blueprint.columns[0].name, None)

    if "raw load event" in case.blueprint.features:

        @event.listens_for(base, "load", propagate=True, raw=True)
        def _raw_load(state: Any, context: Any) -> None:
            state.dict["added by an event"] = len(state.dict)

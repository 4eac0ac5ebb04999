"""What somebody may do with an instance after a get. Each returns all that it saw."""

# ruff: noqa: D401  (what is done here reads as what is so)
from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from tests.equivalence.blueprints import Case, Row
from tests.equivalence.kinds import KINDS
from tests.equivalence.snapshot import session_facts, snapshot


def outcome(action: Callable[[], Any]) -> Any:
    """Return what `action` returns, or the exception that it raises, as text."""
    try:
        return action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def every_attribute(session: Session, instance: Any) -> Any:
    """Access all attributes, those not loaded among them, in one order."""
    seen: list[Any] = []
    for name in sorted(inspect(instance).mapper.all_orm_descriptors.keys()):
        seen.append((name, outcome(lambda name=name: getattr(instance, name))))
        seen.append(sorted(inspect(instance).unloaded))
    return seen, snapshot(session, instance)


def the_same_again(session: Session, instance: Any) -> Any:
    """Every other way to the row gives the same object and changes nothing."""
    cls, key = type(instance), inspect(instance).identity
    mapper = inspect(cls)
    pk = [mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key]
    again = session.get(cls, key)
    chosen = session.scalars(
        select(cls).where(*[column == value for column, value in zip(pk, key, strict=True)])
    ).one()
    return again is instance, chosen is instance, snapshot(session, instance)


def commit(session: Session, instance: Any) -> Any:
    """A commit expires what was loaded."""
    session.commit()
    return snapshot(session, instance), every_attribute(session, instance)


def rollback(session: Session, instance: Any) -> Any:
    """So does a rollback."""
    session.rollback()
    return snapshot(session, instance), every_attribute(session, instance)


def savepoint(session: Session, instance: Any) -> Any:
    """A rollback to a savepoint expires only what was changed inside."""
    with session.begin_nested() as nested:
        inside = snapshot(session, instance)
        nested.rollback()
    return inside, snapshot(session, instance)


def refresh(session: Session, instance: Any) -> Any:
    """Refresh and expire go to the database."""
    session.refresh(instance)
    fresh = snapshot(session, instance)
    session.expire(instance)
    return fresh, snapshot(session, instance), every_attribute(session, instance)


def merge(session: Session, instance: Any) -> Any:
    """Expunge, merge back from the detached state, and merge into another session."""
    session.expunge(instance)
    detached = inspect(instance).detached, session_facts(session)
    merged = session.merge(instance, load=False)
    facts = snapshot(session, merged)
    session.expunge(merged)
    attached = outcome(lambda: session.add(instance)), snapshot(session, instance)
    with Session(session.get_bind()) as other:
        return detached, facts, attached, snapshot(other, other.merge(instance, load=False))


def make_transient(session: Session, instance: Any) -> Any:
    """A copy of the row that is inserted again fails in the same way."""
    session.delete(instance)
    session.flush()
    deleted = session_facts(session), inspect(instance).deleted
    session.rollback()
    return deleted, snapshot(session, instance)


def pickled(session: Session, instance: Any) -> Any:
    """A pickle carries the same state and can be merged."""
    copied = outcome(lambda: pickle.loads(pickle.dumps(instance)))
    if isinstance(copied, str):
        return copied
    seen = snapshot(session, copied)
    session.expunge(instance)
    return seen, snapshot(session, session.merge(copied, load=False))


def changed(case: Case, row: Row, how: str) -> Callable[[Session, Any], Any]:
    """Return a script that changes attributes and flushes."""
    plans = case.blueprint.all_columns(row.level)

    def change(session: Session, instance: Any) -> Any:
        if how == "set":
            for plan in plans:
                setattr(instance, plan.name, row.others[plan.name])
        for plan in plans:
            grow = KINDS[plan.kind].grow
            value = vars(instance).get(plan.name)
            if how == "grow" and grow is not None and value is not None:
                grow(value)
        if how == "grow" and vars(instance).get("q_point") is not None:
            instance.q_point.x = 99
        before = _described(session, instance)
        flushed = outcome(session.flush)
        after = _described(session, instance)
        session.rollback()
        return before, flushed, after, every_attribute(session, instance)

    change.__name__ = f"change by {how}"
    return change


def _described(session: Session, instance: Any) -> Any:
    histories = {
        attribute.key: tuple(map(list, map(tuple, attribute.history)))
        if attribute.key in vars(instance)
        else None
        for attribute in inspect(instance).attrs
    }
    return snapshot(session, instance), histories


SCRIPTS = (
    every_attribute, the_same_again, commit, rollback, savepoint, refresh, merge,
    make_transient, pickled,
)  # fmt: skip

"""The one way in for statements: `Session.execute`, `scalars` and `scalar`, while a cache is live.

Plain functions around the three public methods rather than a `do_orm_execute` listener: where any
listens, SQLAlchemy prepares each statement twice, which costs a get of an uncached model 3 to 6 %
(4 us, SQLite in memory, 2.0 and 2.1); these functions cost it less than 0.5 %. So our own hook is
none of the foreign ones either, and what a listener of somebody's re-executes passes by.

What is not ours (DML, text, Core, uncached entities) is told by the statement's class and its
subject; then the call is SQLAlchemy's alone. The ORM's own loads carry load options of theirs:
a get's SELECT is not looked up again here, a refresh or an expired attribute not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from sqlalchemy import Result, Select
from sqlalchemy.orm import Mapper, Session
from sqlmodel.sql.expression import Select as SelectOfRows
from sqlmodel.sql.expression import SelectOfScalar

from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.model.plan import plan_of
from sqlmodel_cache.orm.queries import answer as queries
from sqlmodel_cache.orm.reads import selects

# By class, not by `isinstance`: a user's own subclass may mean what nobody knows.
_SELECTS: Final = frozenset({Select, SelectOfRows, SelectOfScalar})

_FINISH: Final[dict[str, Callable[[Result[Any]], Any] | None]] = {
    "execute": None,
    "scalars": lambda result: result.scalars(),
    "scalar": lambda result: result.scalar(),
}

# name -> (our function, what stood there before)
_installed: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}


def watch() -> None:
    """Stand around the three methods. Idempotent."""
    execute = vars(Session)["execute"]
    for name, finish in _FINISH.items():
        if name not in _installed:
            plain = vars(Session)[name]
            ours = _around(plain, execute, finish)
            _installed[name] = ours, plain
            setattr(Session, name, ours)


def unwatch() -> None:
    """Give the methods back. Where somebody stands around ours, it stays and does nothing."""
    for name, (ours, plain) in list(_installed.items()):
        if vars(Session)[name] is ours:
            setattr(Session, name, plain)
            del _installed[name]


def _around(
    plain: Callable[..., Any],
    execute: Callable[..., Any],
    finish: Callable[[Result[Any]], Any] | None,
) -> Callable[..., Any]:
    @wraps(plain)
    def method(session: Session, statement: Any, params: Any = None, **how: Any) -> Any:
        if type(statement) in _SELECTS:
            result = _answer(execute, session, statement, params, how)
            if result is not None:
                return result if finish is None else finish(result)
        return plain(session, statement, params, **how)

    return method


def _answer(
    execute: Callable[..., Any], session: Session, statement: Any, params: Any, how: dict[str, Any]
) -> Result[Any] | None:
    """Return the answer to a SELECT that concerns the cache, None for any other."""
    subject = _sqlalchemy.subject_of(statement)
    if type(subject) is not Mapper:
        return None
    plan = plan_of(subject.class_)
    if plan is None or _sqlalchemy.is_internal(how):
        return None
    which = selects.named(plan, statement, params)
    if which is not None:
        return selects.answer(execute, session, plan, which, statement, params, how)
    return queries.answer(execute, session, plan, statement, params, how)

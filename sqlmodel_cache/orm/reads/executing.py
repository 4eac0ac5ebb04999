"""The one way in for statements: `Session.execute`, `scalars` and `scalar`, while a cache is live.

Plain functions around the three public methods rather than a `do_orm_execute` listener: where any
listens, SQLAlchemy prepares each statement twice, which costs a get of an uncached model 3 to 6 %
(4 us, SQLite in memory, 2.0 and 2.1); these functions cost it 0.3 %, as they name every argument:
to gather and hand on whatever comes takes five times that. So our own hook is
none of the foreign ones either, and what a listener of somebody's re-executes passes by.

What is not ours (DML, text, Core, uncached entities) is told by the statement's class and its
subject; then the call is SQLAlchemy's alone. The ORM's own loads carry load options of theirs:
a get's SELECT is not looked up again here, a refresh or an expired attribute not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final

from sqlalchemy import CompoundSelect, Result, Select
from sqlalchemy.orm import FromStatement, Mapper, Session
from sqlalchemy.orm.util import AliasedInsp
from sqlalchemy.util import EMPTY_DICT
from sqlmodel.sql.expression import Select as SelectOfRows
from sqlmodel.sql.expression import SelectOfScalar

from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.model.plan import Plan, plan_of
from sqlmodel_cache.orm.queries import answer as queries
from sqlmodel_cache.orm.reads import selects

# By class, not by `isinstance`: a user's own subclass may mean what nobody knows.
_SELECTS: Final = frozenset({Select, SelectOfRows, SelectOfScalar, FromStatement, CompoundSelect})

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
    def method(
        session: Session,
        statement: Any,
        params: Any = None,
        *,
        execution_options: Mapping[str, Any] = EMPTY_DICT,
        bind_arguments: Any = None,
        _parent_execute_state: Any = None,  # of what a listener executes again
        _add_event: Any = None,
    ) -> Any:
        if (
            type(statement) in _SELECTS
            and not (execution_options and _sqlalchemy.is_internal(execution_options))
            and _parent_execute_state is _add_event is None
        ):
            given = {"execution_options": execution_options, "bind_arguments": bind_arguments}
            how = {name: value for name, value in given.items() if value}
            result = _answer(execute, session, statement, params, how)
            if result is not None:
                return result if finish is None else finish(result)
        return plain(
            session,
            statement,
            params,
            execution_options=execution_options,
            bind_arguments=bind_arguments,
            _parent_execute_state=_parent_execute_state,
            _add_event=_add_event,
        )

    return method


def _answer(
    execute: Callable[..., Any], session: Session, statement: Any, params: Any, how: dict[str, Any]
) -> Result[Any] | None:
    """Return the answer to a SELECT that concerns the cache, None for any other."""
    plan = plan_for(statement)
    if plan is None:
        return None
    which = selects.named(plan, statement, params)
    if which is not None:
        return selects.answer(execute, session, plan, which, statement, params, how)
    return queries.answer(execute, session, plan, statement, params, how)


def plan_for(statement: Any) -> Plan | None:
    """Return the plan of a SELECT's subject, None if it does not concern the cache."""
    if type(statement) not in _SELECTS or statement.is_dml:  # RETURNING, by from_statement()
        return None
    subject = _sqlalchemy.subject_of(statement)
    if type(subject) is AliasedInsp:
        subject = subject.mapper
    elif type(subject) is not Mapper:
        return None
    return plan_of(subject.class_)

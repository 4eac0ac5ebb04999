"""Whether a SELECT is answered from the cache, or why not. The only place where that is decided.

It judges the call, the session (`decide`, for each model whose instances are in the result) and
the statement (`Question`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import CompoundSelect
from sqlalchemy.orm import FromStatement

from sqlmodel_cache.events import Bypass
from sqlmodel_cache.orm import _compiling
from sqlmodel_cache.orm.binding import binding_of
from sqlmodel_cache.orm.queries.depends import OPTION
from sqlmodel_cache.orm.queries.questions import Question, question_of
from sqlmodel_cache.orm.queries.results import Asked
from sqlmodel_cache.orm.reads.decide import Scope, decide
from sqlmodel_cache.orm.reads.options import HARMLESS
from sqlmodel_cache.orm.reads.places import Place, root_place

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from sqlmodel_cache.orm.cache import Cache
    from sqlmodel_cache.orm.model.plan import Plan


class Ready(NamedTuple):
    """A SELECT that the cache can answer: `scope` is that of its subject, `scopes` of them all.

    `key` is SQLAlchemy's own; `place` is where instances arrive by loader options, if it has any.
    """

    scope: Scope
    scopes: dict[Plan, Scope]
    question: Question
    asked: Asked
    key: Any
    place: Place | None


class Refused(NamedTuple):
    """A SELECT that the database must answer; `why` says what in it, if one thing does."""

    reason: Bypass
    why: str = ""


def judge(
    cache: Cache,
    session: Session,
    plan: Plan,
    statement: Any,
    params: Any,
    how: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    only_asking: bool = False,
) -> Ready | Refused:
    """Judge a SELECT whose subject is `plan`'s model.

    `params` and `how` are what `Session.execute` got, `options` its execution options and the
    statement's; `only_asking` as for `decide`, which may then raise NotYetKnown.
    """
    if not plan.config.queries:
        return Refused(Bypass.QUERY, f"queries of {plan.name} are not cached")
    own = getattr(session, "execution_options", None) or ()
    if strange := {*options, *own} - HARMLESS:
        return Refused(Bypass.STATEMENT, f"it has the execution option {min(strange)!r}")
    if isinstance(params, list | tuple):
        return Refused(Bypass.STATEMENT, "it has several sets of parameters")
    if isinstance(statement, CompoundSelect) and session.dispatch.do_orm_execute:
        return Refused(Bypass.ORM_HOOK)  # its result may be anything
    load_options = _compiling.loader_options_of(statement)
    arguments = {**how, "options": load_options} if load_options else how
    binding = binding_of(session)
    scope = admitted(
        decide(cache, binding, session, plan, options, arguments, only_asking=only_asking)
    )
    if isinstance(scope, Bypass):
        return Refused(scope)
    key = _compiling.cache_key_of(statement)
    if key is None:
        return Refused(Bypass.STATEMENT, "SQLAlchemy has no key for it")
    question = question_of(scope.reader, statement, key, options.get(OPTION))
    if question.refused is not None:
        return Refused(question.refused, question.why)
    if load_options and not (question.single and type(statement) is not FromStatement):
        return Refused(Bypass.LOADER_OPTIONS)
    if options.get("cache") is not True and not question.unasked:
        return Refused(Bypass.QUERY, "it does not ask for it: it has no option cache=True")
    asked = question.ask(scope, key, params)
    if isinstance(asked, Bypass):
        return Refused(asked)
    scopes = _scopes(scope, question, options, only_asking=only_asking)
    if isinstance(scopes, Bypass):
        return Refused(scopes)
    place = root_place(plan, options, load_options) if load_options else None
    return Ready(scope, scopes, question, asked, key, place)


def admitted(scope: Scope | Bypass) -> Scope | Bypass:
    """Return the scope of a query where that of rows is given, or why the database must answer."""
    if isinstance(scope, Bypass):
        return scope
    if not scope.cache.stores.full:
        return Bypass.QUERY
    if scope.watching is None:
        return scope
    return Bypass.SHADOW if scope.watching.shadow else msgspec.structs.replace(scope, watching=None)


def _scopes(
    scope: Scope, question: Question, options: Mapping[str, Any], *, only_asking: bool
) -> dict[Plan, Scope] | Bypass:
    """Return the scopes of all models whose instances a result has."""
    found = {scope.reader.plan: scope}
    for plan in question.plans:
        if plan not in found:
            binding = binding_of(scope.session)
            judged = decide(
                scope.cache, binding, scope.session, plan, options, {}, only_asking=only_asking
            )
            other = admitted(judged)
            if isinstance(other, Bypass):
                return other
            if other.bind is not scope.bind:  # a load would read it where the first one is
                return Bypass.SESSION_CLASS
            found[plan] = other
    return found

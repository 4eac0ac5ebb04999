"""A SELECT as a question: what it depends on, what its result is called and looks like.

Worked out once per form, which is SQLAlchemy's own cache key; a call only brings parameters. The
name of a result is made of the SQL, so that all processes call it alike, and of the parameters,
each with its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from sqlmodel_cache.codec import Unstorable
from sqlmodel_cache.codec.generic import dump
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import Bypass, logger
from sqlmodel_cache.orm import _compiling, _results, schemas
from sqlmodel_cache.orm.model.conditions import value_codecs
from sqlmodel_cache.orm.model.plan import Plan, plan_of
from sqlmodel_cache.orm.model.tables import TableMap, table_map
from sqlmodel_cache.orm.queries import stamps
from sqlmodel_cache.orm.queries.depends import (
    Need,
    Unstamped,
    checked_depends,
    declared_needs,
    needs_of,
)
from sqlmodel_cache.orm.queries.elements import Elements, NotStorable, codec_of, elements_of
from sqlmodel_cache.orm.queries.results import Asked
from sqlmodel_cache.orm.reads.pinned import is_computed

if TYPE_CHECKING:
    from sqlmodel_cache.orm.model.reader import Reader
    from sqlmodel_cache.orm.reads.decide import Scope

_FORMS_AT_MOST: Final = 200  # of one model
_encode = msgspec.msgpack.Encoder().encode


class Question:
    """One form of a SELECT. `refused`: why its results are never cached.

    `elements` are those of a row, `plans` the models of those that are instances; `single`: such
    a one is all of it. `metadata` is what its results know of themselves.
    `unasked`: all its tables' models cache queries that nobody asks for.
    """

    def __init__(
        self,
        reader: Reader,
        statement: Any,
        key: Any,
        tables: TableMap,
        depends: tuple[Any, ...] = (),
    ) -> None:
        self.tables = tables
        self.refused: Bypass | None = None
        self.why = ""
        self.elements: Elements = ()
        self.plans: tuple[Plan, ...] = ()
        self.single = False
        self.metadata: Any = None
        self.unasked = False
        self.needs: tuple[Need, ...] = ()
        rendered = self._rendered = _compiling.render(statement, reader.dialect, key)
        if rendered.why is not None and not (depends and rendered.answers):
            self._refuse(Bypass.STATEMENT, rendered.why)
            return
        entities = rendered.entities()
        try:
            self.elements = elements_of(statement, entities)
        except NotStorable as error:
            self._refuse(Bypass.STATEMENT, str(error))
            return
        self.plans = tuple(dict.fromkeys(each.plan for each in self.elements if each is not None))
        self.single = len(entities) == 1 and bool(self.plans)
        try:
            if depends:
                self.needs = declared_needs(depends, tables, reader.dialect)
            else:
                self.needs = needs_of(statement, rendered, tables, reader.dialect)
        except Unstamped as error:
            self._refuse(
                Bypass.QUERY, f"nobody tells of changes in {error}: no model of it caches queries"
            )
            return
        self.codec = codec_of(reader, self.elements, entities)
        if not self.needs or self.codec.unstorable:
            self._refuse(Bypass.STATEMENT, "its values cannot be stored")
            return
        self.unasked = all(need.root.unasked for need in self.needs)
        self.codecs = [value_codecs(need.where, reader.dialect) for need in self.needs]
        self.metadata = _results.rows_metadata(entities)
        said = rendered.text, sorted(rendered.types().items()), self.codec.fingerprint
        self._prefix = repr(said).encode()

    def ask(self, scope: Scope, key: Any, params: Any) -> Asked | Bypass:
        """Return where the result of this call lies, or why it must come from the database."""
        translate, dialect = scope.translate, scope.reader.dialect
        schemata = [schemas.prefix_of(need.root, translate, dialect) for need in self.needs]
        if any(map(is_computed, key.bindparams)):
            return Bypass.STATEMENT
        try:
            values = self._rendered.values(key, params)
            text = self._name(values, schemata)
        except (SQLAlchemyError, Unstorable):  # the database has better words for what is missing
            return Bypass.KEY
        cache, namespace = scope.cache, scope.reader.keyspace.namespace
        found = []
        for need, codecs, schema in zip(self.needs, self.codecs, schemata, strict=True):
            if need.root is not scope.reader.root and (reason := _left_out(scope, need)):
                return reason
            if scope.ledger is not None:
                table = need.root.table
                if any(scope.ledger.may_differ(table, schema + each) for each in need.all()):
                    return Bypass.TOUCHED
            keyspace = cache.keyspace(namespace, need.root.table, hidden=need.root.hash_keys)
            found += [keyspace.entry(schema + each) for each in need.stamps(values, codecs)]
        backlog = cache.backlog
        if backlog.waiting and any(map(backlog.holds, found)):
            return Bypass.QUEUED
        root = self.needs[0].root
        own = cache.keyspace(namespace, root.table, hidden=root.hash_keys)
        entry = own.entry(scope.schema + stamps.result(text))
        return Asked(entry, found, self.codec, cache.max_ttl)

    def words(self, key: Any, params: Any) -> list[str]:
        """Return in words what the result of a call depends on that `ask` has an answer to."""
        values = self._rendered.values(key, params)
        pairs = zip(self.needs, self.codecs, strict=True)
        return [said for need, codecs in pairs for said in need.words(values, codecs)]

    def _name(self, values: Mapping[str, Any], schemata: list[str]) -> str:
        """Return the digest of this form under these parameters. Raises Unstorable."""
        told: list[Any] = [(name, _dumped(values[name])) for name in sorted(values)]
        told.append(schemata)
        try:
            return blake2b(self._prefix + _encode(told), digest_size=20).hexdigest()
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
            raise Unstorable("a parameter has no name") from error

    def _refuse(self, reason: Bypass, why: str) -> None:
        self.refused, self.why = reason, why


def _left_out(scope: Scope, need: Need) -> Bypass | None:
    """Return why another model of the query keeps out of the cache, None if it does not."""
    cls = need.root.cls()
    plan = None if cls is None else plan_of(cls)
    if plan is None:
        return None
    if plan.blocked is Bypass.MODEL_OFF:
        return plan.blocked
    site = scope.cache.sites.of(scope.reader.dialect)
    try:
        conduct = site.reader(scope.reader.keyspace.namespace, plan).conduct
    except UnavailableError:  # epochs had to be renewed first, and could not be
        return Bypass.BREAKER
    if conduct is None:
        return None
    return conduct.bypass or (Bypass.SHADOW if conduct.shadow else None)


def _dumped(value: Any) -> Any:
    """Return a parameter with the name of its type, as True and 1 are equal but not alike."""
    if isinstance(value, list | tuple):
        return ["[", *map(_dumped, value)]
    return [type(value).__name__, dump(value)]


def question_of(reader: Reader, statement: Any, key: Any, depends: Any = None) -> Question:
    """Return the question that a statement of this form is, worked out the first time.

    `depends` is its execution option `cache_depends`. Raises ConfigurationError for a wrong one.
    """
    known: dict[Any, Question] = reader.questions
    tables = table_map()
    declared = () if depends is None else checked_depends(depends)
    form = (key.key, declared) if declared else key.key
    try:
        found = known[form]
        if found.tables is tables:
            return found
    except KeyError:
        pass
    made = Question(reader, statement, key, tables, declared)
    if made.refused is not None:
        logger.info(
            "%s: a query is not cached, as %s",
            reader.plan.name,
            made.why,
            extra={"cache_model": reader.plan.name, "cache_reason": made.refused.value},
        )
    while len(known) >= _FORMS_AT_MOST:
        known.pop(next(iter(known), None), None)
    known[form] = made
    return made

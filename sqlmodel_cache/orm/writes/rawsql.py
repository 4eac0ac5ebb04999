"""Which tables a statement in plain text writes, read off it by sqlglot where that is installed.

The words of `orm.sqltext` come first and say what sqlglot is not asked: settings, transactions. Of
what they take for a write the tables are named, if every part of it is understood; a function
that is not known to be harmless is never taken for a read. Without sqlglot, and where in doubt, the
words decide. Remembered by text and dialect, as parsing costs a hundred times what looking up does.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sqlmodel_cache.orm.writes.functions import is_harmless
from sqlmodel_cache.orm.writes.sqltext import (
    LONG,
    Effect,
    effect_of,
    effect_of_statement,
    is_plain,
    statements_in,
)


@dataclass(frozen=True, slots=True)
class Written:
    """A table that a text writes, as it is spelt there."""

    name: str
    schema: str = ""  # all that stands before the name
    columns: frozenset[str] | None = frozenset()  # that rows which stay are set to; None: any
    deletes: bool = False
    cascades: bool = False  # TRUNCATE ... CASCADE: whatever refers to it is emptied, too


@dataclass(frozen=True, slots=True)
class Reading:
    """All that is known of one text."""

    effect: Effect
    writes: frozenset[Written] = frozenset()


# Their name in sqlglot, by that in SQLAlchemy.
_DIALECTS = {
    "postgresql": "postgres",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
    "mssql": "tsql",
    "oracle": "oracle",
}
# Where UPDATE and DELETE change the one table that they name first; elsewhere any in the statement.
_ONE_TARGET = ("postgresql", "sqlite")

_PARSED = re.compile(
    r"(?:select|with|values|table|insert|replace|update|delete|merge|truncate|drop|alter|copy)\b",
    re.IGNORECASE,
)
_VERBS = re.compile(
    r"\b(?:insert|update|delete|merge|replace|truncate|drop|alter|copy|call|do|exec|execute)\b"
    r"(?!\s*\()",
    re.IGNORECASE,
)
_NO_VERBS = re.compile(
    r"\bfor\s+(?:no\s+key\s+)?update\b|\bon\s+duplicate\s+key\s+update\b|\bdo\s+(?:update|nothing)\b"
    r"|\bor\s+replace\b|\bthen\s+(?:update|insert|delete|do)\b",
    re.IGNORECASE,
)
# Statements that run an expression, although they are known by their first words.
_RUNS = re.compile(r"set|explain|analyze|declare|create\b.*?\bas\b", re.IGNORECASE | re.DOTALL)
_QUOTED_CALLS = re.compile(r'"([^"]+)"\s*\(|`([^`]+)`\s*\(|\[([^\]]+)\]\s*\(')
_CALLS = re.compile(r"([\w.$]+|'')\s*\(")
_WORDS = """
    select from where join on using in not and or any all some exists values as over filter by
    having union except intersect lateral when then else case between like is explain analyze
    materialized group rollup cube sets distinct limit offset for varchar numeric decimal with
    character timestamp time interval float set
"""
_BEFORE_BRACKETS = frozenset(_WORDS.split())
# sqlglot takes these for templates, which no database does.
_TEMPLATES = re.compile(r"[{}]")
# A driver's placeholders, lists of them, and comments: the same text but for these is the same.
_PLACEHOLDERS = re.compile(r"%\(\w+\)s|%s|\$\d+|(?<![:\w]):\w+")
_LISTS = re.compile(r"(?<=\bIN )\(NULL(?:\s*,\s*NULL)+\)", re.IGNORECASE)
_ROWS = re.compile(r"(\([^()]*\bNULL\b[^()]*\))(?:\s*,\s*\1)+")
_COMMENTS = re.compile(r"/\*(?!\+).*?\*/|--[^\r\n]*", re.DOTALL)


def read(text: str, dialect: str) -> Reading:
    """Return what `text` does in a database of SQLAlchemy's `dialect`."""
    if len(text) > LONG:
        return Reading(effect_of(text, dialect))
    return _read(text, dialect)


@lru_cache(maxsize=512)
def _read(text: str, dialect: str) -> Reading:
    words = effect_of(text, dialect)
    if _parser() is None or dialect not in _DIALECTS or not is_plain(text, dialect):
        return Reading(words)
    writes = _parse(_without_values(text), dialect)
    if writes is None:
        return Reading(words | Effect.ANYTHING)
    return Reading(words & ~Effect.ANYTHING, writes)


def _shadows(text: str) -> bool:
    """Tell whether a quoted function, such as "Upper"(), has a database's own name but for case."""
    names = (name for found in _QUOTED_CALLS.findall(text) for name in found if name)
    return any(not name.islower() and is_harmless(name.lower()) for name in names)


def _without_values(text: str) -> str:
    """Return `text` without what differs from one execution to the next.

    Inside of strings too, where it does no harm: no quote comes or goes.
    """
    if "'" not in text and '"' not in text and "`" not in text and "$$" not in text:
        text = _COMMENTS.sub(" ", text)
    text = _PLACEHOLDERS.sub("NULL", text).replace("%%", "%")
    return _ROWS.sub(r"\1", _LISTS.sub("(NULL)", text)).strip()


@lru_cache(maxsize=512)
def _parse(text: str, dialect: str) -> frozenset[Written] | None:
    """Return the tables written, None if a part of the text that may write is not understood."""
    parts = statements_in(text, dialect)
    asked: dict[int, str] = {}
    for number, part in enumerate(parts):
        writes = Effect.ANYTHING in effect_of_statement(part, dialect)
        if not _PARSED.match(part):
            if writes or _calls_by_words(part):
                return None
        elif writes or "(" in part:
            asked[number] = part
    if not parts or (asked and (_shadows(text) or any(map(_TEMPLATES.search, parts)))):
        return None
    trees = _trees(text, dialect, parts) if asked else []
    if trees is None or (asked and len(trees) != len(parts)):
        return None
    found: set[Written] = set()
    for number, part in asked.items():
        written = _Statement(trees[number], part, dialect).written()
        if written is None:
            return None
        found |= written
    return frozenset(found)


def _calls_by_words(part: str) -> bool:
    """Tell whether what sqlglot is not asked about runs an expression that may call a function."""
    runs = _RUNS.match(part)
    if runs is None:
        return False
    names = [name.rpartition(".")[2].lower() for name in _CALLS.findall(part, runs.end())]
    return not all(name in _BEFORE_BRACKETS or is_harmless(name) for name in names)


@cache
def _parser() -> Any:
    """Return sqlglot, None where it is not installed."""
    if find_spec("sqlglot") is None:
        return None
    logging.getLogger("sqlglot").addFilter(lambda record: not _parsing.get())
    return import_module("sqlglot")


_parsing: ContextVar[bool] = ContextVar("sqlmodel_cache_parsing", default=False)


def _trees(text: str, dialect: str, parts: tuple[str, ...]) -> list[Any] | None:
    start = re.match(r"[\s(]*replace\b", text, re.IGNORECASE)
    if start is not None and len(parts) == 1:  # MySQL's, which sqlglot does not know
        text = f"{text[: start.end() - 7]}insert{text[start.end() :]}"
    token = _parsing.set(True)  # it logs what it does not understand; that is not the user's doing
    try:
        return [tree for tree in _parser().parse(text, read=_DIALECTS[dialect]) if tree is not None]
    except Exception:  # of any kind, for any text
        return None
    finally:
        _parsing.reset(token)


class _Statement:
    """One statement: its tree, and its text without strings and comments."""

    def __init__(self, tree: Any, text: str, dialect: str) -> None:
        self._exp = _parser().exp
        self._tree = tree
        self._text = text
        self._dialect = dialect
        self._verbs = 0  # of the text that the tree accounts for

    def written(self) -> set[Written] | None:
        """Return the tables it writes, None if it is not understood as a whole."""
        exp = self._exp
        kinds: Any = (exp.Query, exp.Values, exp.Table, *self._writers())
        if not isinstance(self._tree, kinds):
            return None
        found: set[Written] = set()
        for node in self._tree.walk():
            if isinstance(node, (exp.Command, exp.Into, exp.Create, exp.Execute)):
                return None
            if isinstance(node, exp.Func) and not self._is_harmless(node):
                return None
            for kind, read_one in self._writers().items():
                if isinstance(node, kind) and not isinstance(node.parent, exp.When):
                    self._verbs += 1
                    some = read_one(node)
                    if some is None:
                        return None
                    found |= some
        if self._verbs_in_text() > self._verbs:  # a word of it was taken for a name
            return None
        return found

    def _writers(self) -> dict[Any, Any]:
        exp = self._exp
        return {
            exp.Insert: self._insert,
            exp.Update: self._update,
            exp.Delete: self._delete,
            exp.Merge: self._merge,
            exp.Copy: self._copy,
            exp.TruncateTable: self._truncate,
            exp.Drop: self._drop,
            exp.Alter: self._alter,
        }

    def _verbs_in_text(self) -> int:
        if isinstance(self._tree, self._exp.Alter) and self._dialect != "mssql":
            return 1  # its own actions are verbs
        return len(_VERBS.findall(_NO_VERBS.sub("", self._text)))

    def _is_harmless(self, function: Any) -> bool:
        exp = self._exp
        qualifier = ""
        if isinstance(function.parent, exp.Dot) and function.parent.expression is function:
            qualifier = function.parent.this.name
        if isinstance(function, exp.Binary):  # an operator
            return True
        if not isinstance(function, exp.Anonymous):
            names = [name.lower() for name in type(function).sql_names()]
            return not qualifier and any(map(is_harmless, names))
        return qualifier in ("", "pg_catalog") and is_harmless(function.name.lower())

    def _insert(self, node: Any) -> set[Written] | None:
        replaces = self._text.lower().startswith("replace") or node.args.get("overwrite")
        replaces = replaces or str(node.args.get("alternative") or "").upper() == "REPLACE"
        conflict = node.args.get("conflict")
        columns = _set_by(conflict) if conflict is not None else frozenset()
        return self._one(node.this, columns=columns, deletes=bool(replaces))

    def _update(self, node: Any) -> set[Written] | None:
        columns = _set_by(node)
        if self._dialect in _ONE_TARGET:
            return self._one(node.this, columns=columns)
        return self._any(node, columns=columns)

    def _delete(self, node: Any) -> set[Written] | None:
        if self._dialect in _ONE_TARGET:
            return self._one(node.this, deletes=True)
        return self._any(node, deletes=True)

    def _merge(self, node: Any) -> set[Written] | None:
        return self._one(node.this, columns=None, deletes=True)

    def _copy(self, node: Any) -> set[Written] | None:
        return self._one(node.this) if node.args.get("kind") else set()

    def _truncate(self, node: Any) -> set[Written] | None:
        if node.args.get("is_database"):
            return None
        cascades = "CASCADE" in str(node.args.get("option") or "").upper()
        return self._each(node.expressions, deletes=True, cascades=cascades)

    def _drop(self, node: Any) -> set[Written] | None:
        kind = str(node.args.get("kind") or "").upper()
        if kind == "INDEX":
            return set()
        tables = node.args.get("tables") or [node.this]
        return self._each(tables, deletes=True) if kind == "TABLE" else None

    def _alter(self, node: Any) -> set[Written] | None:
        if str(node.args.get("kind") or "").upper() != "TABLE" or self._dialect == "mssql":
            return None
        return self._each(node.find_all(self._exp.Table), columns=None, deletes=True)

    def _any(self, node: Any, **how: Any) -> set[Written] | None:
        """Return every table between verb and WHERE; an alias, a WITH is one of the others."""
        places = ("this", "tables", "using", "from_", "from", "joins")
        named = [
            table
            for place in places
            for part in _listed(node.args.get(place))
            for table in part.find_all(self._exp.Table)
        ]
        others = {alias.name.casefold() for alias in self._tree.find_all(self._exp.TableAlias)}
        real = [table for table in named if table.db or table.name.casefold() not in others]
        if len(real) < len(named):  # and what stands behind those may be anywhere
            real = [
                table
                for table in self._tree.find_all(self._exp.Table)
                if table.db or table.name.casefold() not in others
            ]
            # A table may have the name of another's alias.
            real += [table for table in named if table.alias and table not in real]
        return self._each(real, **how) if real else None

    def _one(self, target: Any, **how: Any) -> set[Written] | None:
        if isinstance(target, self._exp.Schema):
            target = target.this
        return self._each([target], **how)

    def _each(self, targets: Any, **how: Any) -> set[Written] | None:
        found = set()
        for target in targets:
            plain = isinstance(target, self._exp.Table) and isinstance(
                target.this, self._exp.Identifier
            )
            if not plain:
                return None
            schema = ".".join(filter(None, (target.catalog, target.db)))
            found.add(Written(target.name, schema, **how))
        return found


def _listed(found: Any) -> Iterator[Any]:
    for one in found if isinstance(found, list) else [found]:
        if hasattr(one, "find_all"):
            yield one


def _set_by(node: Any) -> frozenset[str] | None:
    """Return the columns that an UPDATE, or one inside of an INSERT, sets; None: not to be told."""
    names = [getattr(one.this, "name", "") for one in node.expressions if one.key == "eq"]
    if len(names) != len(node.expressions) or not all(names):
        return None
    return frozenset(name.casefold() for name in names)

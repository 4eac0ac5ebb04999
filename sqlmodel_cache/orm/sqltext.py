"""What a statement in plain text may do, judged by its first words.

No parser: what is not known to be harmless is taken to write anything. A function called by a
SELECT may write too, and nobody can see that from here; `docs/consistency.md` says so.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache


class Effect(enum.Enum):
    """The worst that a text can do to cached rows."""

    NOTHING = "nothing"
    SETTINGS = "settings"  # changes what later statements of the connection mean
    LOCAL_SETTINGS = "local settings"  # the same, until the transaction ends
    ISOLATION = "isolation"  # changes this transaction's isolation level behind SQLAlchemy's back
    COMMIT = "commit"  # makes earlier writes durable behind SQLAlchemy's back
    COMMIT_PREPARED = "commit prepared"  # makes durable what nobody here knows
    ANYTHING = "anything"


_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/|\()*", re.DOTALL)
_WRITES = re.compile(
    r"\b(?:insert|update|delete|merge|replace|truncate|drop|alter|into|call|do)\b", re.IGNORECASE
)
_LOCKING = re.compile(r"\bfor\s+(?:no\s+key\s+)?update\b", re.IGNORECASE)
_HARMLESS = re.compile(
    r"show|pragma|describe|desc|values|table|begin|start|savepoint|release|rollback|lock|unlock"
    r"|reset|fetch|declare|close|move|vacuum|reindex|checkpoint|listen|unlisten|notify|create"
    r"|comment|grant|revoke|discard|deallocate|prepare|attach|detach"
)
_REPLACES = re.compile(r"create\s+or\s+replace\s+(?:\w+\s+)?table\b", re.IGNORECASE)
_SET_CONFIG = re.compile(r"\bset_config\s*\((?P<local>[^()]*,\s*true\s*\))?", re.IGNORECASE)
_PLAIN_COMMIT = re.compile(
    r"(?:commit|end)(?:\s+(?:work|tran|transaction))?(?:\s+and\s+(?:no\s+)?chain)?"
    r"(?:\s+(?:no\s+)?release)?[\s;]*",
    re.IGNORECASE,
)
_XA_COMMIT = re.compile(r"xa\b(?!\s+(?:start|begin|end|prepare|rollback|recover)\b)", re.IGNORECASE)
_ISOLATION = re.compile(r"set\s+(?:local\s+)?transaction\b", re.IGNORECASE)
_MEANING = re.compile(  # settings that change which rows are seen, or how values read
    r"set\s+(?P<local>local\s+)?(?:(?:session|global)\s+)?"
    r"(?:@@|transaction|characteristics|(?:default_)?transaction_isolation|tx_isolation"
    r"|search_path|schema|role|session\s+authorization|authorization|row_security|time\s*_?zone"
    r"|datestyle|intervalstyle|bytea_output|sql_mode|names|@?[\w\"]+\.[\w\"]+|@\w+)",
    re.IGNORECASE,
)
# Strings and comments, found from left to right so that neither hides in the other.
_QUOTED = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/""", re.DOTALL
)


@lru_cache(maxsize=512)
def effect_of(text: str) -> Effect:
    """Return the worst that `text` can do."""
    body = text[_COMMENTS.match(text).end() :]  # type: ignore[union-attr]  # always matches
    word = re.match(r"[A-Za-z]+", body)
    first = word.group().lower() if word else ""
    # Backslashes end strings in one dialect and not in another: then everything is looked at.
    bare = body if "\\" in body else _QUOTED.sub("''", body)
    if ";" in bare.rstrip().rstrip(";"):
        return Effect.ANYTHING
    if first in ("select", "with", "explain", "analyze"):
        if found := _SET_CONFIG.search(body):
            return Effect.LOCAL_SETTINGS if found["local"] else Effect.SETTINGS
        writes = _WRITES.search(_LOCKING.sub("", bare))
        return Effect.ANYTHING if writes else Effect.NOTHING
    if first in ("commit", "end"):
        plain = _PLAIN_COMMIT.fullmatch(bare.replace("''", " "))
        return Effect.COMMIT if plain else Effect.COMMIT_PREPARED
    if first == "xa":
        return Effect.COMMIT_PREPARED if _XA_COMMIT.match(body) else Effect.NOTHING
    if first == "set":
        return _effect_of_set(body)
    if first == "use":
        return Effect.SETTINGS
    if _REPLACES.match(body):
        return Effect.ANYTHING
    return Effect.NOTHING if _HARMLESS.fullmatch(first) else Effect.ANYTHING


# A verb, the words that may stand between it and its object, and the object.
_NAME = r"""(?:[^\W\d][\w$]*|"[\w $]+"|`[\w $]+`|\[[\w $]+\])"""
_OBJECT = re.compile(
    r"\b(?P<verb>insert|update|delete|merge|replace|truncate|drop|alter|call|create)"
    r"(?P<between>(?:\s+(?:or|replace|ignore|into|from|only|table|view|schema|if|exists))*)"
    rf"\s+(?P<name>{_NAME}(?:\s*\.\s*{_NAME}){{0,2}})",
    re.IGNORECASE,
)
_MAY_QUOTE = re.compile(r"""['"`$\\#]|--|/\*""")


def headline(text: str) -> str:
    """Name a statement in a log line: by its verb and its table, never by a value."""
    body = text[_COMMENTS.match(text).end() :]  # type: ignore[union-attr]  # always matches
    word = re.match(r"[A-Za-z]{1,20}\b", body)
    if word is None:
        return "a statement without a verb"
    found = _OBJECT.match(body)
    if found is None:  # further on, but before anything that could be a value
        found = _OBJECT.search(_MAY_QUOTE.split(body, maxsplit=1)[0])
    first = word.group().upper()
    if found is None:
        return first
    what = " ".join([*f"{found['verb']}{found['between']}".upper().split(), found["name"]])
    return what if found.start() == 0 else f"{first} ... {what}"


_FIRST = re.compile(r"(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)
_MYSQL_COMMITS = re.compile(
    r"alter|analyze|begin|cache|change|check|create|drop|flush|grant|install|load|lock|optimize"
    r"|rename|repair|reset|revoke|start|stop|truncate|uninstall|unlock"
    r"|set\s+(?:session\s+|global\s+|@@)*(?:\w+\.)?(?:autocommit|password)",
    re.IGNORECASE,
)
_COMMITS = {
    "mysql": _MYSQL_COMMITS,
    "mariadb": _MYSQL_COMMITS,
    "oracle": re.compile(r"alter|create|drop|grant|revoke|truncate|rename", re.IGNORECASE),
    "sqlite": re.compile(r"release", re.IGNORECASE),  # of a savepoint that began a transaction
}


def commits_implicitly(text: str, dialect: str) -> bool:
    """Tell whether `text` may make durable what was written before it, without saying COMMIT.

    https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/
    """
    words = _COMMITS.get(dialect)
    if words is None:
        return False
    start = _FIRST.match(text)
    return words.match(text, 0 if start is None else start.end()) is not None


_BRACKET = re.compile(
    r"(?P<opens>begin|start\s+transaction)\b|(?:commit|end|abort|rollback(?!\s+(?:\w+\s+)?to))\b",
    re.IGNORECASE,
)


def brackets(text: str) -> bool | None:
    """Tell whether `text` opens a transaction (True), closes one (False), or neither (None)."""
    start = _FIRST.match(text)
    found = _BRACKET.match(text, 0 if start is None else start.end())
    return None if found is None else found["opens"] is not None


def _effect_of_set(body: str) -> Effect:
    if _ISOLATION.match(body):
        return Effect.ISOLATION
    if found := _MEANING.match(body):
        return Effect.LOCAL_SETTINGS if found["local"] else Effect.SETTINGS
    return Effect.NOTHING

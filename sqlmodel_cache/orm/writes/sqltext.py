"""What a statement in plain text may do, judged by its words.

No parser: what is not known to be harmless is taken to write anything. A function called by a
SELECT may write too, and nobody can see that from here (`orm.rawsql` can, with sqlglot).

Strings and comments are taken out first, or a word in them would count. Where databases disagree
about where one ends, nothing is taken out and every word counts.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import Final


class Effect(enum.Flag):
    """What a text can do to cached rows; several at once if it has several statements."""

    NOTHING = 0
    SETTINGS = enum.auto()  # changes what later statements of the connection mean
    LOCAL_SETTINGS = enum.auto()  # the same, until the transaction ends
    ISOLATION = enum.auto()  # changes this transaction's isolation level behind SQLAlchemy's back
    COMMIT = enum.auto()  # makes earlier writes durable behind SQLAlchemy's back
    COMMIT_PREPARED = enum.auto()  # makes durable what nobody here knows
    ANYTHING = enum.auto()  # writes what nobody can tell


# Characters of a text beyond which nothing is remembered about it: each is another one.
LONG: Final = 8192

_MYSQL = ("mysql", "mariadb")
_I = re.IGNORECASE | re.DOTALL

# Strings, names and comments, found from left to right so that none hides in another.
_QUOTED = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\$(\w*)\$.*?\$\1\$|--[^\r\n]*|/\*.*?\*/""", re.DOTALL
)
# Where one of them may end elsewhere than `_QUOTED` says: escapes, comments in comments, comments
# that MySQL executes and those that it does not take for one, `[it's]`, `a$$`, `q'[it's]'`.
_DOUBTS = r"\\|/\*(?:(?!\*/).)*?/\*|(?<![\w$])[^\W\d]\w*\$|\bn?q'"
_DOUBTS_IN = {
    "postgresql": re.compile(rf"{_DOUBTS}|`", _I),
    "sqlite": re.compile(rf"{_DOUBTS}|\$\w*\$|\[[^\]]*['\"`$/-]", _I),
}
_DOUBTS_ELSEWHERE = re.compile(
    rf"{_DOUBTS}|\$\w*\$|\[[^\]]*['\"`$/-]|#|--(?!\s|\Z)|/\*M?!|\bq'", _I
)

_START = re.compile(r"(?:\s+|--[^\r\n]*|/\*.*?\*/|\()*", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]+")
_WRITES = re.compile(
    r"\b(?:insert|update|delete|merge|replace|truncate|drop|alter|into|call|do|exec|execute)\b"
    r"(?!\s*\()",  # functions: replace(), insert(), truncate()
    re.IGNORECASE,
)
_NO_WRITES = re.compile(
    r"\bfor\s+(?:no\s+key\s+)?update\b|\bon\s+(?:update|delete)\b", re.IGNORECASE
)
_HARMLESS = re.compile(
    r"show|pragma|describe|desc|values|table|begin|start|savepoint|release|rollback|lock|unlock"
    r"|reset|fetch|declare|close|move|vacuum|reindex|checkpoint|listen|unlisten|notify|create"
    r"|comment|grant|revoke|discard|deallocate|prepare|attach|detach|use|set|commit|end"
    r"|select|with|explain|analyze|xa"
)
# Routines are only described by CREATE, and PREPARE only names a statement.
_DESCRIBES = re.compile(
    r"create\s+(?:or\s+(?:replace|alter)\s+)?(?:definer\s*=\s*\S+\s+|temp\s+|temporary\s+"
    r"|constraint\s+|aggregate\s+)*(?:function|procedure|trigger|event|rule|policy|package|type)\b",
    re.IGNORECASE,
)
_PERMITS = re.compile(r"(?:grant|revoke|prepare)\b", re.IGNORECASE)
_REPLACES = re.compile(r"create\s+or\s+replace\s+(?:\w+\s+)?table\b", re.IGNORECASE)

_SET_CONFIG = re.compile(
    r"\bset_config\b\"?\s*(?:\((?P<local>[^()]*,\s*true\s*\)))?", re.IGNORECASE
)
_PLAIN_COMMIT = re.compile(
    r"(?:commit|end)(?:\s+(?:work|tran|transaction))?(?:\s+and\s+(?:no\s+)?chain)?"
    r"(?:\s+(?:no\s+)?release)?\s*",
    re.IGNORECASE,
)
_XA_COMMIT = re.compile(r"xa\b(?!\s+(?:start|begin|end|prepare|rollback|recover)\b)", re.IGNORECASE)
_ISOLATION = re.compile(r"set\s+(?P<local>local\s+)?transaction\b", re.IGNORECASE)
_BEGINS_AT = re.compile(r"(?:begin|start)\b.*\b(?:isolation|as\s+of)\b", _I)
_SET = re.compile(r"set\s+(?:(?P<local>local)\s+|(?:session|global|persist)\s+)?", re.IGNORECASE)
_SETS = re.compile(r"([@\w.\"`]+)\s*(?::?=|\bto\b)", re.IGNORECASE)
# Settings that change neither which rows are seen nor how their values read.
_HARMLESS_SETTING = re.compile(
    r"(?:@@)?(?:session\.|local\.|global\.)?(?:constraints|application_name|client_min_messages"
    r"|autocommit|foreign_key_checks|unique_checks|enable_\w+|\w+_timeout|\w+_mem|\w+_cost"
    r"|(?:log|jit|innodb|max|cpu|net|vacuum|geqo|effective|parallel|track|bulk_insert)_\w+|jit"
    r"|synchronous_commit|temp_buffers|group_concat_max_len|nocount|arithabort|xact_abort"
    r"|statistics|profiling|sql_safe_updates|sql_log_bin|lc_messages|cursor_tuple_fraction)",
    re.IGNORECASE,
)
_OTHER_SETTINGS = re.compile(
    r"use\b|attach\b|detach\b|alter\s+session\b"
    r"|pragma\s+(?:[\w']+\s*\.\s*)?(?:read_uncommitted|writable_schema)\s*[=(]",
    re.IGNORECASE,
)
_BY_CATALOG = re.compile(r"\bupdate\b.*\bpg_settings\b", _I)
_RUNS_TEXT = re.compile(r"(?:do|exec|execute|call|begin|declare|if)\b", re.IGNORECASE)
_SETS_SOMEWHERE = re.compile(
    r"\bset\s+(?:local\s+|session\s+)?(?:role|search_path|authorization|row_security|transaction"
    r"|names|time\s+zone|@?[\w\"]+\.[\w\"]+)",
    re.IGNORECASE,
)


def is_plain(text: str, dialect: str) -> bool:
    """Tell whether it is sure where the strings and comments of `text` end."""
    return _DOUBTS_IN.get(dialect, _DOUBTS_ELSEWHERE).search(text) is None


def statements_in(text: str, dialect: str = "") -> tuple[str, ...]:
    """Return the statements of a text, without strings and comments if these are plain to see."""
    return (_statements_in if len(text) <= LONG else _statements_in.__wrapped__)(text, dialect)


@lru_cache(maxsize=512)
def _statements_in(text: str, dialect: str) -> tuple[str, ...]:
    bare = _QUOTED.sub(_hole, text) if is_plain(text, dialect) else text
    start = _START.match(bare).end()  # type: ignore[union-attr]  # always matches
    if _DESCRIBES.match(bare, start):  # whose own statements are not run now
        return (bare[start:],)
    found = (part[_START.match(part).end() :] for part in bare.split(";"))  # type: ignore[union-attr]
    return tuple(part for part in found if part)


def _hole(quoted: re.Match[str]) -> str:
    """Return what a string, name or comment leaves behind; a comment parts words."""
    return " " if quoted[0][:2] in ("--", "/*") else "''"


def is_one_statement(text: str, dialect: str = "") -> bool:
    """Tell whether `text` is a single statement, and none that runs others."""
    parts = statements_in(text, dialect)
    return len(parts) == 1 and is_plain(text, dialect) and _RUNS_TEXT.match(parts[0]) is None


def effect_of(text: str, dialect: str = "") -> Effect:
    """Return what `text` can do, in a database of SQLAlchemy's `dialect` (any, if it is empty)."""
    return (_effect_of if len(text) <= LONG else _effect_of.__wrapped__)(text, dialect)


@lru_cache(maxsize=512)
def _effect_of(text: str, dialect: str) -> Effect:
    found = Effect.NOTHING
    parts = statements_in(text, dialect)
    if not parts:
        return Effect.ANYTHING
    for part in parts:
        found |= effect_of_statement(part, dialect)
    if config := _SET_CONFIG.search(text):
        found |= Effect.LOCAL_SETTINGS if config["local"] else Effect.SETTINGS
    if _BY_CATALOG.search(text):
        found |= Effect.SETTINGS
    if not is_plain(text, dialect):
        if len(parts) > 1 or _WRITES.search(text):
            found |= Effect.ANYTHING
        if Effect.ANYTHING in found and _SETS_SOMEWHERE.search(text):
            found |= Effect.SETTINGS
    elif any(_RUNS_TEXT.match(part) for part in parts) and _SETS_SOMEWHERE.search(text):
        found |= Effect.SETTINGS
    return found


def effect_of_statement(body: str, dialect: str) -> Effect:
    """Return what one of `statements_in` can do."""
    word = _WORD.match(body)
    first = word.group().lower() if word else ""
    if not _HARMLESS.fullmatch(first) or _REPLACES.match(body):
        found = Effect.ANYTHING
    elif _DESCRIBES.match(body) or (dialect != "mssql" and _PERMITS.match(body)):
        found = Effect.NOTHING
    elif _WRITES.search(body if first == "set" else _NO_WRITES.sub("", body)):
        found = Effect.ANYTHING
    else:
        found = Effect.NOTHING
    if first in ("commit", "end"):
        plain = _PLAIN_COMMIT.fullmatch(body.replace("''", " "))
        found |= Effect.COMMIT if plain else Effect.COMMIT_PREPARED
    elif _XA_COMMIT.match(body):
        found |= Effect.COMMIT_PREPARED
    elif first == "set":
        found |= _effect_of_set(body, dialect)
    elif _OTHER_SETTINGS.match(body):
        found |= Effect.SETTINGS
    elif _BEGINS_AT.match(body):
        found |= Effect.ISOLATION
    return found


def _effect_of_set(body: str, dialect: str) -> Effect:
    until_the_end = dialect not in _MYSQL  # there LOCAL is another word for SESSION
    if found := _ISOLATION.match(body):
        return Effect.SETTINGS if found["local"] and not until_the_end else Effect.ISOLATION
    head = _SET.match(body)
    if head is None:
        return Effect.SETTINGS
    rest = body[head.end() :].lstrip()
    names = [re.split(r"[\s=:,]", rest, maxsplit=1)[0], *_SETS.findall(rest)]
    if all(_HARMLESS_SETTING.fullmatch(name) for name in names):
        return Effect.NOTHING
    return Effect.LOCAL_SETTINGS if head["local"] and until_the_end else Effect.SETTINGS


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
    body = text[_START.match(text).end() :]  # type: ignore[union-attr]  # always matches
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


_TEMPORARY = re.compile(
    r"\b(?:create\s+(?:or\s+replace\s+|global\s+|local\s+)*(?:temp|temporary)\s+(?:recursive\s+)?"
    r"(?:table|view)|into\s+(?:temp|temporary)(?:\s+table)?|create\s+(?:table|view)(?=.*?temp\s*\.))"
    r"\s+(?:if\s+not\s+exists\s+)?(?P<name>''|\w+)(?:\s*\.\s*(?P<last>''|\w+))?",
    _I,
)


def temporary_tables(text: str, dialect: str = "") -> list[str]:
    """Return the names that a text gives to temporary tables and views; empty for a quoted one."""
    if "temp" not in text.lower():
        return []
    found = (_TEMPORARY.search(part) for part in statements_in(text, dialect))
    return [(one["last"] or one["name"]).strip("'") for one in found if one is not None]


def commits_implicitly(text: str, dialect: str) -> bool:
    """Tell whether `text` may make durable what was written before it, without saying COMMIT.

    https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/
    """
    words = _COMMITS.get(dialect)
    return words is not None and any(words.match(part) for part in statements_in(text, dialect))


_BRACKET = re.compile(
    r"(?P<opens>begin|start\s+transaction)\b|(?:commit|end|abort|rollback(?!\s+(?:\w+\s+)?to))\b",
    re.IGNORECASE,
)


def brackets(text: str, dialect: str = "") -> bool | None:
    """Tell whether `text` leaves a transaction open (True), closed (False), or as it was (None)."""
    found = [_BRACKET.match(part) for part in statements_in(text, dialect)]
    last = [one for one in found if one is not None]
    return last[-1]["opens"] is not None if last else None

"""Names of stamps: what a result of a query depends on, each one an entry beside the rows.

The content of a stamp is random. A reader who finds it absent puts it there, under a lease like
any fill, before its SELECT; a writer touches it like a row, so that it is fenced before COMMIT
and gone after it. A result names the contents of its stamps and is valid while they are current.
So a stamp needs no list of its results, and one that was evicted ends them.

    rows     rows of the table were inserted or deleted
    column   an UPDATE set this column of some row
    value    rows with this value of the column came or went
    unknown  the same, of a value that the writer could not know

`!` stands in no escaped name: these texts are neither primary keys nor values of unique keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlmodel_cache.keys import escape

if TYPE_CHECKING:
    from sqlmodel_cache.orm.model.tables import Root

NULL: Final = "0"  # the text of no value: those begin with a letter
_STAMP: Final = "~!s:"
_OLD: Final = "~!o:"
_RESULT: Final = "~!r:"


def queries_of(model: str) -> str:
    """Return the name in stats() of the queries of a model, apart from its rows."""
    return f"{model} (queries)"


def rows(table: str) -> str:
    """Return the stamp of rows that come and go. `table` is its name without schema."""
    return f"{_STAMP}r:{escape(table)}"


def column(table: str, name: str) -> str:
    """Return the stamp of updates of one column."""
    return f"{_STAMP}c:{escape(table)}:{escape(name)}"


def value(table: str, name: str, text: str) -> str:
    """Return the stamp of rows with one value, of which `text` is a codec's or `NULL`."""
    return f"{_STAMP}v:{escape(table)}:{escape(name)}={text}"


def unknown(table: str, name: str) -> str:
    """Return the stamp of rows with values that a writer could not know."""
    return f"{_STAMP}u:{escape(table)}:{escape(name)}"


def every_query_of(root: Root) -> list[str]:
    """Return stamps of which every query of a root's tables has one: of rows, or unknown values."""
    return [
        text
        for where in root.stamped
        for text in (
            rows(where.table.name),
            *(unknown(where.table.name, each.name) for each in where.conditions),
        )
    ]


def result(digest: str) -> str:
    """Return the text of a result's entry."""
    return _RESULT + digest


class Wish(NamedTuple):
    """The values that a row had before this transaction, in these columns, are to be stamped."""

    table: str
    columns: tuple[str, ...]
    pk: str


def wish(table: str, names: Sequence[str], pk: str) -> str:
    """Return what a writer touches who cannot know a row's old values: see `old.py`.

    `pk` is the row's text, without schema; no entry is ever called so.
    """
    return f"{_OLD}{escape(table)}:{','.join(map(escape, names))}:{pk}"


def apart(text: str) -> tuple[str, str]:
    """Return (schema prefix, the rest) of the text of any entry."""
    if not text.startswith("@"):
        return "", text
    schema, _, rest = text.partition(":")
    return f"{schema}:", rest


def is_stamp(text: str) -> bool:
    """Tell whether the text of an entry is a stamp's, or a wish for some."""
    return apart(text)[1].startswith((_STAMP, _OLD))


def is_result(text: str) -> bool:
    """Tell whether the text of an entry is that of a query's result."""
    return apart(text)[1].startswith(_RESULT)


def wish_in(text: str) -> tuple[str, Wish] | None:
    """Return (schema prefix, the wish) if a touched text is one. Names come escaped."""
    schema, rest = apart(text)
    if not rest.startswith(_OLD):
        return None
    table, columns, pk = rest[len(_OLD) :].split(":", 2)
    return schema, Wish(table, tuple(columns.split(",")), pk)


def value_in(text: str) -> str | None:
    """Return the stamp of unknown values beside a value's stamp, None if it is none."""
    schema, rest = apart(text)
    if not rest.startswith(f"{_STAMP}v:"):
        return None
    where = rest[len(_STAMP) + 2 :].partition("=")[0]
    return f"{schema}{_STAMP}u:{where}"

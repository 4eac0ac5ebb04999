"""From primary-key values to the one text that names a row in keys.

One codec per root and dialect, because a TypeDecorator's values pass through its dialect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from sqlmodel_cache.codec.pk import PkCodec
from sqlmodel_cache.orm.model.tables import Root
from sqlmodel_cache.orm.model.uniques import Unique
from sqlmodel_cache.orm.owned import Owned

_codecs: Owned[WeakKeyDictionary[Root, PkCodec]] = Owned("codecs")
_unique_codecs: Owned[WeakKeyDictionary[Root, dict[str, PkCodec]]] = Owned("unique codecs")


def pk_codec(root: Root, dialect: Any) -> PkCodec:
    """Return the codec for the keys of `root` under `dialect`, compiled on first use."""
    try:
        return _codecs[dialect][root]
    except KeyError:
        by_root = _codecs.setdefault(dialect, WeakKeyDictionary())
        return by_root.setdefault(root, PkCodec(root.types, dialect))


def unique_codec(root: Root, unique: Unique, dialect: Any) -> PkCodec:
    """Return the codec for the values of one unique key of `root`, compiled on first use."""
    by_root = _unique_codecs.setdefault(dialect, WeakKeyDictionary())
    by_prefix = by_root.setdefault(root, {})
    try:
        return by_prefix[unique.prefix]
    except KeyError:
        types = [column.type for column in unique.columns]
        return by_prefix.setdefault(unique.prefix, PkCodec(types, dialect))


def forget_codecs() -> None:
    """Take every codec from its dialect."""
    _codecs.clear()
    _unique_codecs.clear()


def row_key(
    root: Root,
    pk: Sequence[Any],
    dialect: Any,
    *,
    trusted: bool,
    schema: str = "",
) -> str | None:
    """Return the encoded key of `pk`, found in a statement's parameters; None if it names no row.

    `trusted`: the values come from identities, not from a user's WHERE. A user's `name = 'Bob'`
    may find the row 'bob' under a case-insensitive collation, so it pins no row. `schema` is the
    prefix that `schemas.prefix_of` gives.
    """
    codec = pk_codec(root, dialect)
    if not (trusted or codec.safe_in_sql) or any(value is None for value in pk):
        return None
    text = codec.encode(pk)
    return None if text is None else schema + text

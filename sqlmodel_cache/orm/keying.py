"""From primary-key values to the one text that names a row in keys.

One codec per root and dialect, because a TypeDecorator's values pass through its dialect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from sqlmodel_cache.codec.pk import PkCodec
from sqlmodel_cache.orm.owned import Owned
from sqlmodel_cache.orm.tables import Root

_codecs: Owned[WeakKeyDictionary[Root, PkCodec]] = Owned("codecs")


def pk_codec(root: Root, dialect: Any) -> PkCodec:
    """Return the codec for the keys of `root` under `dialect`, compiled on first use."""
    try:
        return _codecs[dialect][root]
    except KeyError:
        by_root = _codecs.setdefault(dialect, WeakKeyDictionary())
        return by_root.setdefault(root, PkCodec(root.types, dialect))


def forget_codecs() -> None:
    """Take every codec from its dialect."""
    _codecs.clear()


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

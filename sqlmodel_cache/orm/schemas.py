"""Which schema a row lies in, where `schema_translate_map` moves tables: a prefix of its key.

The rows of a model in all schemas share the model's shards. So what forgets a model forgets it
in every schema, also in those that only other processes have seen; what names a row names it in
one schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlmodel_cache.keys import escape
from sqlmodel_cache.orm.model.tables import Root

OPTION: Final = "schema_translate_map"


def prefix_of(root: Root, translate: Mapping[Any, Any] | None, dialect: Any) -> str:
    """Return what keys of `root` begin with under this map; empty where it moves no table of it.

    The schema that a name without one means in this database counts as none.
    """
    if not translate:
        return ""
    default = dialect.default_schema_name
    moved = [_effective(translate.get(schema, schema), default) for schema in root.schemas]
    if moved == [_effective(schema, default) for schema in root.schemas]:
        return ""
    return f"@{','.join(moved)}:"


def _effective(schema: Any, default: str | None) -> str:
    return "" if schema is None or schema == default else escape(str(schema))

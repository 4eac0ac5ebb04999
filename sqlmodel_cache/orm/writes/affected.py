"""Which rows a statement is about to change: asked of the database, before it does.

Only for caches that can forget nothing but single keys (`get`/`set`/`delete`): everything else
forgets a table through its epochs, without a question.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any

from sqlalchemy import BindParameter, Column, Table, bindparam, select
from sqlalchemy.sql.visitors import replacement_traverse

from sqlmodel_cache.orm.writes.named import NOTHING

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def affected_keys(
    connection: Connection,
    dml: Any,
    compiled: Any,
    parameters: Mapping[str, Any],
    pk: tuple[Column[Any], ...],
    translate: Mapping[Any, Any] | None = None,
) -> list[tuple[Any, ...]] | None:
    """Return the primary keys of the rows that an UPDATE or DELETE will match.

    `parameters` are those of this execution: a cached compiled form carries others' values.
    `translate` is its schema_translate_map.
    None where the question cannot be put.
    """
    if not isinstance(dml.table, Table):
        return None
    query = select(*pk).select_from(dml.table)
    if dml.whereclause is not None:
        names = {bind.key: name for bind, name in compiled.bind_names.items()}

        def with_value(element: Any, **_: Any) -> Any:
            if not isinstance(element, BindParameter):
                return None
            name = names.get(element.key, element.key)
            return bindparam(
                None,
                _value(element, name, parameters),
                type_=element.type,
                unique=True,
                expanding=element.expanding,
            )

        try:
            query = query.where(replacement_traverse(dml.whereclause, {}, with_value))
        except LookupError:
            return None
    options = NOTHING | ({"schema_translate_map": translate} if translate else {})
    return [tuple(row) for row in connection.execute(query, execution_options=options)]


def _value(element: BindParameter[Any], name: str, parameters: Mapping[str, Any]) -> Any:
    """Return one parameter's value. An IN list was spread over `name_1`, `name_2`, ..."""
    if not element.expanding:
        return parameters[name]
    if name in parameters:
        return parameters[name]
    spread = takewhile(parameters.__contains__, (f"{name}_{n}" for n in count(1)))
    values = [parameters[each] for each in spread]
    if not values and f"{name}_1_1" in parameters:  # a list of tuples
        raise LookupError(name)
    return values

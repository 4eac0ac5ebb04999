"""What a statement says to cached queries: which stamps it touches (`orm/queries/stamps.py`).

Only for roots whose queries are cached. Where the statement touches a whole table, its epoch says
all. New values stand in the parameters; where they do not, "unknown" is touched. Old values do not
stand there, and no session knows them: another transaction may have changed the row since it was
loaded. So the row is noted, and what it was is looked up at the commit, under the row's own lock
(`orm/queries/old.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlmodel_cache.orm import _compiling, _sqlalchemy
from sqlmodel_cache.orm.model.conditions import Stamped, value_codecs
from sqlmodel_cache.orm.model.keying import row_key
from sqlmodel_cache.orm.queries import stamps
from sqlmodel_cache.orm.writes.rows import keys_of, parameter_of
from sqlmodel_cache.orm.writes.upserts import Existing

if TYPE_CHECKING:
    from sqlalchemy import Column

    from sqlmodel_cache.orm.connections.ledger import Ledger
    from sqlmodel_cache.orm.writes.statements import Hit

VALUES_AT_MOST: Final = 100  # of one column, in one statement or commit; beyond: unknown
_UNKNOWN: Final = object()


def touch_stamps(
    hit: Hit,
    compiled: Any,
    parameters: Sequence[Mapping[str, Any]],
    ledger: Ledger,
    dialect: Any,
    schema: str,
    changed: Sequence[tuple[Any, ...]] | None = None,
    *,
    from_orm: bool,
    itself: bool,
) -> None:
    """Touch what this INSERT, UPDATE or DELETE of rows of a root says to queries.

    `changed`: the keys of the rows, where the database said them; else the parameters may.
    `itself`: the statement commits itself, so that nothing can be looked up under its lock.
    """
    root, dml = hit.target.root, hit.dml
    where = root.stamped_as(_compiling.table_of(dml).name)
    if where is None:
        ledger.frames.touch_table(root.table)
        return
    name = where.table.name
    sets, told = _columns_set(hit, where, compiled)
    touched = {stamps.column(name, each) for each in sets}
    if hit.insert or dml.is_delete or hit.rekeys:
        touched.add(stamps.rows(name))
    codecs = value_codecs(where, dialect)
    # Under another key, a row comes and goes in each list of keys.
    moves_all = not dml.is_update or hit.rekeys
    moved = [c for c in where.conditions if c.name in codecs and (moves_all or c.name in sets)]
    changes = hit.insert and hit.existing is not Existing.NONE
    for column in moved:
        texts: set[str] | None = set()
        if not dml.is_delete:
            given = not hit.rekeys or column.name in sets
            known = told and given and not (changes and column.name in sets)
            codec = codecs[column.name]
            texts = _new_values(column, dml, compiled, parameters, codec) if known else None
        if texts is None:
            touched.add(stamps.unknown(name, column.name))
        else:
            touched |= {stamps.value(name, column.name, text) for text in texts}
    if moved and not hit.insert:
        trusted = from_orm or changed is not None
        if changed is None and not itself:
            changed = _pinned(hit, parameters)
        in_key = _values_in_key(hit, moved, changed or (), codecs)
        touched |= {stamps.value(name, each, text) for each in in_key for text in in_key[each]}
        names = [column.name for column in moved if column.name not in in_key]
        keys = _keys(hit, changed, dialect, trusted)
        if keys is None:
            touched |= {stamps.unknown(name, each) for each in names}
        elif names:
            touched |= {stamps.wish(name, names, key) for key in keys}
    for text in touched:
        ledger.frames.touch_row((root.table, schema + text))


def _columns_set(hit: Hit, where: Stamped, compiled: Any) -> tuple[set[str], bool]:
    """Return the names of the columns that may change in rows that exist, and if it said which."""
    dml = hit.dml
    if dml.is_delete or (hit.insert and hit.existing is Existing.NONE):
        return set(), True
    sets: set[str] | None
    if hit.insert:
        clauses = _sqlalchemy.conflict_clauses(dml)
        sets = {name for clause in clauses for name, _ in _sqlalchemy.upserted(clause, dml.table)}
    else:
        sets = _sqlalchemy.set_columns(dml, compiled)
    return {
        column.name
        for column in where.table.columns
        if sets is None or column.name in sets or column.name in where.implicit
    }, sets is not None


def _new_values(
    column: Column[Any],
    dml: Any,
    compiled: Any,
    parameters: Sequence[Mapping[str, Any]],
    codec: Any,
) -> set[str] | None:
    """Return the texts of the values that rows get, None if they are not all to be told."""
    if len(parameters) > VALUES_AT_MOST:
        return None
    if dml.is_insert and (dml.select is not None or _sqlalchemy.rows_of_values(dml)):
        return None
    if _sqlalchemy.prefixes_of(dml):  # with IGNORE, MySQL stores another value than it was given
        return None
    name = parameter_of(dml, column, compiled)
    if name is None or column.computed is not None:
        return None
    texts = set()
    for values in parameters:
        value = values.get(name, _UNKNOWN)
        if value is None and not (column.primary_key or column.autoincrement is True):
            text: str | None = stamps.NULL
        else:
            text = None if value is _UNKNOWN else codec.encode((value,))
        if text is None:
            return None
        texts.add(text)
    return texts


def _pinned(hit: Hit, parameters: Sequence[Mapping[str, Any]]) -> Sequence[tuple[Any, ...]] | None:
    """Return the keys of the rows that change, None if the parameters do not say them all."""
    if len(parameters) > VALUES_AT_MOST:
        return None
    found: list[tuple[Any, ...]] = []
    for values in parameters:
        pks = keys_of(hit.rows, values)
        if pks is None:
            return None
        found += pks
    return found


def _values_in_key(
    hit: Hit,
    moved: Sequence[Column[Any]],
    pks: Sequence[tuple[Any, ...]],
    codecs: Mapping[str, Any],
) -> dict[str, set[str]]:
    """Return the texts of old values that are parts of the keys of the rows that change."""
    found: dict[str, set[str]] = {}
    for position, column in enumerate(hit.target.pk or ()):
        if column in moved:
            texts = {codecs[column.name].encode((pk[position],)) for pk in pks}
            if texts and None not in texts and len(texts) <= VALUES_AT_MOST:
                found[column.name] = texts
    return found


def _keys(
    hit: Hit, pks: Sequence[tuple[Any, ...]] | None, dialect: Any, trusted: bool
) -> set[str] | None:
    """Return the texts of the rows that change, None if they are too many or have none."""
    if pks is None:
        return None
    found: set[str] = set()
    for pk in pks:
        text = row_key(hit.target.root, pk, dialect, trusted=trusted)
        if text is None:
            return None
        found.add(text)
        if len(found) > VALUES_AT_MOST:
            return None
    return found

"""The values that rows had before a transaction: from the entity cache, under the rows' locks.

What a session loaded is no evidence: under READ COMMITTED another transaction may have changed
the row before ours locked it. What the entity cache has just before our fence is: it is the last
committed version, as every commit fences first, and nobody else can commit the row while we hold
its lock. A row that is not there, or cannot be read, has unknown values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Mapper

from sqlmodel_cache.errors import CacheError
from sqlmodel_cache.keys import escape
from sqlmodel_cache.orm import _sqlalchemy, bridge
from sqlmodel_cache.orm.model.conditions import value_codecs
from sqlmodel_cache.orm.model.plan import plan_of
from sqlmodel_cache.orm.model.reader import Found
from sqlmodel_cache.orm.queries import stamps
from sqlmodel_cache.protocol.ops import GetMany, Reply

if TYPE_CHECKING:
    from sqlmodel_cache.orm.cache import Cache
    from sqlmodel_cache.orm.model.reader import Reader
    from sqlmodel_cache.orm.model.tables import Root
    from sqlmodel_cache.protocol.read import Steps

VALUES_AT_MOST = 100


def resolved(
    cache: Cache, dialect: Any, namespace: str, root: Root, texts: Sequence[str]
) -> list[str]:
    """Return the touched texts of one root with its wishes granted, few values of each column."""
    if not cache.stores.full:  # such a store has no queries
        return [text for text in texts if not stamps.is_stamp(text)]
    wishes = [pair for text in texts if (pair := stamps.wish_in(text)) is not None]
    found = [text for text in texts if stamps.wish_in(text) is None]
    if wishes:
        found += _granted(cache, dialect, namespace, root, wishes)
    values: dict[str, set[str]] = {}
    for text in found:
        if (value := stamps.value_in(text)) is not None:
            values.setdefault(value, set()).add(text)
    for unknown, several in values.items():
        if len(several) > VALUES_AT_MOST:
            found = [text for text in found if text not in several]
            found.append(unknown)
    return list(dict.fromkeys(found))


def _granted(
    cache: Cache,
    dialect: Any,
    namespace: str,
    root: Root,
    wishes: Sequence[tuple[str, stamps.Wish]],
) -> list[str]:
    rows: dict[str, Any] = {}
    reader = None if len(wishes) > VALUES_AT_MOST else _reader(cache, dialect, namespace, root)
    if reader is not None:
        # No copies: they may lag behind.
        keyspace = cache.keyspace(namespace, root.table, hidden=root.hash_keys)
        asked = {s + w.pk: keyspace.entry(s + w.pk) for s, w in wishes}
        # Of what waits in the backlog the store may have what was before that.
        entries = {key: one for key, one in asked.items() if not cache.backlog.holds(one)}
        try:
            replies = bridge.run(cache.stores, _get_all(tuple(entries.values())))
        except CacheError:
            replies = []
        for (key, entry), reply in zip(entries.items(), replies, strict=bool(replies)):
            if reply.value is not None and reply.epoch is not None:
                rows[key] = reader.verify(entry, reply.value, reply.epoch)
    return [
        f"{schema}{text}"
        for schema, wish in wishes
        for text in _texts(root, wish, rows.get(schema + wish.pk), reader, dialect)
    ]


def _texts(
    root: Root, wish: stamps.Wish, found: object, reader: Reader | None, dialect: Any
) -> list[str]:
    """Return the stamps of a row's old values, those of unknown ones where it is not known."""
    where = next((each for each in root.stamped if escape(each.table.name) == wish.table), None)
    if where is None:
        return []  # it is a table of another root of this name, in another database
    name = where.table.name
    has = dict(found.hydrator.named(found.values)) if type(found) is Found else {}
    mapper = found.hydrator.mapper if type(found) is Found else None
    texts = []
    for column in where.conditions:
        if escape(column.name) not in wish.columns:
            continue
        text = None
        attribute = None if mapper is None else _attribute(mapper, column)
        if attribute in has:
            value = has[attribute]
            codec = value_codecs(where, dialect)[column.name]
            text = stamps.NULL if value is None else codec.encode((value,))
        known = text is not None
        texts.append(
            stamps.value(name, column.name, text or "")
            if known
            else stamps.unknown(name, column.name)
        )
    return texts


def _attribute(mapper: Mapper[Any], column: Any) -> str | None:
    return _sqlalchemy.attribute_of(column, mapper)


def _reader(cache: Cache, dialect: Any, namespace: str, root: Root) -> Reader | None:
    """Return who can read any row of a root, None where nobody can."""
    if not cache.stores.full or cache.config.consistency != "strict":
        return None
    cls = root.cls()
    plan = None if cls is None else plan_of(cls)
    if plan is None or not plan.root.configured:
        return None
    try:
        return cache.sites.of(dialect).reader(namespace, plan)
    except CacheError:
        return None


def _get_all(entries: tuple[Any, ...]) -> Steps[list[Reply]]:
    replies: list[Reply] = yield GetMany(entries)
    return replies

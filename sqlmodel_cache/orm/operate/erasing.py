"""Remove the bytes of a model, or of rows, from the store: for data-protection requests.

To forget (`invalidate`) takes an epoch away and leaves values to their TTL. Here every key under
the prefix is looked at (SCAN, slice by slice, on each node of a Cluster), in all namespaces: also
those of tenants and databases that this process has never used. Leases and epochs go as well, so
that a reader who loaded a row before it was deleted cannot store it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlmodel_cache import _state
from sqlmodel_cache.errors import UnsupportedError
from sqlmodel_cache.keys import Entry, epochs, escape, row_in, shards_in, values
from sqlmodel_cache.orm import bridge
from sqlmodel_cache.orm.cache import Cache
from sqlmodel_cache.orm.model.uniques import is_pointer
from sqlmodel_cache.orm.queries.stamps import is_result
from sqlmodel_cache.orm.writes.explicit import ain, places, roots_of
from sqlmodel_cache.protocol.ops import Release
from sqlmodel_cache.protocol.read import Steps, new_token
from sqlmodel_cache.transport.drive import adrive
from sqlmodel_cache.transport.failures import as_unavailable, is_store_failure


@dataclass(slots=True)
class Erasure:
    """What is to go from one cache: the values of some tables, or of some rows in them.

    A pointer of a unique key does not say by its key whose it is, so all of those go; and what
    belongs to no one table goes with each. So do results of queries, also those that are kept with
    another table: a join may have put values of this one into them.
    """

    cache: Cache
    tables: frozenset[str]
    rows: set[Entry] | None  # None: all
    hidden: bool = False  # their keys are hashes
    found: set[Entry] = field(default_factory=set)

    def chosen(self, batch: list[str]) -> list[str]:
        """Return those keys of a slice that are meant."""
        texts = None if self.rows is None else {entry.pk for entry in self.rows}
        chosen = []
        for key in batch:
            table, entry = row_in(key)
            if entry is None:
                continue
            if is_result(entry.pk):
                chosen.append(key)
                self.found.add(entry)
                continue
            if not (table in self.tables or table.startswith("!")):
                continue
            if texts is None or entry.pk in texts or is_pointer(entry.pk) or table[0] == "!":
                chosen.append(key)
                self.found.add(entry)
        return chosen

    def first(self, keys: list[str]) -> Steps[None]:
        """Have nothing filled any more that was read before; `keys` are those of all epochs.

        Where others hide keys by another secret, nobody knows what these rows are called: all go.
        """
        if self.rows and self.hidden and (yield from self.cache.switch.foreign_secrets()):
            self.rows, self.hidden = None, False
        if self.rows is None:
            shards = [shard for table, shard in shards_in(keys) if table in self.tables]
            yield Release(new_token(), (), tuple(shards))

    def last(self) -> Steps[None]:
        """Take the leases of rows, and whatever was stored while others were removed."""
        if self.rows is None:  # of its own tables the epochs are gone
            rows = {entry for entry in self.found if is_result(entry.pk)}
        else:
            rows = self.rows | self.found
        if rows:
            yield Release(new_token(), tuple(rows), ())
        if self.rows is None and self.hidden:  # nothing is left that another secret hid
            yield from self.cache.switch.forgetting_secrets()
            self.cache.conduct()


def purge(model: type, keys: tuple[Any, ...], bind: Any) -> int:
    """Remove all values of a model, or of its rows with these keys; return how many there were."""
    removed = 0
    for one in _erasures(model, keys, bind):
        removed += _purge(one)
    return removed


def _purge(one: Erasure) -> int:
    stores = one.cache.stores
    store = stores.sync
    _check(store)
    prefix = one.cache.config.key_prefix
    removed = 0
    with _mapped(one):
        found = [key for batch in store.sweep(*epochs(prefix)) for key in batch]
        bridge.run(stores, one.first(found))
        for batch in store.sweep(*values(prefix)):
            removed += store.unlink(one.chosen(batch))
        bridge.run(stores, one.last())
    return removed


async def apurge(model: type, keys: tuple[Any, ...], bind: Any) -> int:
    """Like `purge`, from a coroutine."""
    removed = 0
    for one in await ain(_erasures, model, keys, bind=bind):
        stores = one.cache.stores
        if not stores.awaits:
            removed += _purge(one)
            continue
        store = stores.async_
        _check(store)
        prefix = one.cache.config.key_prefix
        with _mapped(one):
            found = [key async for batch in store.sweep(*epochs(prefix)) for key in batch]
            await adrive(one.first(found), store, stores.breaker)
            async for batch in store.sweep(*values(prefix)):
                removed += await store.unlink(one.chosen(batch))
            await adrive(one.last(), store, stores.breaker)
    return removed


def _erasures(model: type, keys: tuple[Any, ...], bind: Any) -> list[Erasure]:
    _state.get_config()
    _, roots = roots_of(model)
    tables = frozenset(escape(root.table) for root in roots)
    hidden = any(root.hash_keys for root in roots)
    if not keys:
        return [Erasure(cache, tables, None, hidden) for cache in _state.live()]
    rows: dict[Cache, set[Entry]] = {}
    for key in keys:
        for cache, _, _, entry in places(model, key, bind):
            rows.setdefault(cache, set()).add(entry)
    return [Erasure(cache, tables, found, hidden) for cache, found in rows.items()]


def _check(store: Any) -> None:
    if not (hasattr(store, "sweep") and hasattr(store, "unlink")):
        raise UnsupportedError(
            "this transport cannot look through its keys; use a URL, RedisSyncTransport,"
            " RedisAsyncTransport or MemoryTransport (await apurge(...) where it is async)"
        )


@contextmanager
def _mapped(erasure: Erasure) -> Iterator[None]:
    """Raise UnavailableError for what a client raises while it scans."""
    try:
        yield
    except Exception as error:
        if not is_store_failure(error):
            raise
        raise as_unavailable(error, erasure) from None

"""Many rows at once, while somebody commits: what is found was there in one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from sqlmodel_cache.protocol.ops import GetMany, Release
from sqlmodel_cache.testing.contract.full import WRITER, store_row
from sqlmodel_cache.transport import MemoryTransport
from tests.transports.stores import Store, opened

if TYPE_CHECKING:
    from sqlmodel_cache.keys import Entry, KeySpace
    from sqlmodel_cache.protocol.ops import Reply

OLD, NEW = b"old", b"new"


def bodies(store: Store, entries: Sequence[Entry], replies: Sequence[Reply]) -> list[bytes | None]:
    """Return what the replies say of the first entry and of the last."""
    assert len(replies) == len(entries)
    return [reply.value and reply.value[14:] for reply in (replies[0], replies[-1])]


def commit(store: Store, *entries: Entry) -> None:
    """Change rows, and have others read them at once."""
    store.perform(Release(WRITER, entries, ()))
    for entry in entries:
        store_row(store, entry, NEW)


@pytest.mark.parametrize("kind", ["redis-sync", "redis-async", "cluster-sync", "cluster-async"])
@pytest.mark.parametrize("together", [False, True])
def test_in_several_steps(
    kind: str,
    together: bool,
    redis_url: str,
    cluster_url: str,
    space: KeySpace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More rows than one MGET has, or of several slots: what changes meanwhile is absent."""
    cluster = kind.startswith("cluster")
    entries = [space.entry(str(number)) for number in range(600)]
    first, last = entries[0], entries[-1]
    if cluster:
        last = next(entry for entry in entries if entry.shard != first.shard)
        entries = [first, last]
    url = cluster_url if cluster else redis_url
    with opened(kind, url) as store, opened("cluster-sync" if cluster else "redis-sync", url) as me:
        for entry in (first, last):
            store_row(store, entry, OLD)
        transport: Any = store.transport
        then: list[Callable[[], None]] = [lambda: commit(me, first, last)]
        plain = transport._send

        def send(commands: Any) -> Any:
            try:
                return plain(commands)
            finally:
                if then and not kind.endswith("async"):
                    then.pop()()

        async def asend(commands: Any) -> Any:
            try:
                return await plain(commands)
            finally:
                if then:
                    then.pop()()

        monkeypatch.setattr(transport, "_send", asend if kind.endswith("async") else send)
        found = bodies(store, entries, store.perform(GetMany(tuple(entries), together)))
    if not together:
        assert found == [OLD, OLD if cluster else NEW]
    else:
        assert found == [None, None if cluster else NEW]


def test_in_memory(space: KeySpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread that commits between two rows waits for both."""
    with opened("memory", "") as store:
        entries = [space.entry("1"), space.entry("2")]
        for entry in entries:
            store_row(store, entry, OLD)
        other = threading.Thread(target=commit, args=(store, *entries))
        plain = MemoryTransport._look

        def look(self: MemoryTransport, entry: Entry) -> Reply:
            if entry is entries[1] and not other.ident:
                other.start()
                other.join(0.2)
            return plain(self, entry)

        monkeypatch.setattr(MemoryTransport, "_look", look)
        found = bodies(store, entries, store.perform(GetMany(tuple(entries))))
        other.join()
        assert found == [OLD, OLD]
        assert bodies(store, entries, store.perform(GetMany(tuple(entries)))) == [NEW, NEW]

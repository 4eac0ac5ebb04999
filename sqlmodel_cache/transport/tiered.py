"""Two tiers: copies in this process for models with a `local_ttl`, and the store behind them.

Operations on other models pass by untouched. What this process commits is forgotten here before
it is fenced in the store, and again after its release, so it sees its own commits at once; other
processes hear of them by messages (see `stream`) that the store's scripts send. The thread that
listens is started by the first read of such a model, in a forked child anew.
"""

from __future__ import annotations

from collections.abc import Generator
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlmodel_cache import clock
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.protocol.ops import Fence, Fill, Get, GetMany, Lease, Op, Release, Reply
from sqlmodel_cache.transport.clients import vet
from sqlmodel_cache.transport.forks import tell_of_forks
from sqlmodel_cache.transport.local import MAX_BYTES, MAX_ENTRIES, LocalRows, Ticket
from sqlmodel_cache.transport.stream import Stream

if TYPE_CHECKING:
    from sqlmodel_cache.keys import Entry, Shard
    from sqlmodel_cache.stats import LocalStats
    from sqlmodel_cache.transport._protocols import AsyncOpTransport, OpTransport

_Steps: TypeAlias = Generator[Op, Any, Any]


class TieredTransport:
    """Copies in this process in front of Redis, for sync and async sessions alike.

    Args:
        sync: a `RedisSyncTransport`, for threads; None if there are none.
        async_: a `RedisAsyncTransport`, for tasks; without one they ask `sync` in threads.
        listen: a `redis.Redis` for the same server, or for one node of the Cluster. Only its
            settings are used, for one connection that hears of other processes' commits.
        max_entries: the number of copies to keep.
        max_bytes: roughly what they may take, decoded rows included.

    Raises ConfigurationError for what cannot work. `redis://...?local=10000` makes the same.
    """

    is_transport_pair: Final = True
    blocks: Final = True

    def __init__(
        self,
        sync: OpTransport | None = None,
        async_: AsyncOpTransport | None = None,
        *,
        listen: Any,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        vet(listen, transport="TieredTransport", is_async=False)
        for name, number in (("max_entries", max_entries), ("max_bytes", max_bytes)):
            if type(number) is not int or number < 1:
                raise ConfigurationError(
                    f"TieredTransport({name}={number!r}): it must be a positive int"
                )
        if sync is None and async_ is None:
            raise ConfigurationError("TieredTransport: give sync=, async_=, or both")
        self._listen = listen
        self._rows = LocalRows(max_entries, max_bytes)
        self.copies = self._rows.find
        self._lock = Lock()
        self._stream: Stream | None = None
        self._of_parents: list[Any] = []
        self.sync = None if sync is None else TieredSync(self, sync)
        self.async_ = None if async_ is None else TieredAsync(self, async_)
        tell_of_forks(self)

    def __repr__(self) -> str:
        return f"<TieredTransport {len(self._rows)} copies>"

    def find(self, entry: Entry) -> Reply | None:
        """Return this process's copy of a value, None if it has none that may be used."""
        return self._rows.find(entry) if entry.shard.local_ttl else None

    def local_stats(self) -> LocalStats:
        """Return the counts of the copies as they stand."""
        return self._rows.stats()

    def wait_until_listening(self, channel: str, seconds: float) -> bool:
        """Start to listen; tell whether messages come, waiting at most so long. For tests."""
        self._start(channel)
        till = clock.real() + seconds
        pause = Event()
        while not (good := self._rows.good_till > clock.real()) and clock.real() < till:
            pause.wait(0.001)
        return good

    def rest(self) -> None:
        """End the thread and forget all copies; the next read starts anew."""
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        self._rows.empty()

    def after_fork(self) -> None:
        """Leave line and thread to the parent; the first read listens anew."""
        self._lock = Lock()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.leave()
            self._of_parents.append(stream)

    def steps(self, op: Op) -> _Steps:
        """Carry out one operation on both tiers, given the store's replies."""
        rows = self._rows
        if isinstance(op, Get):
            ticket = self._ticket(op.entry.shard)
            reply = yield op
            rows.keep(op.entry, reply, ticket)
            return reply
        if isinstance(op, GetMany):
            return (yield from self._get_many(op))
        if isinstance(op, Lease | Fill):
            # Whoever leases found nothing of use here; whoever fills knows better.
            rows.drop(op.entry)
        elif isinstance(op, Fence):
            rows.fence(op)
            try:
                return (yield op)
            except BaseException:
                rows.release(op)
                raise
        elif isinstance(op, Release):
            rows.release(op)
            try:
                return (yield op)
            finally:
                rows.release(op)  # what was read meanwhile may be from before
        return (yield op)

    def _get_many(self, op: GetMany) -> _Steps:
        found: dict[str, Reply] = {}
        missing: dict[Entry, Ticket | None] = {}
        for entry in op.entries:
            copy = self.find(entry)
            if copy is not None:
                found[entry.value] = copy
            elif entry not in missing:
                missing[entry] = self._ticket(entry.shard)
        if missing:
            replies = yield GetMany(tuple(missing), op.together)
            for (entry, ticket), reply in zip(missing.items(), replies, strict=True):
                found[entry.value] = reply
                self._rows.keep(entry, reply, ticket)
        return [found[entry.value] for entry in op.entries]

    def _ticket(self, shard: Shard) -> Ticket | None:
        if not shard.local_ttl:
            return None
        stream = self._stream
        if stream is None:
            self._start(shard.channel)
            return None
        return self._rows.ticket(shard) if stream.channel == shard.channel else None

    def _start(self, channel: str) -> None:
        with self._lock:
            if self._stream is None:
                self._stream = Stream(self._listen, channel, self._rows)


class TieredSync:
    """The face for threads."""

    def __init__(self, tiers: TieredTransport, store: OpTransport) -> None:
        self._tiers = tiers
        self._store: Any = store
        self._find = tiers.copies

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)  # what is no part of the protocol: execute, get, set

    def perform(self, op: Op) -> Any:
        """Carry out one operation and return its reply; raises what the store raises."""
        if not _concerns(op):
            return self._store.perform(op)
        if type(op) is Get and (found := self._find(op.entry)) is not None:
            return found
        steps = self._tiers.steps(op)
        try:
            op = next(steps)
            while True:
                try:
                    reply = self._store.perform(op)
                except BaseException as error:
                    op = steps.throw(error)
                else:
                    op = steps.send(reply)
        except StopIteration as stop:
            return stop.value


class TieredAsync:
    """The face for tasks."""

    def __init__(self, tiers: TieredTransport, store: AsyncOpTransport) -> None:
        self._tiers = tiers
        self._store: Any = store
        self._find = tiers.copies

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def perform(self, op: Op) -> Any:
        """Carry out one operation and return its reply; raises what the store raises."""
        if not _concerns(op):
            return await self._store.perform(op)
        if type(op) is Get and (found := self._find(op.entry)) is not None:
            return found
        steps = self._tiers.steps(op)
        try:
            op = next(steps)
            while True:
                try:
                    reply = await self._store.perform(op)
                except BaseException as error:
                    op = steps.throw(error)
                else:
                    op = steps.send(reply)
        except StopIteration as stop:
            return stop.value


def _concerns(op: Op) -> bool:
    """Tell whether an operation is about a model of which copies may be kept."""
    if type(op) is Get:
        return op.entry.shard.local_ttl > 0
    if isinstance(op, Lease | Fill):
        return op.entry.shard.local_ttl > 0
    if isinstance(op, GetMany):
        return any(entry.shard.local_ttl for entry in op.entries)
    if isinstance(op, Fence | Release):
        rows = any(entry.shard.local_ttl for entry in op.entries)
        return rows or any(shard.local_ttl for shard in op.shards)
    return False

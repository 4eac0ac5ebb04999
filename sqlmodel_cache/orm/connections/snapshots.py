"""Hits for transactions that read from a snapshot: `configure(snapshot_hits=True)`.

Why an entry that was read before a snapshot began may be given to it: `protocol.dating`. Here are
the two ends of that comparison. Each connection notes in its ledger when the first statement of a
transaction is about to be sent, and whether that began a snapshot. A statement that nobody saw (a
driver's cursor, a program that configured the cache in the middle) is given away by the driver,
which has a transaction open before its first statement; where the driver cannot say (MySQL's), the
end of the former transaction must have been seen, or the connection be new. And a lookup asks the
store for its time together with the entry, or just after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from sqlmodel_cache import clock
from sqlmodel_cache.codec.envelope import dated
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.orm.binding import routes
from sqlmodel_cache.orm.connections.cursors import is_half_read
from sqlmodel_cache.orm.connections.isolation import begins_snapshot, connects_plainly
from sqlmodel_cache.orm.connections.ledger import ledger_of, open_ledger
from sqlmodel_cache.orm.connections.transactions import wrap_dialect
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.dating import Sample, StoreClock
from sqlmodel_cache.protocol.ops import GetMany, Inspect, Reply, Sight

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session

    from sqlmodel_cache.keys import Entry
    from sqlmodel_cache.orm.model.reader import Reader

K = TypeVar("K")

# Stands for the time since `watch`: of what came before, nobody knows all.
_watcher: object = None

_NEW = "sqlmodel_cache_new"  # in the `info` of a connection

_STATEMENT_EVENTS = ("do_execute", "do_executemany", "do_execute_no_params")


class TooNew(Exception):
    """An entry is there, and may have been read after the snapshot began."""


# -- when it began --------------------------------------------------------------------------------


def watch() -> None:
    """Note the first statement of each transaction from now on. Idempotent."""
    global _watcher
    if _watcher is None:
        _watcher = object()
    for name in _STATEMENT_EVENTS:
        if not event.contains(Engine, name, _on_statement):
            event.listen(Engine, name, _on_statement)
    if not event.contains(Pool, "connect", _on_connect):
        event.listen(Pool, "connect", _on_connect)


def unwatch() -> None:
    """Note nothing any more."""
    global _watcher
    _watcher = None
    for name in _STATEMENT_EVENTS:
        if event.contains(Engine, name, _on_statement):
            event.remove(Engine, name, _on_statement)
    if event.contains(Pool, "connect", _on_connect):
        event.remove(Pool, "connect", _on_connect)


def _on_connect(driver: Any, record: Any) -> None:
    record.info[_NEW] = _watcher


def _is_new(connection: Connection) -> bool:
    """Tell whether nothing at all was sent yet on a connection, but by SQLAlchemy and its driver.

    True once. SQLAlchemy rolls back what it asks of its first connection.
    """
    return connection.info.pop(_NEW, None) is _watcher and connects_plainly(connection, _on_connect)


def _on_statement(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
    connection = context.root_connection
    ledger = ledger_of(connection)
    if ledger is None or ledger.begun is not _watcher:
        _note(connection)


def _note(connection: Connection) -> None:
    """Note that the next statement is a transaction's first."""
    wrap_dialect(connection.dialect)  # whose COMMIT and ROLLBACK will end it
    try:
        ledger = open_ledger(connection)
    except NotImplementedError:  # a dialect's first connection, which is nobody's yet
        return
    new = _is_new(connection)
    seen = ledger.begun is None and (ledger.ended is _watcher or new)
    ledger.begun = _watcher
    begins = begins_snapshot(connection, ended=seen)
    ledger.snapshot_since = clock.real() if begins else None


def since(session: Session, connection: Connection) -> float | None:
    """Return a moment of `clock.real()` before which the snapshot of a session had not begun.

    None where it cannot be told: nobody saw it begin, or SQLite may read an older state still, or
    the session's reads may go to another server.
    """
    ledger = ledger_of(connection)
    if ledger is None or routes(session) or is_half_read(connection):
        return None
    return ledger.snapshot_since


# -- what it may be given -------------------------------------------------------------------------


def look(store_clock: StoreClock, reader: Reader, began: float, entry: Entry) -> read.Steps[object]:
    """Return what the store has for a snapshot that `began` then: as `Reader.read` says it.

    Raises TooNew for what may have been read later.
    """
    sight: Sight = yield Inspect(entry)
    now = _noted(store_clock, sight)
    return _judged(store_clock, reader, began, entry, Reply(sight.value, sight.epoch), now)


def look_at_all(
    store_clock: StoreClock, reader: Reader, began: float, entries: dict[K, Entry]
) -> read.Steps[dict[K, object]]:
    """Return what `look` would of each; absent keys are misses. Takes out what is too new.

    One round trip, and one more for the time.
    """
    replies: list[Reply] = yield GetMany(tuple(entries.values()))
    seen = {key: reply for key, reply in zip(entries, replies, strict=True) if reply.value}
    times: dict[bytes, Sample | None] = {}
    for key, reply in seen.items():
        if reply.epoch is not None and reply.epoch[8:] not in times:
            sight: Sight = yield Inspect(entries[key])
            same = sight.epoch is not None and sight.epoch[8:] == reply.epoch[8:]
            times[reply.epoch[8:]] = _noted(store_clock, sight) if same else None
    return _all_judged(store_clock, reader, began, entries, seen, times)


def _all_judged(
    store_clock: StoreClock,
    reader: Reader,
    began: float,
    entries: dict[K, Entry],
    seen: Mapping[K, Reply],
    times: Mapping[bytes, Sample | None],
) -> dict[K, object]:
    hits: dict[K, object] = {}
    for key, reply in seen.items():
        now = None if reply.epoch is None else times[reply.epoch[8:]]
        try:
            found = _judged(store_clock, reader, began, entries[key], reply, now)
        except TooNew:
            reader.counters.bypass(Bypass.SNAPSHOT)
            del entries[key]
        else:
            if found is not read.MISS:
                hits[key] = found
    return hits


def _noted(store_clock: StoreClock, sight: Sight) -> Sample | None:
    """Return the time that came with an answer, and remember it for later transactions."""
    if sight.at is None or sight.epoch is None:
        return None
    sample = Sample(clock.real(), sight.at)
    store_clock.note(sight.epoch[8:], sample)
    return sample


def _judged(
    store_clock: StoreClock,
    reader: Reader,
    began: float,
    entry: Entry,
    reply: Reply,
    now: Sample | None,
) -> object:
    found = reader.read(entry, reply)
    if found is read.MISS:
        return found
    assert reply.value is not None  # or it would be a miss
    assert reply.epoch is not None
    read_by = dated(reply.value)
    limit = None if now is None else store_clock.before(reply.epoch[8:], began, now)
    if read_by is None or limit is None or read_by >= limit:
        raise TooNew
    return found

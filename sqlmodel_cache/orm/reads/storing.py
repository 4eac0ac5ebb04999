"""What was loaded under a lease, sealed and stored; or the lease given back."""

from __future__ import annotations

import random
from typing import Any, Final

from sqlmodel_cache import clock
from sqlmodel_cache.codec import NEGATIVE, Unstorable, seal
from sqlmodel_cache.codec.envelope import DATED
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import Counters, logger
from sqlmodel_cache.orm import _sqlalchemy, bridge
from sqlmodel_cache.orm.model.capture import Row
from sqlmodel_cache.orm.reads.decide import Scope
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.dating import read_by
from sqlmodel_cache.transport.breaker import NORMAL
from sqlmodel_cache.transport.drive import raise_mapped
from sqlmodel_cache.transport.failures import is_hung_up

PATIENCE: Final = read.Patience()
NO_SUCH_ROW: Final = Row(b"", NEGATIVE, bytes(8))


def settle(
    scope: Scope,
    held: read.Held,
    row: Row | None,
    since: float = 0.0,
    dated: bool = True,
    *,
    awaited: bool = True,
) -> bool:
    """Fill a lease with `row`, or give it back if there is nothing to store. Never raises.

    `since` is a moment of `clock.real()` before the lease was asked for. What is not `dated` is
    not served after its time either. Returns whether it was stored, or was sent to be; the latter
    only where that is not `awaited`.
    """
    counters = scope.reader.counters
    begun = clock.real()
    try:
        sealed = None if row is None else _seal(scope, held, row, since, dated)
        if sealed is None:
            bridge.run(scope.cache.stores, read.abandon(held))
        elif not awaited and _send(scope, held, *sealed):
            return True
        elif bridge.run(scope.cache.stores, read.fill(held, *sealed)):
            counters.fills += 1
            counters.time("fill", clock.real() - begun)
            return True
    except UnavailableError as error:
        _count_failure(counters, error)
    return False


def _send(scope: Scope, held: read.Held, value: bytes, ttl: int) -> bool:
    """Send a fill and do not wait for it; False where it was not sent.

    It is counted when its reply is read, by whoever has the connection next. That it comes late
    harms nobody: the lease is what it is worth, and any writer takes that away.
    """
    stores, counters = scope.cache.stores, scope.reader.counters
    if not stores.sends or not stores.breaker.is_closed() or _sqlalchemy.in_greenlet():
        return False
    begun = clock.real()
    (op,) = read.fill(held, value, ttl)
    took = 0.0

    def heard(answer: Any) -> None:
        if isinstance(answer, Exception):
            # Who found a broken connection tries another one, and tells the breaker of that.
            breaker = None if is_hung_up(answer) else stores.breaker
            try:
                raise_mapped(answer, op, breaker, NORMAL)
            except UnavailableError as error:
                _count_failure(counters, error)
        elif answer:
            counters.fills += 1
            counters.time("fill", took)

    sent = stores.sync.send(op, heard)
    took = clock.real() - begun
    return sent is not None


def _count_failure(counters: Counters, error: UnavailableError) -> None:
    counters.errors += 1
    logger.debug("a fill failed: %s", error, extra={"cache_model": counters.name})


def _seal(
    scope: Scope, held: read.Held, row: Row, since: float, dated: bool
) -> tuple[bytes, int] | None:
    """Return (envelope, milliseconds to live), None if this row must not be stored."""
    config = scope.reader.plan.config
    ttl = scope.ttl
    if row is NO_SUCH_ROW:
        # Of text the database may say "equal" where Python does not: an insert of 'BOB' would
        # not reach what is remembered of 'bob'.
        # And a subclass knows nothing of rows that are its siblings' or its base's.
        plan = scope.reader.plan
        knows = scope.reader.pk.safe_in_sql and plan.mapper is plan.root and scope.shard is None
        ttl = config.negative_ttl or 0 if knows else 0
    ttl = min(ttl, scope.cache.max_ttl)
    if ttl == 0 or not scope.may_fill(since):
        return None
    life = ttl * 1000
    stale = 0
    if config.stale_ttl and dated and row is not NO_SUCH_ROW:
        stale = min(config.stale_ttl, scope.cache.max_ttl - ttl)
    if config.jitter:
        life = max(1, round(life * (1 - config.jitter * random.random())))
    stored_at, flags, payload = clock.now(), row.flags, row.payload
    if scope.reader.pack is not None:
        payload, packed = scope.reader.pack(payload)
        flags |= packed
    if held.at is not None and dated and not clock.frozen():
        stored_at, flags = read_by(held.at, clock.real() - since) / 1e6, flags | DATED
    try:
        value = seal(
            held.entry.value,
            held.epoch,
            row.fingerprint,
            payload,
            flags=flags,
            stored_at=stored_at,
            ttl=-(-life // 1000),
            stale=stale,
        )
    except Unstorable:
        return None
    return value, life + stale * 1000

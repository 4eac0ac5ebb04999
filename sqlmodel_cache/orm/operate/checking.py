"""What the store has, compared with what the database says: `mode="shadow"` and `verify`.

GET, SELECT, GET. A difference means something only if no commit passed between: fences delete
values, and a value that is stored anew says when, so it is enough that value and epoch are the
same bytes before and after the SELECT. And the SELECT must have seen what everybody sees.
Any other difference is "unsure". Column names are reported, values never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlmodel_cache import clock
from sqlmodel_cache.codec import unseal
from sqlmodel_cache.codec.envelope import NEGATIVE, Envelope
from sqlmodel_cache.codec.sameness import same
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import logger
from sqlmodel_cache.keys import label_of
from sqlmodel_cache.orm import bridge
from sqlmodel_cache.orm.model.reader import NO_ROW, Found, Reader
from sqlmodel_cache.protocol.ops import Get, Release, Reply
from sqlmodel_cache.protocol.read import Steps, new_token

if TYPE_CHECKING:
    from sqlmodel_cache.keys import Entry
    from sqlmodel_cache.orm.model.capture import Row
    from sqlmodel_cache.orm.operate.watching import Watching
    from sqlmodel_cache.orm.reads.decide import Scope

EXISTENCE: Final = "(existence)"  # in the place of a column: one of both has no such row
PAUSE: Final = 60.0  # seconds between two log lines about one model


def compare(scope: Scope, entry: Entry, found: object, row: Row | None) -> None:
    """Count what the database said of what was found; never raises.

    `row` is what was loaded, None if it is not known.
    """
    watching = scope.watching
    assert watching is not None
    names = None if row is None else _differing(watching, found, row)
    if names is None or (names and not _stands(scope, watching, entry)):
        watching.count_unsure()
        return
    counters = watching.counters
    if watching.shadow:
        if not names:
            counters.shadow_same += 1
            return
        counters.shadow_different += 1
    else:
        counters.verified += 1
        if not names:
            return
        counters.inconsistent += 1
    for name in names:
        counters.differing[name] = counters.differing.get(name, 0) + 1
    _report(scope, watching, entry, names)
    if not watching.shadow:
        _drop(scope, entry)


def _differing(reader: Reader, found: object, row: Row) -> tuple[str, ...] | None:
    """Return the names of what differs, None if it cannot be told."""
    loaded = NO_ROW
    if not row.flags & NEGATIVE:
        loaded = reader.decode(row.fingerprint, row.payload, row.flags)
    if found is NO_ROW or loaded is NO_ROW:
        return () if found is loaded else (EXISTENCE,)
    if type(found) is not Found or type(loaded) is not Found:
        return None
    cached, fresh = (dict(each.hydrator.named(each.values)) for each in (found, loaded))
    return tuple(
        name for name, value in fresh.items() if name in cached and not same(value, cached[name])
    )


def _stands(scope: Scope, watching: Watching, entry: Entry) -> bool:
    """Tell whether a difference cannot come from a commit in between, or from who read."""
    strict = scope.cache.config.consistency == "strict" and scope.cache.stores.full
    before = watching.seen.get(entry.value)
    if not strict or before is None or not scope.ttl or not scope.may_fill():
        return False
    try:
        after = bridge.run(scope.cache.stores, _get(entry))
    except UnavailableError:
        return False
    return before.value == after.value and before.epoch == after.epoch


def _get(entry: Entry) -> Steps[Reply]:
    reply: Reply = yield Get(entry)
    return reply


def _report(scope: Scope, watching: Watching, entry: Entry, names: tuple[str, ...]) -> None:
    counters = watching.counters
    now = clock.real()
    if now < counters.quiet_till:
        return
    counters.quiet_till = now + PAUSE
    reply = watching.seen[entry.value]
    envelope = unseal(entry.value, reply.value or b"", None)
    age = clock.now() - envelope.stored_at if isinstance(envelope, Envelope) else float("nan")
    logger.error(
        "%s: what is cached differs from the database in (%s); entry %s, filled %.1f s ago%s."
        " Counts are in stats(); this is said once a minute.",
        counters.name,
        ", ".join(names),
        label_of(entry.value),
        age,
        "" if watching.shadow else "; it was dropped, and the database answered",
    )


def _drop(scope: Scope, entry: Entry) -> None:
    """Forget an entry that is wrong, so that nobody else is given it."""
    try:
        bridge.run(scope.cache.stores, _release(entry))
    except UnavailableError as error:
        logger.debug("a wrong entry could not be dropped: %s", error)


def _release(entry: Entry) -> Steps[Any]:
    yield Release(new_token(), (entry.told,), ())

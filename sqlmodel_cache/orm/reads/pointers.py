"""Lookups by a unique key: its value is stored with the row's primary key, the row lives once.

Such a pointer is a hint, and needs no coherence of its own. A hit follows it to the row's entry,
which is as fresh as any, and takes the row only if it *has* the value that was asked for: then it
is the row, for the database has at most one of each value. A pointer to a row that is gone, or
has another value by now, is a miss, and is replaced. So a writer need not know the old value of
what it changes, nor forget it.

That no row has a value is no hint: it is remembered under a lease, as of primary keys, and fenced
by whoever makes the value appear (`orm/writes/appearing.py`), or with the whole table where that
cannot be told. A transaction that wrote believes no absence.

Values are compared as the text that keys are made of, with what the row returned: where the
database calls 'BOB' and 'bob' equal, 'BOB' is never a hit on bob's row, and never an absence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Result, inspect

from sqlmodel_cache import clock
from sqlmodel_cache.codec import NEGATIVE, ColumnSpec, RowCodec, Undecodable, Unstorable, unseal
from sqlmodel_cache.codec.envelope import Envelope
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import Bypass, logger
from sqlmodel_cache.keys import Entry
from sqlmodel_cache.latency import Timed
from sqlmodel_cache.orm import _results, bridge
from sqlmodel_cache.orm.model.capture import Row
from sqlmodel_cache.orm.model.keying import unique_codec
from sqlmodel_cache.orm.model.reader import NO_ROW, Found, Reader
from sqlmodel_cache.orm.reads.along import bring_along
from sqlmodel_cache.orm.reads.lookup import look_up
from sqlmodel_cache.orm.reads.places import Arrival
from sqlmodel_cache.orm.reads.present import AGAIN, instance_of
from sqlmodel_cache.orm.reads.storing import NO_SUCH_ROW, PATIENCE, settle
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.ops import Reply
from sqlmodel_cache.transport.breaker import LeftAlone

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from sqlmodel_cache.orm.model.uniques import Unique
    from sqlmodel_cache.orm.reads.decide import Scope

_Load = Callable[[], Result[Any]]


class Pointer(msgspec.Struct, frozen=True):
    """A readable pointer: the primary key that had the value, and the reply it came in."""

    pk: tuple[Any, ...]
    reply: Reply


class Pointers:
    """How one class is looked up by one of its unique keys. Compiled on first use."""

    def __init__(self, reader: Reader, unique: Unique) -> None:
        plan = reader.plan
        self.unique = unique
        self.values = unique_codec(reader.root, unique, reader.dialect)
        # Of a subclass's row that it is not there says nothing of its siblings.
        self.knows_absence = self.values.safe_in_sql and plan.mapper is plan.root
        columns = [
            ColumnSpec(name, column.type)
            for name, column in zip(plan.key, plan.mapper.primary_key, strict=True)
        ]
        identity = f"{plan.table}{unique.prefix}"
        self._pk = RowCodec(columns, reader.dialect, reader.converter, identity=identity)
        self._counters = reader.counters

    def verify(self, entry: Entry, value: bytes, epoch: bytes | None) -> object:
        """Return a `Pointer`, NO_ROW, or read.MISS for what is unusable."""
        envelope = unseal(entry.value, value, epoch)
        if type(envelope) is not Envelope:
            return read.MISS
        if envelope.flags & NEGATIVE:
            return NO_ROW
        if envelope.fingerprint != self._pk.fingerprint:
            return read.MISS
        try:
            pk = tuple(self._pk.decode(envelope.payload, envelope.flags))
        except Undecodable:
            self._counters.errors += 1
            return read.MISS
        return Pointer(pk, Reply(value, epoch))

    def row_of(self, instances: Sequence[Any], text: str) -> Row | None:
        """Return what is to be stored of a SELECT's answer, None for nothing."""
        if not instances:
            return NO_SUCH_ROW if self.knows_absence else None
        state = inspect(instances[0])
        loaded = [state.dict.get(name) for name in self.unique.attributes]
        if len(instances) > 1 or self.values.encode(loaded) != text:
            return None  # found by the database's own idea of equality
        try:
            payload, flags = self._pk.encode(state.identity)
        except Unstorable:
            return None
        return Row(payload, flags, self._pk.fingerprint)

    def agrees(self, found: Found, text: str) -> bool:
        """Tell whether a row has the value whose text is `text`."""
        has = dict(found.hydrator.named(found.values))
        return self.values.encode([has.get(name) for name in self.unique.attributes]) == text


def look_up_unique(
    scope: Scope,
    pointers: Pointers,
    values: tuple[Any, ...],
    load: _Load,
    result_of: Callable[[Sequence[Any]], Result[Any]],
) -> Result[Any] | None:
    """Answer a lookup by unique key; None if the cache has no say in it."""
    text = pointers.values.encode(values)
    counters = scope.reader.counters
    if text is None:
        counters.bypass(Bypass.KEY)
        return None
    entry = scope.entry_of(pointers.unique.prefix + text)
    if isinstance(entry, Bypass):
        counters.bypass(entry)
        return None
    begun = clock.real()
    flight = scope.cache.flights.find(entry.value)
    if flight is not None:
        bridge.wait(flight, PATIENCE.wait)
    try:
        outcome = bridge.run(scope.cache.stores, _steps(scope, entry, pointers))
    except LeftAlone:
        counters.bypass(Bypass.BREAKER)
        return None
    except UnavailableError as error:
        counters.fail(begun)
        logger.debug("a lookup failed: %s", error)
        return None
    if begun >= scope.cache.switch.due:
        scope.cache.switch.look()
    if isinstance(outcome, read.Hit):
        if type(outcome.found) is Pointer:
            return _follow(scope, pointers, entry, text, outcome.found, load, result_of)
        if scope.ledger is not None and scope.ledger.wrote:
            counters.bypass(Bypass.TOUCHED)
            return None
        if scope.watching is not None and scope.watching.shadow:
            scope.watching.count_found(begun)
            scope.watching.count_unsure()
            return load()
        counters.hit(begun)
        return result_of(())
    counters.misses += 1
    timed = Timed(load)
    try:
        if outcome.held is None:
            result: Result[Any] = timed()
            return result
        return _learn(scope, pointers, outcome.held, text, timed, begun)
    finally:
        counters.miss(begun, timed.seconds)


def _steps(scope: Scope, entry: Entry, pointers: Pointers) -> read.Steps[read.Hit | read.Miss]:
    verify = partial(pointers.verify, entry)
    return read.lookup(entry, verify, PATIENCE) if scope.ttl else read.peek(entry, verify)


def _learn(
    scope: Scope, pointers: Pointers, held: read.Held, text: str, load: _Load, begun: float
) -> Result[Any]:
    """Return what `load` loads, and store whose value it is."""
    with scope.cache.flights.leading(held.entry.value):
        try:
            result = load()
        except Exception:
            settle(scope, held, None)
            raise
        instances = _results.prebuffered_instances(scope.session, result)
        row = None if instances is None else pointers.row_of(instances, text)
        settle(scope, held, row, begun, False)
        return result


def _follow(
    scope: Scope,
    pointers: Pointers,
    entry: Entry,
    text: str,
    pointer: Pointer,
    load: _Load,
    result_of: Callable[[Sequence[Any]], Result[Any]],
) -> Result[Any] | None:
    """Answer with the row that is pointed to, if it has the value; load it where it is missing."""
    row = scope.at(pointer.pk)
    if isinstance(row, Bypass):
        scope.reader.counters.bypass(row)
        return None

    def load_and_correct() -> Result[Any]:
        result = load()
        instances = _results.prebuffered_instances(scope.session, result) or ()
        if instances and [tuple(inspect(each).identity) for each in instances] != [pointer.pk]:
            _correct(scope, pointers, entry, text, pointer, instances)
        return result

    def result_of_row(session: Session, found: object, load: _Load) -> Result[Any]:
        if type(found) is not Found or not pointers.agrees(found, text):
            return load()  # gone, or changed since
        arrivals: list[Arrival] = []
        instance = instance_of(scope, found, arrivals)
        if instance is AGAIN:
            return load()
        bring_along(scope, arrivals)
        return result_of((instance,))

    # That the value has no row says nothing of the row that is pointed to.
    result: Result[Any] = look_up(
        scope, row, pointer.pk, load_and_correct, result_of_row, lambda _: False
    )
    return result


def _correct(
    scope: Scope,
    pointers: Pointers,
    entry: Entry,
    text: str,
    pointer: Pointer,
    instances: Sequence[Any],
) -> None:
    """Replace a pointer that led astray. Of an absence there was no lease when it was seen."""
    row = pointers.row_of(instances, text)
    if row is None or not scope.ttl:
        return
    rejected = read.rejection(pointer.reply)
    steps = read.after_miss(entry, lambda *_: read.MISS, rejected, read.Patience(wait=0.0))
    try:
        outcome = bridge.run(scope.cache.stores, steps)
    except UnavailableError:
        return
    if isinstance(outcome, read.Miss) and outcome.held is not None:
        settle(scope, outcome.held, row, clock.real(), False)  # it is a hint

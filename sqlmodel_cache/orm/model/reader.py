"""Everything to read one model of one database: keys, codecs, hydrators. Compiled on first use.

A payload carries the fingerprint of the view it was stored by. A reader knows every view of its
hierarchy, so `get(Base, 1)` makes the right subclass of what `get(Sub, 1)` stored, takes just
its own columns of it, and treats a view that has too few of them as a miss.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from decimal import Decimal
from functools import partial
from operator import is_, itemgetter
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID
from weakref import ref

import msgspec

from sqlmodel_cache import clock
from sqlmodel_cache.codec import (
    ABSENT,
    NEGATIVE,
    ColumnSpec,
    Miss,
    RowCodec,
    Undecodable,
    unseal,
)
from sqlmodel_cache.codec.envelope import ANNOTATED, SOFT, Envelope
from sqlmodel_cache.codec.packing import packer
from sqlmodel_cache.events import Bypass, Counters, logger
from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.orm.model.conduct import Conduct
from sqlmodel_cache.orm.model.hydrate import Hydrator
from sqlmodel_cache.orm.model.keying import pk_codec
from sqlmodel_cache.orm.model.plan import Plan, View, hierarchy, view_of
from sqlmodel_cache.orm.model.refreshing import Ahead
from sqlmodel_cache.orm.model.tables import Root
from sqlmodel_cache.protocol import read

if TYPE_CHECKING:
    from sqlalchemy.orm import ColumnProperty, Mapper

    from sqlmodel_cache.config import Packing
    from sqlmodel_cache.keys import Entry
    from sqlmodel_cache.protocol.ops import Reply

# Misses that say nothing about the health of the store.
_EXPECTED = (Miss.STALE, Miss.EXPIRED)

_is_absent = partial(is_, ABSENT)

# Values that sessions may share, for nobody can change them. Of any other each gets its own.
_UNCHANGEABLE = frozenset(
    {int, str, bytes, float, bool, type(None), Decimal, UUID}
    | {dt.date, dt.datetime, dt.time, dt.timedelta}
)

NO_ROW: Final = object()  # what a negative entry, or a sibling class's row, reads as


class Found(msgspec.Struct, frozen=True, gc=False):
    """A readable row: how to make an instance of it, its identity, its values."""

    hydrator: Hydrator
    identity: tuple[Any, ...]
    values: Sequence[Any]
    partial_row: bool  # some values are ABSENT


class _Memo(msgspec.Struct, frozen=True):
    """A row as `reader` decoded it, under an epoch; under none if sessions must not share it.

    It lies in a store, which outlives readers and the models they read.
    """

    reader: ref[Reader]
    epoch: bytes | None
    hydrator: ref[Hydrator]
    identity: tuple[Any, ...]
    values: tuple[Any, ...]


class Shape:
    """One view as payloads carry it."""

    __slots__ = ("codec", "identity", "view")

    def __init__(self, plan: Plan, view: View, dialect: Any, converter: Any) -> None:
        self.view = view
        cls = view.mapper.class_
        # Two versions of an application may fill one attribute from different columns.
        sources = "".join(_source(plan, prop) for prop in view.columns)
        identity = f"{plan.table}/{cls.__module__}.{cls.__qualname__}{sources}"
        columns = [ColumnSpec(prop.key, prop.columns[0].type) for prop in view.columns]
        self.codec = RowCodec(columns, dialect, converter, identity=identity)
        order = [prop.key for prop in view.columns]
        self.identity = _picker(
            order.index(view.mapper.get_property_by_column(column).key)
            for column in view.mapper.primary_key
        )


class Reader:
    """How one class is read from one database through one cache."""

    def __init__(
        self,
        plan: Plan,
        root: Root,
        keyspace: KeySpace,
        dialect: Any,
        converter: Any,
        counters: Counters,
        compress: Packing | Literal[False] | None = None,
    ) -> None:
        self.plan = plan
        self.root = root
        self.keyspace = keyspace
        self.pk = pk_codec(root, dialect)
        self.counters = counters
        self.dialect = dialect
        self.converter = converter
        self.pointers: dict[tuple[str, ...], Any] = {}  # by unique key, see orm/reads/pointers.py
        self.questions: dict[Any, Any] = {}  # by statement, see orm/queries/questions.py
        self.lists: dict[Any, Any] = {}  # by relationship, see orm/queries/lists.py
        self.conduct: Conduct | None = None
        beta = plan.config.refresh_ahead
        self.ahead = Ahead(beta, counters) if beta else None
        self.stale_ttl = plan.config.stale_ttl or 0
        self.pack = packer(compress, plan.name) if compress else None
        self._known = 0
        self._me = ref(self)
        self._by_fingerprint: dict[bytes, tuple[Shape, Hydrator] | None] = {}
        self._by_mapper: dict[Mapper[Any], Shape] = {}

    def quiet(self) -> Reader:
        """Return the same reader with counters of its own, for those who only look."""
        made = copy(self)
        made.counters = Counters(self.counters.name)
        made.ahead = None
        made.counters.bypasses[Bypass.KEY] = 1  # said already, as far as it is concerned
        return made

    def shape_of(self, mapper: Mapper[Any]) -> Shape | None:
        """Return the shape in which a load through this reader leaves a row of `mapper`.

        None if it leaves none: a concrete subclass has rows of its own.
        """
        shape = self._by_mapper.get(mapper)
        if shape is None and self._learn_hierarchy():
            shape = self._by_mapper.get(mapper)
        return shape

    def tell_of_key(self, pk: tuple[Any, ...]) -> None:
        """Say once that a key of this form never finds a cached row; no value is named."""
        if Bypass.KEY not in self.counters.bypasses:
            columns = self.plan.mapper.primary_key
            logger.info(
                "%s: a key made of (%s) does not fit the primary key (%s) without loss; such reads"
                " are never cached. Convert it first, to an int for an INTEGER.",
                self.plan.name,
                ", ".join(type(value).__name__ for value in pk),
                ", ".join(f"{column.key} {column.type!r}" for column in columns),
                extra={"cache_model": self.plan.name, "cache_reason": Bypass.KEY.value},
            )

    def read(self, entry: Entry, reply: Reply) -> object:
        """Return what a store answered: a `Found`, NO_ROW, or read.MISS.

        Where the store is in this process, a row is decoded once: `reply.kept` remembers it
        beside its bytes, if all its values are of kinds that nobody can change.
        """
        value, epoch, kept = reply.value, reply.epoch, reply.kept
        if value is None or epoch is None:
            return read.MISS
        if kept is None:
            return self.verify(entry, value, epoch)
        memo = kept.memo
        if memo is not None and memo.reader is self._me and memo.epoch == epoch:
            hydrator = memo.hydrator()
            if hydrator is not None and not clock.frozen():
                return Found(hydrator, memo.identity, memo.values, False)
        found = self.verify(entry, value, epoch)
        if type(found) is Found and (memo is None or memo.reader() is None):
            # ABSENT is an enum's member as well. What is SOFT is to be looked at each time.
            whole = not (found.partial_row or value[1] & SOFT)
            shared = epoch if whole and all(map(_can_be_shared, found.values)) else None
            kept.memo = _Memo(
                self._me, shared, ref(found.hydrator), found.identity, tuple(found.values)
            )
        return found

    def read_over(self, entry: Entry, reply: Reply) -> object:
        """Return what a store answered, as `read` does, also if its time is over."""
        if reply.value is None or reply.epoch is None:
            return read.MISS
        return self.verify(entry, reply.value, reply.epoch, soft=True)

    def verify(
        self, entry: Entry, value: bytes, epoch: bytes | None, *, soft: bool = False
    ) -> object:
        """Return a `Found`, NO_ROW, or read.MISS for what is unusable."""
        envelope = unseal(entry.value, value, epoch, soft=soft)
        if type(envelope) is not Envelope:
            if envelope not in _EXPECTED:
                self.counters.errors += 1
            return read.MISS
        if envelope.flags & NEGATIVE:
            return NO_ROW
        return self.decode(envelope.fingerprint, envelope.payload, envelope.flags)

    def decode(self, fingerprint: bytes, payload: bytes, flags: int) -> object:
        """Return what a row's payload means to this class, as `verify` does."""
        try:
            found = self._by_fingerprint[fingerprint]
        except KeyError:
            if not self._learn_hierarchy() or fingerprint not in self._by_fingerprint:
                return read.MISS
            found = self._by_fingerprint[fingerprint]
        if found is None:
            return NO_ROW
        shape, hydrator = found
        try:
            values = shape.codec.decode(payload, flags)
        except Undecodable:
            self.counters.errors += 1
            return read.MISS
        identity = shape.identity(values)
        # Annotated is not yet partial: PostgreSQL's aware datetimes have a time zone as a note.
        noted = flags & ANNOTATED or shape.codec.unstorable
        return Found(hydrator, identity, values, bool(noted) and any(map(_is_absent, values)))

    def _learn_hierarchy(self) -> bool:
        """Compile the views of every class of the hierarchy; False if none was new."""
        mappers = hierarchy(self.plan)
        if len(mappers) == self._known:
            return False
        asked = self.plan.mapper
        for actual in mappers:
            wanted = view_of(asked, actual) if actual.isa(asked) else None
            for through in mappers:
                if not actual.isa(through):
                    continue
                view = view_of(through, actual)
                shape = Shape(self.plan, view, self.dialect, self.converter)
                if through is asked:
                    self._by_mapper[actual] = shape
                self._admit(asked, wanted, shape)
        self._known = len(mappers)  # last: other threads read what is here already
        return True

    def _admit(self, asked: Mapper[Any], wanted: View | None, shape: Shape) -> None:
        """Say how a payload of `shape` is read: in part, in full, as no row, or not at all."""
        if wanted is None:
            self._by_fingerprint[shape.codec.fingerprint] = None
            return
        order = [prop.key for prop in shape.view.columns]
        try:
            positions = tuple(order.index(prop.key) for prop in wanted.columns)
        except ValueError:
            return
        straight = positions == tuple(range(len(order)))
        along = tuple(step.prop.key for step in self.plan.steps if not step.quiet)
        hydrator = Hydrator(asked, wanted, None if straight else positions, along)
        self._by_fingerprint.setdefault(shape.codec.fingerprint, (shape, hydrator))


def _source(plan: Plan, prop: ColumnProperty[Any]) -> str:
    """Return where an attribute's values come from, if it is not the column of its own name."""
    column = prop.columns[0]
    name = getattr(column, "name", prop.key)
    table = getattr(getattr(column, "table", None), "fullname", plan.table)
    return "" if (name, table) == (prop.key, plan.table) else f";{prop.key}={table}.{name}"


def _can_be_shared(value: object) -> bool:
    return type(value) in _UNCHANGEABLE or isinstance(value, enum.Enum)


def _picker(positions: Iterable[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return a function that takes the values at `positions` out of a row."""
    first, *others = positions
    if others:
        return itemgetter(first, *others)
    return lambda values: (values[first],)


def stored_values(shape: Shape, loaded: dict[str, Any]) -> Sequence[Any]:
    """Return a freshly loaded row's values in the order of `shape`."""
    return [loaded.get(prop.key, ABSENT) for prop in shape.view.columns]

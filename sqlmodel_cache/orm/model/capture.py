"""Rows taken at their `load` event, before anybody's listener has touched them.

The listener stands first in line (`insert=True`); what a later one makes of the instance (mutable
wrappers, composites, `@reconstructor`) is made again, from the same raw values, after a hit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.orm import Mapper, class_mapper

from sqlmodel_cache.codec import Unstorable
from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.model.reader import stored_values

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, Session

    from sqlmodel_cache.orm.model.reader import Reader


@dataclass(slots=True, unsafe_hash=True)
class Row:
    """One row as it will be stored."""

    payload: bytes
    flags: int
    fingerprint: bytes


@dataclass(slots=True)
class Capture:
    """The rows that the innermost running lookup of a session waits for, by primary key."""

    reader: Reader
    wanted: frozenset[tuple[Any, ...]]
    shard: Any = None  # the identity token that their keys have
    rows: dict[tuple[Any, ...], Row | None] = field(default_factory=dict)  # None: unstorable
    others: tuple[Capture, ...] = ()  # of other models, that the same lookup waits for


_watched: WeakSet[type] = WeakSet()
_running: dict[Any, Capture] = {}  # by the session's hash key


def watch_loads(cls: type) -> None:
    """Stand first in line at the `load` event of a cached class and its subclasses.

    Class by class: what SQLAlchemy propagates to subclasses stands last there.
    """
    for mapper in class_mapper(cls, configure=False).self_and_descendants:
        if mapper.class_ not in _watched:
            _watched.add(mapper.class_)
            event.listen(mapper.class_, "load", on_load, raw=True, insert=True)


def watch_subclass(cls: type) -> None:
    """Watch a class that was mapped after its base was watched."""
    if any(base in _watched for base in cls.__mro__[1:]):
        watch_loads(cls)


def _watch_every_mapper(mapper: Mapper[Any]) -> None:
    """Stand first there too, if anybody does: such listeners come before those of a class."""
    line = _sqlalchemy.load_listeners_of_every_mapper(mapper)
    if line and line[0] is not on_load:
        if on_load in line:
            event.remove(Mapper, "load", on_load)
        event.listen(Mapper, "load", on_load, raw=True, insert=True)


def unwatch_loads() -> None:
    """Leave every line again."""
    if event.contains(Mapper, "load", on_load):
        event.remove(Mapper, "load", on_load)
    for cls in list(_watched):
        if event.contains(cls, "load", on_load):  # a disposed class has lost its listeners
            event.remove(cls, "load", on_load)
    _watched.clear()


def unheard(session: Session, mapper: Mapper[Any]) -> bool:
    """Tell whether nobody but this module hears of what `session` loads of a class."""
    return (
        _sqlalchemy.sole_load_listener(mapper) is on_load
        and not session.dispatch.loaded_as_persistent
    )


def capturing(
    session: Session, reader: Reader, wanted: frozenset[tuple[Any, ...]], shard: Any = None
) -> AbstractContextManager[Capture]:
    """Collect the wanted rows that `session` loads inside the block."""
    return capturing_all(session, Capture(reader, wanted, shard))


@contextmanager
def capturing_all(session: Session, capture: Capture) -> Iterator[Capture]:
    """Collect the rows that this capture and its `others` want."""
    for each in (capture, *capture.others):
        _watch_every_mapper(each.reader.plan.mapper)
    key = session.hash_key
    before = _running.get(key)
    _running[key] = capture
    try:
        yield capture
    finally:
        if before is None:
            del _running[key]
        else:
            _running[key] = before


def on_load(state: InstanceState[Any], context: Any) -> None:
    """Encode a freshly loaded row, if a lookup waits for just this one."""
    capture = _running.get(state.session_id)
    if capture is None or state.key is None:
        return
    _take(state, capture)
    for each in capture.others:
        _take(state, each)


def _take(state: InstanceState[Any], capture: Capture) -> None:
    assert state.key is not None
    if state.key[1] not in capture.wanted or state.key[2] != capture.shard:
        return
    if state.key[1] in capture.rows:
        return  # taken, before a listener on every mapper could change it
    reader = capture.reader
    shape = reader.shape_of(state.mapper) if state.mapper.isa(reader.plan.mapper) else None
    if shape is None:
        return
    if _is_halved(state, reader):
        capture.rows[state.key[1]] = None
        return
    try:
        payload, flags = shape.codec.encode(stored_values(shape, state.dict))
    except Unstorable:
        capture.rows[state.key[1]] = None
        return
    capture.rows[state.key[1]] = Row(payload, flags, shape.codec.fingerprint)


def _is_halved(state: InstanceState[Any], reader: Reader) -> bool:
    """Tell whether the table of a subclass has no part of this row, which an outer join left out.

    The base class finds such a row, the subclass does not.
    """
    assert state.key is not None
    pairs = zip(reader.plan.key, state.key[1], strict=True)
    return any(state.dict.get(name, value) is None and value is not None for name, value in pairs)

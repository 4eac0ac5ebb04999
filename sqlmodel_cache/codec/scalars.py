"""Columns whose value is one msgpack scalar: numbers, text, bytes, moments, UUIDs, enums.

`to_wire` compares exact types: a bool in an integer column, or a subclass of str, escapes.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlmodel_cache.codec import generic, moments
from sqlmodel_cache.codec.genuine import genuine, real
from sqlmodel_cache.codec.wire import (
    ABSENT,
    ESCAPE,
    ColumnCodec,
    ToWire,
    Undecodable,
    Unstorable,
)

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


def scalar(kind: str, wire: Any, to_wire: ToWire, to_generic: ToWire = generic.dump) -> ColumnCodec:
    """Return the codec of a type that the typed decoder restores by itself."""
    return ColumnCodec(kind, wire, to_wire, None, to_generic, generic.load)


def exactly(cls: type) -> ToWire:
    """Return a `to_wire` that lets only None and instances of exactly `cls` pass."""

    def to_wire(value: object) -> object:
        return value if value is None or type(value) is cls else ESCAPE

    return to_wire


def _int(value: object) -> object:
    if type(value) is int:
        return value if -(1 << 63) <= value < 1 << 64 else ESCAPE
    return None if value is None else ESCAPE


def _str(value: object) -> object:
    if type(value) is not str:
        return None if value is None else ESCAPE
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return ESCAPE
    return value


def _uuid(value: object) -> object:
    if value is None or type(value) is UUID:
        return value
    value = genuine(value)
    return value if type(value) is UUID else ESCAPE


def _any(value: object) -> object:
    cls = type(value)
    if cls is str:
        return _str(value)
    if cls is int:
        return _int(value)
    return value if cls in _SCALARS else ESCAPE


def _any_from_wire(wire: object) -> object:
    if type(wire) in _SCALARS:
        return wire
    raise Undecodable("a scalar is malformed")


def unknown(kind: str) -> ColumnCodec:
    """Return the codec of a type we know nothing of: scalars as they are, all else tagged."""
    # msgspec has no union of str and bytes, so the check is ours.
    return ColumnCodec(kind, Any, _any, _any_from_wire, generic.dump, generic.load)


INT = scalar("int", int, _int)
STR = scalar("str", str, _str)
FLOAT = scalar("float", float, exactly(float))
BOOL = scalar("bool", bool, exactly(bool))
BYTES = scalar("bytes", bytes, exactly(bytes))
DECIMAL = scalar("decimal", Decimal, exactly(Decimal))
UUID_ = scalar("uuid", UUID, _uuid)
DATE = scalar("date", real.date, moments.date_to_wire)
TIME = scalar("time", dt.time, moments.time_to_wire)
DATETIME = scalar("datetime", real.datetime, moments.datetime_to_wire)
TIMEDELTA = scalar("timedelta", dt.timedelta, exactly(dt.timedelta))
ANY = unknown("any")

# The column is left out: every hit leaves its attribute to load on access.
UNSTORABLE = ColumnCodec(
    "unstorable",
    bool,
    lambda value: None,
    lambda wire: ABSENT,
    lambda value: ABSENT,
    lambda wire: ABSENT,
)


def enumeration(cls: type[enum.Enum], names: Sequence[str]) -> ColumnCodec:
    """Return the codec of an Enum column: the member's place in the class, as an integer.

    `names` is what the database stores. It goes into the fingerprint with the members, so that
    a class whose members moved reads nothing that the old one wrote.
    """
    members = list(dict.fromkeys(cls.__members__.values()))
    # By identity: a member may equal strangers (IntEnum) or be unhashable.
    places = {id(member): place for place, member in enumerate(members)}
    by_place: dict[int | None, enum.Enum | None] = {None: None, **dict(enumerate(members))}
    labels = ",".join(f"{m.name}:{type(m.value).__name__}" for m in members)
    kind = f"enum({cls.__module__}.{cls.__qualname__}:{labels}:{','.join(names)})"

    def to_wire(value: object) -> object:
        return None if value is None else places.get(id(value), ESCAPE)

    def to_generic(value: object) -> object:
        if value is None:
            return None
        if id(value) not in places:
            raise Unstorable(f"a value is no member of {cls.__qualname__}")
        return places[id(value)]

    def from_generic(wire: Any) -> object:
        if wire is not None and (type(wire) is not int or wire not in by_place):
            raise Undecodable("an enum member is malformed")
        return by_place[wire]

    return ColumnCodec(kind, int, to_wire, by_place.__getitem__, to_generic, from_generic)

"""Columns of nested values: JSON, ARRAY, HSTORE, ranges.

Compact only if the value survives the trip: it is written, read back and compared, once per
fill. A tuple inside JSON, an integer of 100 bits or a MutableDict's entry of a foreign class
fails that, and escapes. Every decode makes fresh objects.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Optional

import msgspec

from sqlmodel_cache.codec import generic
from sqlmodel_cache.codec.sameness import same
from sqlmodel_cache.codec.wire import (
    ENCODER,
    ESCAPE,
    HOSTILE,
    ColumnCodec,
    FromWire,
    Marker,
    Undecodable,
    Unstorable,
    nullable,
)


def plain(value: object) -> object:
    """Return the dict, list or set behind SQLAlchemy's mutable ones; the ORM coerces on load."""
    cls: Any = type(value)
    base = _mutable_base(cls)
    return value if base is None else base(value)


@lru_cache(maxsize=512)
def _mutable_base(cls: Any) -> Any:
    # By name: importing sqlalchemy.ext.mutable would bring the ORM in.
    if not any(base.__module__ == "sqlalchemy.ext.mutable" for base in cls.__mro__):
        return None
    return next((base for base in (dict, list, set) if issubclass(cls, base)), None)


class Trip:
    """Writes one wire value, reads it back as a reader would, and compares."""

    def __init__(self, wire: Any, from_wire: FromWire | None) -> None:
        self._decode = msgspec.msgpack.Decoder(nullable(wire)).decode
        self._from_wire = from_wire

    def __call__(self, wire: object, expected: object) -> msgspec.Raw | None:
        """Return the bytes of `wire` if they come back as `expected`, else None."""
        try:
            raw = ENCODER.encode(wire)
            back = self._decode(raw)
            if self._from_wire is not None:
                back = self._from_wire(back)
            return msgspec.Raw(raw) if same(back, expected) else None
        except (*HOSTILE, Undecodable):  # UnicodeEncodeError and OverflowError among them
            return None


def _verified(
    kind: str,
    wire: Any,
    lower: Callable[[Any], object],
    from_wire: FromWire | None,
    to_generic: Callable[[Any], object] = generic.dump,
    from_generic: FromWire = generic.load,
) -> ColumnCodec:
    """Return a codec whose compact form is `lower(value)`, wherever that survives a trip."""
    trip = Trip(wire, from_wire)

    def to_wire(value: object) -> object:
        if value is None:
            return None
        value = plain(value)
        lowered = lower(value)
        if lowered is ESCAPE:
            return ESCAPE
        raw = trip(lowered, value)
        return ESCAPE if raw is None else raw

    def tagged(value: object) -> object:
        return to_generic(plain(value))

    return ColumnCodec(kind, wire, to_wire, from_wire, tagged, from_generic)


def json() -> ColumnCodec:
    """Return the codec of JSON. SQL NULL and JSON null both load as None."""
    return _verified("json", Any, lambda value: value, None)


def hstore() -> ColumnCodec:
    """Return the codec of HSTORE."""
    return _verified("hstore", dict[str, Optional[str]], lambda value: value, None)  # noqa: UP045


def ranged(item: ColumnCodec) -> ColumnCodec:
    """Return the codec of a single range: [lower, upper, bounds, empty]."""
    from sqlalchemy.dialects.postgresql import Range

    def lower(value: Any) -> object:
        if type(value) is not Range:
            return ESCAPE
        ends = item.to_wire(value.lower), item.to_wire(value.upper)
        if any(isinstance(end, Marker) for end in ends):
            return ESCAPE
        return (*ends, value.bounds, value.empty)

    def from_wire(wire: tuple[Any, Any, Any, bool] | None) -> object:
        if wire is None:
            return None
        lower, upper, bounds, empty = wire
        if bounds not in ("[)", "(]", "()", "[]"):
            raise Undecodable("a range is malformed")
        return Range(lower, upper, bounds=bounds, empty=empty)

    end: Any = nullable(item.wire)
    wire: Any = tuple[end, end, str, bool]
    return _verified(f"range({item.kind})", wire, lower, from_wire)


def array(item: ColumnCodec, dimensions: int, *, as_tuple: bool) -> ColumnCodec:
    """Return the codec of an ARRAY; other depths than `dimensions` escape."""
    wire: Any = item.wire
    for _ in range(dimensions):
        wire = list[nullable(wire)]  # type: ignore[misc]
    sequence: Callable[[Any], Any] = tuple if as_tuple else list

    def lower(value: Any, depth: int = dimensions) -> object:
        if depth == 0:
            return item.to_wire(value)
        if value is None and depth < dimensions:
            return None
        if type(value) is not sequence:
            return ESCAPE
        lowered = [lower(part, depth - 1) for part in value]
        return ESCAPE if any(isinstance(part, Marker) for part in lowered) else lowered

    def raised(value: Any, depth: int, leaf: FromWire | None) -> object:
        if depth == 0:
            return value if leaf is None else leaf(value)
        return None if value is None else sequence(raised(part, depth - 1, leaf) for part in value)

    def from_wire(wire: Any) -> object:
        return raised(wire, dimensions, item.from_wire)

    def to_generic(value: Any) -> object:
        depth, part = 0, value
        while type(part) is sequence and depth < generic.MAX_DEPTH:
            depth, part = depth + 1, next(iter(part), None)

        def nested(value: Any, depth: int) -> object:
            if depth == 0:
                wire = item.to_generic(value)
                if isinstance(wire, Marker):
                    raise Unstorable("an array holds an item that cannot be stored")
                return wire
            if type(value) is not sequence:
                raise Unstorable("an array is ragged")
            return [nested(part, depth - 1) for part in value]

        return [depth, nested(value, depth)]

    def from_generic(wire: Any) -> object:
        try:
            depth, nested = wire
            if type(depth) is not int or not 0 <= depth <= generic.MAX_DEPTH:
                raise Undecodable("an array is malformed")
            return raised(nested, depth, item.from_generic)
        except HOSTILE:
            raise Undecodable("an array is malformed") from None

    plain_item = item.from_wire is None and not as_tuple
    return _verified(
        f"array({item.kind},{dimensions},{as_tuple})",
        wire,
        lower,
        None if plain_item else from_wire,
        to_generic,
        from_generic,
    )

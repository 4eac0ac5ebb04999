"""The tagged form: any value of the types below, exactly, whatever its column promised.

None, bool, float, bytes, integers of 64 bits and well-formed text stand for themselves; all else
is a msgpack array whose first element is a tag. The tags are a closed list of constructors: no
class is ever looked up by what the data says. Both directions stop at `MAX_DEPTH`.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlmodel_cache.codec.genuine import genuine, real
from sqlmodel_cache.codec.moments import dump_tz, load_tz
from sqlmodel_cache.codec.wire import HOSTILE, Undecodable, Unstorable

MAX_DEPTH: Final = 100

_ITSELF = frozenset({type(None), bool, float, bytes})
_ADDRESSES: tuple[Callable[[str], object], ...] = (
    ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
    ipaddress.IPv4Interface, ipaddress.IPv6Interface,
)  # fmt: skip


def dump(value: object) -> object:
    """Return the tagged form of `value`; `Unstorable` if one of its parts has none."""
    return _dump(value, 0)


def load(wire: object) -> object:
    """Return what `dump` was given; `Undecodable` for everything else."""
    try:
        return _load(wire, 0)
    except HOSTILE:
        raise Undecodable("a tagged value is malformed") from None


def _dump(value: Any, depth: int) -> object:
    cls = type(value)
    if cls in _ITSELF:
        return value
    if depth > MAX_DEPTH:
        raise Unstorable(f"a value is nested deeper than {MAX_DEPTH}")
    writer = _WRITERS.get(cls)
    if writer is not None:
        return writer(value, depth + 1)
    meant = genuine(value)
    if meant is not value:
        return _dump(meant, depth)
    if cls.__module__.startswith("sqlalchemy.dialects.postgresql"):
        return _dump_postgresql(value, depth + 1)
    raise Unstorable(f"a value is of type {cls.__module__}.{cls.__qualname__}")


def _load(wire: Any, depth: int) -> object:
    cls = type(wire)
    if cls in _ITSELF or cls is int or cls is str:
        return wire
    if cls is not list or depth > MAX_DEPTH:
        raise Undecodable("a tagged value is malformed")
    return _READERS[wire[0]](wire, depth + 1)


def _dump_int(value: int, depth: int) -> object:
    if -(1 << 63) <= value < 1 << 64:
        return value
    return ["i", value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)]


def _dump_str(value: str, depth: int) -> object:
    try:
        value.encode()
    except UnicodeEncodeError:
        return ["s", value.encode("utf-8", "surrogatepass")]
    return value


def _dump_moment(value: dt.datetime | dt.time, depth: int) -> object:
    tag = "T" if isinstance(value, dt.time) else "M"
    text = value.replace(tzinfo=None).isoformat()
    return [tag, text, value.fold, dump_tz(value.tzinfo)]


def _dump_sequence(tag: str) -> Callable[[Any, int], object]:
    return lambda value, depth: [tag, *(_dump(item, depth) for item in value)]


def _dump_dict(value: dict[Any, Any], depth: int) -> object:
    return ["m", *(_dump(part, depth) for item in value.items() for part in item)]


def _dump_address(value: object, depth: int) -> object:
    return ["@", _ADDRESSES.index(type(value)), str(value)]


def _dump_postgresql(value: Any, depth: int) -> object:
    from sqlalchemy.dialects import postgresql

    if type(value) is postgresql.Range:
        ends = _dump(value.lower, depth), _dump(value.upper, depth)
        return ["R", *ends, value.bounds, value.empty]
    if type(value) is postgresql.ranges.MultiRange:
        return ["r", *(_dump(item, depth) for item in value)]
    if type(value) is getattr(postgresql, "BitString", None):  # since 2.1
        return ["bits", str(value)]
    raise Unstorable(f"a value is of type {type(value).__qualname__}")


_WRITERS: dict[type, Callable[[Any, int], object]] = {
    int: _dump_int,
    str: _dump_str,
    Decimal: lambda value, depth: ["d", str(value)],
    UUID: lambda value, depth: ["U", value.bytes],
    real.datetime: _dump_moment,
    dt.time: _dump_moment,
    real.date: lambda value, depth: ["D", value.isoformat()],
    dt.timedelta: lambda value, depth: ["t", value.days, value.seconds, value.microseconds],
    list: _dump_sequence("l"),
    tuple: _dump_sequence("u"),
    set: _dump_sequence("S"),
    frozenset: _dump_sequence("F"),
    dict: _dump_dict,
    **{cls: _dump_address for cls in _ADDRESSES if isinstance(cls, type)},
}


def _items(wire: list[Any], depth: int) -> list[object]:
    return [_load(item, depth) for item in wire[1:]]


def _load_dict(wire: list[Any], depth: int) -> object:
    parts = _items(wire, depth)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _load_time(wire: list[Any], depth: int) -> object:
    _, text, fold, tz = wire
    return dt.time.fromisoformat(text).replace(tzinfo=load_tz(tz), fold=fold)


def _load_datetime(wire: list[Any], depth: int) -> object:
    _, text, fold, tz = wire
    return real.datetime.fromisoformat(text).replace(tzinfo=load_tz(tz), fold=fold)


def _load_address(wire: list[Any], depth: int) -> object:
    _, index, text = wire
    if type(index) is not int or type(text) is not str or index < 0:
        raise Undecodable("an address is malformed")
    return _ADDRESSES[index](text)


def _load_range(wire: list[Any], depth: int) -> object:
    from sqlalchemy.dialects.postgresql import Range

    _, lower, upper, bounds, empty = wire
    if bounds not in ("[)", "(]", "()", "[]") or type(empty) is not bool:
        raise Undecodable("a range is malformed")
    return Range(_load(lower, depth), _load(upper, depth), bounds=bounds, empty=empty)


def _load_multirange(wire: list[Any], depth: int) -> object:
    from sqlalchemy.dialects.postgresql import ranges

    parts: list[Any] = _items(wire, depth)
    return ranges.MultiRange(parts)


def _load_bits(wire: list[Any], depth: int) -> object:
    from sqlalchemy.dialects import postgresql

    _, text = wire
    bit_string = getattr(postgresql, "BitString", None)  # since 2.1
    if bit_string is None:
        raise Undecodable("a bit string is unknown to this SQLAlchemy")
    return bit_string(_text(text))


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise Undecodable("a tagged value is malformed")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise Undecodable("a tagged value is malformed")
    return value


_READERS: dict[str, Callable[[list[Any], int], object]] = {
    "i": lambda wire, depth: int.from_bytes(_bytes(wire[1]), "big", signed=True),
    "s": lambda wire, depth: _bytes(wire[1]).decode("utf-8", "surrogatepass"),
    "d": lambda wire, depth: Decimal(_text(wire[1])),
    "U": lambda wire, depth: UUID(bytes=_bytes(wire[1])),
    "M": _load_datetime,
    "T": _load_time,
    "D": lambda wire, depth: real.date.fromisoformat(wire[1]),
    "t": lambda wire, depth: dt.timedelta(wire[1], wire[2], wire[3]),
    "l": _items,
    "u": lambda wire, depth: tuple(_items(wire, depth)),
    "S": lambda wire, depth: set(_items(wire, depth)),
    "F": lambda wire, depth: frozenset(_items(wire, depth)),
    "m": _load_dict,
    "@": _load_address,
    "R": _load_range,
    "r": _load_multirange,
    "bits": _load_bits,
}

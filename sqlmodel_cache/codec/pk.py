"""Primary keys as text: typed, injective, one text per row.

A value that its column would not take as it is (`True`, `1.0` or "1" on an integer) has no key:
the database answers, and the row it returns is keyed by what it returned. The text must never
depend on a fingerprint, a driver or the order of an enum's members: every release and every
process has to invalidate what the others stored.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import types as sqltypes

from sqlmodel_cache.codec import keytext
from sqlmodel_cache.codec.columns import (
    has_own_processors,
    is_postgresql,
    overrides,
    python_type_of,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

    from sqlmodel_cache.codec.keytext import Part

# Drivers of these send a datetime's fields and leave its zone out.
_WITHOUT_ZONES = frozenset({"sqlite", "mysql", "mariadb"})
_STRICT = frozenset({"postgresql", "sqlite"})


class PkCodec:
    """The primary keys of one table: `encode(values)` gives the text for the store's keys.

    `encode` answers None for values without a key. `safe_in_sql` tells whether `WHERE pk = value`
    finds no row but the one whose key that value has; text may be compared without case or
    padding, so it is never safe, and "no such row" must not be remembered for it.
    """

    encode: Callable[[Sequence[Any]], str | None]
    safe_in_sql: bool

    def __init__(self, types: Sequence[TypeEngine[Any]], dialect: Dialect) -> None:
        parts = [_part(type_, dialect) for type_ in types]
        self.safe_in_sql = all(safe for _, safe in parts)
        if len(parts) == 1:
            self.encode = _single(parts[0][0])
        else:
            self.encode = _composite(tuple(part for part, _ in parts))


def _single(part: Part) -> Callable[[Sequence[Any]], str | None]:
    def encode(values: Sequence[Any]) -> str | None:
        return part(values[0]) if len(values) == 1 else None

    least, big = -keytext.BIG, keytext.BIG

    def encode_int(values: Sequence[Any]) -> str | None:
        if len(values) == 1:
            value = values[0]
            if type(value) is int and least < value < big:
                return f"i{value}"
        return None

    return encode_int if part is keytext.of_int else encode


def _composite(parts: tuple[Part, ...]) -> Callable[[Sequence[Any]], str | None]:
    def encode(values: Sequence[Any]) -> str | None:
        if len(values) != len(parts):
            return None
        texts = []
        for part, value in zip(parts, values, strict=True):
            text = part(value)
            if text is None:
                return None
            texts.append(text)
        return ":".join(texts)

    return encode


def _part(type_: TypeEngine[Any], dialect: Dialect) -> tuple[Part, bool]:
    """Return how a value of `type_` becomes text, and whether it is safe in SQL."""
    impl = type_.dialect_impl(dialect)
    if isinstance(impl, sqltypes.PickleType):
        return keytext.of_nothing, False
    if isinstance(impl, sqltypes.TypeDecorator) and not isinstance(impl, sqltypes.Interval):
        if overrides(type(impl), "bind_processor"):
            return _bound(impl.bind_processor(dialect), keytext.of_any), False
        part, safe = _part(impl.impl_instance, dialect)
        if not overrides(type(impl), "process_bind_param"):
            return part, safe
        return _bound(lambda value: impl.process_bind_param(value, dialect), part), safe
    if has_own_processors(type_):
        return _bound(impl.bind_processor(dialect), keytext.of_any), False
    return _builtin(impl, dialect)


def _bound(bind: Callable[[Any], object] | None, part: Part) -> Part:
    """Return the text of what `bind` sends to the database."""
    if bind is None:
        return part

    def of_bound(value: object) -> str | None:
        try:
            return part(bind(value))
        except Exception:  # the user's code may raise anything for a value it did not expect
            return None

    return of_bound


def _builtin(impl: TypeEngine[Any], dialect: Dialect) -> tuple[Part, bool]:
    strict = dialect.name in _STRICT
    match impl:
        case sqltypes.Enum():
            return _enumerated(impl, dialect)
        case sqltypes.JSON() | sqltypes.ARRAY():
            return keytext.of_nothing, False
        case sqltypes.Uuid():
            if impl.bind_processor(dialect) is None:  # the driver gets what there is
                return keytext.of_uuid, True
            return (keytext.of_uuid_object if impl.as_uuid else keytext.of_uuid_text), True
        case sqltypes.Boolean():
            return keytext.of_bool, True
        case sqltypes.Integer():
            return keytext.of_int, True
        case sqltypes.Numeric() | sqltypes.Float():
            if not impl.asdecimal:
                return keytext.of_float, False
            return _scaled(getattr(impl, "scale", None)), dialect.name != "sqlite"
        case sqltypes.DateTime():
            return _datetime(impl, dialect)
        case sqltypes.Date():
            return keytext.of_date, True
        case sqltypes.Time():
            return keytext.of_time, strict
        case sqltypes.String():
            return keytext.of_str, False
    if is_postgresql(impl, "INET", "CIDR"):
        return keytext.of_address, True
    cls = python_type_of(impl)
    if cls is bytes:
        return keytext.of_bytes, strict
    if cls is dt.timedelta:
        return keytext.of_timedelta, strict
    return keytext.of_any, False


def _datetime(impl: sqltypes.DateTime, dialect: Dialect) -> tuple[Part, bool]:
    if dialect.name not in _WITHOUT_ZONES:
        return (keytext.of_instant if impl.timezone else keytext.of_naive), True
    if dialect.name == "sqlite":
        return keytext.of_wall_clock, True
    unit = 10 ** (6 - (getattr(impl, "fsp", None) or 0))

    def of_rounded(value: Any) -> str | None:
        # MySQL would round the rest away as it stores, and return another key.
        if getattr(value, "microsecond", 0) % unit:
            return None
        return keytext.of_wall_clock(value)

    return of_rounded, True


def _scaled(scale: int | None) -> Part:
    """Return the text of Decimals with at most `scale` places: the database rounds others."""
    if scale is None:
        return keytext.of_decimal

    def of_scaled(value: object) -> str | None:
        text = keytext.of_decimal(value)
        if text is not None and isinstance(value, Decimal):
            exponent = value.as_tuple().exponent
            if isinstance(exponent, int) and -exponent > scale and not _fits(value, scale):
                return None
        return text

    return of_scaled


def _fits(value: Decimal, scale: int) -> bool:
    """Tell whether all digits beyond `scale` places are zeros."""
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    return not any(digits[exponent + scale :])


def _enumerated(impl: sqltypes.Enum, dialect: Dialect) -> tuple[Part, bool]:
    """Key members by what the database stores for them; a str that it stores is that member."""
    stored = frozenset(impl.enums)
    names: dict[int, str] = {}
    bind: Callable[[Any], object] | None = impl.bind_processor(dialect)  # type: ignore[no-untyped-call]
    if impl.enum_class is not None and bind is not None:
        for member in impl.enum_class.__members__.values():
            names.setdefault(id(member), str(bind(member)))

    def of_enum(value: object) -> str | None:
        name = names.get(id(value))
        if name is None and type(value) is str and value in stored:
            name = value
        text = keytext.of_str(name)
        return None if text is None else "e" + text

    return of_enum, len({name.casefold().rstrip() for name in stored}) == len(stored)

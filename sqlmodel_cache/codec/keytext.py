"""One value of a primary key -> its canonical text, or None where it has no key.

The first letter is the value's type, the rest is in the alphabet of keys (`keys.escape`), never
with a `:`. Equal values have equal text, others never; what is long is hashed (BLAKE2b, 160 bits).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
import re
from collections.abc import Callable
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlmodel_cache.codec.genuine import genuine, real
from sqlmodel_cache.codec.moments import UTC
from sqlmodel_cache.keys import escape

Part: TypeAlias = Callable[[Any], str | None]

LONG: Final = 64  # characters, or twice the bytes
BIG: Final = 1 << 64
_SAFE = re.compile(r"[A-Za-z0-9_.\-]*", re.ASCII)
_GROUPS = re.compile(
    r"[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII
)


def _hashed(letter: str, data: bytes) -> str:
    return letter + blake2b(data, digest_size=20).hexdigest()


def of_int(value: object) -> str | None:
    """Take an int below 2^64 in size; neither a bool nor a subclass."""
    return f"i{value}" if type(value) is int and -BIG < value < BIG else None


def of_str(value: object) -> str | None:
    """Take any str, also with lone surrogates; not a subclass."""
    if type(value) is not str:
        return None
    if len(value) > LONG:
        return _hashed("S", value.encode("utf-8", "surrogatepass"))
    return "s" + (value if _SAFE.fullmatch(value) else escape(value))


def of_bytes(value: object) -> str | None:
    """Take bytes; neither bytearray nor memoryview."""
    if type(value) is not bytes:
        return None
    return _hashed("B", value) if 2 * len(value) > LONG else "b" + value.hex()


def of_bool(value: object) -> str | None:
    """Take a bool, for columns of them only."""
    return f"t{value:d}" if type(value) is bool else None


def of_uuid(value: object) -> str | None:
    """Take a UUID, or a str that every driver takes for one: with or without hyphens, any case."""
    if type(value) is str:
        return of_uuid_text(value.lower()) if value.isascii() else None
    return of_uuid_object(value)


def of_uuid_object(value: object) -> str | None:
    """Take a UUID, where SQLAlchemy makes characters of it and of nothing else."""
    return "u" + value.hex if isinstance(value, UUID) else None


def of_uuid_text(value: object) -> str | None:
    """Take the text of a UUID, where SQLAlchemy sends it without its hyphens, as characters."""
    if type(value) is not str or _GROUPS.fullmatch(value) is None:
        return None
    return "u" + value.replace("-", "")


def of_date(value: object) -> str | None:
    """Take a date that is no datetime."""
    value = genuine(value)
    return "d" + value.isoformat() if type(value) is real.date else None


def of_time(value: object) -> str | None:
    """Take a time without a zone."""
    if type(value) is not dt.time or value.tzinfo is not None:
        return None
    return "c" + value.isoformat().replace(":", "")


def of_timedelta(value: object) -> str | None:
    """Take a timedelta."""
    if type(value) is not dt.timedelta:
        return None
    return f"p{value.days}.{value.seconds}.{value.microseconds}"


def of_naive(value: object) -> str | None:
    """Take a datetime without a zone."""
    value = genuine(value)
    if type(value) is not real.datetime or value.tzinfo is not None:
        return None
    return "n" + value.isoformat().replace(":", "")


def of_wall_clock(value: object) -> str | None:
    """Take a datetime in a database whose drivers drop the zone: what its clock shows."""
    value = genuine(value)
    return of_naive(value.replace(tzinfo=None)) if isinstance(value, real.datetime) else None


def of_instant(value: object) -> str | None:
    """Take a datetime with a zone: one text for one instant."""
    value = genuine(value)
    if type(value) is not real.datetime or value.tzinfo is None:
        return None
    try:
        instant = value.astimezone(UTC)
    except OverflowError:  # within a day of year 1 or 9999
        return None
    return "z" + instant.replace(tzinfo=None).isoformat().replace(":", "")


def of_decimal(value: object) -> str | None:
    """Take a finite Decimal, or an int: by value, whatever its scale."""
    if type(value) is int and -BIG < value < BIG:
        value = Decimal(value)
    if type(value) is not Decimal or not value.is_finite():
        return None
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    stripped = text.rstrip("0")
    if not stripped:
        return "m0"
    assert isinstance(exponent, int)  # of a finite number
    text = f"{'-' if sign else ''}{stripped}e{exponent + len(text) - len(stripped)}"
    return _hashed("M", text.encode()) if len(text) > LONG else "m" + text


def of_float(value: object) -> str | None:
    """Take a float other than nan; both zeros are one. An int that a float holds exactly."""
    if type(value) is int and -(1 << 53) <= value <= 1 << 53:
        value = float(value)
    if type(value) is not float or math.isnan(value):
        return None
    return "g" + escape(repr(value or 0.0))


def of_address(value: object) -> str | None:
    """Take an IP address with its prefix length, as text or as an object of `ipaddress`."""
    if type(value) is not str and type(value).__module__ != "ipaddress":
        return None
    try:
        return "a" + escape(str(ipaddress.ip_interface(str(value))))
    except ValueError:
        return None


def of_any(value: object) -> str | None:
    """Take a value of a type that we know nothing of: by its own class."""
    return of_int(value) or of_str(value) or of_bytes(value) or of_uuid_object(value)


def of_nothing(value: object) -> str | None:
    """Take a value that cannot be a key: JSON, arrays, pickles."""
    return None

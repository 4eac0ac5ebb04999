"""Dates and times on the wire, and the time zones they are in.

msgpack and RFC 3339 carry naive moments, UTC and offsets of whole minutes; a row whose moments
share one zone of the tz database names it once; the rest (`fold`, odd offsets) escapes.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from sqlmodel_cache.codec.genuine import genuine, real
from sqlmodel_cache.codec.wire import ESCAPE, Marker, Undecodable, Unstorable

UTC: Final = dt.UTC
_ZONE_KEY = re.compile(r"[A-Za-z0-9_+\-]+(?:/[A-Za-z0-9_+\-]+){0,3}", re.ASCII)
_MINUTE = dt.timedelta(minutes=1)


@lru_cache(maxsize=64)
def zone(key: str) -> ZoneInfo:
    """Return the zone called `key`. ZoneInfo reads a file by that name, so look at it first."""
    if len(key) > 64 or _ZONE_KEY.fullmatch(key) is None:
        raise Undecodable("a time zone has an impossible name")
    try:
        return ZoneInfo(key)
    except (ValueError, LookupError, OSError):
        raise Undecodable("a time zone is unknown on this host") from None


def zone_key(tz: object) -> str | None:
    """Return the key of a zone that `zone` gives back, None for any other tzinfo."""
    if type(tz) is not ZoneInfo or tz.key is None:
        return None
    try:
        zone(tz.key)
    except Undecodable:
        return None
    return tz.key


def dump_tz(tz: dt.tzinfo | None) -> object:
    """Write a tzinfo: None, "" (utc), a zone's key, or [seconds, microseconds, name]."""
    if tz is None:
        return None
    if tz is UTC:
        return ""
    key = zone_key(tz)
    if key is not None:
        return key
    if type(tz) is dt.timezone:
        offset = tz.utcoffset(None)
        named = tz.__reduce__()[1]
        name = tz.tzname(None) if len(named) == 2 else None
        return [offset.days * 86_400 + offset.seconds, offset.microseconds, name]
    raise Unstorable(f"a time zone is a {type(tz).__qualname__}")


def load_tz(wire: object) -> dt.tzinfo | None:
    """Read what `dump_tz` wrote."""
    if wire is None:
        return None
    if wire == "":
        return UTC
    if isinstance(wire, str):
        return zone(wire)
    if not isinstance(wire, list):
        raise Undecodable("a time zone is malformed")
    seconds, microseconds, name = wire
    offset = dt.timedelta(seconds=seconds, microseconds=microseconds)
    return dt.timezone(offset) if name is None else dt.timezone(offset, name)


def _plain_offset(tz: dt.tzinfo | None) -> bool:
    """Tell whether RFC 3339 can spell `tz`: unnamed, whole minutes."""
    return (
        type(tz) is dt.timezone
        and len(tz.__reduce__()[1]) == 1
        and not tz.utcoffset(None) % _MINUTE
    )


def datetime_to_wire(value: object) -> object:
    """Compact form of a datetime: naive, UTC, or with a plain offset."""
    if value is None:
        return None
    if type(value) is not real.datetime:
        value = genuine(value)
        if type(value) is not real.datetime:
            return ESCAPE
    if value.fold:
        return ESCAPE
    if value.tzinfo is None or value.tzinfo is UTC:
        return value
    # msgspec writes every aware datetime as UTC; its text form keeps the offset.
    return value.isoformat() if _plain_offset(value.tzinfo) else ESCAPE


def date_to_wire(value: object) -> object:
    """Compact form of a date that is not a datetime."""
    if value is None or type(value) is real.date:
        return value
    value = genuine(value)
    return value if type(value) is real.date else ESCAPE


def time_to_wire(value: object) -> object:
    """Compact form of a time: naive, UTC, or with a plain offset."""
    if value is None:
        return None
    if type(value) is not dt.time or value.fold:
        return ESCAPE
    if value.tzinfo is None or value.tzinfo is UTC:
        return value
    return value.isoformat() if _plain_offset(value.tzinfo) else ESCAPE


def in_zone(value: object) -> tuple[str, dt.datetime] | Marker:
    """Return (zone key, the instant in UTC) if that pair gives `value` back, else ESCAPE."""
    value = genuine(value)
    if type(value) is not real.datetime:
        return ESCAPE
    key = zone_key(value.tzinfo)
    if key is None:
        return ESCAPE
    try:
        instant = value.astimezone(UTC)
        back = instant.astimezone(zone(key))
    except OverflowError:  # within a day of year 1 or 9999
        return ESCAPE
    # A time in a gap does not exist, and comes back moved.
    if back.replace(tzinfo=None) != value.replace(tzinfo=None) or back.fold != value.fold:
        return ESCAPE
    return key, instant

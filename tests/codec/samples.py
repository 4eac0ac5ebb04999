"""Column types and Hypothesis strategies for what their columns load."""

from __future__ import annotations

import datetime as dt
import enum
import math
from decimal import Decimal
from ipaddress import IPv4Interface, IPv6Network
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from sqlalchemy import types as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects import sqlite

from sqlmodel_cache.codec import ColumnSpec, RowCodec, same


def dialect_of(module: Any) -> Any:
    """Return the default dialect of a module below `sqlalchemy.dialects`."""
    return module.dialect()


DIALECT = dialect_of(sqlite)


class Color(enum.Enum):
    RED = "r"
    GREEN = ("g", 2)
    BLUE = None
    AZURE = None  # noqa: PIE796  an alias


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


ZONES = [ZoneInfo("Europe/Berlin"), ZoneInfo("UTC"), ZoneInfo("America/New_York")]
OFFSETS = [
    dt.timezone(dt.timedelta(hours=2)),
    dt.timezone(dt.timedelta(minutes=-330)),
    dt.timezone(dt.timedelta(seconds=754)),
    dt.timezone(dt.timedelta(hours=1), "CET"),
]
tz = st.sampled_from([None, dt.UTC, dt.UTC, *ZONES, *OFFSETS])
text = st.text(st.characters(codec=None), max_size=20)  # lone surrogates and NUL among them
integers = st.integers() | st.integers(-(1 << 70), 1 << 70) | st.sampled_from([2**63, 2**64 - 1])
floats = st.floats() | st.sampled_from([-0.0, math.inf, math.nan])
decimals = st.decimals(allow_nan=True) | st.sampled_from(
    [Decimal("1.00"), Decimal("-0E+5"), Decimal("sNaN123"), Decimal("1E-400"), Decimal("9" * 60)]
)
datetimes = st.builds(
    lambda value, fold: value.replace(fold=fold),
    st.datetimes(timezones=tz),
    st.sampled_from([0, 1]),
)
times = st.builds(
    lambda value, zone, fold: value.replace(tzinfo=zone, fold=fold),
    st.times(), tz, st.sampled_from([0, 0, 1]),
)  # fmt: skip
documents = st.recursive(
    st.none() | st.booleans() | integers | floats | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def nested(items: st.SearchStrategy[Any], sequence: Any = list) -> st.SearchStrategy[Any]:
    """Arrays of one, two and three dimensions."""
    flat = st.lists(st.none() | items, max_size=4).map(sequence)
    square = st.lists(flat, min_size=1, max_size=3).map(sequence)
    return flat | square | st.lists(square, min_size=1, max_size=2).map(sequence)


def ranges(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return ranges with every kind of bounds, and empty ones."""
    ends = st.none() | items
    bounds = st.sampled_from(["[)", "(]", "()", "[]"])
    return st.builds(
        lambda lower, upper, bounds: pg.Range(lower, upper, bounds=bounds), ends, ends, bounds
    ) | st.just(pg.Range(empty=True))


COLUMNS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "Integer": (sa.Integer(), integers),
    "BigInteger": (sa.BigInteger(), integers),
    "Float": (sa.Float(), floats),
    "Numeric": (sa.Numeric(10, 2), decimals),
    "Numeric-float": (sa.Numeric(asdecimal=False), floats),
    "String": (sa.String(30), text),
    "Text": (sa.Text(), text),
    "LargeBinary": (sa.LargeBinary(), st.binary()),
    "Boolean": (sa.Boolean(), st.booleans()),
    "Date": (sa.Date(), st.dates()),
    "Time": (sa.Time(), times),
    "DateTime": (sa.DateTime(), datetimes),
    "DateTime-tz": (sa.DateTime(timezone=True), datetimes),
    "Interval": (sa.Interval(), st.timedeltas()),
    "Uuid": (sa.Uuid(), st.uuids()),
    "Uuid-text": (sa.Uuid(as_uuid=False), st.uuids().map(str)),
    "Enum": (sa.Enum(Color), st.sampled_from(Color)),
    "Enum-int": (sa.Enum(Level), st.sampled_from(Level)),
    "Enum-value": (
        sa.Enum(Level, values_callable=lambda cls: [str(member.value) for member in cls]),
        st.sampled_from(Level),
    ),
    "Enum-text": (sa.Enum("a", "b"), st.sampled_from(["a", "b"])),
    "JSON": (sa.JSON(), documents),
    "JSONB": (pg.JSONB(), documents),
    "ARRAY-int": (sa.ARRAY(sa.Integer), nested(integers)),
    "ARRAY-text-2": (sa.ARRAY(sa.Text, dimensions=2), nested(text)),
    "ARRAY-tuple": (sa.ARRAY(sa.Uuid, as_tuple=True), nested(st.uuids(), tuple)),
    "ARRAY-enum": (sa.ARRAY(sa.Enum(Color)), nested(st.sampled_from(Color))),
    "ARRAY-datetime": (sa.ARRAY(sa.DateTime(timezone=True)), nested(datetimes)),
    "ARRAY-decimal": (sa.ARRAY(sa.Numeric), nested(decimals)),
    "HSTORE": (pg.HSTORE(), st.dictionaries(text, st.none() | text, max_size=4)),
    "INET": (
        pg.INET(),
        st.ip_addresses() | st.sampled_from(["10.0.0.1/8", IPv4Interface("10.0.0.1/8")]),
    ),
    "CIDR": (pg.CIDR(), st.sampled_from([IPv6Network("2001:db8::/32"), "10.0.0.0/8"])),
    "INT4RANGE": (pg.INT4RANGE(), ranges(integers)),
    "NUMRANGE": (pg.NUMRANGE(), ranges(decimals)),
    "DATERANGE": (pg.DATERANGE(), ranges(st.dates())),
    "TSRANGE": (pg.TSRANGE(), ranges(st.datetimes())),
    "TSTZRANGE": (pg.TSTZRANGE(), ranges(datetimes)),
    "INT4MULTIRANGE": (
        pg.INT4MULTIRANGE(),
        st.lists(ranges(integers), max_size=3).map(pg.ranges.MultiRange),
    ),
    "NullType": (sa.NullType(), text | integers | floats | st.binary()),
}

# What a dynamically typed database may answer from any column.
SURPRISES = st.one_of(
    text, integers, floats, st.binary(), st.booleans(), decimals, st.dates(), datetimes, times,
    st.timedeltas(), st.uuids(), documents, st.tuples(st.integers(), text),
    st.frozensets(st.integers()),
)  # fmt: skip


def codec_of(*types: Any, **settings: Any) -> RowCodec:
    """Return the codec of a row of such columns."""
    specs = [ColumnSpec(f"c{number}", type_) for number, type_ in enumerate(types)]
    return RowCodec(specs, settings.pop("dialect", DIALECT), **settings)


def survives(codec: RowCodec, row: list[object]) -> bool:
    """Tell whether a row comes back as it was."""
    return same(codec.decode(*codec.encode(row)), row)

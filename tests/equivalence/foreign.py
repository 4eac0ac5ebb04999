"""Column types of servers, each with a few values that must come back as they were.

A plain table, not a strategy: what a server accepts is known from its manual, and every value
here has once been the edge of something.
"""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any
from uuid import UUID

from sqlalchemy import types as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects import postgresql as pg
from sqlmodel.sql.sqltypes import AutoString

from tests.equivalence.kinds import Color, Encrypted, Level

Samples = dict[str, tuple[Any, list[Any]]]


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


UUID_1 = UUID("8c1d3a3e-0b59-4d2c-9a3c-000000000001")
DAY, NOON = dt.date(2024, 2, 29), dt.time(12, 30, 59, 999_999)
NAIVE = dt.datetime(2024, 10, 27, 2, 30, 0, 123_456)
BERLIN = dt.timezone(dt.timedelta(hours=2))
INSTANT = NAIVE.replace(tzinfo=BERLIN)
DOCUMENT = {"a": [1, 2.5, None, True, {"ü": "\u2028"}], "big": 2**60, "": ""}
R = pg.Range


def common() -> Samples:
    """Return what every server has."""
    return {
        "Integer": (sa.Integer(), [0, -(2**31), 2**31 - 1]),
        "BigInteger": (sa.BigInteger(), [2**63 - 1, -(2**63)]),
        "SmallInteger": (sa.SmallInteger(), [-32768]),
        "Double": (sa.Double(), [0.1, -0.0, 1e300]),
        "Numeric": (sa.Numeric(30, 10), [Decimal("1.5"), Decimal("-12345678901234567890.1")]),
        "Numeric float": (sa.Numeric(10, 2, asdecimal=False), [1.25]),
        "String": (sa.String(100), ["", "Grüße 🎉", "a\nb:={}"]),
        "Text": (sa.Text(), ["x" * 5000]),
        "LargeBinary": (sa.LargeBinary(), [b"", bytes(range(256))]),
        "Boolean": (sa.Boolean(), [True, False]),
        "Date": (sa.Date(), [DAY, dt.date(1000, 1, 1), dt.date(9999, 12, 31)]),
        "DateTime": (sa.DateTime(), [NAIVE.replace(microsecond=0)]),
        "Uuid": (sa.Uuid(), [UUID_1]),
        "Uuid text": (sa.Uuid(as_uuid=False), [str(UUID_1)]),
        "Enum": (sa.Enum(Size), list(Size)),
        "Enum int": (sa.Enum(Level, native_enum=False), list(Level)),
        "JSON": (sa.JSON(), [DOCUMENT, [], "text", 1, None]),
        "encrypted": (Encrypted(), ["secret", ""]),
        "AutoString": (AutoString(length=20), ["x"]),
    }


def postgresql() -> Samples:
    """Return PostgreSQL's own types."""
    return {
        "Float": (sa.Float(), [float("inf"), 2.5]),
        "Double nan": (sa.Double(), [float("nan"), float("-inf")]),
        "REAL": (pg.REAL(), [0.1]),
        "Numeric free": (sa.Numeric(), [Decimal("1.50"), Decimal("NaN"), Decimal("1E+40")]),
        "Time": (sa.Time(), [NOON]),
        "TIMETZ": (sa.Time(timezone=True), [NOON.replace(tzinfo=BERLIN)]),
        "TIMESTAMP": (sa.DateTime(), [NAIVE, dt.datetime(1, 1, 1), dt.datetime.max]),
        "TIMESTAMPTZ": (sa.DateTime(timezone=True), [INSTANT, INSTANT.astimezone(dt.UTC)]),
        "INTERVAL": (sa.Interval(), [dt.timedelta(days=-3, microseconds=1), dt.timedelta(0)]),
        "pg.INTERVAL": (pg.INTERVAL(), [dt.timedelta(hours=30)]),
        "native ENUM": (pg.ENUM(Color, name="color_native"), [Color.RED, Color.BLUE]),
        "ENUM of strings": (pg.ENUM("a", "b", name="ab"), ["a"]),
        "JSONB": (pg.JSONB(), [DOCUMENT, [[]], False]),
        "JSON none_as_null": (pg.JSON(none_as_null=True), [{"a": None}]),
        "BYTEA": (pg.BYTEA(), [b"\x00\xff"]),
        "INET": (pg.INET(), ["10.0.0.1", "10.0.0.1/8", "2001:db8::1"]),
        "CIDR": (pg.CIDR(), ["10.0.0.0/8"]),
        "MACADDR": (pg.MACADDR(), ["08:00:2b:01:02:03"]),
        "MACADDR8": (pg.MACADDR8(), ["08:00:2b:01:02:03:04:05"]),
        "MONEY": (pg.MONEY(), ["$1.50"]),
        "OID": (pg.OID(), [12345]),
        "REGCLASS": (pg.REGCLASS(), ["pg_class"]),
        "CITEXT": (pg.CITEXT(), ["CamelCase"]),
        "TSVECTOR": (pg.TSVECTOR(), ["'a':1 'cat':2"]),
        "HSTORE": (pg.HSTORE(), [{"a": "1", "b": None}, {}]),
        "ARRAY int": (pg.ARRAY(sa.Integer), [[1, None, 3], []]),
        "ARRAY text 2": (pg.ARRAY(sa.Text, dimensions=2), [[["a", "b"], ["", "ü"]]]),
        "ARRAY tuple": (pg.ARRAY(sa.BigInteger, as_tuple=True), [(1, 2)]),
        "ARRAY uuid": (pg.ARRAY(sa.Uuid), [[UUID_1]]),
        "ARRAY enum": (pg.ARRAY(pg.ENUM(Size, name="size_in_array")), [[Size.SMALL]]),
        "ARRAY timestamptz": (pg.ARRAY(sa.DateTime(timezone=True)), [[INSTANT]]),
        "ARRAY numeric": (pg.ARRAY(sa.Numeric), [[Decimal("1.10")]]),
        "ARRAY date": (pg.ARRAY(sa.Date), [[DAY]]),
        "ARRAY inet": (pg.ARRAY(pg.INET), [["10.0.0.1"]]),
        "ARRAY jsonb": (pg.ARRAY(pg.JSONB), [[DOCUMENT, {}]]),
        "INT4RANGE": (pg.INT4RANGE(), [R(1, 5), R(None, 5), R(empty=True)]),
        "INT8RANGE": (pg.INT8RANGE(), [R(2**40, None)]),
        "NUMRANGE": (pg.NUMRANGE(), [R(Decimal("1.5"), Decimal("2.50"), bounds="(]")]),
        "DATERANGE": (pg.DATERANGE(), [R(DAY, dt.date(2024, 3, 5))]),
        "TSRANGE": (pg.TSRANGE(), [R(NAIVE, None)]),
        "TSTZRANGE": (pg.TSTZRANGE(), [R(INSTANT, None, bounds="()")]),
        "INT4MULTIRANGE": (pg.INT4MULTIRANGE(), [[R(1, 3), R(5, 8)], []]),
        "TSTZMULTIRANGE": (pg.TSTZMULTIRANGE(), [[R(INSTANT, None)]]),
        "ARRAY range": (pg.ARRAY(pg.INT4RANGE), [[R(1, 3)]]),
        "DOMAIN": (pg.DOMAIN("positive", sa.Integer()), [7]),
        **_bits(),
    }


def mariadb() -> Samples:
    """Return MariaDB's own types."""
    return {
        "Float": (sa.Float(), [2.5]),
        "TINYINT": (mysql.TINYINT(), [-128]),
        "TINYINT(1)": (mysql.TINYINT(display_width=1), [1]),
        "BIGINT unsigned": (mysql.BIGINT(unsigned=True), [2**64 - 1]),
        "DECIMAL": (mysql.DECIMAL(65, 30), [Decimal("1") / 3]),
        "Time": (mysql.TIME(fsp=6), [NOON]),
        "DATETIME(6)": (mysql.DATETIME(fsp=6), [NAIVE]),
        "TIMESTAMP": (mysql.TIMESTAMP(fsp=6), [NAIVE]),
        "YEAR": (mysql.YEAR(), [2024]),
        "Interval": (sa.Interval(second_precision=6), [dt.timedelta(days=3, microseconds=1)]),
        "BIT": (mysql.BIT(8), [5]),
        "ENUM": (mysql.ENUM("a", "b"), ["b"]),
        "SET": (mysql.SET("a", "b", "c"), [{"a", "c"}, set()]),
        "LONGTEXT": (mysql.LONGTEXT(), ["y" * 70_000]),
        "MEDIUMBLOB": (mysql.MEDIUMBLOB(), [bytes(70_000)]),
        "VARBINARY": (mysql.VARBINARY(10), [b"\x00\x01"]),
    }


def native_inet() -> Samples:
    """Return what PostgreSQL's drivers make of addresses when they are asked for objects."""
    return {
        "INET object": (pg.INET(), [IPv4Address("10.0.0.1"), IPv6Address("2001:db8::1")]),
        "CIDR object": (pg.CIDR(), [IPv4Network("10.0.0.0/8")]),
    }


def _bits() -> Samples:
    # Until 2.1, SQLAlchemy hands out whatever class the driver has for bits.
    bit_string: Any = getattr(pg, "BitString", None)
    if bit_string is None:
        return {}
    return {
        "BIT": (pg.BIT(4), [bit_string("1010")]),
        "VARBIT": (pg.BIT(8, varying=True), [bit_string("1")]),
    }

"""B2: distinct rows never share a key, and one row never has two."""

from __future__ import annotations

import datetime as dt
import enum
import re
from decimal import Decimal, localcontext
from ipaddress import ip_address, ip_interface
from itertools import combinations
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import types as sa
from sqlalchemy.dialects import mysql, oracle, sqlite
from sqlalchemy.dialects import postgresql as pg
from sqlmodel.sql.sqltypes import AutoString, UTCDateTime

from sqlmodel_cache.codec import PkCodec, same
from tests.codec.samples import COLUMNS, OFFSETS, SURPRISES, Color, Level, dialect_of, text
from tests.recording import stable_id

PG, SQLITE, MYSQL = dialect_of(pg), dialect_of(sqlite), dialect_of(mysql)


def key(type_: Any, value: object, dialect: Any = PG) -> str | None:
    """Return the key text of a single-column primary key."""
    return PkCodec([type_], dialect).encode([value])


KEYED = [
    "Integer", "String", "LargeBinary", "Boolean", "Date", "DateTime", "DateTime-tz", "Numeric",
    "Float", "Uuid", "Uuid-text", "Enum", "Enum-text", "Interval", "Time", "INET", "NullType",
]  # fmt: skip


@pytest.mark.parametrize("name", KEYED)
@given(data=st.data())
def test_injective(name: str, data: st.DataObject) -> None:
    """Two values have one key exactly if they are equal."""
    type_, values = COLUMNS[name]
    drawn = data.draw(st.lists(values, min_size=2, max_size=8)) + data.draw(st.lists(SURPRISES))
    keyed = [(value, each) for value in drawn if (each := key(type_, value)) is not None]
    for (one, first), (other, second) in combinations(keyed, 2):
        assert (first == second) == (canonical(name, one) == canonical(name, other))


def canonical(name: str, value: Any) -> object:
    """Return what the database compares, and its type."""
    if name.startswith("Uuid"):
        return UUID(str(value))
    if name == "INET":
        return ip_interface(str(value))
    if name == "NullType":
        return type(value), value
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(dt.UTC)  # PEP 495: `==` is always false for ambiguous times
    return value


@given(one=st.lists(text, min_size=1, max_size=3), other=st.lists(text, min_size=1, max_size=3))
def test_composites_are_injective(one: list[str], other: list[str]) -> None:
    """No separator inside a value makes two composite keys one."""
    keys = [PkCodec([sa.String()] * len(each), PG).encode(each) for each in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


NASTY = [
    "", " ", "a", "A", "a ", "a:b", "a=b", "{a}", "a\r\nb", "a\0", "%", "%25;", "\u00e9", "e\u0301",
    "\ud800", "1", "i1", "None", "x" * 64, "x" * 65, "x" * 10_240, "x" * 10_239 + "y", "*", "\\",
]  # fmt: skip


def test_nasty_text() -> None:
    """Separators, braces, line ends, NUL, look-alikes and 10 KB: all differ, none leaks."""
    keys = [key(sa.String(), value) for value in NASTY]
    assert len(set(keys)) == len(NASTY)
    for each in keys:
        assert each is not None
        assert re.fullmatch(r"[A-Za-z0-9_.%;\-]+", each)
        assert len(each) < 600


def test_types_never_meet() -> None:
    """`1`, `"1"` and `True` share no key, whatever their columns are."""
    samples: list[tuple[Any, object]] = [
        (sa.Integer(), 1), (sa.String(), "1"), (sa.Boolean(), True), (sa.Numeric(), Decimal(1)),
        (sa.Float(), 1.0), (sa.LargeBinary(), b"1"), (sa.Enum("1"), "1"), (sa.Uuid(), UUID(int=1)),
        (sa.Date(), dt.date(1, 1, 1)), (sa.DateTime(), dt.datetime(1, 1, 1)),
    ]  # fmt: skip
    keys = [key(type_, value) for type_, value in samples]
    assert None not in keys
    for one, other in combinations(keys, 2):
        assert one != other


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (sa.Integer(), True), (sa.Integer(), "1"), (sa.Integer(), 1.0), (sa.Integer(), None),
        (sa.Integer(), Decimal(1)), (sa.Integer(), Level.LOW), (sa.Integer(), 2**64),
        (sa.String(), 1), (sa.String(), b"a"), (sa.String(), UUID(int=1)), (sa.String(), None),
        (sa.Boolean(), 1), (sa.LargeBinary(), bytearray(b"a")), (sa.Float(), float("nan")),
        (sa.Float(), 2**53 + 1), (sa.Numeric(), Decimal("nan")), (sa.Numeric(), Decimal("inf")),
        (sa.Numeric(), 1.0), (sa.Numeric(10, 2), Decimal("1.001")), (sa.Numeric(), True),
        (sa.Date(), dt.datetime(2024, 1, 1)), (sa.Date(), "2024-01-01"),
        (sa.DateTime(), dt.date(2024, 1, 1)),
        (sa.DateTime(), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
        (sa.DateTime(timezone=True), dt.datetime(2024, 1, 1)), (sa.Uuid(), "not one"),
        (sa.DateTime(timezone=True), dt.datetime(1, 1, 1, tzinfo=OFFSETS[0])),
        (sa.Uuid(), 5), (sa.Uuid(), "g" * 32), (sa.Uuid(), "1-2"), (sa.Uuid(), "\u0661" * 32),
        (sa.Enum(Color), "r"), (sa.Enum(Color), Level.LOW), (sa.Enum("a"), "b"),
        (sa.Enum(Color), 1),
        (sa.Time(), dt.time(1, tzinfo=dt.UTC)), (sa.Interval(), 5), (sa.JSON(), "a"),
        (sa.NullType(), True),
        (sa.ARRAY(sa.Integer), [1]), (sa.PickleType(), "a"), (pg.INET(), "10.0.0"), (pg.INET(), 5),
        (pg.JSONB(), 1), (pg.INT4RANGE(), pg.Range(1, 2)),
    ],
    ids=stable_id,
)  # fmt: skip
def test_no_key(type_: Any, value: object) -> None:
    """What the column does not take as it is goes to the database."""
    assert key(type_, value) is None
    assert PkCodec([sa.Integer(), type_], PG).encode([1, value]) is None


SOME = UUID("8c1d9a3e-0a1b-4c2d-8e3f-001122334455")


@pytest.mark.parametrize("as_uuid", [True, False])
@pytest.mark.parametrize("dialect", [PG, SQLITE], ids=["postgresql", "sqlite"])
def test_uuid_and_its_text(as_uuid: bool, dialect: Any) -> None:
    """What a load takes for the row has its key; what a load refuses has none."""
    type_: Any = sa.Uuid(as_uuid=True) if as_uuid else sa.Uuid(as_uuid=False)
    texts = [str(SOME), SOME.hex]
    if dialect is PG:
        texts.append(str(SOME).upper())
    taken: list[object] = texts if dialect is PG or not as_uuid else []
    if dialect is PG or as_uuid:
        taken.append(SOME)
    assert {key(type_, each, dialect) for each in taken} == {key(sa.Uuid(), SOME, PG)}
    refused: set[object] = {SOME, *texts, f"{{{SOME}}}", f"urn:uuid:{SOME}"} - {*taken}
    assert {key(type_, each, dialect) for each in refused} == {None}


def test_uuid_text_where_the_database_compares_characters() -> None:
    """SQLite keeps a UUID's text as CHAR, and finds nothing by other cases or braces."""
    for spelling in (str(SOME).upper(), f"{{{SOME}}}"):
        assert key(sa.Uuid(as_uuid=False), spelling, SQLITE) is None


def test_asyncpg_uuid() -> None:
    """The driver's own UUID class has the key of the standard one."""
    pgproto = pytest.importorskip("asyncpg.pgproto.pgproto")
    assert key(sa.Uuid(), pgproto.UUID(str(SOME))) == key(sa.Uuid(), SOME)


def test_decimals_by_value() -> None:
    """Scale, trailing zeros, the sign of zero and the context make no second key."""
    type_ = sa.Numeric()
    with localcontext() as context:
        context.prec = 2
        long = key(type_, Decimal("123456789.10"))
    assert long == key(type_, Decimal("123456789.1"))
    for group in (["1", "1.0", "1.00", "10E-1"], ["0", "-0", "0.00", "0E+9"], ["1E+3", "1000"]):
        assert len({key(type_, Decimal(each)) for each in group}) == 1
    assert key(type_, 1) == key(type_, Decimal("1.00"))
    assert key(type_, Decimal("1E+1000000000")) != key(type_, Decimal("1E+1000000001"))
    assert len({key(type_, Decimal(each)) for each in ("1", "-1", "10", "0.1")}) == 4
    assert key(sa.Numeric(10, 2), Decimal("1.1000")) == key(sa.Numeric(10, 2), Decimal("1.1"))
    assert key(sa.Numeric(10, 2), Decimal("0.000")) == key(sa.Numeric(10, 2), Decimal(0))
    assert key(sa.Numeric(10, 2), Decimal("0.001")) is None


def test_floats_by_value() -> None:
    """Both zeros are one row; an int that a float holds exactly is that float."""
    assert key(sa.Float(), 0.0) == key(sa.Float(), -0.0) == key(sa.Float(), 0)
    assert key(sa.Float(), 1) == key(sa.Float(), 1.0)


def test_moments() -> None:
    """One instant is one row where zones are kept; elsewhere the clock's face counts."""
    noon = dt.datetime(2024, 7, 1, 12, tzinfo=dt.UTC)
    berlin = noon.astimezone(ZoneInfo("Europe/Berlin"))
    aware = sa.DateTime(timezone=True)
    assert key(aware, noon) == key(aware, berlin)
    for dialect in (SQLITE, MYSQL):
        assert key(aware, berlin, dialect) == key(aware, berlin.replace(tzinfo=None), dialect)
        assert key(aware, berlin, dialect) != key(aware, noon, dialect)
    assert key(aware, noon, dialect_of(oracle)) == key(aware, berlin, dialect_of(oracle))
    assert key(sa.DateTime(), "2024", SQLITE) is None


def test_mysql_rounds_fractions_of_seconds() -> None:
    """A fraction that MySQL would round away is another key than the row's: none."""
    value = dt.datetime(2024, 1, 1, 0, 0, 0, 120_000)
    assert key(sa.DateTime(), value, MYSQL) is None
    assert key(mysql.DATETIME(fsp=1), value, MYSQL) is None
    assert key(mysql.DATETIME(fsp=2), value, MYSQL) is not None
    assert key(sa.DateTime(), value.replace(microsecond=0), MYSQL) is not None


def test_enums() -> None:
    """A member, its alias and the text that is stored for it are one key, which order leaves."""
    type_ = sa.Enum(Color)
    assert key(type_, Color.RED) == key(type_, "RED") == "esRED"
    assert key(type_, Color.BLUE) == key(type_, Color.AZURE)
    reordered: Any = enum.Enum("reordered", ["BLUE", "GREEN", "RED"])
    assert key(sa.Enum(reordered), reordered["RED"]) == key(type_, Color.RED)
    by_value = COLUMNS["Enum-value"][0]
    assert key(by_value, Level.HIGH) == key(by_value, "2")
    assert key(by_value, 2) is None


def test_sqlmodels_own_datetime() -> None:
    """SQLModel's aware datetimes are one key per instant, also where zones are dropped."""
    utc_datetime = UTCDateTime
    noon = dt.datetime(2024, 7, 1, 12, tzinfo=dt.UTC)
    for dialect in (SQLITE, PG):
        one = key(utc_datetime(), noon, dialect)
        assert one == key(utc_datetime(), noon.astimezone(ZoneInfo("Europe/Berlin")), dialect)
        assert one is not None
        assert key(utc_datetime(), noon.replace(tzinfo=None), dialect) is None


def test_addresses() -> None:
    """An address is one key as text or object, with or without its full prefix."""
    spellings: list[object] = [
        "10.0.0.1",
        "10.0.0.1/32",
        ip_address("10.0.0.1"),
        ip_interface("10.0.0.1/32"),
    ]
    assert len({key(pg.INET(), each) for each in spellings}) == 1
    assert key(pg.INET(), "10.0.0.1/8") != key(pg.INET(), "10.0.0.1")
    assert key(pg.INET(), "::1") == key(pg.INET(), "0:0::1/128")


class Stripped(sa.TypeDecorator[str]):
    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value.strip()


class HexNumber(sa.TypeDecorator[str]):
    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return int(value, 16)


class Sent(sa.TypeDecorator[str]):
    impl = sa.String
    cache_ok = True

    def bind_processor(self, dialect: Any) -> Any:
        return lambda value: f"<{value}>"


class SentType(sa.UserDefinedType[str]):
    def bind_processor(self, dialect: Any) -> Any:
        return lambda value: f"<{value}>"


class Read(sa.UserDefinedType[str]):
    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        return str


def test_decorators_are_keyed_by_what_they_bind() -> None:
    """What the database compares is what counts."""
    assert key(Stripped(), " a ") == key(sa.String(), "a")
    assert key(Stripped(), 5) is None
    assert key(HexNumber(), "ff") == key(sa.Integer(), 255)
    assert key(HexNumber(), "xyz") is None
    assert key(AutoString(), "a") == key(sa.String(), "a")
    assert key(Sent(), "a") == key(SentType(), "a") == key(sa.String(), "<a>")
    assert key(Read(), "a") == key(sa.String(), "a")


def test_wrong_number_of_values() -> None:
    """Too few or too many values are no key."""
    shapes: list[list[Any]] = [[sa.Integer()], [sa.String()], [sa.Integer(), sa.String()]]
    for types in shapes:
        codec = PkCodec(types, PG)
        assert codec.encode([]) is None
        assert codec.encode([1, "a", 2]) is None


@pytest.mark.parametrize(
    ("type_", "dialect", "safe"),
    [
        (sa.Integer(), PG, True), (sa.Uuid(), MYSQL, True), (sa.Date(), SQLITE, True),
        (sa.String(), PG, False), (sa.CHAR(3), SQLITE, False), (pg.CITEXT(), PG, False),
        (sa.Numeric(), PG, True), (sa.Numeric(), SQLITE, False), (sa.Float(), PG, False),
        (sa.LargeBinary(), PG, True), (sa.LargeBinary(), MYSQL, False),
        (sa.Enum("a", "b"), PG, True), (sa.Enum("a", "A"), PG, False), (Stripped(), PG, False),
        (HexNumber(), PG, True), (sa.NullType(), PG, False), (sa.DateTime(), PG, True),
    ],
    ids=stable_id,
)  # fmt: skip
def test_safe_in_sql(type_: Any, dialect: Any, safe: bool) -> None:
    """Text may be compared without case or padding, so equality in SQL proves nothing."""
    assert PkCodec([type_], dialect).safe_in_sql is safe
    assert PkCodec([sa.Integer(), type_], dialect).safe_in_sql is safe


def test_keys_are_a_layout() -> None:
    """Every release has to invalidate what the others stored: these texts never change."""
    moment = dt.datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=dt.UTC)
    samples: list[tuple[Any, object, str]] = [
        (sa.Integer(), -5, "i-5"), (sa.String(), "a b", "sa%20;b"),
        (sa.Uuid(), UUID(int=5), f"u{5:032x}"),
        (sa.LargeBinary(), b"\xff", "bff"), (sa.Boolean(), True, "t1"),
        (sa.Numeric(), Decimal("-1.50"), "m-15e-1"),
        (sa.Date(), moment.date(), "d2024-05-06"),
        (sa.DateTime(timezone=True), moment, "z2024-05-06T070809.000010"),
        (sa.DateTime(), moment.replace(tzinfo=None), "n2024-05-06T070809.000010"),
        (sa.Enum(Color), Color.RED, "esRED"),
        (sa.Float(), 1e300, "g1e%2b;300"), (sa.Time(), dt.time(1, 2), "c010200"),
        (sa.Interval(), dt.timedelta(1), "p1.0.0"),
        (sa.String(), "x" * 65, "Sc65cc1fb"), (pg.INET(), "10.0.0.1", "a10.0.0.1%2f;32"),
    ]  # fmt: skip
    for type_, value, expected in samples:
        found = key(type_, value)
        assert found is not None
        assert found == expected or (len(found) > 40 and found.startswith(expected)), found


def test_stable_for_equal_uuids() -> None:
    """Fresh objects, same key."""
    value = uuid4()
    assert key(sa.Uuid(), UUID(int=value.int)) == key(sa.Uuid(), value)
    assert same(UUID(int=value.int), value)

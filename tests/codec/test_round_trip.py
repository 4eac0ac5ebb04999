"""B1: every column type comes back exactly, value and Python type."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from importlib import resources
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import types as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.mutable import MutableDict, MutableList

from sqlmodel_cache.codec import ABSENT, Unstorable, same
from tests.codec.samples import COLUMNS, SURPRISES, codec_of, survives
from tests.recording import stable_id


class Stubborn(dt.tzinfo):
    def utcoffset(self, moment: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(hours=1)

    dst = utcoffset

    def tzname(self, moment: dt.datetime | None) -> str:
        return "stubborn"


TEN = ["Integer", "String", "Text", "Float", "Boolean", "Uuid", "DateTime-tz", "Enum", "Numeric"]


@pytest.mark.parametrize("name", COLUMNS)
@given(data=st.data())
def test_every_type(name: str, data: st.DataObject) -> None:
    """A column of each type gives back what it was given, and None."""
    type_, values = COLUMNS[name]
    row = [data.draw(st.none() | values), data.draw(values)]
    assert survives(codec_of(type_, type_), row)


@given(data=st.data())
def test_whole_rows(data: st.DataObject) -> None:
    """Columns do not disturb each other, whichever of them escape or are absent."""
    names = data.draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=10))
    row = [data.draw(st.just(ABSENT) | st.none() | COLUMNS[name][1]) for name in names]
    assert survives(codec_of(*(COLUMNS[name][0] for name in names)), row)


@pytest.mark.parametrize("name", COLUMNS)
@given(value=SURPRISES)
def test_unexpected_values(name: str, value: object) -> None:
    """What the type did not promise comes back as it is, or is refused when it is stored."""
    codec = codec_of(COLUMNS[name][0], sa.Integer())
    try:
        payload, flags = codec.encode([value, 1])
    except Unstorable:
        return
    assert same(codec.decode(payload, flags), [value, 1])


@pytest.mark.parametrize(
    "value",
    [7, 2**80, "x", "\ud800", b"\0", 1.5, True, Decimal("1.0"), dt.date(2020, 1, 2), None],
    ids=stable_id,
)
@pytest.mark.parametrize("name", ["Integer", "String", "Boolean", "DateTime", "JSON", "NullType"])
def test_nothing_a_driver_returns_is_refused(name: str, value: object) -> None:
    """SQLite may answer any scalar from any column, and such a row is stored all the same."""
    assert survives(codec_of(COLUMNS[name][0]), [value])


def test_ordinary_rows_are_plain() -> None:
    """A row that is as its types promise needs no annotations."""
    row = [1, "a", "b\u1234", 0.5, True, UUID(int=5), dt.datetime.now(dt.UTC)]
    row += [next(iter(COLUMNS["Enum"][0].enum_class)), Decimal("1.00")]
    payload, flags = codec_of(*(COLUMNS[name][0] for name in TEN)).encode(row)
    assert flags == 0
    assert len(payload) < 60


def test_one_zone_is_written_once() -> None:
    """Rows whose moments share a zone, as psycopg's do, name it once and stay typed."""
    zone = ZoneInfo("Europe/Berlin")
    summer = dt.datetime(2024, 7, 1, 12, tzinfo=zone)
    twice = dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zone)
    naive = dt.datetime(2024, 7, 1, 12)
    codec = codec_of(*[sa.DateTime(timezone=True)] * 4)
    row = [summer, twice, naive, None]
    payload, flags = codec.encode(row)
    assert payload.count(b"Europe/Berlin") == 1
    assert b"2024-10-27" not in payload
    assert same(codec.decode(payload, flags), row)


def test_a_time_in_a_gap_keeps_its_fields() -> None:
    """A local time that does not exist cannot go by way of UTC."""
    gap = dt.datetime(2024, 3, 31, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert survives(codec_of(sa.DateTime(timezone=True)), [gap])


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (sa.JSON(), {"a": [{"b": 1}]}),
        (sa.JSON(), {"a": [{"b": 1 << 90}]}),
        (sa.ARRAY(sa.Integer), [1, 2]),
        (sa.ARRAY(sa.Integer), [[1], [2]]),
    ],
)
def test_fresh_objects(type_: Any, value: Any) -> None:
    """No two decodes share an object that can be changed."""
    codec = codec_of(type_)
    payload, flags = codec.encode([value])
    first = codec.decode(payload, flags)[0]
    assert isinstance(first, dict | list)
    first.clear()
    assert codec.decode(payload, flags) == [value]


@pytest.mark.parametrize("document", [{"a": [1, {"b": None}]}, {"a": 1 << 90}])
def test_mutable_extensions_are_stored_plain(document: dict[str, Any]) -> None:
    """MutableDict and MutableList come back as dict and list, which the ORM coerces."""
    codec = codec_of(MutableDict.as_mutable(sa.JSON()), MutableList.as_mutable(sa.JSON()))
    row: list[object] = [MutableDict(document), MutableList([1, "x"])]
    assert same(codec.decode(*codec.encode(row)), [document, [1, "x"]])


def test_json_keeps_what_json_confuses() -> None:
    """Tuples, other keys than text and the kinds of zero are not JSON's, and survive."""
    value = {1: (True, 1, 1.0), "z": [0.0, -0.0, {}, [], None, ""], None: Decimal("1.10")}
    assert survives(codec_of(sa.JSON()), [value])


def test_too_deep_is_refused() -> None:
    """Nesting that a reader deep in its stack could not follow is refused, not half stored."""
    value: list[object] = []
    for _ in range(5_000):
        value = [value]
    with pytest.raises(Unstorable):
        codec_of(sa.JSON()).encode([value])


def test_what_cannot_be_written_is_refused_by_name() -> None:
    """The refusal names the column and the class, and nothing of the value."""
    with pytest.raises(Unstorable, match=r"column 'c1': a value is of type builtins\.object"):
        codec_of(sa.Integer(), sa.Integer()).encode([1, object()])


def test_a_stranger_in_an_enum_is_refused() -> None:
    """An enum member of another class has no place in the column's class."""
    with pytest.raises(Unstorable):
        codec_of(COLUMNS["Enum"][0]).encode([COLUMNS["Enum-int"][0].enum_class.LOW])


def test_ragged_arrays_are_refused() -> None:
    """Arrays have one depth; what has several was never loaded from one."""
    with pytest.raises(Unstorable, match="an array is ragged"):
        codec_of(sa.ARRAY(sa.Integer)).encode([[[1], 2]])


def test_what_no_text_can_carry_is_refused() -> None:
    """Whatever cannot be encoded after all is a refusal, and no other error."""
    zone = dt.timezone(dt.timedelta(hours=1), "\ud800")
    with pytest.raises(Unstorable, match="UnicodeEncodeError"):
        codec_of(sa.Time()).encode([dt.time(1, tzinfo=zone)])


class Moment(dt.datetime):
    """A class of the user's, as pendulum's."""


@pytest.mark.parametrize(
    "value", [Moment(2024, 1, 1, tzinfo=ZoneInfo("UTC")), pg.INT4RANGE(), Decimal], ids=stable_id
)
def test_strange_classes_are_refused(value: object) -> None:
    """A subclass would come back as its base, so it is not stored."""
    with pytest.raises(Unstorable):
        codec_of(sa.DateTime(timezone=True)).encode([value])


def test_zones_that_cannot_be_named() -> None:
    """A zone from a file, or of a class of the user's, cannot be found again."""
    source = resources.files("tzdata.zoneinfo").joinpath("Europe", "Berlin")
    with source.open("rb") as file:
        nameless = ZoneInfo.from_file(file)
    with source.open("rb") as file:
        misnamed = ZoneInfo.from_file(file, key="No/Such")
    for zone in (nameless, misnamed, Stubborn()):
        with pytest.raises(Unstorable, match="a time zone is a"):
            codec_of(sa.DateTime()).encode([dt.datetime(2024, 1, 1, tzinfo=zone)])


@pytest.mark.parametrize("year", [1, 9999])
def test_moments_at_the_end_of_time(year: int) -> None:
    """An instant that no UTC datetime can show keeps its zone and fields."""
    for zone in (ZoneInfo("Asia/Tokyo"), ZoneInfo("America/New_York")):
        for value in (
            dt.datetime(year, 1, 1, tzinfo=zone),
            dt.datetime(year, 12, 31, 23, tzinfo=zone),
        ):
            assert survives(codec_of(sa.DateTime(timezone=True)), [value])


def test_two_zones_in_a_row() -> None:
    """Moments of two zones escape one by one."""
    row = [dt.datetime(2024, 1, 1, tzinfo=ZoneInfo(key)) for key in ("Asia/Tokyo", "UTC")]
    assert survives(codec_of(*[sa.DateTime(timezone=True)] * 2), [*row])


@pytest.mark.skipif(not hasattr(pg, "BitString"), reason="SQLAlchemy has BitString since 2.1")
def test_bit_strings() -> None:
    """The class that bit strings have since 2.1."""
    bits: Any = getattr(pg, "BitString", str)("0101")
    back = codec_of(pg.BIT(4)).decode(*codec_of(pg.BIT(4)).encode([bits]))
    assert type(back[0]) is type(bits)
    assert back == [bits]


def test_wrong_length_is_a_mistake() -> None:
    """Values that do not match the columns are the caller's error, not a row."""
    with pytest.raises(ValueError, match="shorter"):
        codec_of(sa.Integer(), sa.Integer()).encode([1])

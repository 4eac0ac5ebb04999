"""Kinds of columns, and what may be written into them: every type of behaviour B1 on SQLite.

What the driver makes of a value (a nan becomes NULL) does not matter: loads are the yardstick.
"""

from __future__ import annotations

import datetime as dt
import enum
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import types as sa
from sqlalchemy.ext.mutable import MutableDict, MutableList, MutableSet
from sqlmodel.sql.sqltypes import AutoString


class Color(enum.Enum):
    RED = "r"
    GREEN = "g"
    AZURE = "b"
    BLUE = "b"  # noqa: PIE796  an alias


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mood(enum.StrEnum):
    GOOD = "good"
    BAD = "not so good"


class Encrypted(sa.TypeDecorator[str]):
    """Text that must never lie anywhere in the clear. Deterministic, so that SQL compares."""

    impl = sa.LargeBinary
    cache_ok = True

    @staticmethod
    def _mixed(data: bytes) -> bytes:
        stream = b"".join(
            sha256(f"key:{block}".encode()).digest() for block in range(len(data) // 32 + 1)
        )
        return bytes(one ^ other for one, other in zip(data, stream, strict=False))

    def process_bind_param(self, value: str | None, dialect: Any) -> bytes | None:
        return None if value is None else self._mixed(value.encode())

    def process_result_value(self, value: bytes | None, dialect: Any) -> str | None:
        return None if value is None else self._mixed(value).decode()


class Commas(sa.TypeDecorator[tuple[int, ...]]):
    """A tuple of integers as text."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else ",".join(map(str, value))

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else tuple(int(part) for part in value.split(",") if part)


class BigInteger(sa.TypeDecorator[int]):
    """Integers of any size as text."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else int(value)


class Folded(sa.TypeDecorator[str]):
    """Text that loses its case on the way in."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.lower()


class Money:
    """A value of the user's own class, without any equality."""

    def __init__(self, cents: int, currency: str) -> None:
        self.cents = cents
        self.currency = currency


class MoneyType(sa.UserDefinedType[Money]):
    """A type with processors of its own instead of a decorator."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "VARCHAR(60)"

    def bind_processor(self, dialect: Any) -> Callable[[Any], Any]:
        return lambda value: None if value is None else f"{value.cents} {value.currency}"

    def result_processor(self, dialect: Any, coltype: Any) -> Callable[[Any], Any]:
        def read(value: Any) -> Any:
            return None if value is None else Money(int(value.split()[0]), value.split()[1])

        return read


class Pickled(sa.TypeDecorator[Any]):
    """A decorator that unpickles by itself."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else pickle.dumps(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else pickle.loads(value)


class Aware(sa.TypeDecorator[dt.datetime]):
    """An instant with its offset, as text."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.isoformat()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else dt.datetime.fromisoformat(value)


@dataclass(frozen=True)
class Kind:
    """A column type and its values. `mutable`: values may be changed in place by `grow`."""

    type: Callable[[], Any]
    values: st.SearchStrategy[Any]
    null_only: bool = False  # some of the values are NULL to the database
    grow: Callable[[Any], None] | None = field(default=None, repr=False)


text = st.text(max_size=30)
int64 = st.integers(-(2**63), 2**63 - 1)
cents = st.integers(-(10**8), 10**8).map(lambda number: Decimal(number) / 100)
offsets = st.integers(-1000, 1000).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
documents = st.recursive(
    st.none() | st.booleans() | int64 | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
dictionaries = st.dictionaries(text, documents, max_size=4)
# Once: each as_mutable() adds a listener to every mapper there will ever be.
_MUTABLE_DICT = MutableDict.as_mutable(sa.JSON())
_MUTABLE_LIST = MutableList.as_mutable(sa.JSON())


class Tags(sa.TypeDecorator[set[str]]):
    """A set as a JSON array."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else sorted(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else set(value)


_MUTABLE_SET = MutableSet.as_mutable(Tags())


def _names(cls: type[enum.Enum]) -> list[str]:
    return [str(member.value) for member in cls]


KINDS: dict[str, Kind] = {
    "Integer": Kind(sa.Integer, int64),
    "SmallInteger": Kind(sa.SmallInteger, st.integers(-9, 9)),
    "big integer": Kind(BigInteger, st.integers(-(10**80), 10**80)),
    "Float": Kind(sa.Float, st.floats(), null_only=True),
    "Double": Kind(sa.Double, st.floats(allow_nan=False)),
    "Numeric": Kind(lambda: sa.Numeric(12, 2), cents),
    "Numeric free": Kind(sa.Numeric, cents),
    "Numeric float": Kind(lambda: sa.Numeric(asdecimal=False), st.floats(allow_nan=False)),
    "String": Kind(lambda: sa.String(30), text),
    "Text": Kind(sa.Text, text),
    "AutoString": Kind(AutoString, text),
    "LargeBinary": Kind(sa.LargeBinary, st.binary(max_size=60)),
    "Boolean": Kind(sa.Boolean, st.booleans()),
    "Date": Kind(sa.Date, st.dates()),
    "Time": Kind(sa.Time, st.times()),
    "DateTime": Kind(sa.DateTime, st.datetimes()),
    "Interval": Kind(
        sa.Interval,
        st.timedeltas(min_value=dt.timedelta(days=-10_000), max_value=dt.timedelta(days=10_000)),
    ),
    "aware": Kind(Aware, st.datetimes(timezones=offsets | st.just(dt.UTC))),
    "Uuid": Kind(sa.Uuid, st.uuids()),
    "Uuid text": Kind(lambda: sa.Uuid(as_uuid=False), st.uuids().map(str)),
    "Enum by name": Kind(lambda: sa.Enum(Color, name="color_by_name"), st.sampled_from(Color)),
    "Enum by value": Kind(
        lambda: sa.Enum(Color, name="color_by_value", values_callable=_names),
        st.sampled_from(Color),
    ),
    "Enum int": Kind(lambda: sa.Enum(Level), st.sampled_from(Level)),
    "Enum str": Kind(lambda: sa.Enum(Mood, native_enum=False, length=20), st.sampled_from(Mood)),
    "Enum of strings": Kind(lambda: sa.Enum("a", "b", name="ab"), st.sampled_from("ab")),
    "JSON": Kind(sa.JSON, documents),
    "JSON none_as_null": Kind(
        lambda: sa.JSON(none_as_null=True), documents.filter(lambda value: value is not None)
    ),
    "ARRAY variant": Kind(
        lambda: sa.ARRAY(sa.Integer).with_variant(sa.JSON(), "sqlite"), st.lists(int64, max_size=5)
    ),
    "MutableDict": Kind(
        lambda: _MUTABLE_DICT, dictionaries, grow=lambda value: value.update(grown=[1, None])
    ),
    "MutableList": Kind(
        lambda: _MUTABLE_LIST,
        st.lists(documents, max_size=4),
        grow=lambda value: value.append({"grown": 1.5}),
    ),
    "MutableSet": Kind(
        lambda: _MUTABLE_SET, st.sets(text, max_size=4), grow=lambda value: value.add("grown")
    ),
    "encrypted": Kind(Encrypted, text),
    "decorated": Kind(Commas, st.lists(int64, max_size=4).map(tuple)),
    "lossy decorator": Kind(Folded, text),
    "user type": Kind(MoneyType, st.builds(Money, int64, st.sampled_from(["EUR", "CHF"]))),
    "PickleType": Kind(sa.PickleType, dictionaries),
    "pickling decorator": Kind(Pickled, dictionaries),
}

UNSTORED = ("PickleType", "pickling decorator")

"""`same`, on which every claim of a round trip rests."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from sqlalchemy.dialects.postgresql import Range

from sqlmodel_cache.codec import same
from tests.codec.samples import SURPRISES, Color, Level
from tests.recording import stable_id


class Plain:
    def __init__(self, value: object) -> None:
        self.value = value


class Slotted:
    __slots__ = ("__weakref__", "value")

    def __init__(self, value: object) -> None:
        self.value = value


class OneSlot:
    __slots__ = "value"

    def __init__(self, value: object) -> None:
        self.value = value


class Opaque:
    __slots__ = ()


class ByValue(Plain):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByValue) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


class Raising(Plain):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


class Tagged(list[int]):
    tag = ""


def tagged(tag: str) -> Tagged:
    """Return a list with an attribute."""
    value = Tagged([1])
    value.tag = tag
    return value


class Array:
    """As numpy's: `==` is an array of bools."""

    def __init__(self, dtype: str, data: bytes) -> None:
        self.dtype, self.shape, self.data = dtype, (len(data),), data

    def tobytes(self) -> bytes:
        return self.data

    def __eq__(self, other: object) -> Any:
        return [True]

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass
class Loose:
    seen: int
    unseen: int = dataclasses.field(compare=False)


HOUR = dt.timezone(dt.timedelta(hours=1))
NOON = dt.datetime(2024, 1, 1, 12)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True), (1, 1.0), (0.0, -0.0), (Decimal("1.0"), Decimal("1.00")),
        (Decimal(0), Decimal("-0")),
        ("a", b"a"), (1, Level.LOW), ([1], (1,)), ([1], [True]), ({1: 2}, {True: 2}),
        ({1: 1}, {1: 1.0}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({1}, {True}), ({1}, frozenset({1})), ([1], [1, 1]),
        (NOON.replace(tzinfo=dt.UTC), NOON.replace(hour=13, tzinfo=HOUR)),
        (NOON, NOON.replace(fold=1)),
        (NOON.replace(tzinfo=HOUR), NOON.replace(tzinfo=BERLIN)),
        (NOON, NOON.replace(tzinfo=dt.UTC)),
        (NOON.replace(tzinfo=HOUR), NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=1), "CET"))),
        (NOON.replace(tzinfo=BERLIN), NOON.replace(tzinfo=ZoneInfo("Europe/Rome"))),
        (NOON.date(), NOON), (dt.time(1), dt.time(1, fold=1)), (Color.RED, Color.GREEN),
        (Range(1, 4), Range(1, 3, bounds="[]")), (Loose(1, 2), Loose(1, 3)), (Plain(1), Plain(1.0)),
        (Plain(1), Slotted(1)), (Slotted(1), Slotted(2)), (OneSlot(1), OneSlot(2)),
        (Opaque(), Opaque()),
        (ByValue(1), ByValue(2)), (Raising(1), Raising(1)), (tagged("a"), tagged("b")),
        (Array("i4", b"ab"), Array("u4", b"ab")), (Array("i4", b"ab"), Array("i4", b"ac")),
        (None, 0),
    ],
    ids=stable_id,
)  # fmt: skip
def test_different(one: object, other: object) -> None:
    """What `==` may forgive is not the same."""
    assert not same(one, other)
    assert not same(other, one)
    assert not same([one], [other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (float("nan"), float("nan")), (Decimal("nan"), Decimal("nan")), ([[1, {"a": None}]],
        [[1, {"a": None}]]),
        (UUID(int=1), UUID(int=1)), (Range(1, 4), Range(1, 4)), (Loose(1, 2), Loose(1, 2)),
        (Plain([1]), Plain([1])), (Slotted(1), Slotted(1)), (OneSlot(1), OneSlot(1)),
        (ByValue(1), ByValue(1)),
        (tagged("a"), tagged("a")), (Array("i4", b"ab"), Array("i4", b"ab")),
        (Color.RED, Color.RED),
        (NOON.replace(tzinfo=BERLIN), NOON.replace(tzinfo=ZoneInfo.no_cache("Europe/Berlin"))),
        (NOON.replace(tzinfo=HOUR), NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=1)))),
    ],
    ids=stable_id,
)  # fmt: skip
def test_same(one: object, other: object) -> None:
    """Values of one class and one content are the same, also without an `__eq__`."""
    assert same(one, other)
    assert same([one], [other])


@given(one=SURPRISES, other=SURPRISES)
def test_symmetric_and_no_looser_than_equality(one: object, other: object) -> None:
    """`same` is symmetric, reflexive, and implies one class."""
    assert same(one, one)
    assert same(one, other) == same(other, one)
    if same(one, other):
        assert type(one) is type(other)

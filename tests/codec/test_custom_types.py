"""The user's own types: through their processors, and only where that is sound."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from decimal import Decimal
from pickle import loads
from typing import Any
from uuid import UUID

import cattrs
import pytest
from sqlalchemy import types as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.mutable import MutableDict

from sqlmodel_cache.codec import ABSENT, ColumnSpec, RowCodec, Undecodable, Unstorable, same
from sqlmodel_cache.codec.converter import make_converter
from tests.codec.samples import DIALECT, codec_of, dialect_of, survives

PG = dialect_of(pg)


class Decorator(sa.TypeDecorator[Any]):
    cache_ok = True
    impl: Any = sa.String


def encrypt(value: str | None, step: int = 1) -> str | None:
    """Return a Caesar cipher of `value`."""
    return None if value is None else "".join(chr(ord(letter) + step) for letter in value)


class ReadOnly(Decorator):
    """Only its result side is written."""

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value and value.upper()


class Encrypted(Decorator):
    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return encrypt(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return encrypt(value, -1)


class Hashing(Decorator):
    """Nothing is done to what it loads."""

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return hashlib.sha256(value.encode()).hexdigest()


class HashingBothWays(Hashing):
    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value


class Lowering(Decorator):
    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value and value.lower()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value


class JsonText(Decorator):
    """NULL loads as an empty dict."""

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return json.dumps(value) if value else None

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return {} if value is None else json.loads(value)


class Opaque:
    """Without `__eq__`; its state says whether two are the same."""

    def __init__(self, name: str) -> None:
        self.name = name


class OpaqueColumn(Lowering):
    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value.name.lower()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return Opaque(value)


class Nested(Encrypted):
    impl = Encrypted


class Raising(Encrypted):
    def process_result_value(self, value: Any, dialect: Any) -> Any:
        raise RuntimeError("a secret")


class Pickling(Decorator):
    impl = sa.LargeBinary

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return pickle.dumps(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return pickle.loads(value)


class PicklingByName(Pickling):
    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return loads(value)


class PicklingInside(Pickling):
    def process_result_value(self, value: Any, dialect: Any) -> Any:
        import pickle as rot

        return [rot.loads(part) for part in [value]]


class OverPickle(Decorator):
    impl = sa.PickleType


class ByDialect(Decorator):
    def load_dialect_impl(self, dialect: Any) -> Any:
        name = sa.Uuid() if dialect.name == "postgresql" else sa.CHAR(36)
        return dialect.type_descriptor(name)

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value if dialect.name == "postgresql" or value is None else str(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value if value is None or isinstance(value, UUID) else UUID(value)


class EncryptedString(sa.String):
    """Encrypts below the decorators, between SQLAlchemy and the driver."""

    def bind_processor(self, dialect: Any) -> Any:
        return encrypt

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        return lambda value: encrypt(value, -1)


class EncryptedByProcessor(Decorator):
    """Overrides what decorators rarely do."""

    def bind_processor(self, dialect: Any) -> Any:
        return encrypt

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        return lambda value: encrypt(value, -1)


class PicklingProcessor(sa.UserDefinedType[Any]):
    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        return pickle.loads


class ReadOnlyProcessor(sa.UserDefinedType[Any]):
    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        return lambda value: value and value.upper()


class Boxing(Decorator):
    """Binds what only its driver understands."""

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return Opaque(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value


class Anything(sa.UserDefinedType[Any]):
    """Says nothing of its values."""


@pytest.mark.parametrize(
    "type_", [Encrypted(), Nested(), EncryptedString(), EncryptedByProcessor()]
)
def test_encrypted_stays_encrypted(type_: Any) -> None:
    """What a type encrypts for the database is encrypted in the payload."""
    codec = codec_of(type_)
    payload, flags = codec.encode(["secret"])
    assert b"secret" not in payload
    assert flags == 0
    assert codec.decode(payload, flags) == ["secret"]


def test_encrypted_stays_encrypted_in_the_tagged_form() -> None:
    """A value that cannot be compact takes the same way."""
    codec = codec_of(Encrypted())
    payload, flags = codec.encode(["\ud800secret"])
    assert flags
    assert b"secret" not in payload
    assert codec.decode(payload, flags) == ["\ud800secret"]


def test_one_way_types_store_what_was_loaded() -> None:
    """A decorator without a result side loads what the database holds; that is stored."""
    assert survives(codec_of(Hashing()), ["f00"])


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (HashingBothWays(), "f00"),
        (Lowering(), "ABC"),
        (OpaqueColumn(), Opaque("ABC")),
        (Raising(), "x"),
        (Encrypted(), 5),
        (Lowering(), "\ud800ABC"),
        (ReadOnly(), "abc"),
        (ReadOnlyProcessor(), "abc"),
        (Boxing(), "abc"),
    ],
)
def test_unsound_for_this_value(type_: Any, value: object) -> None:
    """Where the way there and back changes a value, its attribute loads on access."""
    codec = codec_of(type_, sa.Integer())
    assert codec.unstorable == frozenset()
    assert codec.decode(*codec.encode([value, 1])) == [ABSENT, 1]


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Lowering(), "abc"),
        (ReadOnly(), "ABC"),
        (ReadOnlyProcessor(), "ABC"),
        (Anything(), "abc"),
        (Anything(), {"a": (1,)}),
        (OpaqueColumn(), Opaque("abc")),
        (JsonText(), {"a": [1]}),
        (JsonText(), {}),
        (sa.ARRAY(Encrypted), ["ab", None]),
        (sa.ARRAY(Encrypted), [["ab"], ["\ud800"]]),
    ],
)
def test_sound_for_this_value(type_: Any, value: object) -> None:
    """Other values of the same types are stored."""
    assert survives(codec_of(type_), [value])


def test_null_goes_through_too() -> None:
    """A decorator may load NULL as something else, and does so from the cache as well."""
    codec = codec_of(JsonText(), JsonText())
    first = codec.decode(*codec.encode([{}, {}]))
    assert first == [{}, {}]
    assert first[0] is not first[1]


def test_mutable_over_a_decorator() -> None:
    """The plain value behind a MutableDict is what is stored and compared."""
    codec = codec_of(MutableDict.as_mutable(JsonText()))
    assert same(codec.decode(*codec.encode([MutableDict(a=1)])), [{"a": 1}])


@pytest.mark.parametrize("dialect", [DIALECT, PG], ids=lambda dialect: dialect.name)
def test_the_dialects_implementation_counts(dialect: Any) -> None:
    """A decorator sees the dialect it is used with."""
    assert survives(codec_of(ByDialect(), dialect=dialect), [UUID(int=3)])


def test_variants() -> None:
    """Of a type with variants, the dialect's own counts."""
    type_ = sa.String().with_variant(sa.Integer(), "sqlite")
    assert codec_of(type_).encode([5])[1] == 0
    assert codec_of(type_, dialect=PG).encode(["5"])[1] == 0


@pytest.mark.parametrize(
    "type_",
    [
        sa.PickleType(),
        OverPickle(),
        Pickling(),
        PicklingByName(),
        PicklingInside(),
        PicklingProcessor(),
        sa.ARRAY(sa.PickleType),
        MutableDict.as_mutable(sa.PickleType()),
        sa.String().with_variant(sa.PickleType(), "sqlite"),
    ],
)
def test_pickles_are_never_stored(type_: Any) -> None:
    """No cached byte reaches pickle: such a column is left out, and known to be."""
    codec = codec_of(sa.Integer(), type_)
    payload, flags = codec.encode([1, {"a": 1}])
    assert (payload, flags) == codec.encode([1, {"b": 2}])
    assert codec.unstorable == {"c1"}
    assert codec.decode(payload, flags) == [1, ABSENT]


def test_a_failing_result_side_is_a_miss() -> None:
    """A type that refuses a cached value (its key rotated) is a miss that quotes nothing."""
    payload, flags = codec_of(Encrypted()).encode(["x"])
    with pytest.raises(Undecodable) as caught:
        codec_of(Raising()).decode(payload, flags)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


@dataclasses.dataclass
class Money:
    amount: Decimal
    currency: str


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y


class PointColumn(sa.UserDefinedType[Point]):
    """Values come from the driver as they are."""

    @property
    def python_type(self) -> type[Point]:
        return Point


def test_classes_that_cattrs_knows() -> None:
    """A mapping to a class uses the converter, by default one that knows dataclasses."""
    spec = ColumnSpec("price", sa.JSON(), python_type=Money)
    for converter in (None, cattrs.Converter(), make_converter()):
        if isinstance(converter, cattrs.Converter):
            converter.register_structure_hook(Decimal, lambda value, _: Decimal(value))
        codec = RowCodec([spec], DIALECT, converter)
        assert survives(codec, [Money(Decimal("1.10"), "EUR")])
        assert survives(codec, [None])


def test_hooks_of_the_user() -> None:
    """A registered hook serves every column whose type names that class."""
    converter = make_converter()
    converter.register_unstructure_hook(Point, lambda point: [point.x, point.y])
    converter.register_structure_hook(Point, lambda value, cls: cls(*value))
    codec = RowCodec([ColumnSpec("at", PointColumn())], DIALECT, converter)
    payload, flags = codec.encode([Point(1, 2)])
    (back,) = codec.decode(payload, flags)
    assert isinstance(back, Point)
    assert (back.x, back.y) == (1, 2)


def test_without_a_hook_it_is_refused() -> None:
    """A class that nobody explained cannot be stored."""
    for converter in (None, make_converter()):
        codec = RowCodec([ColumnSpec("at", PointColumn())], DIALECT, converter)
        with pytest.raises(Unstorable, match="column 'at'"):
            codec.encode([Point(1, 2)])


def test_hooks_that_lose_something_are_refused() -> None:
    """Hooks that do not give back what they got are found when a row is stored."""
    converter = make_converter()
    converter.register_unstructure_hook(Point, lambda point: point.x)
    converter.register_structure_hook(Point, lambda value, cls: cls(value, 0))
    codec = RowCodec([ColumnSpec("at", PointColumn())], DIALECT, converter)
    assert survives(codec, [Point(1, 0)])
    with pytest.raises(Unstorable, match="do not give a value back"):
        codec.encode([Point(1, 2)])


def test_leaves_are_checked() -> None:
    """A leaf of another class than the field says is refused, not passed through."""
    codec = RowCodec([ColumnSpec("price", sa.JSON(), python_type=Money)], DIALECT)
    wrong: Any = "1.10"
    with pytest.raises(Unstorable, match="no hook takes a Money apart"):
        codec.encode([Money(wrong, "EUR")])
    with pytest.raises(Unstorable, match="a value is no Money"):
        codec.encode([{"amount": 1}])


def test_an_array_of_what_cannot_be_stored_is_refused() -> None:
    """An item that is unsound spoils its array."""
    codec = codec_of(sa.ARRAY(Lowering))
    assert survives(codec, [["a"]])
    with pytest.raises(Unstorable, match="an array holds an item"):
        codec.encode([["A"]])

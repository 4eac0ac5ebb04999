"""B28: bytes that we did not write raise `Undecodable`, quickly and in little memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import types as sa
from sqlalchemy.dialects import postgresql as pg

from sqlmodel_cache.codec import Undecodable, Unstorable, same
from sqlmodel_cache.codec.envelope import ANNOTATED
from tests.codec.samples import COLUMNS, codec_of
from tests.recording import stable_id

EVERYTHING = codec_of(*(type_ for type_, _ in COLUMNS.values()))
pack = msgspec.msgpack.encode


def decoded(codec: Any, payload: bytes, flags: int) -> object:
    """Decode; anything raised but `Undecodable` fails the test."""
    try:
        return codec.decode(payload, flags)
    except Undecodable:
        return None


@given(payload=st.binary(max_size=200), flags=st.sampled_from([0, ANNOTATED]))
def test_random_bytes(payload: bytes, flags: int) -> None:
    """Random bytes raise nothing else."""
    decoded(EVERYTHING, payload, flags)


@pytest.mark.parametrize("name", COLUMNS)
@given(data=st.data())
def test_damaged_payloads(name: str, data: st.DataObject) -> None:
    """Neither a flipped bit nor a cut raises anything else, and a cut is always seen."""
    type_, values = COLUMNS[name]
    codec = codec_of(type_, sa.Integer())
    payload, flags = codec.encode([data.draw(values), 1])
    bit = data.draw(st.integers(0, 8 * len(payload) - 1))
    flipped = bytearray(payload)
    flipped[bit // 8] ^= 1 << bit % 8
    decoded(codec, bytes(flipped), flags)
    decoded(codec, payload, flags ^ ANNOTATED)
    with pytest.raises(Undecodable):
        codec.decode(payload[: data.draw(st.integers(0, len(payload) - 1))], flags)
    with pytest.raises(Undecodable):
        codec.decode(payload + b"\xc0", flags)


_wire = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
    | st.text(max_size=5) | st.binary(max_size=5)
    | st.sampled_from(["i", "s", "d", "U", "M", "T", "D", "t", "l", "u", "S", "F", "m", "@", "R",
    "r", "bits"]),
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=10,
)  # fmt: skip


@given(data=st.data())
def test_well_formed_nonsense(data: st.DataObject) -> None:
    """Valid msgpack with valid tags and nonsense behind them raises nothing else."""
    name = data.draw(st.sampled_from(list(COLUMNS)))
    codec = codec_of(COLUMNS[name][0])
    position = data.draw(st.integers(-2, 2))
    zone = data.draw(st.none() | st.sampled_from(["UTC", "../x", "", "No/Where"]))
    tagged = data.draw(_wire)
    decoded(codec, pack(([None], zone, [], [[position, tagged]])), ANNOTATED)
    decoded(codec, pack(([tagged], zone, [position], [])), ANNOTATED)
    decoded(codec, pack([tagged]), 0)


@given(data=st.data())
def test_what_decodes_is_of_the_type(data: st.DataObject) -> None:
    """A typed column never decodes to a value that its plain form could not have carried."""
    codec = codec_of(sa.Integer(), sa.String(), sa.Boolean(), sa.Uuid(), sa.Enum("a"))
    row = decoded(codec, pack(data.draw(st.lists(_wire, min_size=5, max_size=5))), 0)
    if isinstance(row, list):
        payload, flags = codec.encode(row)
        assert flags == 0
        assert same(codec.decode(payload, flags), row)


@pytest.mark.parametrize(
    "tagged",
    [
        ["i", "no bytes"], ["d", 5], ["d", "one"], ["U", b"short"], ["M", "x", 0, None],
        ["M", "2024-01-01", 7, None], ["M", "2024-01-01", 0, "../../etc/passwd"],
        ["M", "2024-01-01", 0, "tzdata.zoneinfo.Europe/Berlin"], ["M", "2024-01-01", 0, 5],
        ["M", "2024-01-01", 0, ["a", 0, None]], ["M", "2024-01-01", 0, [10**9, 0, None]],
        ["t", 10**12, 0, 0], ["S", ["l"]], ["m", 1], ["m", ["l"], 1], ["@", -1, "::"],
        ["@", 9, "::"],
        ["@", 0, 5], ["@", 0, "x"], ["R", 1, 2, "<>", False], ["R", 1, 2, "[)", 0], ["r", []],
        ["bits", "012"], ["builtins.eval", "1"], ["e", 0], [], {}, [["l"]], ["l", {}],
    ],
    ids=stable_id,
)  # fmt: skip
def test_malformed_tags(tagged: Any) -> None:
    """Every kind of malformed tagged value is refused."""
    codec = codec_of(sa.Text())
    with pytest.raises(Undecodable):
        codec.decode(pack(([None], None, [], [[0, tagged]])), ANNOTATED)


@pytest.mark.parametrize(
    "tagged", [[-1, []], [101, []], ["1", []], [1, 5], [1], [], 5, [2, [[5], 5]]]
)
def test_malformed_arrays(tagged: Any) -> None:
    """An array in the tagged form has the depth it says."""
    codec = codec_of(sa.ARRAY(sa.Integer))
    with pytest.raises(Undecodable):
        codec.decode(pack(([None], None, [], [[0, tagged]])), ANNOTATED)


@pytest.mark.parametrize("position", [-1, 1, 2**40])
def test_positions_outside_the_row(position: int) -> None:
    """An annotation beyond the columns is refused, not ignored."""
    codec = codec_of(sa.Text())
    with pytest.raises(Undecodable):
        codec.decode(pack((["x"], None, [position], [])), ANNOTATED)
    with pytest.raises(Undecodable):
        codec.decode(pack((["x"], None, [], [[position, "y"]])), ANNOTATED)


@pytest.mark.parametrize("index", [-1, 4, True, "RED", 1.0])
def test_enum_members_by_place_only(index: object) -> None:
    """A place outside the class, or a name, is no member."""
    codec = codec_of(COLUMNS["Enum"][0])
    with pytest.raises(Undecodable):
        codec.decode(pack([index]), 0)
    with pytest.raises(Undecodable):
        codec.decode(pack(([None], None, [], [[0, index]])), ANNOTATED)


@pytest.mark.parametrize(
    ("type_", "flags", "payload"),
    [
        (sa.JSON(), 0, b"\x91" + b"\x91" * 500_000),
        (sa.JSON(), 0, b"\x91\xdd\xff\xff\xff\xff" + bytes(9)),
        (sa.JSON(), 0, b"\x91\xdf\xff\xff\xff\xff" + bytes(9)),
        (sa.Text(), 0, b"\x91\xdb\xff\xff\xff\xff" + bytes(9)),
        (sa.ARRAY(sa.Integer), 0, b"\x91\xdd\x7f\xff\xff\xff" + bytes(9)),
        (sa.JSON(), ANNOTATED, b"\x94\x91\xc0\xc0\x90\x91\x92\x00" + b"\x92\xa1l" * 100_000),
        (sa.JSON(), 0, b"\xc6\x7f\xff\xff\xff" + bytes(9)),
    ],
    ids=["deep", "long array", "long map", "long text", "long ARRAY", "deep tags", "no array"],
)
def test_bombs(type_: Any, flags: int, payload: bytes) -> None:
    """Depth and lengths that a header only claims cost nothing."""
    codec = codec_of(type_)
    tracemalloc.start()
    try:
        with pytest.raises(Undecodable):
            codec.decode(payload, flags)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_oversized_payloads() -> None:
    """A payload beyond the limit is refused before it is decoded, and never encoded."""
    codec = codec_of(sa.Text())
    with pytest.raises(Undecodable):
        codec.decode(pack(["x" * (1 << 20)]), 0)
    with pytest.raises(Unstorable):
        codec.encode(["x" * (1 << 20)])


def test_an_error_quotes_nothing() -> None:
    """The message of a refusal has no part of the payload."""
    with pytest.raises(Undecodable) as caught:
        codec_of(sa.Integer()).decode(pack(["hunter2"]), 0)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_decoder_of_ranges_builds_ranges_only() -> None:
    """Bounds that are none, in the compact form."""
    codec = codec_of(pg.INT4RANGE())
    with pytest.raises(Undecodable):
        codec.decode(pack([[1, 2, "<>", False]]), 0)

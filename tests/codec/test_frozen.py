"""freezegun: its fakes are stored as what they stand for, whenever a codec was compiled."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from freezegun import freeze_time
from sqlalchemy import types as sa

from sqlmodel_cache.codec import PkCodec, same
from tests.codec.samples import DIALECT, codec_of

TYPES = (
    sa.DateTime(timezone=True), sa.DateTime(), sa.Date(), sa.Time(), sa.JSON(),
    sa.ARRAY(sa.Date), sa.Interval(), sa.NullType(),
)  # fmt: skip
STAGES = ["before", "during", "after"]


@contextmanager
def time(stage: str) -> Iterator[None]:
    """Be before, in, or after a time that is frozen."""
    if stage == "before":
        yield
    else:
        with freeze_time("2024-05-06 07:08:09.123456"):
            if stage == "during":
                yield
        if stage == "after":
            yield


def values() -> list[Any]:
    """Return a row of moments, made of the classes that are current."""
    now = dt.datetime(2024, 5, 6, 7, 8, 9, 123_456)
    day = dt.date(2024, 5, 6)
    return [now.replace(tzinfo=dt.UTC), now, day, now.time(), [1], [day, None], now - now, now]


@pytest.mark.parametrize("compiled", STAGES)
@pytest.mark.parametrize("written", STAGES)
@pytest.mark.parametrize("read", STAGES)
def test_every_order(compiled: str, written: str, read: str) -> None:
    """A codec works in any order of freezing, and always answers genuine classes."""
    with time(compiled):
        codec = codec_of(*TYPES)
    with time(written):
        row = values()
        payload, flags = codec.encode(row)
    with time(read):
        back: Any = codec.decode(payload, flags)
    assert same(back, values())
    assert [type(value).__module__ for value in (*back[:4], back[5][0], back[7])] == [
        "datetime"
    ] * 6


@pytest.mark.parametrize("compiled", STAGES)
@pytest.mark.parametrize("used", STAGES)
def test_same_keys(compiled: str, used: str) -> None:
    """A fake moment has the key of the genuine one."""
    types: list[Any] = [sa.DateTime(), sa.Date()]
    with time(compiled):
        codec = PkCodec(types, DIALECT)
    with time(used):
        key = codec.encode(values()[1:3])
    assert key == PkCodec(types, DIALECT).encode(values()[1:3])
    assert key is not None


def test_same_fingerprint() -> None:
    """Frozen and thawed processes read each other's payloads."""
    with time("during"):
        frozen = codec_of(*TYPES).fingerprint
    assert frozen == codec_of(*TYPES).fingerprint


IMPORTED_FROZEN = """
import datetime as dt
import freezegun
import sqlalchemy.types as sa
from sqlalchemy.dialects import sqlite

with freezegun.freeze_time("2024-05-06"):
    from sqlmodel_cache.codec import ColumnSpec, RowCodec
    codec = RowCodec([ColumnSpec("a", sa.DateTime()), ColumnSpec("b", sa.Date())], sqlite.dialect())
    payload, flags = codec.encode([dt.datetime(2024, 5, 6), dt.date(2024, 5, 6)])
    assert flags == 0
row = codec.decode(payload, flags)
assert row == [dt.datetime(2024, 5, 6), dt.date(2024, 5, 6)]
assert [type(value).__module__ for value in row] == ["datetime", "datetime"]
assert codec.encode(row) == (payload, flags)
"""


def test_imported_while_frozen() -> None:
    """A test may freeze time before the library is first imported."""
    subprocess.run([sys.executable, "-c", IMPORTED_FROZEN], check=True, timeout=60)

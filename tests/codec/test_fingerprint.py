"""B27: a payload of another shape is recognised, in every process alike."""

from __future__ import annotations

import datetime as dt
import enum
import os
import subprocess
import sys
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import types as sa
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql import asyncpg, psycopg

from sqlmodel_cache.codec import ColumnSpec, RowCodec
from tests.codec.samples import COLUMNS, DIALECT, Color, codec_of, dialect_of


def members(name: str, *labels: str) -> Any:
    """Return an enum column of a class with that name and those members."""
    cls: Any = enum.Enum(name, list(labels))  # type: ignore[misc]
    return sa.Enum(cls)


class Upper(sa.TypeDecorator[str]):
    impl = sa.String
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value and value.upper()


SHAPES: list[list[Any]] = [
    [],
    [sa.Integer()],
    [sa.Integer(), sa.Integer()],
    [sa.BigInteger()],
    [sa.String()],
    [sa.String(10)],
    [Upper()],
    [sa.Numeric(10, 2)],
    [sa.Numeric(10, 4)],
    [sa.Numeric(10, 2, asdecimal=False)],
    [sa.DateTime()],
    [sa.DateTime(timezone=True)],
    [sa.Uuid()],
    [sa.Uuid(as_uuid=False)],
    [sa.Enum("RED", "GREEN")],
    [sa.Enum(Color)],
    [members("Color", "RED", "GREEN")],
    [members("Color", "GREEN", "RED")],
    [members("Color", "RED", "GREEN", "BLUE")],
    [sa.ARRAY(sa.Integer)],
    [sa.ARRAY(sa.Text)],
    [sa.ARRAY(sa.Integer, dimensions=2)],
    [sa.ARRAY(sa.Integer, as_tuple=True)],
    [sa.JSON()],
    [sa.PickleType()],
]


def test_every_shape_differs() -> None:
    """Any change to a column that changes its values changes the fingerprint."""
    prints = [codec_of(*shape).fingerprint for shape in SHAPES]
    assert len(set(prints)) == len(SHAPES)
    assert all(len(each) == 8 for each in prints)


def test_names_count() -> None:
    """So does an attribute's name, its column's, the order and the identity."""
    one, two = ColumnSpec("one", sa.Integer()), ColumnSpec("two", sa.Integer())
    renamed = ColumnSpec("one", sa.Integer(), column="two")
    prints = [
        RowCodec(specs, DIALECT, identity=identity).fingerprint
        for specs in ([one, two], [two, one], [one], [renamed])
        for identity in ("hero", "villain")
    ]
    assert len(set(prints)) == len(prints)


def test_drivers_share_payloads() -> None:
    """Processes with different drivers of one database read each other's payloads."""
    types = [type_ for name, (type_, _) in COLUMNS.items() if name not in ("INET", "CIDR")]
    prints = {
        codec_of(*types, dialect=dialect).fingerprint
        for dialect in map(dialect_of, (pg, psycopg, asyncpg))
    }
    assert len(prints) == 1


def test_an_explicit_class_counts() -> None:
    """A column that goes through hooks has another shape than one that does not."""
    plain = RowCodec([ColumnSpec("c", sa.JSON())], DIALECT)
    hooked = RowCodec([ColumnSpec("c", sa.JSON(), python_type=Color)], DIALECT)
    assert plain.fingerprint != hooked.fingerprint


SCRIPT = """
from tests.codec.samples import COLUMNS, codec_of
print(codec_of(*(type_ for type_, _ in COLUMNS.values()), identity="hero").fingerprint.hex())
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_stable_across_processes(seed: str) -> None:
    """No hash seed, address or import order has a part in it."""
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    here = codec_of(*(type_ for type_, _ in COLUMNS.values()), identity="hero").fingerprint
    assert done.stdout.strip() == here.hex()


def test_stable_across_releases() -> None:
    """The fingerprint changes only on purpose: with it, every cached row is a miss."""
    codec = codec_of(sa.Integer(), sa.String(30), sa.DateTime(timezone=True), identity="hero")
    assert codec.fingerprint.hex() == "96d7870eddd909d4"


@pytest.mark.parametrize("module", [sqlite, mysql, pg])
def test_compact_everywhere(module: Any) -> None:
    """An ordinary row is compact with every dialect's implementation of the types."""
    names = ["Integer", "String", "Float", "Boolean", "Uuid", "Enum", "LargeBinary", "Interval"]
    codec = codec_of(*(COLUMNS[name][0] for name in names), dialect=dialect_of(module))
    row = [1, "a", 1.5, True, UUID(int=1), Color.RED, b"x", dt.timedelta(1)]
    assert codec.encode(row)[1] == 0

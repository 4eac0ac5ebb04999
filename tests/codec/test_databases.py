"""B1 with what drivers really return: rows are read from a database, stored and read back."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, insert, select
from sqlalchemy import types as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import create_async_engine

from sqlmodel_cache.codec import ColumnSpec, RowCodec, same
from tests.codec.samples import Color
from tests.servers.databases import async_url

MOMENT = dt.datetime(2024, 7, 1, 12, 30, 15, 250_000, tzinfo=dt.UTC)
EVERYWHERE: dict[str, tuple[Any, Any]] = {
    "big": (sa.BigInteger(), 2**62),
    "real": (sa.Float(53), -0.1),
    "money": (sa.Numeric(12, 4), Decimal("12.5000")),
    "text": (sa.String(50), "h\u00e9 \u4f60 \U0001f600"),
    "raw": (sa.LargeBinary(), b"\0\xff"),
    "flag": (sa.Boolean(), True),
    "day": (sa.Date(), dt.date(2024, 2, 29)),
    "hour": (sa.Time(), dt.time(23, 59, 59)),
    "naive": (sa.DateTime(), dt.datetime(2024, 2, 29, 1, 2, 3)),
    "span": (sa.Interval(), dt.timedelta(days=3, seconds=5)),
    "uuid": (sa.Uuid(), UUID(int=77)),
    "uuid_text": (sa.Uuid(as_uuid=False), str(UUID(int=78))),
    "color": (sa.Enum(Color), Color.GREEN),
    "doc": (sa.JSON(), {"a": [1, 2.5, None, {"b": "\u1234"}], "n": 1 << 40}),
}
POSTGRESQL: dict[str, tuple[Any, Any]] = {
    "aware": (sa.DateTime(timezone=True), MOMENT),
    "zoned_hour": (
        sa.Time(timezone=True),
        dt.time(1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    ),
    "numbers": (sa.ARRAY(sa.Integer), [[1, 2], [3, 4]]),
    "uuids": (pg.ARRAY(sa.Uuid, as_tuple=True), [UUID(int=1), UUID(int=2)]),
    "moments": (sa.ARRAY(sa.DateTime(timezone=True)), [MOMENT, None]),
    "document": (pg.JSONB(), [1, {"b": None}]),
    "whole": (pg.INT4RANGE(), pg.Range(1, 5)),
    "period": (pg.TSTZRANGE(), pg.Range(MOMENT, None)),
    "days": (pg.DATERANGE(), pg.Range(dt.date(2024, 1, 1), dt.date(2024, 2, 1))),
    "several": (pg.INT4MULTIRANGE(), [pg.Range(1, 5), pg.Range(7, 9)]),
    "host": (pg.INET(), "10.0.0.1/8"),
    "net": (pg.CIDR(), "10.0.0.0/8"),
    "mac": (pg.MACADDR(), "08:00:2b:01:02:03"),
    "year": (pg.INTERVAL(), dt.timedelta(days=400)),
}


def _table(samples: dict[str, tuple[Any, Any]]) -> Table:
    columns = [Column(name, type_) for name, (type_, _) in samples.items()]
    return Table("codec_sample", MetaData(), Column("id", Integer, primary_key=True), *columns)


def _values(samples: dict[str, tuple[Any, Any]]) -> list[dict[str, Any]]:
    full = {name: value for name, (_, value) in samples.items()}
    return [{"id": 1, **full}, {"id": 2, **dict.fromkeys(full)}]


def _check(table: Table, dialect: Any, rows: Any, escaping: set[str]) -> None:
    """Every row comes back, and only columns named in `escaping` are not in compact form."""
    codec = RowCodec([ColumnSpec(c.name, c.type) for c in table.columns], dialect)
    for row in rows:
        loaded = list(row)
        back = codec.decode(*codec.encode(loaded))
        differing = [
            name for name, one, other in zip(codec.keys, loaded, back, strict=True)
            if not same(one, other)
        ]  # fmt: skip
        assert differing == []
    for column, value in zip(table.columns, rows[0], strict=True):
        _, flags = RowCodec([ColumnSpec(column.name, column.type)], dialect).encode([value])
        assert bool(flags) == (column.name in escaping), column.name


def _sync(engine: Engine, samples: dict[str, tuple[Any, Any]], escaping: set[str]) -> None:
    table = _table(samples)
    try:
        with engine.begin() as connection:
            table.create(connection)
            connection.execute(insert(table), _values(samples))
            rows = connection.execute(select(table).order_by(table.c.id)).all()
            table.drop(connection)
    finally:
        engine.dispose()
    _check(table, engine.dialect, rows, escaping)


async def _async(url: str, samples: dict[str, tuple[Any, Any]], escaping: set[str]) -> None:
    """Write with the sync driver, read with the async one."""
    table = _table(samples)
    writer, reader = create_engine(url), create_async_engine(async_url(url))
    with writer.begin() as connection:
        table.create(connection)
        connection.execute(insert(table), _values(samples))
    try:
        async with reader.connect() as connection:
            rows = (await connection.execute(select(table).order_by(table.c.id))).all()
    finally:
        await reader.dispose()
        table.drop(writer)
        writer.dispose()
    _check(table, reader.dialect, rows, escaping)


def test_sqlite(sqlite_url: str) -> None:
    """Rows read by sqlite3."""
    _sync(create_engine(sqlite_url), EVERYWHERE, set())


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_psycopg(postgres_url: str, zone: str) -> None:
    """Rows read by psycopg, whose moments are in the connection's time zone."""
    options = {"options": f"-c timezone={zone}"}
    # A zone is an annotation of the row; inside a container, or a second depth, is an escape.
    escaping = {"numbers", "several", "host", "net"}
    if zone != "UTC":
        escaping |= {"aware", "moments", "period"}
    _sync(create_engine(postgres_url, connect_args=options), EVERYWHERE | POSTGRESQL, escaping)


async def test_asyncpg(postgres_url: str) -> None:
    """Rows read by asyncpg, which has classes of its own for UUIDs and addresses."""
    samples = EVERYWHERE | POSTGRESQL
    await _async(postgres_url, samples, {"numbers", "several", "host", "net"})


def test_pymysql(mariadb_url: str) -> None:
    """Rows read by PyMySQL."""
    _sync(create_engine(mariadb_url), EVERYWHERE, set())


async def test_aiomysql(mariadb_url: str) -> None:
    """Rows read by aiomysql."""
    await _async(mariadb_url, EVERYWHERE, set())


def test_sqlite_types_values_not_columns(sqlite_url: str) -> None:
    """Text, blobs and NULL in an integer column come back as SQLite gives them."""
    table = _table({"n": (sa.Integer(), None)})
    engine = create_engine(sqlite_url)
    with engine.begin() as connection:
        table.create(connection)
        connection.exec_driver_sql("INSERT INTO codec_sample VALUES (1, 'abc'), (2, x'00ff')")
        rows = connection.execute(select(table).order_by(table.c.id)).all()
    engine.dispose()
    assert [row.n for row in rows] == ["abc", b"\0\xff"]
    _check(table, engine.dialect, rows, {"n"})

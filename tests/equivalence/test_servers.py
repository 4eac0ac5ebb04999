"""Every type of PostgreSQL and MariaDB, through each driver: a hit is what a load is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, registry

from sqlmodel_cache import CacheConfig, SQLModelCache
from tests.equivalence import foreign
from tests.equivalence.arena import Arena, Target
from tests.equivalence.exactly import differences
from tests.equivalence.foreign import Samples
from tests.equivalence.scripts import every_attribute
from tests.equivalence.snapshot import snapshot
from tests.equivalence.tally import BYPASS, HIT, NOT_STORED, Tally
from tests.servers.databases import async_url

OPENING = (
    "CREATE EXTENSION IF NOT EXISTS hstore",
    "CREATE EXTENSION IF NOT EXISTS citext",
)


class Fleet:
    """A mapped class per type, each with a row per sample and one of NULL."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.registry = registry(metadata=MetaData())
        self.classes: dict[str, Any] = {}
        for number, (name, (type_, _)) in enumerate(samples.items()):
            columns = [Column("id", Integer, primary_key=True, autoincrement=False)]
            table = Table(
                f"t{number}",
                self.registry.metadata,
                *columns,
                Column("value", type_, nullable=True),
            )
            cls = type(f"Type{number}", (), {"__cache_config__": CacheConfig(ttl=300)})
            self.registry.map_imperatively(cls, table)
            self.classes[name] = cls

    def create(self, engine: Engine) -> None:
        """Make the tables and their rows."""
        self.registry.metadata.create_all(engine)
        with engine.begin() as connection:
            for name, (_, values) in self.samples.items():
                table = self.classes[name].__table__
                for key, value in enumerate([None, *values]):
                    connection.execute(table.insert(), {"id": key, "value": value})

    def targets(self) -> Iterator[tuple[str, Target]]:
        """Yield every type's name with each of its rows."""
        for name, (_, values) in self.samples.items():
            for key in range(len(values) + 1):
                yield name, Target(self.classes[name], key)

    def dispose(self, engine: Engine) -> None:
        """Drop the tables and unmap the classes."""
        self.registry.metadata.drop_all(engine)
        self.registry.dispose()


def examine(tally: Tally, arena: Arena, fleet: Fleet) -> None:
    """Compare the hits of a fleet with its loads, and count them."""
    problems: list[str] = []
    # An engine's first get asks who the server is. Under REPEATABLE READ that makes a snapshot.
    arena.fill(next(fleet.targets())[1])
    for name, target in fleet.targets():
        arena.fill(target)
        with arena.session() as session:
            loaded = snapshot(session, arena.load(session, target))
        with arena.session() as session:
            try:
                instance = arena.hit(session, target)
            except AssertionError as reason:
                tally.count(name, BYPASS, f"{name}: {reason}")
                continue
            tally.count(name, HIT if "value" in vars(instance) else NOT_STORED)
            found = differences(loaded, snapshot(session, instance))
            problems += [f"{name}: {line}" for line in found]
    assert not problems, "\n".join(problems)


@pytest.fixture(params=["psycopg", "native inet"])
def postgres(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[tuple[Engine, Fleet]]:
    """Return an engine of psycopg and its types."""
    native = request.param == "native inet"
    options = {"native_inet_types": True} if native else {}
    engine = create_engine(postgres_url, **options)
    with engine.begin() as connection:
        for statement in OPENING:
            connection.execute(text(statement))
    samples = foreign.common() | foreign.postgresql()
    if native:
        samples = foreign.native_inet()
    fleet = Fleet(samples)
    fleet.create(engine)
    yield engine, fleet
    fleet.dispose(engine)
    engine.dispose()


def test_postgresql_by_psycopg(postgres: tuple[Engine, Fleet], tally: Tally) -> None:
    """All types through psycopg."""
    SQLModelCache.configure("memory://")
    engine, fleet = postgres
    examine(tally, Arena(engine), fleet)
    tally.require()


async def test_postgresql_by_asyncpg(
    postgres: tuple[Engine, Fleet], postgres_url: str, tally: Tally
) -> None:
    """All types through asyncpg; the whole comparison runs inside the greenlet."""
    SQLModelCache.configure("memory://")
    native = "INET object" in postgres[1].samples
    options = {"native_inet_types": True} if native else {}
    engine = create_async_engine(async_url(postgres_url), **options)
    try:
        await run_in_greenlet(engine, tally, postgres[1])
    finally:
        await engine.dispose()
    tally.require()


@pytest.mark.parametrize("postgres", ["psycopg"], indirect=True)
async def test_psycopg_reads_what_asyncpg_stored(
    postgres: tuple[Engine, Fleet], postgres_url: str
) -> None:
    """Two drivers share one cache. Where their loads agree, a hit is the same; else either's."""
    SQLModelCache.configure("memory://")
    plain, fleet = postgres
    engine = create_async_engine(async_url(postgres_url))
    targets = list(fleet.targets())
    theirs: list[Any] = []

    def fill(session: Session) -> None:
        for _, target in targets:
            theirs.append(session.get(target.cls, target.key).value)

    try:
        async with AsyncSession(engine) as session:
            await session.run_sync(fill)
    finally:
        await engine.dispose()
    arena, problems, hits = Arena(plain), [], 0
    for (name, target), their in zip(targets, theirs, strict=True):
        with arena.session() as session:
            ours = arena.load(session, target).value
        with arena.session() as session:
            before = SQLModelCache.stats().hits
            found = arena.any_way(session, target).value
            hits += SQLModelCache.stats().hits - before
        if list(differences(ours, found)):
            problems += [f"{name}: {line}" for line in differences(their, found)]
            problems += [name] * (not list(differences(ours, their)))
    assert not problems, "\n".join(problems)
    assert hits >= 0.7 * len(targets), hits


async def run_in_greenlet(engine: AsyncEngine, tally: Tally, fleet: Fleet) -> None:
    """Run `examine` where an AsyncSession runs."""
    async with AsyncSession(engine) as session:
        arena = Arena(engine.sync_engine)
        await session.run_sync(lambda _: examine(tally, arena, fleet))


@pytest.fixture
def mariadb(mariadb_url: str) -> Iterator[tuple[Engine, Fleet]]:
    """Return an engine of MariaDB, READ COMMITTED, and its types."""
    engine = create_engine(mariadb_url)
    fleet = Fleet(foreign.common() | foreign.mariadb())
    fleet.create(engine)
    yield engine, fleet
    fleet.dispose(engine)
    engine.dispose()


def test_mariadb_by_pymysql(mariadb: tuple[Engine, Fleet], tally: Tally) -> None:
    """All types through PyMySQL, under the server's own REPEATABLE READ."""
    SQLModelCache.configure("memory://")
    engine, fleet = mariadb
    examine(tally, Arena(engine), fleet)
    tally.require()


async def test_mariadb_by_aiomysql(
    mariadb: tuple[Engine, Fleet], mariadb_url: str, tally: Tally
) -> None:
    """All types through aiomysql."""
    SQLModelCache.configure("memory://")
    engine = create_async_engine(async_url(mariadb_url))
    try:
        await run_in_greenlet(engine, tally, mariadb[1])
    finally:
        await engine.dispose()
    tally.require()


def test_every_attribute_of_a_server_row(postgres: tuple[Engine, Fleet]) -> None:
    """Access, refresh and flush on PostgreSQL, for the types that SQLite lacks."""
    SQLModelCache.configure("memory://")
    engine, fleet = postgres
    arena = Arena(engine)
    for _, target in fleet.targets():
        arena.fill(target)
        arena.check(target, every_attribute)

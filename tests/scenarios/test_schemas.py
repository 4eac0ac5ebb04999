"""Tenants in schemas of one database: `schema_translate_map` (B24)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import (
    Connection,
    Engine,
    ForeignKey,
    create_engine,
    delete,
    event,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache, _state, aget_many, get_many
from tests.recording import record_sql
from tests.servers.databases import async_url


class Base(DeclarativeBase):
    """Tables of this file."""


class Person(Base):
    """A row that every tenant has one of."""

    __tablename__ = "schemas_person"
    __cache_config__ = CacheConfig(ttl=60, negative_ttl=60, queries="asked")
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(default="person")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Clerk(Person):
    """A row in two tables."""

    __tablename__ = "schemas_clerk"
    id: Mapped[int] = mapped_column(ForeignKey(Person.id), primary_key=True)
    desk: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "clerk"}


@dataclass(frozen=True)
class Tenants:
    """One database with the tables in two schemas."""

    engine: Engine
    names: tuple[str, str]

    def at(self, number: int) -> Engine:
        """Return an engine for one tenant; all share the pool and the dialect."""
        return self.engine.execution_options(schema_translate_map={None: self.names[number]})

    def hit(self, number: int, model: Any = Person, pk: int = 1) -> Any:
        """Return what a get finds for one tenant, sure that no SQL was needed for it."""
        with record_sql(self.engine) as sent, Session(self.at(number)) as session:
            found = session.get(model, pk)
        assert not sent, sent
        return found

    def read(self, number: int, model: Any = Person, pk: int = 1) -> Any:
        """Return what a get finds for one tenant, and leave it in the cache."""
        with Session(self.at(number)) as session:
            return session.get(model, pk)


@pytest.fixture(params=["memory", "redis"])
def tenants(
    postgres_url: str, key_prefix: str, request: pytest.FixtureRequest
) -> Iterator[Tenants]:
    """Return two tenants, each with a person and a clerk of the same keys."""
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    engine = create_engine(postgres_url)
    names = (f"a_{uuid4().hex[:8]}", f"b_{uuid4().hex[:8]}")
    made = Tenants(engine, names)
    for number, name in enumerate(names):
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        with made.at(number).begin() as connection:
            Base.metadata.create_all(connection)
            with Session(connection) as session:
                session.add(Person(id=1, name=f"one of {number}"))
                session.add(Clerk(id=2, name=f"two of {number}", desk=number))
                session.commit()
    SQLModelCache.configure(url, key_prefix=key_prefix)
    for number in (0, 1):
        for pk in (1, 2):
            made.read(number, pk=pk)
    yield made
    SQLModelCache.reset()
    with engine.begin() as connection:
        for name in names:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    engine.dispose()


def test_results_of_queries_in_two_schemas(tenants: Tenants) -> None:
    """Each tenant has results of its own, and a commit forgets those of its schema only."""
    names = select(Person.name).where(Person.kind == "person").order_by(Person.id)
    people = select(Person).where(Person.name > "").order_by(Person.id)

    def ask(number: int) -> tuple[list[str], list[str]]:
        with Session(tenants.at(number)) as session:
            asked = {"cache": True}
            found = session.scalars(people, execution_options=asked).all()
            return (
                list(session.scalars(names, execution_options=asked)),
                [person.name for person in found],
            )

    for number in (0, 1):
        for _ in range(3):
            assert ask(number)[0] == [f"one of {number}"]
        with record_sql(tenants.engine) as sent:
            assert ask(number)[1] == [f"one of {number}", f"two of {number}"]
        assert not sent
    with Session(tenants.at(0)) as session:
        session.get(Person, 1).name = "new"  # type: ignore[union-attr]
        session.commit()
    with record_sql(tenants.engine) as sent:
        assert ask(1)[0] == ["one of 1"]
    assert not sent
    assert ask(0) == (["new"], ["new", "two of 0"])
    with Session(tenants.at(1)) as session:
        session.execute(update(Person).where(Person.kind == "person").values(name="all"))
        session.commit()
    assert ask(1) == (["all"], ["all", "two of 1"])
    assert ask(0) == (["new"], ["new", "two of 0"])


def test_b24_the_rows_of_two_schemas_never_meet(tenants: Tenants) -> None:
    """One key, two tenants: two entries, each a hit with its own row."""
    for number in (0, 1):
        assert tenants.hit(number).name == f"one of {number}"
        assert tenants.hit(number, pk=2).name == f"two of {number}"
        tenants.read(number, Clerk, 2)
        assert tenants.hit(number, Clerk, 2).desk == number
        with record_sql(tenants.engine) as sent, Session(tenants.at(number)) as session:
            found = get_many(session, Person, [2, 1])
        assert [one.name for one in found] == [f"two of {number}", f"one of {number}"]
        assert not sent


async def test_b24_the_rows_of_two_schemas_never_meet_in_async_sessions(
    tenants: Tenants, postgres_url: str
) -> None:
    """The same through asyncpg, with entries that plain sessions filled."""
    engine = create_async_engine(async_url(postgres_url))
    for number, name in enumerate(tenants.names):
        tenant = engine.execution_options(schema_translate_map={None: name})
        for _ in range(2):
            async with AsyncSession(tenant) as session:
                found = await session.get(Person, 1)
                assert found is not None
                assert found.name == f"one of {number}"
                assert (await aget_many(session, Clerk, [2]))[0].desk == number
    await engine.dispose()


@pytest.mark.parametrize("where", ["call", "connection"])
def test_b24_the_map_may_come_from_any_layer(tenants: Tenants, where: str) -> None:
    """What the call says counts, and what a connection says."""
    options = {"schema_translate_map": {None: tenants.names[1]}}
    with record_sql(tenants.engine) as sent, tenants.engine.connect() as connection:
        if where == "connection":
            connection = connection.execution_options(**options)
        with Session(connection) as session:
            given = options if where == "call" else {}
            found = session.get_one(Person, 1, execution_options=given)
    assert found.name == "one of 1"
    assert not sent


def test_b24_a_write_in_one_schema_leaves_the_other_s_rows(tenants: Tenants) -> None:
    """Flush, pinned UPDATE and DELETE through Core name the row in their own schema only."""
    with Session(tenants.at(0)) as session:
        session.get_one(Clerk, 2).desk = 7
        session.get_one(Person, 1).name = "flushed"
        session.commit()
    assert tenants.hit(1, pk=2).name == "two of 1"
    assert tenants.hit(1).name == "one of 1"
    assert tenants.read(0, Clerk, 2).desk == 7
    assert tenants.read(0).name == "flushed"
    with tenants.at(0).begin() as connection:
        connection.execute(update(Person.__table__).where(Person.id == 1).values(name="core"))
    assert tenants.hit(1).name == "one of 1"
    assert tenants.read(0).name == "core"
    with Session(tenants.engine) as session:  # the map is given to the statement
        session.execute(
            delete(Person.__table__).where(Person.__table__.c.id == 1),
            execution_options={"schema_translate_map": {None: tenants.names[0]}},
        )
        session.commit()
    assert tenants.hit(1).name == "one of 1"
    assert tenants.read(0) is None
    assert tenants.hit(0) is None
    with Session(tenants.at(0)) as session:
        session.add(Person(id=1, name="again"))
        session.commit()
    assert tenants.read(0).name == "again"


@pytest.mark.parametrize(
    "write",
    [
        lambda connection, schema: connection.execute(update(Person).values(name="new")),
        lambda connection, schema: connection.execute(
            text(f"UPDATE {schema}.schemas_person SET name = 'new'")
        ),
    ],
    ids=["unpinned", "text"],
)
def test_b24_what_names_no_row_forgets_the_model_in_every_schema(
    tenants: Tenants, write: Any
) -> None:
    """Also in a process that never read that schema: its epochs are the model's."""
    for site in _state.active.sites:
        site.schemas = {""}
    with tenants.at(0).begin() as connection:
        write(connection, tenants.names[0])
    assert tenants.read(0).name == "new"
    assert tenants.read(1).name == "one of 1"


def test_b24_the_default_schema_by_name_is_no_other_schema(tenants: Tenants) -> None:
    """A map to what a bare name means anyway gives the same entries as no map."""
    engine = tenants.engine
    Base.metadata.create_all(engine)
    try:
        with engine.begin() as connection:
            connection.execute(Person.__table__.insert().values(id=9, name="plain", kind="person"))
        public = engine.execution_options(schema_translate_map={None: "public"})
        with Session(public) as session:
            session.get(Person, 9)
        with record_sql(engine) as sent, Session(engine) as session:
            assert session.get_one(Person, 9).name == "plain"
        assert not sent
        with Session(engine) as session:
            session.get_one(Person, 9).name = "new"
            session.commit()
        with Session(public) as session:
            assert session.get_one(Person, 9).name == "new"
    finally:
        Base.metadata.drop_all(engine)


def test_b24_explicit_calls_reach_every_schema_seen(tenants: Tenants) -> None:
    """invalidate() of a row forgets it for each tenant; with a session's bind too."""
    for forget in (
        lambda: SQLModelCache.invalidate(Person, 1),
        lambda: SQLModelCache.invalidate(Person, 1, bind=tenants.at(0)),
    ):
        tenants.read(0)
        forget()
        with record_sql(tenants.engine) as sent:
            tenants.read(0)
        assert sent.starting("SELECT")


def test_b24_rolled_back_rows_of_a_schema_come_from_the_database(tenants: Tenants) -> None:
    """What a transaction touched in its schema is read from the database until it ends."""
    with Session(tenants.at(0)) as session:
        session.get_one(Person, 1).name = "never"
        session.flush()
        session.expunge_all()
        assert session.get_one(Person, 1).name == "never"
        session.rollback()
    assert tenants.hit(0).name == "one of 0"


def test_b24_a_connection_may_be_moved(tenants: Tenants) -> None:
    """One connection, two maps one after the other: each sees its own rows."""

    def name(connection: Connection, number: int) -> str:
        moved = connection.execution_options(schema_translate_map={None: tenants.names[number]})
        with Session(moved) as session:
            return session.get_one(Person, 1).name

    with tenants.engine.connect() as connection:
        assert [name(connection, number) for number in (0, 1, 0)] == [
            "one of 0",
            "one of 1",
            "one of 0",
        ]


def test_b21_a_listener_that_writes_elsewhere(tenants: Tenants) -> None:
    """New rows are named in the schema of the flush, whatever a listener's statement says."""
    elsewhere = {"schema_translate_map": {None: tenants.names[1]}}

    def on_insert(_mapper: Any, connection: Connection, _person: Person) -> None:
        statement = update(Person).where(Person.id == 1).values(name="x")
        connection.execute(statement, execution_options=elsewhere)

    with tenants.at(0).begin() as connection:
        sequence = f"{tenants.names[0]}.schemas_person_id_seq"
        connection.execute(text("SELECT setval(:name, 100)"), {"name": sequence})
    for pk in (101, 102):
        assert tenants.read(0, pk=pk) is None
        assert tenants.hit(0, pk=pk) is None
    event.listen(Person, "after_insert", on_insert)
    try:
        with Session(tenants.at(0)) as session:
            session.add_all([Person(name="new"), Person(name="new")])
            session.commit()
    finally:
        event.remove(Person, "after_insert", on_insert)
    assert [tenants.read(0, pk=pk).name for pk in (101, 102)] == ["new", "new"]
    assert tenants.read(1).name == "x"

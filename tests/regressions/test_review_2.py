"""What a second hostile reading found, where features meet: each failed before its fix."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import sqlmodel
from sqlalchemy import Select, bindparam, create_engine, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache


@pytest.fixture
def world(request, sqlite_url):
    """Return a model with rows 1 and 2, its engine, and `read(...)`: what a select() finds.

    Absent rows are remembered. On SQLite, or on the server that the fixture's parameter names.
    """

    class Base(DeclarativeBase):
        pass

    class Agent(Base):
        __tablename__ = "review_2_agent"
        __cache_config__ = CacheConfig(negative_ttl=60, unique=("number",))
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int | None] = mapped_column(unique=True)

    where = getattr(request, "param", None)
    engine = create_engine(request.getfixturevalue(where) if where else sqlite_url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Agent(id=1, number=1), Agent(id=2, number=2)])
        session.commit()
    SQLModelCache.configure("memory://")

    def read(**values):
        with Session(engine) as session:
            found = session.scalars(select(Agent).filter_by(**values)).one_or_none()
            return None if found is None else (found.id, found.number)

    yield SimpleNamespace(Agent=Agent, engine=engine, read=read)
    Base.metadata.drop_all(engine)
    engine.dispose()
    Base.registry.dispose()


def after(world, statement, parameters=None):
    """Commit a statement in a transaction of its own."""
    with Session(world.engine) as session:
        session.execute(statement, parameters)
        session.commit()


@pytest.mark.parametrize("operator", ["equals", "in"])
def test_parameters_of_a_select_may_be_given_by_their_compiled_names(world, operator):
    """`WHERE id = 1` executed with {"id_1": 2} reads row 2, from the cache as from the database."""
    key = world.Agent.id
    where = key == 1 if operator == "equals" else key.in_([1])
    given = {"id_1": 2 if operator == "equals" else [2]}
    for pk in (1, 2):
        world.read(id=pk)
    with Session(world.engine) as session:
        assert session.scalars(select(world.Agent).where(where), given).one().id == 2


def test_a_parameter_named_like_a_column_is_not_what_the_column_is_set_to(world):
    """An UPDATE to an expression whose WHERE has a parameter with the column's name."""
    table = world.Agent.__table__
    assert world.read(number=102) is None
    where = (table.c.id == 2, table.c.number == bindparam("number"))
    after(world, update(table).where(*where).values(number=table.c.number + 100), {"number": 2})
    assert world.read(number=102) == (2, 102)


def test_a_parameter_named_like_a_key_is_not_the_key_that_is_inserted(world):
    """An INSERT whose key is an expression of a parameter that has the key's name."""
    table = world.Agent.__table__
    assert world.read(id=8) is None
    after(world, insert(table).values(id=bindparam("id") + 1, number=8), {"id": 7})
    assert world.read(id=8) == (8, 8)


@pytest.mark.parametrize("world", ["postgres_url"], indirect=True)
@pytest.mark.parametrize("values", [{"id": 5}, {"number": 5}], ids=["by key", "by unique key"])
def test_an_insert_within_an_insert_has_a_row_of_its_own(world, values):
    """`WITH x AS (INSERT ...) INSERT ...` into one table: both rows are there for everybody."""
    table = world.Agent.__table__
    assert world.read(**values) is None
    inner = insert(table).values(id=5, number=5).returning(table.c.id).cte("inner")
    after(world, insert(table).values(id=6, number=6).add_cte(inner))
    assert world.read(**values) == (5, 5)


@pytest.mark.parametrize("world", ["postgres_url"], indirect=True)
def test_an_update_within_an_update_sets_a_value_of_its_own(world):
    """`WITH x AS (UPDATE ...) UPDATE ...` of one unique key: neither new value is absent."""
    table = world.Agent.__table__
    assert world.read(number=11) is None
    inner = update(table).where(table.c.id == 1).values(number=11).returning(table.c.id).cte("x")
    after(world, update(table).where(table.c.id == 2).values(number=12).add_cte(inner))
    assert world.read(number=11) == (1, 11)


@pytest.mark.parametrize("trusted", [False, True])
def test_b9_a_session_class_may_change_what_its_loads_find(world, trusted):
    """SQLAlchemy sends each load through `execute()`; one of the class's own is a hook like any.

    What it hides is neither shown by a hit nor remembered as absent for others.
    """

    class Tenant(Session):
        def execute(self, statement, *arguments, **settings):
            if isinstance(statement, Select):
                statement = statement.where(world.Agent.id != 1)
            return super().execute(statement, *arguments, **settings)

    class Plain(sqlmodel.Session):
        def get(self, *arguments, **settings):
            return super().get(*arguments, **settings)

    SQLModelCache.configure("memory://", trust_orm_hooks=trusted)
    if not trusted:
        with Tenant(world.engine) as session:
            assert session.get(world.Agent, 1) is None
        assert world.read(id=1) == (1, 1)
    for _ in range(2):
        with Tenant(world.engine) as session:
            assert session.get(world.Agent, 2).number == 2
    assert SQLModelCache.stats().hits == (1 if trusted else 0)
    if not trusted:
        with Tenant(world.engine) as session:
            assert session.get(world.Agent, 1) is None
    for session_class in (Session, sqlmodel.Session, Plain):
        with session_class(world.engine) as session:
            session.get(world.Agent, 2)
    assert SQLModelCache.stats().hits == (4 if trusted else 2)

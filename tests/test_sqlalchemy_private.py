"""Says when a private name of SQLAlchemy moves, and which one, before anything subtler breaks."""

from __future__ import annotations

import ast
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects.mysql import insert as mysql_insert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
    synonym,
)
from sqlalchemy.orm.attributes import instance_state

from sqlmodel_cache.orm import _compiling, _fetching, _results, _sqlalchemy, _strategies

PACKAGE = Path(_sqlalchemy.__file__).parent.parent


@pytest.fixture
def thing():
    """Return a mapped class and an engine that has its table."""

    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(Integer, primary_key=True)
        name: Mapped[str | None]
        number = synonym("id")

    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    yield Thing, engine
    engine.dispose()
    Base.registry.dispose()


def test_autobegin_without_a_connection(thing):
    """A transaction begins; no connection is checked out."""
    _, engine = thing
    with Session(engine) as session:
        _sqlalchemy.autobegin(session)
        assert session.in_transaction()
        assert _sqlalchemy.connection_of(session, engine) is None
        connection = session.connection()
        assert _sqlalchemy.connection_of(session, engine) is connection
        assert _sqlalchemy.uses_one_connection(session)
        with session.begin_nested():
            assert _sqlalchemy.connection_of(session, engine) is connection


def test_autoflush(thing):
    """Pending objects are flushed, unless the session is told not to."""
    cls, engine = thing
    with Session(engine) as session:
        session.add(cls(id=1))
        with session.no_autoflush:
            _sqlalchemy.autoflush(session)
            assert session.new
        _sqlalchemy.autoflush(session)
        assert not session.new


def test_attach(thing):
    """A state becomes persistent, and changes made by load events are forgotten."""
    cls, engine = thing
    mapper = inspect(cls)
    mapper.registry.configure()
    with Session(engine) as session:
        instance = mapper.class_manager.new_instance()
        state = instance_state(instance)
        _sqlalchemy.attach(session, state, (cls, (1,), None))
        assert instance in session
        assert state.persistent
        instance.__dict__["id"] = 1
        instance.name = "x"
        assert session.dirty
        _sqlalchemy.commit_state(session, state)
        assert not session.dirty


def test_mapper_facts(thing):
    """Identity class, synonyms, load path."""
    cls, engine = thing
    mapper = cls.__mapper__
    assert _sqlalchemy.identity_class(mapper) is cls
    assert _sqlalchemy.synonyms_of_pk(mapper) == {"number": "id"}
    assert mapper in set(_sqlalchemy.all_mappers())
    with Session(engine) as session:
        session.add(cls(id=1))
        session.commit()
        session.expunge_all()
        state = instance_state(session.scalars(select(cls)).one())
        assert state.load_path == _sqlalchemy.mapper_path(mapper)


def test_sharding_sessions_are_noticed():
    """Sessions that look identities up their own way."""

    class Sharded(Session):
        def _identity_lookup(self, *args, **kwargs):
            raise NotImplementedError

    assert _sqlalchemy.finds_identities_itself(Sharded)
    assert not _sqlalchemy.finds_identities_itself(Session)


def test_engine_facts():
    """Isolation level given to create_engine, and creator=."""
    assert _sqlalchemy.on_connect_isolation_level(create_engine("sqlite://").dialect) is None
    level = create_engine("sqlite://", isolation_level="AUTOCOMMIT").dialect
    assert _sqlalchemy.on_connect_isolation_level(level) == "AUTOCOMMIT"
    assert not _sqlalchemy.creator_is_foreign(create_engine("sqlite://"))
    assert _sqlalchemy.creator_is_foreign(create_engine("sqlite://", creator=lambda: None))


def test_statement_facts(thing):
    """Upserts, set columns, CTEs."""
    cls, engine = thing
    table = cls.__table__
    plain = insert(table).values(id=1)
    assert _sqlalchemy.prefixes_of(plain) == []
    assert _sqlalchemy.prefixes_of(plain.prefix_with("or replace")) == ["OR REPLACE"]
    assert _sqlalchemy.conflict_clauses(plain) == []
    ignoring = sqlite_insert(table).values(id=1).on_conflict_do_nothing()
    (clause,) = _sqlalchemy.conflict_clauses(ignoring)
    assert _sqlalchemy.upserted(clause, table) == []
    setting = sqlite_insert(table).on_conflict_do_update(index_elements=["id"], set_={"name": "x"})
    (clause,) = _sqlalchemy.conflict_clauses(setting)
    assert [name for name, _ in _sqlalchemy.upserted(clause, table)] == ["name"]
    assert _sqlalchemy.conflict_target(clause) == ({"id"}, None)
    named = postgresql_insert(table).on_conflict_do_update(constraint="key", set_={"name": "x"})
    (clause,) = _sqlalchemy.conflict_clauses(named)
    assert _sqlalchemy.conflict_target(clause) == (frozenset(), "key")
    (clause,) = _sqlalchemy.conflict_clauses(mysql_insert(table).on_duplicate_key_update(name="x"))
    assert [name for name, _ in _sqlalchemy.upserted(clause, table)] == ["name"]
    assert _sqlalchemy.rows_of_values(plain) == 0
    assert _sqlalchemy.rows_of_values(insert(table).values([{"id": 1}, {"id": 2}])) == 2
    statement = update(table).values(name="x")
    assert _sqlalchemy.set_columns(statement, statement.compile()) == {"name"}
    assert [*_sqlalchemy.values_given(statement)] == ["name"]
    assert _sqlalchemy.values_given(update(table)) == {}
    other = Table("thing", MetaData(), Column("id", Integer, key="number"))
    for statement in (update(other).values(number=1), update(other).values({other.c.number: 1})):
        assert _sqlalchemy.set_columns(statement, statement.compile()) == {"id"}
        assert [*_sqlalchemy.values_given(statement)] == ["id"]
    beside = Table("beside", MetaData(), Column("id", Integer))
    both = update(other).values({other.c.number: 1, beside.c.id: 2})
    assert _sqlalchemy.values_given(both)["id"].value == 1
    assert _sqlalchemy.other_tables_set(both, other) == [beside]
    statement = update(other)
    assert _sqlalchemy.set_columns(statement, statement.compile(column_keys=["number"])) == {"id"}
    setting = sqlite_insert(other).on_conflict_do_update(set_={"number": 1})
    (clause,) = _sqlalchemy.conflict_clauses(setting)
    assert [name for name, _ in _sqlalchemy.upserted(clause, other)] == ["id"]
    inner = select(table.c.id).cte("inner")
    compiled = select(inner.c.id).compile(engine)
    assert [type(element) for element in _compiling.ctes_of(compiled)] == [type(select(table.c.id))]


def test_select_facts(thing):
    """Which select is an entity's rows by attributes, and which attributes those are."""
    cls, engine = thing
    mapper = inspect(cls)
    plain = select(cls).where(cls.id == 1)
    assert _sqlalchemy.subject_of(plain) is mapper
    assert _sqlalchemy.subject_of(select(cls.__table__)) is None
    with Session(engine) as session:
        session.execute(plain).all()  # leaves its traces in the statement
    (criterion,) = _sqlalchemy.plain_criteria(plain, mapper)
    assert _sqlalchemy.attribute_of(criterion.left, mapper) == "id"
    assert _sqlalchemy.attribute_of(cls.__table__.c.name, mapper) == "name"
    assert _sqlalchemy.attribute_of(select(cls).subquery().c.id, mapper) is None
    for other in (plain.limit(1), plain.order_by(cls.id), select(cls.id), select(cls, cls)):
        assert _sqlalchemy.plain_criteria(other, mapper) is None


def test_the_orms_own_calls_of_execute(thing):
    """A get's SELECT, a refresh and a Query bring load options; a user's statement does not."""
    cls, engine = thing
    seen = []

    class Listening(Session):
        def execute(self, *args, **kwargs):
            seen.append(_sqlalchemy.is_internal(kwargs["execution_options"]))
            return super().execute(*args, **kwargs)

    with Listening(engine) as session:
        session.add(cls(id=1))
        session.commit()
        instance = session.get(cls, 1)
        session.refresh(instance)
        session.expunge_all()
        session.get(cls, 1)
        session.query(cls).all()
        assert all(seen)
        assert len(seen) == 4
        session.execute(select(cls), execution_options={"autoflush": False})
        assert not seen[-1]


def test_a_get_is_known_and_read_to_its_end(thing):
    """A get's SELECT is told from every other; its cursor is closed when its row arrives."""
    cls, engine = thing
    seen = []
    arrived = []

    def executed(connection, cursor, statement, parameters, context, executemany):
        seen.append((_sqlalchemy.is_get(context.execution_options), cursor))

    def loaded(instance, context):
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            seen[-1][1].fetchone()
        arrived.append(instance)

    with Session(engine) as session:
        session.add(cls(id=1))
        session.commit()
        session.expunge_all()
        event.listen(engine, "before_cursor_execute", executed)
        event.listen(cls, "load", loaded)
        session.get(cls, 1)
        session.get(cls, 2)
        assert [known for known, _ in seen] == [True, True]
        assert len(arrived) == 1
        session.query(cls).all()
        session.get(cls, 1, populate_existing=True)
        for name in ("autoflush", "populate_existing", "yield_per"):
            session.execute(select(cls), execution_options={name: 1}).all()
        session.execute(select(cls)).all()
        assert not any(known for known, _ in seen[2:])


def test_entity_results(thing):
    """A result made of instances, and the instances of one that was loaded at once."""
    cls, engine = thing
    with Session(engine) as session:
        session.add_all([cls(id=1), cls(id=2)])
        session.flush()
        options = _results.PREBUFFERED
        loaded = session.execute(select(cls).order_by(cls.id), execution_options=options)
        first, second = _results.prebuffered_instances(session, loaded)
        assert loaded.scalars().all() == [first, second]
        metadata = _results.entity_metadata(inspect(cls))
        assert [row.Thing for row in _results.entity_result(metadata, [first])] == [first]


@pytest.fixture
def related():
    """Return mapped children, their parent, and an engine that has a row of each."""

    class Base(DeclarativeBase):
        pass

    class Parent(Base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        children = relationship("Child", back_populates="parent")

    class Child(Base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id"))
        parent = relationship("Parent", back_populates="children")

    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    Base.registry.configure()
    with Session(engine) as session:
        session.add(Child(id=1, parent=Parent(id=2)))
        session.commit()
    yield Child, Parent, engine
    engine.dispose()
    Base.registry.dispose()


def test_relationship_facts(related):
    """By key or not, what leads back, load paths."""
    child, parent, _ = related
    up, down = inspect(child).relationships.parent, inspect(parent).relationships.children
    assert _strategies.is_by_key(up)
    assert not _strategies.is_by_key(down)
    assert _strategies.reverses(up) == {down}
    assert not _strategies.leads_to_alias(up)
    path = _strategies.path_below(_sqlalchemy.mapper_path(inspect(child)), up)
    assert _strategies.path_entities(path) == (inspect(child), inspect(parent))


def test_loading_a_relationship(related):
    """Its own loader loads it, once, and nothing is left to flush."""
    child, _, engine = related
    up = inspect(child).relationships.parent
    with Session(engine) as session:
        one = session.get(child, 1)
        state, path = instance_state(one), _sqlalchemy.mapper_path(inspect(child))
        assert _strategies.related_identity(up, session, state) == (2,)
        _strategies.load_related(up, state, path, {}, quiet=True)
        assert "parent" not in vars(one)
        _strategies.load_related(up, state, path, {})
        assert vars(one)["parent"].id == 2
        assert not session.dirty


def test_the_select_of_an_eager_loader(related):
    """It completes what the session holds, and goes on below by the options of the whole load."""
    child, parent, engine = related
    up, down = inspect(child).relationships.parent, inspect(parent).relationships.children
    options = (selectinload(child.parent).selectinload(parent.children),)
    path = _sqlalchemy.mapper_path(inspect(child))
    with Session(engine) as session:
        held = session.get(parent, 2)
        assert down.key not in vars(held)
        statement = _strategies.statement_below(path, up, options).where(parent.id == 2)
        assert session.scalars(statement).unique().all() == [held]
        assert [each.id for each in vars(held)[down.key]] == [1]


def test_standing_around_lazy_loads(related):
    """Each is seen before its SELECT, with the key that it will look up, and none afterwards."""
    child, _, engine = related
    seen = []

    def wrapper(wrapped, loader, args, kwargs):
        seen.append(_strategies.keyed_load(loader, args))
        return wrapped(*args, **kwargs)

    _strategies.wrap_lazy_loads(wrapper)
    try:
        with Session(engine) as session:
            found = session.get(child, 1).parent
            assert len(found.children) == 1
            session.refresh(session.get(child, 1), ["parent"])
    finally:
        _strategies.unwrap_lazy_loads()
    load, children = seen
    assert children is None
    assert tuple(load.identity) == (2,)
    assert load.state.mapper is inspect(child)
    assert load.path == instance_state(found).load_path
    with Session(engine) as session:
        assert session.get(child, 1).parent.id == 2
    assert len(seen) == 2


def test_lists_seen_before_their_select(related):
    """Their parameters, and a SELECT that takes them and finds what the loader finds."""
    child, parent, engine = related
    down = inspect(parent).relationships.children
    seen = []

    def wrapper(wrapped, loader, args, kwargs):
        seen.append((_strategies.list_load(loader, args), wrapped(*args, **kwargs)))
        return seen[-1][1]

    _strategies.wrap_lazy_loads(wrapper)
    try:
        with Session(engine) as session:
            children = list(session.get(parent, 2).children)
            ((load, found),) = seen
            assert found == children
            assert load.prop is down
            assert list(load.parameters.values()) == [2]
            assert load.path == instance_state(found[0]).load_path
            statement = _strategies.list_statement(down, ())
            assert session.scalars(statement, load.parameters).all() == found
        with Session(engine) as session:
            assert session.get(child, 1).parent.id == 2
        assert seen[1][0] is None  # a lookup by key
    finally:
        _strategies.unwrap_lazy_loads()


def test_nobody_else_touches_private_names():
    """Outside five files no attribute with a leading underscore is read but our own."""
    allowed = (
        "_sqlalchemy.py",
        "_strategies.py",
        "_compiling.py",
        "_results.py",
        "_fetching.py",
    )
    trees = {path: ast.parse(path.read_text()) for path in PACKAGE.glob("[!t]*/**/*.py")}
    nodes = [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]
    own = {"_asdict"} | {  # a NamedTuple's is public
        node.name for _, node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    own |= {
        node.attr
        for _, node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id in ("self", "cls")
    }
    own |= {node.name for _, node in nodes if isinstance(node, ast.alias)}
    foreign = [
        f"{path.name}:{node.lineno} {ast.unparse(node)}"
        for path, node in nodes
        if isinstance(node, ast.Attribute) and path.name not in allowed
        if node.attr.startswith("_") and not node.attr.startswith("__") and node.attr not in own
    ]
    assert foreign == []


@pytest.mark.parametrize("options", [{}, {"stream_results": True}, {"yield_per": 2}])
def test_cursor_fetch_strategy(thing, options):
    """A strategy that a statement's context is given fetches, and is told of the cursor's end."""
    cls, engine = thing
    ended = []

    class Telling(_fetching.CursorFetchStrategy):
        __slots__ = ()

        def soft_close(self, result, dbapi_cursor):
            ended.append(result.context)
            super().soft_close(result, dbapi_cursor)

    def on_execute(cursor, statement, parameters, context):
        streams.append(_fetching.streams(context))
        if not streams[-1]:
            context.cursor_fetch_strategy = Telling()

    streams: list[bool] = []
    event.listen(engine, "do_execute", on_execute)
    with engine.connect() as connection:
        connection = connection.execution_options(**options)
        result = connection.execute(select(cls.id))
        assert ended == []
        assert result.all() == []
    assert streams == [bool(options)]
    assert ended == ([] if options else [result.context])


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_rows_put_back(thing, taken):
    """A result begins with the rows that were taken, and goes on with the cursor's."""
    cls, engine = thing

    def on_execute(cursor, statement, parameters, context):
        def post_exec():
            del context.post_exec
            context.post_exec()
            _fetching.put_back(context, context.cursor.fetchmany(taken) if taken else [])

        assert _fetching.rows_of_batches(context) is None
        context.post_exec = post_exec

    with engine.begin() as connection:
        connection.execute(insert(cls), [{"id": number} for number in range(3)])
        event.listen(engine, "do_execute", on_execute)
        for fetch in (
            lambda result: result.all(),
            lambda result: [*iter(result.fetchone, None)],
            lambda result: [row for rows in result.partitions(2) for row in rows],
        ):
            result = connection.execute(update(cls).values(name="x").returning(cls.id))
            assert sorted(fetch(result)) == [(0,), (1,), (2,)]
        event.remove(engine, "do_execute", on_execute)


def test_rows_of_an_insert_in_batches(thing):
    """They are there after the last one, in the order of their columns."""
    cls, engine = thing
    seen = []

    def on_execute(cursor, statement, parameters, context):
        def post_exec():
            del context.post_exec
            seen.extend(_fetching.rows_of_batches(context))

        context.post_exec = post_exec

    event.listen(engine, "do_execute", on_execute)
    engine = engine.execution_options(insertmanyvalues_page_size=2)
    with engine.begin() as connection:
        statement = insert(cls).returning(cls.name, cls.id)
        found = connection.execute(statement, [{"name": str(number)} for number in range(5)])
        assert sorted(map(tuple, seen)) == sorted(map(tuple, found))
        assert len(seen) == 5

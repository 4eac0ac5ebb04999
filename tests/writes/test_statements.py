"""What a statement touches: rows where its WHERE pins them, tables where it does not."""

from __future__ import annotations

import pytest
from sqlalchemy import (
    DDL,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    bindparam,
    column,
    create_engine,
    delete,
    func,
    insert,
    select,
    table,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.mysql import insert as mysql_insert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqlmodel_cache.orm.connections.ledger import ledger_of
from sqlmodel_cache.orm.model.tables import table_map
from sqlmodel_cache.orm.writes.statements import analyse
from sqlmodel_cache.orm.writes.upserts import Existing, existing_rows


@pytest.mark.parametrize("how", ["core", "orm"])
def test_update_pinned_by_primary_key(world, how):
    """WHERE id = 1 touches row 1; the table stays."""
    target = world.Hero if how == "orm" else world.Hero.__table__
    with Session(world.engine) as session:
        session.execute(update(target).where(world.Hero.id == 1).values(name="x"))
        touched, tables = world.touched(session.connection())
    assert {table for table, _ in touched} == {"hero"}
    assert len(touched) == 1
    assert tables == set()


def test_update_with_more_criteria(world):
    """Further criteria only narrow it down: still just that row."""
    table = world.Hero.__table__
    with world.engine.begin() as connection:
        connection.execute(
            update(table).where(table.c.id == 1, table.c.name == "a").values(name="x")
        )
        touched, tables = world.touched(connection)
    assert len(touched) == 1
    assert not tables


def test_executemany_touches_each_row(world):
    """One statement, many parameter sets: one touched row each."""
    table = world.Hero.__table__
    with world.engine.begin() as connection:
        statement = update(table).where(table.c.id == bindparam("which")).values(name="x")
        connection.execute(statement, [{"which": 1}, {"which": 2}, {"which": 3}])
        touched, tables = world.touched(connection)
    assert len(touched) == 3
    assert not tables


@pytest.mark.parametrize(
    "criteria",
    [
        lambda c: c.name == "a",
        lambda c: c.id > 1,
        lambda c: (c.id == 1) | (c.name == "a"),
        lambda c: (c.id == 1) | ((c.id > 1) & (c.name == "a")),
        lambda c: c.id.not_in([1, 2]),
        lambda c: c.id.in_(select(c.team_id)),
        lambda c: c.id.in_([1, c.team_id]),
        lambda c: c.id.in_(list(range(1001))),
        lambda c: (c.id + 1).in_([1]),
        lambda c: c.id == c.team_id,
        lambda c: ~(c.id == 1),
        lambda c: c.id == select(c.team_id).scalar_subquery(),
    ],
)
def test_update_that_pins_nothing(world, criteria):
    """Any other criteria touch the whole table."""
    table = world.Hero.__table__
    with world.engine.begin() as connection:
        connection.execute(update(table).where(criteria(table.c)).values(name="x"))
        assert world.touched(connection)[1] == {"hero"}


def test_a_cached_compiled_form_takes_its_own_values(world):
    """The same statement with other values touches other rows (SQLAlchemy caches its form)."""
    table = world.Hero.__table__
    with world.engine.begin() as connection:
        for number in (1, 2):
            connection.execute(update(table).where(table.c.id == number).values(name="x"))
        assert len(world.touched(connection)[0]) == 2


def test_primary_key_change_in_bulk(world):
    """A bulk change of keys cannot be followed row by row."""
    table = world.Team.__table__
    with world.engine.begin() as connection:
        connection.execute(update(table).where(table.c.id == 1).values(id=2))
        assert "team" in world.touched(connection)[1]


def test_ordered_values_that_change_the_key(world):
    """ordered_values() is no way round."""
    table = world.Team.__table__
    with world.engine.begin() as connection:
        connection.execute(
            update(table)
            .where(table.c.id == 1)
            .ordered_values((table.c.id, 2), (table.c.name, "x"))
        )
        assert "team" in world.touched(connection)[1]


def test_string_keys_in_a_users_where_pin_nothing(world):
    """A collation may find 'bob' for 'Bob', so a user's string pins no row."""
    table = world.Badge.__table__
    with world.engine.begin() as connection:
        connection.execute(update(table).where(table.c.code == "Bob").values(hero_id=1))
        assert world.touched(connection)[1] == {"badge"}


def test_string_keys_from_identities_pin_their_row(world):
    """The unit of work's own UPDATE carries the row's own key."""
    with Session(world.engine) as session:
        session.add(world.Badge(code="Bob"))
        session.commit()
        session.get_one(world.Badge, "Bob").hero_id = 4
        session.flush()
        touched, tables = world.touched(session.connection())
    assert len(touched) == 1
    assert not tables


def test_delete_ripples_down_foreign_keys(world):
    """The database deletes heroes with their team and clears their badges: both are dropped."""
    table = world.Team.__table__
    with world.engine.begin() as connection:
        connection.execute(delete(table).where(table.c.id == 1))
        touched, tables = world.touched(connection)
    assert {name for name, _ in touched} == {"team"}
    assert tables == {"hero", "badge"}


def test_update_of_plain_columns_does_not_ripple(world):
    """Only keys that others refer to matter to them."""
    table = world.Team.__table__
    with world.engine.begin() as connection:
        connection.execute(update(table).where(table.c.id == 1).values(name="x"))
        assert world.touched(connection)[1] == set()


def test_joined_subclass_table_names_the_base_row(world):
    """A row of the subclass's own table is a row of the base, under the base's key."""
    flyer = world.Flyer.__table__
    with world.engine.begin() as connection:
        connection.execute(update(flyer).where(flyer.c.hero_id == 7).values(height=3))
        through_flyer = world.touched(connection)[0]
    with world.engine.begin() as connection:
        hero = world.Hero.__table__
        connection.execute(update(hero).where(hero.c.id == 7).values(name="x"))
        assert world.touched(connection)[0] == through_flyer


NAMED = {
    "in": (lambda c: c.id.in_([1, 3]), 2),
    "in one": (lambda c: c.id.in_([1]), 1),
    "in and more": (lambda c: c.id.in_([1, 3]) & (c.name == "a"), 2),
    "or": (lambda c: (c.id == 1) | (c.id == 3), 2),
    "or and more": (lambda c: ((c.id == 1) | (c.id == 3)) & (c.name == "a"), 2),
    "or of and": (lambda c: ((c.id == 1) & (c.name == "a")) | (c.id.in_([3, 4])), 3),
    "expanding": (lambda c: c.id.in_(bindparam("ids", [1, 3], expanding=True)), 2),
    "contradiction": (lambda c: (c.id == 1) & (c.id == 3), 1),
}


@pytest.mark.parametrize("how", ["core", "orm"])
@pytest.mark.parametrize("what", [update, delete])
@pytest.mark.parametrize("which", NAMED)
def test_b13_rows_that_a_where_names(world, which, what, how):
    """IN and OR over the primary key touch these rows; the table stays."""
    criteria, number = NAMED[which]
    ghost = world.Ghost.__table__
    statement = what(world.Ghost if how == "orm" else ghost).where(criteria(ghost.c))
    if what is update:
        statement = statement.values(name="x")
    with Session(world.engine) as session:
        session.execute(statement, execution_options={"synchronize_session": False})
        touched, tables = world.touched(session.connection())
    assert len(touched) == number
    assert tables == set()


def test_b13_in_takes_its_own_values(world):
    """Lists of other lengths share a compiled form, and not their values."""
    table = world.Ghost.__table__
    with world.engine.begin() as connection:
        for keys in ([1], [2, 3], [4, 5, 6]):
            connection.execute(update(table).where(table.c.id.in_(keys)).values(name="x"))
        assert len(world.touched(connection)[0]) == 6
        connection.execute(update(table).where(table.c.id.in_([])).values(name="x"))
        assert world.touched(connection)[1] == {"ghost"}  # not to be told from an unknown name


@pytest.mark.parametrize(
    ("criteria", "number"),
    [
        (lambda c: tuple_(c.a, c.b).in_([(1, 2), (3, 4)]), 2),
        (lambda c: tuple_(c.b, c.a).in_([(1, 2), (3, 4)]), 2),
        (lambda c: c.a.in_([1, 2]) & c.b.in_([3, 4]), 4),
        (lambda c: c.a.in_([1, 2]) & (c.b == 3), 2),
        (lambda c: ((c.a == 1) & (c.b == 2)) | ((c.a == 3) & (c.b == 4)), 2),
        (lambda c: (c.a == 1) | (c.b == 2), None),
        (lambda c: c.a.in_([1, 2]), None),
        (lambda c: c.a.in_(list(range(40))) & c.b.in_(list(range(40))), None),
    ],
)
def test_b13_composite_keys_that_a_where_names(world, tmp_path, criteria, number):
    """Every part must be pinned; tuples pin all at once."""

    class Pair(world.Base):
        __tablename__ = "pair"
        __cache_config__ = world.Team.__cache_config__
        a: Mapped[int] = mapped_column(primary_key=True)
        b: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int] = mapped_column(default=0)

    engine = create_engine(f"sqlite:///{tmp_path}/pairs.db")
    world.Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(update(Pair).where(criteria(Pair.__table__.c)).values(n=1))
        touched, tables = world.touched(connection)
    engine.dispose()
    assert (tables == {"pair"}) is (number is None)
    assert len(touched) == (number or 0)


def _set(statement, **how):
    return statement.on_conflict_do_update(**({"index_elements": ["id"]} | how))


UPSERTS = {
    "by key": (lambda i: _set(i.values(id=1, name="x"), set_={"name": "y"}), 1),
    "all excluded": (
        lambda i: _set(i.values(id=1, name="x"), set_={c.name: c for c in i.excluded}),
        1,
    ),
    "many values": (
        lambda i: _set(i.values([{"id": n, "name": "x"} for n in (1, 2, 3)]), set_={"name": "y"}),
        3,
    ),
    "nothing": (lambda i: i.values(id=1, name="x").on_conflict_do_nothing(), 1),
    "ignore": (lambda i: i.values(id=1, name="x").prefix_with("OR IGNORE"), 1),
    "without a target": (
        lambda i: _set(i.values(id=1, name="x"), index_elements=None, set_={"name": "y"}),
        None,
    ),
    "rekeys": (lambda i: _set(i.values(id=1, name="x"), set_={"id": 7}), None),
    "without a key": (lambda i: _set(i.values(name="x"), set_={"name": "y"}), None),
    "from select": (
        lambda i: _set(
            i.from_select(["id", "name"], select(i.table.c.id, i.table.c.name).where(true())),
            set_={"name": "y"},
        ),
        None,
    ),
}


@pytest.mark.parametrize("which", UPSERTS)
def test_b13_upserts(world, which):
    """ON CONFLICT on the primary key changes the rows whose keys it gives; any other, any row."""
    make, number = UPSERTS[which]
    with world.engine.begin() as connection:
        connection.execute(make(sqlite_insert(world.Ghost.__table__)))
        touched, tables = world.touched(connection)
    assert tables == (set() if number else {"ghost"})
    assert len(touched) == (number or 0)


def test_b13_upserts_of_many(world):
    """Executemany names each row, through a session too."""
    statement = _set(sqlite_insert(world.Ghost), set_={"name": "y"})
    with Session(world.engine) as session:
        session.execute(statement, [{"id": n, "name": "x"} for n in (1, 2, 3)])
        touched, tables = world.touched(session.connection())
    assert len(touched) == 3
    assert not tables


def test_b13_an_upsert_by_text_keys_names_no_row(world):
    """A collation may find 'bob' for 'BOB'."""
    statement = sqlite_insert(world.Badge).on_conflict_do_update(
        index_elements=["code"], set_={"hero_id": 4}
    )
    with Session(world.engine) as session:
        session.execute(statement, [{"code": "BOB"}])
        ledger = ledger_of(session.connection())
        assert "badge" in world.touched(session.connection())[1] | ledger.doubtful_tables()


@pytest.mark.parametrize(
    ("unique", "existing"), [(False, Existing.ITS_OWN), (True, Existing.ANY)], ids=["no", "unique"]
)
def test_b13_on_duplicate_key(unique, existing):
    """MySQL finds the row by any unique index: by the key only where there is no other."""
    columns = [Column("id", Integer, primary_key=True), Column("name", Integer, unique=unique)]
    table = Table("duplicate", MetaData(), *columns)
    statement = mysql_insert(table).values(id=1)
    assert existing_rows(statement.on_duplicate_key_update(name=2), (table.c.id,)) is existing
    rekeyed = statement.on_duplicate_key_update(id=2)
    assert existing_rows(rekeyed, (table.c.id,)) is Existing.ANY


@pytest.mark.parametrize(
    ("how", "existing"),
    [
        ({"constraint": "the_key"}, Existing.ITS_OWN),
        ({"constraint": "another"}, Existing.FOUND),
        ({"index_elements": ["id"]}, Existing.ITS_OWN),
        ({"index_elements": ["name"]}, Existing.FOUND),
        ({"index_elements": ["id", "name"]}, Existing.FOUND),
        ({"index_elements": ["id"], "index_where": text("id > 1")}, Existing.FOUND),
    ],
)
def test_b13_on_conflict_of_postgresql(how, existing):
    """The target may be named as a constraint; a partial index is another one."""
    table = Table(
        "conflict",
        MetaData(),
        Column("id", Integer),
        Column("name", Integer),
        PrimaryKeyConstraint("id", name="the_key"),
    )
    insert = postgresql_insert(table).values(id=1)
    statement = insert.on_conflict_do_update(**how, set_={"name": 2})
    assert existing_rows(statement, (table.c.id,)) is existing
    rekeyed = insert.on_conflict_do_update(**how, set_={"id": 2})
    assert existing_rows(rekeyed, (table.c.id,)) is Existing.ANY
    same = insert.on_conflict_do_update(**how, set_={"id": insert.excluded.id})
    its_own = existing is Existing.ITS_OWN
    assert existing_rows(same, (table.c.id,)) is (existing if its_own else Existing.ANY)


def test_insert_or_replace_touches_the_table(world):
    """A prefix may turn an INSERT into a REPLACE, which deletes, and so cascades."""
    table = world.Team.__table__
    with world.engine.begin() as connection:
        connection.execute(insert(table).prefix_with("OR REPLACE").values(id=1, name="x"))
        assert world.touched(connection)[1] == {"team", "hero", "badge"}


@pytest.mark.parametrize("how", ["core", "orm"])
def test_update_or_replace_touches_the_table(world, how):
    """It deletes rows that stand in the way of those that it names, and so cascades."""
    target = world.Team if how == "orm" else world.Team.__table__
    statement = update(target).where(world.Team.id == 1).values(name="x")
    with Session(world.engine) as session:
        session.execute(
            statement.prefix_with("OR REPLACE"), execution_options={"synchronize_session": False}
        )
        assert world.touched(session.connection())[1] == {"team", "hero", "badge"}


def test_insert_of_rows_nobody_can_have_asked_for(world):
    """Without negative entries an INSERT with generated keys has nothing to drop."""
    with world.engine.begin() as connection:
        connection.execute(insert(world.Team.__table__), [{"name": "a"}, {"name": "b"}])
        assert world.touched(connection)[1] == set()
        assert ledger_of(connection).wrote


def test_bulk_insert_where_absence_is_cached(world):
    """Where "no such row" is remembered, rows with unknown keys drop the model."""
    with world.engine.begin() as connection:
        connection.execute(insert(world.Ghost.__table__), [{"name": "a"}, {"name": "b"}])
        assert world.touched(connection)[1] == {"ghost"}
    with Session(world.engine) as session:
        session.bulk_insert_mappings(world.Ghost, [{"name": "a"}])
        assert world.touched(session.connection())[1] == {"ghost"}


UNNAMED = {
    "several": lambda g: insert(g).values([{"name": "a"}, {"name": "b"}]),
    "none, perhaps": lambda g: insert(g).prefix_with("OR IGNORE").values(name="a"),
    "upsert": lambda g: sqlite_insert(g).values(name="a").on_conflict_do_nothing(),
    "expression": lambda g: insert(g).values(id=func.abs(-7), name="a"),
    "a table without metadata": lambda _: insert(table("ghost", column("name"))).values(name="a"),
}


def test_a_generated_key_names_its_row(world):
    """The driver says it of an INSERT of one row, under a savepoint of its own, too."""
    ghost = world.Ghost.__table__
    with world.engine.begin() as connection:
        connection.execute(insert(ghost).values(name="a"))
        with connection.begin_nested() as savepoint:
            connection.execute(insert(ghost), {"id": None, "name": "b"})
            assert world.touched(connection) == ({("ghost", "i1"), ("ghost", "i2")}, set())
            savepoint.rollback()
        assert world.touched(connection) == ({("ghost", "i1")}, set())


@pytest.mark.parametrize("how", UNNAMED)
def test_keys_that_are_not_to_be_told(world, how):
    """Then absence is forgotten of all rows."""
    with world.engine.begin() as connection:
        connection.execute(UNNAMED[how](world.Ghost.__table__))
        assert world.touched(connection)[1] == {"ghost"}


def test_a_key_that_was_generated_elsewhere(world):
    """A trigger puts the row of a view into a table: what the driver says is the key of another."""
    with world.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE ghost RENAME TO grave")
        connection.exec_driver_sql("CREATE VIEW ghost AS SELECT id, name FROM grave")
        connection.exec_driver_sql(
            "CREATE TRIGGER buries INSTEAD OF INSERT ON ghost"
            " BEGIN INSERT INTO grave (id, name) VALUES (77, NEW.name); END"
        )
    with world.engine.begin() as connection:
        connection.execute(insert(world.Log.__table__).values(id=5))
        connection.execute(insert(world.Ghost.__table__).values(name="a"))
        assert connection.exec_driver_sql("SELECT id FROM ghost").scalar() == 77
        assert world.touched(connection)[1] == {"ghost"}


def test_unit_of_work_names_its_inserts(world):
    """A flush knows the generated keys: single rows are touched, not the model."""
    with Session(world.engine) as session:
        session.add_all([world.Ghost(name=str(number)) for number in range(5)])
        session.flush()
        touched, tables = world.touched(session.connection())
    assert len(touched) == 5
    assert not tables


def test_many_batches_are_counted_once(world):
    """A flush sent in several batches still leaves nothing unnamed."""
    with Session(world.engine) as session:
        session.add_all([world.Ghost(name="x") for _ in range(2500)])
        session.flush()
        touched, tables = world.touched(session.connection())
    assert len(touched) == 2500
    assert not tables


def test_dml_inside_a_cte(world):
    """A writing CTE is a write, whatever the outer statement looks like."""
    team = world.Team.__table__
    changed = update(team).values(name="x").returning(team.c.id).cte("changed")
    compiled = select(changed.c.id).compile(world.engine)
    analysis = analyse(compiled, table_map())
    assert analysis.writes
    assert {hit.target.root.table for hit in analysis.hits} == {"team"}


def test_post_update_is_seen(world, tmp_path):
    """post_update=True emits UPDATEs for which no mapper event fires."""

    class Node(world.Base):
        __tablename__ = "node"
        __cache_config__ = world.Team.__cache_config__
        id: Mapped[int] = mapped_column(primary_key=True)
        twin_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
        twin = relationship("Node", remote_side=id, post_update=True)

    engine = create_engine(f"sqlite:///{tmp_path}/nodes.db")
    world.Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Node(id=1), Node(id=2)])
        session.commit()
        one, two = session.get(Node, 1), session.get(Node, 2)
        one.twin, two.twin = two, one
        session.flush()
        touched, tables = world.touched(session.connection())
    engine.dispose()
    assert len(touched) == 2
    assert not tables


def test_uncached_tables_only_stop_fills(world):
    """A write to an uncached table drops nothing; triggers may have done anything, so no fills."""
    with world.engine.begin() as connection:
        connection.execute(insert(world.Log.__table__).values(id=1))
        assert world.touched(connection) == (set(), set())
        assert ledger_of(connection).wrote


def test_reads_open_no_ledger(world):
    """A connection that only reads carries no record."""
    with world.engine.connect() as connection:
        connection.execute(select(world.Team.__table__))
        assert ledger_of(connection) is None


def test_raw_write_drops_everything(world, caplog, no_sqlglot):
    """A text that could write anything drops every cached model, and says so once."""
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE team SET name = 'x'"))
        connection.exec_driver_sql("UPDATE team SET name = 'y'")
        assert ledger_of(connection).everything
    assert sum("raw SQL" in record.message for record in caplog.records) == 1


def test_ddl(world, no_sqlglot):
    """Dropping a table, and creating it, drops its model; unknown DDL everything."""
    with world.engine.begin() as connection:
        connection.execute(DDL("CREATE TABLE other (id int)"))
        assert ledger_of(connection) is None or not ledger_of(connection).everything
    for change in (world.Badge.__table__.drop, world.Badge.__table__.create):
        with world.engine.begin() as connection:
            change(connection)
            assert world.touched(connection)[1] == {"badge"}
    with world.engine.begin() as connection:
        connection.execute(DDL("ALTER TABLE team ADD COLUMN more int"))
        assert ledger_of(connection).everything


def test_two_databases_may_each_have_a_table_of_that_name(world):
    """Another Base with a `team` of another shape changes nothing about this one."""

    class Other(DeclarativeBase):
        pass

    class Team(Other):
        __tablename__ = "team"
        __cache_config__ = world.Team.__cache_config__
        code: Mapped[str] = mapped_column(primary_key=True)

    ours = world.Team.__table__
    with world.engine.begin() as connection:
        connection.execute(update(ours).where(ours.c.id == 1).values(name="x"))
        touched, tables = world.touched(connection)
    assert len(touched) == 1
    assert not tables
    Other.registry.dispose()


def test_a_table_nobody_mapped_stands_for_its_name(world):
    """A reflected Table writes to the same rows."""
    reflected = Table("team", MetaData(), autoload_with=world.engine)
    with world.engine.begin() as connection:
        connection.execute(update(reflected).where(reflected.c.id == 1).values(name="x"))
        assert world.touched(connection)[1] == {"team"}

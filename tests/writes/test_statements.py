"""What a statement touches: rows where its WHERE pins them, tables where it does not."""

from __future__ import annotations

import pytest
from sqlalchemy import (
    DDL,
    ForeignKey,
    MetaData,
    Table,
    bindparam,
    create_engine,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqlmodel_cache.orm.connection import ledger_of
from sqlmodel_cache.orm.statements import analyse
from sqlmodel_cache.orm.tables import table_map


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
        lambda c: (c.id == 1) | (c.id == 2),
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


def test_upsert_touches_the_table(world):
    """ON CONFLICT DO UPDATE changes rows that the statement does not name."""
    table = world.Team.__table__
    with world.engine.begin() as connection:
        connection.execute(
            sqlite_insert(table)
            .values(id=1, name="x")
            .on_conflict_do_update(index_elements=["id"], set_={"name": "y"})
        )
        assert world.touched(connection)[1] == {"team"}


def test_insert_or_replace_touches_the_table(world):
    """A prefix may turn an INSERT into a REPLACE, which deletes, and so cascades."""
    table = world.Team.__table__
    with world.engine.begin() as connection:
        connection.execute(insert(table).prefix_with("OR REPLACE").values(id=1, name="x"))
        assert world.touched(connection)[1] == {"team", "hero", "badge"}


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
    """Dropping a table drops its model; creating one touches nothing; unknown DDL everything."""
    with world.engine.begin() as connection:
        connection.execute(DDL("CREATE TABLE other (id int)"))
        assert ledger_of(connection) is None or not ledger_of(connection).everything
        world.Badge.__table__.drop(connection)
        assert world.touched(connection)[1] == {"badge"}
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

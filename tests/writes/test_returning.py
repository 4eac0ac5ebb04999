"""Rows that a statement names by its RETURNING: they are touched before the user sees them."""

from __future__ import annotations

import uuid
from enum import Enum

import pytest
from sqlalchemy import (
    Column,
    Computed,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    Uuid,
    bindparam,
    column,
    delete,
    event,
    insert,
    inspect,
    literal,
    select,
    table,
    text,
    update,
)
from sqlalchemy import Enum as SqlEnum
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache
from sqlmodel_cache.orm.connections.cursors import is_half_read
from sqlmodel_cache.orm.connections.ledger import ledger_of
from sqlmodel_cache.orm.model.keying import pk_codec
from sqlmodel_cache.orm.model.tables import table_map
from sqlmodel_cache.orm.writes.rows import ROWS_AT_MOST


@pytest.fixture
def filled(world):
    """Return the world with heroes 1, 2, 3 of team 3, hero 4 of team 4, and nothing cached."""
    with Session(world.engine) as session:
        session.add_all([world.Team(id=number, name=f"t{number}") for number in (3, 4)])
        session.flush()
        session.add_all([world.Hero(id=n, name=f"h{n}", team_id=3) for n in (1, 2, 3)])
        session.add(world.Hero(id=4, name="h4", team_id=4))
        session.add_all([world.Badge(code=code, hero_id=1) for code in ("a", "B")])
        session.commit()
    return world


def keys(connection, model, *pks):
    """Return what touching these rows leaves in a ledger."""
    root = table_map().root_of(inspect(model))
    codec = pk_codec(root, connection.dialect)
    return {(root.table, codec.encode(pk if isinstance(pk, tuple) else (pk,))) for pk in pks}


def in_team(world, number=3):
    """Return an UPDATE of the heroes of one team, which its WHERE does not name by key."""
    return update(world.Hero).where(world.Hero.team_id == number).values(name="x")


SAYING = {
    "key": lambda h: [h.id],
    "entity": lambda h: [h],
    "among others": lambda h: [h.name, h.id, h.id, (h.team_id + 1).label("n")],
}


@pytest.mark.parametrize("how", ["orm", "core"])
@pytest.mark.parametrize("said", SAYING)
def test_b13_an_update_touches_what_it_returns(filled, how, said):
    """Three rows, not the table; the user reads the very rows that are read without the library."""
    hero = filled.Hero
    with Session(filled.engine) as session:
        run = session.execute if how == "orm" else session.connection().execute
        entity = hero if how == "orm" else hero.__table__
        saying = SAYING[said](hero if how == "orm" else hero.__table__.c)
        if said == "entity" and how == "core":
            saying = [hero.__table__]
        statement = update(entity).where(hero.team_id == 3).values(name="x").returning(*saying)
        rows = run(statement).all()
        assert filled.touched(session.connection()) == (
            keys(session.connection(), hero, 1, 2, 3),
            set(),
        )
        assert ledger_of(session.connection()).wrote
        SQLModelCache.reset()
        again = run(statement).all()
    assert len(rows) == 3
    if said == "entity" and how == "orm":
        assert sorted(row.Hero.id for row in rows) == [1, 2, 3]
        assert all(row.Hero.name == "x" for row in rows)
    else:
        assert rows == again
        assert [type(row) for row in rows] == [type(row) for row in again]
        assert [row._fields for row in rows] == [row._fields for row in again]


@pytest.mark.parametrize("how", ["orm", "core", "fetch"])
def test_b13_a_delete_touches_what_it_returns(filled, how):
    """And what its foreign keys make the database change, as ever: whole tables."""
    hero = filled.Hero
    with Session(filled.engine) as session:
        if how == "fetch":
            options = {"synchronize_session": "fetch"}
            session.execute(delete(hero).where(hero.team_id == 3), execution_options=options)
        elif how == "orm":
            session.execute(delete(hero).where(hero.team_id == 3).returning(hero.id))
        else:
            heroes = hero.__table__
            session.connection().execute(
                delete(heroes).where(heroes.c.team_id == 3).returning(heroes)
            )
        touched, tables = filled.touched(session.connection())
        assert touched == keys(session.connection(), hero, 1, 2, 3)
        assert tables == {"badge"}


def test_b13_synchronize_session_by_fetch(filled):
    """It adds the RETURNING itself; what the session holds is expired as ever."""
    with Session(filled.engine) as session:
        one = session.get(filled.Hero, 1)
        options = {"synchronize_session": "fetch"}
        assert session.execute(in_team(filled), execution_options=options).rowcount == 3
        assert one.name == "x"
        touched, tables = filled.touched(session.connection())
        assert touched == keys(session.connection(), filled.Hero, 1, 2, 3)
        assert not tables


def test_b13_from_statement(filled):
    """An UPDATE executed as the SELECT of an entity."""
    with Session(filled.engine) as session:
        statement = select(filled.Hero).from_statement(in_team(filled).returning(filled.Hero))
        assert {hero.id for hero in session.scalars(statement)} == {1, 2, 3}
        touched, tables = filled.touched(session.connection())
        assert touched == keys(session.connection(), filled.Hero, 1, 2, 3)
        assert not tables


def test_b13_an_update_that_changes_nothing(filled):
    """No row returned, no row touched. A DELETE forgets the model: a trigger may have hidden it."""
    with filled.engine.begin() as connection:
        statement = in_team(filled, 9).returning(filled.Hero.id)
        assert connection.execute(statement).all() == []
        assert filled.touched(connection) == (set(), set())
        gone = delete(filled.Hero).where(filled.Hero.team_id == 9).returning(filled.Hero.id)
        assert connection.execute(gone).all() == []
        assert "hero" in filled.touched(connection)[1]


def test_b13_a_trigger_that_deletes_softly(filled):
    """What a trigger does instead of the DELETE is in no RETURNING: the model is forgotten."""
    with filled.engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER softly BEFORE DELETE ON hero BEGIN"
                " UPDATE hero SET name = 'gone' WHERE id = OLD.id; SELECT RAISE(IGNORE); END"
            )
        )
    SQLModelCache.clear()
    with Session(filled.engine) as session:
        session.get(filled.Hero, 1)
    with filled.engine.begin() as connection:
        gone = delete(filled.Hero).where(filled.Hero.team_id == 3).returning(filled.Hero.id)
        assert connection.execute(gone).all() == []
    with Session(filled.engine) as session:
        assert session.get(filled.Hero, 1).name == "gone"


WHOLE = {
    "no key": lambda w: in_team(w).returning(w.Hero.name),
    "nothing": in_team,
    "an expression of the key": lambda w: in_team(w).returning(w.Hero.id + 0),
    "a literal": lambda w: in_team(w).returning(literal(1).label("id")),
    "another's key": lambda w: in_team(w).returning(aliased(w.Hero).id),
    "text, too": lambda w: in_team(w).returning(text("'x' AS id"), w.Hero.id),
    "minus the key": lambda w: in_team(w).returning(-w.Hero.id),
    "a new key": lambda w: (
        update(w.Hero).where(w.Hero.name == "h1").values(id=70).returning(w.Hero.id)
    ),
    "a new key by expression": lambda w: (
        update(w.Hero).where(w.Hero.team_id == 3).values(id=w.Hero.id + 50).returning(w.Hero.id)
    ),
    "ordered values": lambda w: (
        update(w.Hero)
        .where(w.Hero.team_id == 3)
        .ordered_values((w.Hero.name, "x"), (w.Hero.id, w.Hero.id + 50))
        .returning(w.Hero.id)
    ),
    "a prefix": lambda w: in_team(w).prefix_with("OR REPLACE").returning(w.Hero.id),
    "an alias": lambda w: update(aliased(w.Hero)).values(name="x").returning(literal(1)),
    "a table of the same name": lambda w: (
        update(table("hero", column("id"), column("name")))
        .values(name="x")
        .returning(column("id", Integer))
    ),
    "a Table of the same name": lambda w: _another(w),
}


def _another(world):
    """Return an UPDATE of another Table of the same name."""
    other = Table("hero", MetaData(), Column("id", Integer), Column("name", String))
    return other.update().values(name="x").returning(other)


@pytest.mark.parametrize("which", WHOLE)
def test_b13_what_does_not_say_which_rows(filled, which):
    """It touches the whole table, as ever."""
    with filled.engine.begin() as connection:
        connection.execute(WHOLE[which](filled))
        assert "hero" in filled.touched(connection)[1]


@pytest.mark.parametrize("option", [{"stream_results": True}, {"yield_per": 2}])
def test_b13_what_streams(filled, option):
    """Rows that are to be fetched little by little are left alone."""
    with filled.engine.begin() as connection:
        statement = in_team(filled).returning(filled.Hero.id)
        found = connection.execute(statement, execution_options=option)
        assert "hero" in filled.touched(connection)[1]
        assert len(found.all()) == 3


def test_b13_other_drivers_are_not_asked(filled):
    """Only of databases on which this was seen to be right."""
    from sqlalchemy.dialects import mssql, oracle

    from sqlmodel_cache.orm.writes.statements import analyse

    statement = in_team(filled).returning(filled.Hero.id)
    for dialect, told in ((filled.engine.dialect, True), (mssql.dialect(), False)):
        (hit,) = analyse(statement.compile(dialect=dialect), table_map()).hits
        assert (hit.returned is not None) is told
    (hit,) = analyse(statement.compile(dialect=oracle.dialect()), table_map()).hits
    assert hit.returned is None


def test_b13_keys_in_the_where_need_no_rows(filled):
    """Where the WHERE names the rows they are touched before the statement is sent."""
    hero = filled.Hero
    seen = []

    def look(cursor, statement, parameters, context):
        seen.append(filled.touched(context.root_connection))

    event.listen(filled.engine, "do_execute", look)
    with filled.engine.begin() as connection:
        connection.execute(update(hero).where(hero.id == 1).values(name="x").returning(hero.id))
        assert seen[-1] == (keys(connection, hero, 1), set())
        connection.execute(in_team(filled).returning(hero.id))
        assert seen[-1][1] == {"hero"}  # until its rows are known


def test_b13_keys_that_are_text(filled):
    """The database's own spelling is known, whatever the collation of the WHERE."""
    badge = filled.Badge
    with filled.engine.begin() as connection:
        where = badge.code.collate("NOCASE") == "b"
        connection.execute(update(badge).where(where).values(hero_id=2).returning(badge.code))
        pinned = update(badge).where(badge.code == "a").values(hero_id=2).returning(badge.code)
        connection.execute(pinned)
        assert filled.touched(connection) == (keys(connection, badge, "a", "B"), set())
        assert not ledger_of(connection).doubtful


@pytest.mark.parametrize("over", [0, 1], ids=["few enough", "too many"])
@pytest.mark.parametrize("by", ["all", "one", "some", "partitions"])
def test_b13_up_to_so_many_rows(world, over, by):
    """Beyond it is the whole model; the user reads every row, in whatever portions."""
    number = ROWS_AT_MOST + over
    with world.engine.begin() as connection:
        connection.execute(insert(world.Team), [{"id": n, "name": ""} for n in range(number)])
    with world.engine.begin() as connection:
        found = connection.execute(update(world.Team).values(name="x").returning(world.Team.id))
        touched, tables = world.touched(connection)
        assert (len(touched), tables) == ((0, {"team"}) if over else (number, set()))
        if by == "all":
            rows = found.all()
        elif by == "one":
            rows = list(iter(found.fetchone, None))
        elif by == "some":
            rows = [row for chunk in iter(lambda: found.fetchmany(7), []) for row in chunk]
        else:
            rows = [row for chunk in found.yield_per(9).partitions() for row in chunk]
        assert sorted(row.id for row in rows) == list(range(number))
        assert found.closed or found._soft_closed


def test_nothing_read_ahead_holds_a_connection_back(world):
    """SQLite's cursor is at its end once the rows are there, whether anybody reads them or not."""
    with world.engine.begin() as connection:
        connection.execute(insert(world.Team), [{"id": n, "name": ""} for n in range(2)])
    with world.engine.connect() as connection:
        found = connection.execute(update(world.Team).values(name="x").returning(world.Team.id))
        connection.commit()
        assert not is_half_read(connection)
        assert len(found.all()) == 2


def test_a_statement_that_fails_forgets_the_model(filled):
    """The transaction may go on, and what it did is not known."""
    hero = filled.Hero
    with filled.engine.begin() as connection:
        statement = in_team(filled).returning(hero.id)

        def fail(*_):
            raise OSError("a listener of somebody else's")

        event.listen(connection, "after_cursor_execute", fail)
        with pytest.raises(OSError, match="somebody"):
            connection.execute(statement)
        event.remove(connection, "after_cursor_execute", fail)
        assert filled.touched(connection) == (set(), {"hero"})
        connection.execute(statement)
        assert filled.touched(connection)[1] == {"hero"}


def test_a_statement_that_the_database_refuses(filled):
    """The same, and the row that comes next is named as ever."""
    with Session(filled.engine) as session:
        team = filled.Team
        statement = update(team).where(team.name == "t3").values(name=None).returning(team.id)
        with pytest.raises(IntegrityError):
            session.connection().execute(statement)
        session.add(filled.Ghost(name="x"))
        session.flush()
        assert filled.touched(session.connection())[1] == {"team"}


def test_a_listener_that_writes_in_between(filled):
    """What it touches for good stays touched."""
    hero = filled.Hero
    with filled.engine.begin() as connection:

        def also(conn, cursor, statement, *_):
            if "RETURNING" in statement:
                conn.execute(update(hero).where(hero.team_id == 4).values(name="y"))

        event.listen(connection, "after_cursor_execute", also)
        connection.execute(in_team(filled).returning(hero.id))
        event.remove(connection, "after_cursor_execute", also)
        touched, tables = filled.touched(connection)
        assert touched == keys(connection, hero, 1, 2, 3)
        assert tables == {"hero"}


def test_b05_savepoints(filled):
    """Rows belong to the savepoint that the statement ran in."""
    hero = filled.Hero
    with Session(filled.engine) as session:
        session.execute(insert(filled.Log), {"id": 1})  # or the driver commits at the release
        with session.begin_nested():
            session.execute(in_team(filled, 4).returning(hero.id))
        with session.begin_nested() as lost:
            session.execute(in_team(filled).returning(hero.id))
            lost.rollback()
        touched, tables = filled.touched(session.connection())
        assert touched == keys(session.connection(), hero, 4)
        assert not tables


def test_a_driver_that_commits_each_statement(filled):
    """Its fence must stand before the statement is sent, when nobody knows the rows."""
    engine = filled.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(in_team(filled).returning(filled.Hero.id))
        assert "hero" in filled.touched(connection)[1]


def test_executemany_of_an_update(filled):
    """Many sets of parameters return no rows."""
    hero = filled.Hero.__table__
    statement = update(hero).where(hero.c.name == bindparam("who")).values(name="x")
    with filled.engine.begin() as connection:
        connection.execute(statement, [{"who": "h1"}, {"who": "h2"}])
        assert filled.touched(connection)[1] == {"hero"}


def test_b13_joined_inheritance(filled):
    """A row of the subclass's own table is a row of the base."""
    flyer = filled.Flyer
    with Session(filled.engine) as session:
        session.add_all([flyer(id=n, height=n) for n in (8, 9)])
        session.commit()
        session.execute(
            update(flyer).where(flyer.height > 8).values(height=3).returning(flyer.hero_id)
        )
        touched, tables = filled.touched(session.connection())
        assert touched == keys(session.connection(), filled.Hero, 9)
        assert not tables


def test_an_update_beside_one_in_a_with(filled):
    """Only the statement's own rows are returned; what a WITH writes is judged by itself."""
    from sqlalchemy.dialects import postgresql

    from sqlmodel_cache.orm.writes.statements import analyse

    team, hero = filled.Team, filled.Hero
    inner = update(team).values(name="x").returning(team.id).cte("inner")
    outer = in_team(filled).where(hero.id.in_(select(inner.c.id))).returning(hero.id)
    hits = analyse(outer.compile(dialect=postgresql.dialect()), table_map()).hits
    assert {hit.target.root.table: hit.returned is not None for hit in hits} == {
        "team": False,
        "hero": True,
    }


# -- inserts ---------------------------------------------------------------------------------------


def test_b21_rows_that_appear(world):
    """Where "no such row" is remembered, generated keys are learnt from RETURNING."""
    ghost = world.Ghost
    with world.engine.begin() as connection:
        statement = insert(ghost).returning(ghost.id)
        one = connection.execute(statement, {"name": "a"}).scalar_one()
        many = connection.execute(statement, [{"name": str(n)} for n in range(5)]).scalars().all()
        chosen = insert(ghost).from_select(["name"], select(ghost.name)).returning(ghost.id)
        more = connection.execute(chosen).scalars().all()
        assert len(more) == 6
        assert filled_keys(connection, world) == keys(connection, ghost, one, *many, *more)


def filled_keys(connection, world):
    """Return the rows touched, where no table is."""
    touched, tables = world.touched(connection)
    assert not tables
    return touched


@pytest.mark.parametrize("known", [True, False])
def test_b21_rows_that_a_session_inserts_in_bulk(world, known):
    """Those of insert() with many rows, which is no flush."""
    ghost = world.Ghost
    with Session(world.engine) as session:
        rows = [{"name": str(n)} for n in range(3)]
        statement = insert(ghost).returning(ghost) if known else insert(ghost)
        result = session.execute(statement, rows)
        touched, tables = world.touched(session.connection())
        if known:
            found = [each.id for each in result.scalars()]
            assert touched == keys(session.connection(), ghost, *found)
        assert tables == (set() if known else {"ghost"})


def test_b13_upserts_by_another_unique_key(world):
    """Which rows they find is known by RETURNING only: made or changed, they are in it."""
    seat = world.Seat.__table__
    with world.engine.begin() as connection:
        connection.execute(insert(seat), [{"id": n, "number": n + 100} for n in (1, 2, 3)])
    with world.engine.begin() as connection:
        statement = upsert(seat).values([{"number": 101}, {"number": 300}])
        statement = statement.on_conflict_do_update(index_elements=["number"], set_={"number": 201})
        assert sorted(connection.execute(statement.returning(seat.c.id)).scalars()) == [1, 4]
        rows = {key for key in world.touched(connection)[0] if "number" not in key[1]}
        assert rows >= keys(connection, world.Seat, 1, 4)
        assert not rows & keys(connection, world.Seat, 2, 3)


@pytest.mark.parametrize("returning", [False, True])
def test_b13_upserts_that_give_rows_another_key(filled, returning):
    """The old one is nowhere to be seen."""
    team = filled.Team.__table__
    with filled.engine.begin() as connection:
        connection.execute(text("CREATE UNIQUE INDEX names ON team (name)"))
    with filled.engine.begin() as connection:
        statement = upsert(team).values(id=50, name="t4")
        statement = statement.on_conflict_do_update(
            index_elements=["name"], set_={"id": statement.excluded.id}
        )
        connection.execute(statement.returning(team.c.id) if returning else statement)
        assert "team" in filled.touched(connection)[1]


def test_b13_upserts_that_do_not_say(filled):
    """Without RETURNING the model is forgotten, as ever."""
    team = filled.Team.__table__
    with filled.engine.begin() as connection:
        connection.execute(text("CREATE UNIQUE INDEX names ON team (name)"))
    with filled.engine.begin() as connection:
        statement = upsert(team).values(name="t4")
        statement = statement.on_conflict_do_update(index_elements=["name"], set_={"name": "u"})
        connection.execute(statement)
        assert "team" in filled.touched(connection)[1]


def test_b13_upserts_of_text_keys(filled):
    """Which row was found is known, whatever the collation thinks."""
    badge = filled.Badge
    statement = upsert(badge).on_conflict_do_update(index_elements=["code"], set_={"hero_id": 4})
    with Session(filled.engine) as session:
        session.execute(statement.returning(badge.code), [{"code": "a"}, {"code": "c"}])
        assert "badge" not in world_tables(session, filled)


def world_tables(session, world):
    """Return the tables that a session's commit would forget."""
    connection = session.connection()
    return world.touched(connection)[1] | ledger_of(connection).doubtful_tables()


def test_insert_or_replace_returns_but_does_not_say(filled):
    """It deletes rows that no RETURNING shows."""
    team = filled.Team.__table__
    with filled.engine.begin() as connection:
        statement = insert(team).prefix_with("OR REPLACE").values(id=3, name="x")
        connection.execute(statement.returning(team.c.id))
        assert "team" in filled.touched(connection)[1]


# -- kinds of keys ---------------------------------------------------------------------------------


class Colour(Enum):
    """A key that is a name in the database."""

    RED = 1
    BLUE = 2


class Prefixed(TypeDecorator):
    """A key that has another form in the database."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else f"p:{value}"

    def process_result_value(self, value, dialect):
        return None if value is None else int(value.removeprefix("p:"))


class Broken(Prefixed):
    """A type that cannot read what is there."""

    cache_ok = True

    def process_result_value(self, value, dialect):
        raise LookupError(value)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Uuid(), uuid.UUID(int=5)),
        (SqlEnum(Colour), Colour.BLUE),
        (Prefixed(), 7),
        (LargeBinary(), b"\x00\xff"),
    ],
    ids=["uuid", "enum", "decorated", "bytes"],
)
def test_b02_keys_are_decoded_as_a_load_does(world, type_, value):
    """The row that is touched is the row that is cached."""

    class Keyed(world.Base):
        __tablename__ = "keyed"
        __cache_config__ = CacheConfig()
        id = mapped_column(type_, primary_key=True)
        name: Mapped[str]

    world.Base.metadata.create_all(world.engine)
    with Session(world.engine) as session:
        session.add(Keyed(id=value, name="a"))
        session.commit()
    with Session(world.engine) as session:
        session.get(Keyed, value)
    with Session(world.engine) as session:
        assert SQLModelCache.explain(session, Keyed, value).expected == "hit"
        statement = update(Keyed).where(Keyed.name == "a").values(name="b").returning(Keyed.id)
        assert session.execute(statement).scalars().all() == [value]
        assert world.touched(session.connection()) == (
            keys(session.connection(), Keyed, value),
            set(),
        )
        session.commit()
    with Session(world.engine) as session:
        assert session.get(Keyed, value).name == "b"


def test_b02_composite_keys(world):
    """In the order of the key, whatever that of RETURNING."""

    class Pair(world.Base):
        __tablename__ = "pair"
        __cache_config__ = CacheConfig()
        a: Mapped[int] = mapped_column(primary_key=True)
        b: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="")

    world.Base.metadata.create_all(world.engine)
    with Session(world.engine) as session:
        session.add_all([Pair(a=1, b=2), Pair(a=2, b=1)])
        session.commit()
        where = update(Pair).where(Pair.a < Pair.b).values(name="x")
        session.execute(where.returning(Pair.b, Pair.name, Pair.a))
        assert world.touched(session.connection()) == (
            keys(session.connection(), Pair, (1, 2)),
            set(),
        )
        session.execute(where.returning(Pair.b))  # half of it
        assert world.touched(session.connection())[1] == {"pair"}


def test_keys_that_cannot_be_read(world):
    """What the user's type raises is raised where the user reads; meanwhile it is the table."""

    class Odd(world.Base):
        __tablename__ = "odd"
        __cache_config__ = CacheConfig()
        id: Mapped[int] = mapped_column(Broken, primary_key=True)
        name: Mapped[str]

    world.Base.metadata.create_all(world.engine)
    with world.engine.begin() as connection:
        connection.execute(insert(Odd).values(id=1, name="a"))
    with world.engine.begin() as connection:
        found = connection.execute(update(Odd).values(name="b").returning(Odd.id))
        assert world.touched(connection)[1] == {"odd"}
        with pytest.raises(LookupError):
            found.all()


def test_keys_that_the_database_computes(world):
    """An UPDATE of what they are computed from gives rows another key."""

    class Made(world.Base):
        __tablename__ = "made"
        __cache_config__ = CacheConfig()
        base: Mapped[int] = mapped_column(primary_key=True)
        id: Mapped[int] = mapped_column(Computed("base + 1"), primary_key=True)
        name: Mapped[str]

    from sqlmodel_cache.orm.writes.statements import analyse

    statement = update(Made).where(Made.name == "a").values(name="b").returning(Made)
    (hit,) = analyse(statement.compile(world.engine), table_map()).hits
    assert hit.returned is None


def test_read_on_another_connection(filled):
    """Rows of other teams are hits, those that changed are read anew."""
    hero = filled.Hero
    for number in (1, 2, 3, 4):
        with Session(filled.engine) as session:
            session.get(hero, number)
    sent = []
    event.listen(filled.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    with Session(filled.engine) as session:
        session.execute(in_team(filled).returning(hero.id))
        sent.clear()
        assert session.get(hero, 1).name == "x"  # in the writer's own transaction
        assert len(sent) == 1
        with Session(filled.engine) as reader:  # before the COMMIT
            assert reader.get(hero, 1).name == "h1"
        session.commit()
    sent.clear()
    with Session(filled.engine) as session:
        assert session.get(hero, 4).name == "h4"
        assert not sent
        assert [session.get(hero, number).name for number in (1, 2, 3)] == ["x"] * 3
        assert len(sent) == 3

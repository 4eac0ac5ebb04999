"""What sqlglot reads off a text: its tables, and never less than the text does (B15)."""

from __future__ import annotations

import logging
from contextlib import closing

import psycopg
import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url, text

from sqlmodel_cache.orm.connections.ledger import ledger_of
from sqlmodel_cache.orm.writes import rawsql
from sqlmodel_cache.orm.writes.rawsql import read
from sqlmodel_cache.orm.writes.sqltext import LONG, Effect, effect_of
from tests.servers.postgres import libpq_url

DIALECTS = ("postgresql", "mysql", "mariadb", "sqlite", "mssql", "oracle", "duckdb")

WRITES = [
    ("postgresql", "UPDATE hero SET name = 'x'", {"hero"}),
    ("postgresql", 'update "hero" as h set name = $1 from team where h.id = $2', {"hero"}),
    ("postgresql", "UPDATE public.hero SET name = %(a)s WHERE id IN (%(b_1)s, %(b_2)s)", {"hero"}),
    ("postgresql", "UPDATE ONLY hero SET data = data || '{\"a\": 1}'::jsonb", {"hero"}),
    ("postgresql", "/* a */ DELETE /* b */ FROM hero -- c\n USING team", {"hero"}),
    ("postgresql", "INSERT INTO hero (id, name) VALUES (%s, %s), (%s, %s)", {"hero"}),
    ("postgresql", "INSERT INTO hero SELECT * FROM team ON CONFLICT DO NOTHING", {"hero"}),
    ("postgresql", "INSERT INTO hero VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1", {"hero"}),
    ("postgresql", "WITH d AS (DELETE FROM hero RETURNING *) SELECT * FROM d", {"hero"}),
    (
        "postgresql",
        "WITH d AS (DELETE FROM hero RETURNING *), i AS (INSERT INTO team SELECT * FROM d"
        " RETURNING *) UPDATE badge SET n = 1",
        {"hero", "team", "badge"},
    ),
    (
        "postgresql",
        "MERGE INTO hero USING team ON hero.id = team.id WHEN MATCHED THEN DELETE"
        " WHEN NOT MATCHED THEN INSERT VALUES (1)",
        {"hero"},
    ),
    ("postgresql", "COPY hero (id, name) FROM STDIN", {"hero"}),
    ("postgresql", "TRUNCATE hero, ONLY team RESTART IDENTITY", {"hero", "team"}),
    ("postgresql", "DROP TABLE IF EXISTS hero, app.team CASCADE", {"hero", "team"}),
    ("postgresql", "ALTER TABLE hero ADD COLUMN x int", {"hero"}),
    ("postgresql", "SELECT 1; UPDATE hero SET a = 1; DELETE FROM team", {"hero", "team"}),
    ("mysql", "UPDATE `hero` SET a = 1 ORDER BY id LIMIT 3", {"hero"}),
    ("mysql", "UPDATE hero h JOIN team t ON t.id = h.t SET t.a = 1", {"hero", "team"}),
    ("mysql", "UPDATE hero, team SET team.a = 1", {"hero", "team"}),
    ("mysql", "DELETE h, t FROM hero h JOIN team t ON 1 = 1", {"hero", "team"}),
    ("mysql", "DELETE FROM h USING hero AS h JOIN team", {"hero", "team"}),
    ("mysql", "REPLACE INTO hero (id) VALUES (%s)", {"hero"}),
    ("mysql", "INSERT INTO hero (id) VALUES (1) ON DUPLICATE KEY UPDATE a = 2", {"hero"}),
    ("mysql", "UPDATE hero AS team JOIN team AS t ON 1 = 1 SET t.a = 1", {"hero", "team"}),
    ("sqlite", "INSERT OR REPLACE INTO hero VALUES (?)", {"hero"}),
    ("sqlite", "REPLACE INTO hero VALUES (:a)", {"hero"}),
    ("sqlite", "WITH x AS (SELECT 1) DELETE FROM [hero]", {"hero"}),
    ("sqlite", "UPDATE OR IGNORE hero SET a = 1", {"hero"}),
    ("mssql", "UPDATE h SET a = 1 FROM hero h JOIN team t ON 1 = 1", {"hero", "team"}),
    ("mssql", "WITH c AS (SELECT * FROM hero) UPDATE c SET a = 1", {"hero"}),
    ("mssql", "DELETE h FROM [hero] AS h", {"hero"}),
]


@pytest.mark.parametrize(("dialect", "statement", "tables"), WRITES)
def test_b15_tables_of_a_text(dialect, statement, tables):
    """These tables and nothing else, or at least these and anything."""
    reading = read(statement, dialect)
    if Effect.ANYTHING in reading.effect:
        assert statement.startswith(("UPDATE ONLY", "UPDATE OR IGNORE", "TRUNCATE hero, ONLY"))
    else:
        assert {written.name for written in reading.writes} == tables


READS = [
    ("postgresql", "SELECT replace(name, 'a', 'b') FROM hero"),
    ("postgresql", "SELECT count(*), coalesce(a, 0), now(), lower(b) FROM hero FOR UPDATE"),
    ("postgresql", "SELECT pg_advisory_xact_lock(%(key)s)"),
    ("postgresql", "SELECT pg_catalog.upper('x'), date_trunc('day', at), x::int, a ->> 'b' FROM x"),
    ("postgresql", "SELECT * FROM generate_series(1, 2) AS t(a) WHERE a IN (1, 2)"),
    ("postgresql", "SELECT * FROM hero WHERE data ? 'key' AND (a OR b)"),
    ("postgresql", "SELECT row_number() OVER (PARTITION BY a), array_agg(x ORDER BY y) FROM hero"),
    ("postgresql", "COPY (SELECT * FROM hero) TO STDOUT"),
    ("postgresql", "VALUES (1, now())"),
    ("mysql", "SELECT IF(a, b, c), DATE_FORMAT(a, '%%Y'), LAST_INSERT_ID(), DATABASE()"),
    ("sqlite", "SELECT json_extract(a, '$.x'), strftime('%Y', b), changes() FROM hero"),
    ("sqlite", "SELECT * FROM hero WHERE id IN (SELECT max(id) FROM hero GROUP BY name)"),
]


@pytest.mark.parametrize(("dialect", "statement"), READS)
def test_b15_texts_that_read(dialect, statement):
    """Functions that a database brings along write nothing."""
    assert read(statement, dialect) == rawsql.Reading(Effect.NOTHING)


NOT_UNDERSTOOD = [
    ("postgresql", "SELECT rename_all()"),
    ("postgresql", "SELECT app.upper('x')"),
    ("postgresql", 'SELECT "Upper"(1)'),
    ("postgresql", "SELECT transform(1)"),
    ("postgresql", "SELECT * FROM rename_all() AS r"),
    ("postgresql", "SELECT (rename_all()).id"),
    ("postgresql", "VALUES (rename_all())"),
    ("postgresql", "UPDATE hero SET name = rename(name)"),
    ("postgresql", "CALL rename_all()"),
    ("postgresql", "DO $$ BEGIN DELETE FROM hero; END $$"),
    ("postgresql", "EXPLAIN ANALYZE DELETE FROM hero"),
    ("postgresql", "SELECT * INTO hero2 FROM hero"),
    ("postgresql", "COPY (DELETE FROM hero RETURNING *) TO STDOUT"),
    ("postgresql", "CREATE TABLE x AS WITH d AS (DELETE FROM hero RETURNING *) SELECT * FROM d"),
    ("postgresql", "EXECUTE stored(1)"),
    ("postgresql", "DROP SCHEMA app CASCADE"),
    ("postgresql", "REFRESH MATERIALIZED VIEW hero"),
    ("postgresql", "UPDATE hero SET name = E'\\'' WHERE name = 'x'"),
    ("mysql", "LOAD DATA INFILE 'x' INTO TABLE hero"),
    ("mysql", "CALL rename_all()"),
    ("mysql", "SELECT 1 /*! ; DELETE FROM hero */"),
    ("mysql", "SELECT {d '2020-01-01'}, 1 ; DELETE FROM hero"),
    ("mysql", "RENAME TABLE hero TO x, y TO hero"),
    ("mysql", "SET STATEMENT max_statement_time = 1 FOR UPDATE hero SET a = 1"),
    ("mssql", "UPDATE hero SET a = 1 DELETE team"),
    ("mssql", "SELECT 1 EXEC rename_all"),
    ("mssql", "EXEC rename_all"),
    ("mssql", "SELECT 1 DELETE FROM hero"),
    ("oracle", "BEGIN DELETE FROM hero; END;"),
    ("duckdb", "UPDATE hero SET a = 1"),
    ("postgresql", "UPDATE hero SET a = 1 /* " + "x" * LONG + " */"),
]


@pytest.mark.parametrize(("dialect", "statement"), NOT_UNDERSTOOD)
def test_b15_texts_that_nobody_understands(dialect, statement):
    """They could write anything."""
    assert Effect.ANYTHING in read(statement, dialect).effect


def test_b15_sqlglot_does_not_complain_for_us(caplog):
    """What it cannot parse is not the user's business; what the user parses is."""
    with caplog.at_level(logging.DEBUG):
        read("WITH x AS (SELECT 1) CALL y()", "postgresql")
        read("ALTER TABLE hero OWNER TO alice", "postgresql")
        assert not caplog.records
        import sqlglot

        sqlglot.parse("CALL y()", read="postgres")
        assert caplog.records


def test_b15_parsed_once(monkeypatch):
    """The same text again, with other values, costs no parsing."""
    sqlglot = rawsql._parser()
    parsed = []
    original = sqlglot.parse
    monkeypatch.setattr(
        sqlglot, "parse", lambda *args, **how: parsed.append(args) or original(*args, **how)
    )
    for number in range(1, 9):
        places = ", ".join(f"%(id_{n})s" for n in range(number))
        read(f"UPDATE once SET a = %(a)s WHERE id IN ({places}) /* {number} */", "postgresql")
        read(f"UPDATE once SET a = %(a)s WHERE id IN ({places})", "postgresql")
    assert len(parsed) == 1


@given(st.sampled_from(DIALECTS), st.text(max_size=200))
def test_any_text(dialect, statement):
    """No exception of ours, for any text."""
    read(statement, dialect)


_WORDS = r"""
    select insert into update delete from set where hero team values ( ) , ; = 1 'x' "x" `x` [x]
    -- /* */ $$ \ with as d returning * merge using on when matched then do nothing conflict drop
    table truncate alter copy replace exec call begin end commit rollback { } {# #} {% %} %s
    %(a)s :a ? $1 union all limit explain analyze create or temp for of @ # E' N' q'[ ]' . :: ->
    || && ~ if
"""
_PIECES = [*_WORDS.split(), "\n", "\r", "\0"]


@given(st.sampled_from(DIALECTS), st.lists(st.sampled_from(_PIECES), max_size=25))
def test_any_sentence(dialect, pieces):
    """No exception of ours either for what looks like SQL; and no effect of its words is lost."""
    statement = " ".join(pieces)
    reading = read(statement, dialect)
    words = effect_of(statement, dialect)
    assert reading.effect | Effect.ANYTHING == words | Effect.ANYTHING
    if Effect.ANYTHING in words:
        assert Effect.ANYTHING in reading.effect or reading.writes


# -- what databases really do ----------------------------------------------------------------------

# Each changes `nasty_hero` on the database that it is for. None may be taken for a read.
NASTY = {
    "postgresql": [
        "UPDATE nasty_hero SET n = 1",
        'UPDATE "nasty_hero" SET n = 1',
        "UPDATE ONLY public . nasty_hero AS x SET n = 1",
        "/* /* nested */ ' */ UPDATE nasty_hero SET n = 1 /* ' */",
        "-- '\nUPDATE nasty_hero SET n = 1 -- '",
        "-- x\rUPDATE nasty_hero SET n = 1",
        "SELECT 1; UPDATE nasty_hero SET n = 1",
        "SELECT '\\'; UPDATE nasty_hero SET n = 1; SELECT '\\'",
        "SELECT 1 AS a$$; UPDATE nasty_hero SET n = 1; SELECT 1 AS b$$",
        "SELECT $a$ ' $a$; UPDATE nasty_hero SET n = 1; SELECT $a$ ' $a$",
        "SELECT E'\\''; UPDATE nasty_hero SET n = 1; SELECT ''",
        "SELECT U&'x' UESCAPE '!'; UPDATE nasty_hero SET n = 1",
        "WITH d AS (UPDATE nasty_hero SET n = 1 RETURNING 1) SELECT 1",
        "WITH d AS MATERIALIZED (DELETE FROM nasty_hero RETURNING *) SELECT count(*) FROM d",
        "WITH a AS (SELECT 1), d AS (DELETE FROM nasty_hero) TABLE a",
        "(WITH d AS (DELETE FROM nasty_hero RETURNING 1) SELECT * FROM d)",
        "CREATE TABLE nasty_copy AS WITH d AS (DELETE FROM nasty_hero RETURNING *) SELECT * FROM d",
        "COPY (DELETE FROM nasty_hero RETURNING *) TO STDOUT",
        "DO $$ BEGIN UPDATE nasty_hero SET n = 1; END $$",
        "DO LANGUAGE plpgsql 'BEGIN UPDATE nasty_hero SET n = 1; END'",
        "SELECT nasty_function()",
        "SELECT public.nasty_function()",
        'SELECT "nasty_function"()',
        "SELECT coalesce(nasty_function(), 1)",
        "SELECT * FROM nasty_function() AS f",
        "SELECT * FROM ROWS FROM (nasty_function(), now()) AS f",
        "SELECT 1 WHERE nasty_function() = 1",
        "SELECT (SELECT nasty_function())",
        "SELECT upper(nasty_function()::text)",
        "SELECT CASE WHEN true THEN nasty_function() END",
        "VALUES (nasty_function())",
        "CALL nasty_procedure()",
        "EXPLAIN ANALYZE UPDATE nasty_hero SET n = 1",
        "EXPLAIN ANALYZE SELECT nasty_function()",
        "CREATE TABLE nasty_copy AS SELECT nasty_function() AS f",
        "BEGIN; DECLARE c CURSOR FOR SELECT nasty_function(); FETCH c; COMMIT",
        "EXPLAIN (ANALYZE) UPDATE nasty_hero SET n = 1",
        "PREPARE p AS UPDATE nasty_hero SET n = 1; EXECUTE p",
        "TRUNCATE nasty_hero",
        "MERGE INTO nasty_hero USING (SELECT 1) x ON true WHEN MATCHED THEN UPDATE SET n = 1",
        "INSERT INTO nasty_hero VALUES (1, 0) ON CONFLICT (id) DO UPDATE SET n = 1",
        "UPDATE nasty_view SET n = 1",
        "DROP VIEW nasty_view; ALTER TABLE nasty_hero ALTER n TYPE int USING 1",
        "DROP VIEW nasty_view; ALTER TABLE nasty_hero DROP COLUMN n, ADD COLUMN n int DEFAULT 1",
        "DROP TABLE nasty_hero CASCADE; CREATE TABLE nasty_hero AS SELECT 1 AS id, 1 AS n",
    ],
    "sqlite": [
        "UPDATE nasty_hero SET n = 1",
        "UPDATE [nasty_hero] SET n = 1",
        "UPDATE `nasty_hero` SET n = 1",
        "UPDATE main.'nasty_hero' SET n = 1",
        "UPDATE OR IGNORE nasty_hero SET n = 1",
        "REPLACE INTO nasty_hero VALUES (1, 1)",
        "INSERT OR REPLACE INTO nasty_hero VALUES (1, 1)",
        "INSERT INTO nasty_hero VALUES (1, 0) ON CONFLICT DO UPDATE SET n = 1",
        "WITH a AS (SELECT 1) UPDATE nasty_hero SET n = 1",
        "WITH [a'] AS (SELECT 1) DELETE FROM nasty_hero WHERE id = 1 OR ''",
        "WITH RECURSIVE a(x) AS (SELECT 1) REPLACE INTO nasty_hero SELECT 1, x FROM a",
        "DELETE FROM nasty_hero",
        "/* a ' */ DELETE FROM nasty_hero /* ' */",
        "DELETE FROM nasty_hero /* without an end",
        "UPDATE nasty_view SET n = 1",
    ],
    "mariadb": [
        "UPDATE nasty_hero SET n = 1",
        "UPDATE `nasty_hero` SET n = 1",
        "/*! UPDATE nasty_hero SET n = 1 */",
        "/*M! UPDATE nasty_hero SET n = 1 */",
        "UPDATE nasty_hero h JOIN (SELECT 1) x SET h.n = 1",
        "UPDATE nasty_other o, nasty_hero h SET h.n = 1",
        "DELETE h FROM nasty_hero h",
        "DELETE FROM h USING nasty_hero AS h",
        "REPLACE nasty_hero VALUES (1, 1)",
        "REPLACE INTO nasty_hero VALUES (1, 1)",
        "INSERT INTO nasty_hero VALUES (1, 0) ON DUPLICATE KEY UPDATE n = 1",
        "INSERT nasty_hero SET id = 1 ON DUPLICATE KEY UPDATE n = 1",
        "SELECT nasty_function()",
        "SELECT IF(1, nasty_function(), 0)",
        "DO nasty_function()",
        "SET @x = nasty_function()",
        "SELECT 1 FROM (SELECT nasty_function()) AS x",
        "CALL nasty_procedure()",
        "BEGIN NOT ATOMIC UPDATE nasty_hero SET n = 1; END",
        "SET STATEMENT max_statement_time = 1 FOR UPDATE nasty_hero SET n = 1",
        "EXECUTE IMMEDIATE 'UPDATE nasty_hero SET n = 1'",
        "ANALYZE UPDATE nasty_hero SET n = 1",
        "ANALYZE FORMAT=JSON UPDATE nasty_hero SET n = 1",
        "TRUNCATE nasty_hero",
        "SELECT 5--5 ; UPDATE nasty_hero SET n = 1",
        "SELECT 1 # '\n; UPDATE nasty_hero SET n = 1 # '",
        "SELECT '\\'' ; UPDATE nasty_hero SET n = 1; SELECT ''",
        "SELECT 1 AS $$ ; UPDATE nasty_hero SET n = 1; SELECT 1 AS $$",
        "UPDATE nasty_view SET n = 1",
        "IF 1 THEN UPDATE nasty_hero SET n = 1; END IF",
        "RENAME TABLE nasty_hero TO nasty_old, nasty_other TO nasty_hero",
    ],
}
_TABLES = [
    "DROP VIEW IF EXISTS nasty_view",
    *(f"DROP TABLE IF EXISTS nasty_{name}" for name in ("hero", "other", "copy", "old")),
    "CREATE TABLE nasty_hero (id int PRIMARY KEY, n int)",
    "CREATE TABLE nasty_other (id int PRIMARY KEY, n int)",
    "INSERT INTO nasty_hero VALUES (1, 0)",
    "INSERT INTO nasty_other VALUES (1, 5)",
    "CREATE VIEW nasty_view AS SELECT * FROM nasty_hero",
]
_ROUTINES = {
    "postgresql": [
        "CREATE OR REPLACE FUNCTION nasty_function() RETURNS int LANGUAGE sql AS"
        " 'UPDATE nasty_hero SET n = 1; SELECT 1'",
        "CREATE OR REPLACE PROCEDURE nasty_procedure() LANGUAGE sql AS"
        " 'UPDATE nasty_hero SET n = 1'",
    ],
    "mariadb": [
        "CREATE OR REPLACE FUNCTION nasty_function() RETURNS int"
        " BEGIN UPDATE nasty_hero SET n = 1; RETURN 1; END",
        "CREATE OR REPLACE PROCEDURE nasty_procedure() UPDATE nasty_hero SET n = 1",
    ],
    "sqlite": [
        "CREATE TRIGGER nasty_trigger INSTEAD OF UPDATE ON nasty_view"
        " BEGIN UPDATE nasty_hero SET n = 1; END",
    ],
}


def _run_postgresql(url, statements):
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        for statement in statements:
            if statement.startswith("COPY"):
                with connection.cursor().copy(statement) as copy:
                    list(copy)
            else:
                connection.pgconn.exec_(statement.encode())
        return connection.execute("SELECT id, n FROM nasty_hero").fetchall()


def _run_mariadb(url, statements):
    parsed = make_url(url)
    flags = pymysql.constants.CLIENT.MULTI_STATEMENTS
    with closing(
        pymysql.connect(
            host=parsed.host,
            port=parsed.port,
            user=parsed.username,
            password=parsed.password or "",
            database=parsed.database,
            autocommit=True,
            client_flag=flags,
        )
    ) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
            while cursor.nextset():
                pass
        cursor.execute("SELECT id, n FROM nasty_hero")
        return list(cursor.fetchall())


@pytest.mark.parametrize("parser", ["parsed", "words"])
@pytest.mark.parametrize(
    ("dialect", "statement"), [(name, one) for name, many in NASTY.items() for one in many]
)
def test_b15_whatever_writes_is_not_taken_for_a_read(dialect, statement, parser, request, tmp_path):
    """The database executes it, the row changes, and the text is known to do that, or anything."""
    before = [*_TABLES, *_ROUTINES[dialect]]
    if dialect == "postgresql":
        changed = _run_postgresql(request.getfixturevalue("postgres_url"), [*before, statement])
    elif dialect == "mariadb":
        changed = _run_mariadb(request.getfixturevalue("mariadb_url"), [*before, statement])
    else:
        import sqlite3

        with closing(sqlite3.connect(tmp_path / "nasty.db")) as connection:
            for each in [*before, statement]:
                connection.execute(each)
            changed = connection.execute("SELECT id, n FROM nasty_hero").fetchall()
    assert changed != [(1, 0)], "this text changes nothing: it proves nothing"
    if parser == "words":
        if "nasty_function" in statement:
            pytest.skip("a function can be told only with sqlglot")
        request.getfixturevalue("no_sqlglot")
    reading = read(statement, dialect)
    understood = {written.name for written in reading.writes}
    assert Effect.ANYTHING in reading.effect or understood & {"nasty_hero", "nasty_view"}


# -- to the models ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("UPDATE badge SET hero_id = 1", {"badge"}),
        ("UPDATE main.BADGE SET hero_id = 1", {"badge"}),
        ("UPDATE team SET name = 'x'", {"team"}),
        ("UPDATE team SET id = id + 1000", {"team"}),
        ("DELETE FROM team", {"team", "hero", "badge"}),
        ("REPLACE INTO team VALUES (1, 'x')", {"team", "hero", "badge"}),
        ("INSERT INTO team VALUES (1, 'x')", {"team"}),
        ("DELETE FROM flyer", {"hero"}),
        ("DROP TABLE team", {"team", "hero", "badge"}),
        ("INSERT INTO log VALUES (1)", set()),
    ],
)
def test_b15_models_behind_a_text(world, statement, wanted, caplog):
    """The tables' models and what the database does by itself; no warning."""
    with world.engine.begin() as connection:
        connection.execute(text(statement))
        assert world.touched(connection)[1] == wanted
        assert ledger_of(connection).wrote
        assert not ledger_of(connection).everything
    assert not caplog.records


def test_b15_a_table_that_nobody_mapped(world, caplog):
    """It may be a view, or have a trigger of somebody else's."""
    with world.engine.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW heroes AS SELECT * FROM hero")
        connection.exec_driver_sql(
            "CREATE TRIGGER t INSTEAD OF UPDATE ON heroes BEGIN UPDATE hero SET name = 'x'; END"
        )
        connection.exec_driver_sql("UPDATE heroes SET name = 'x'")
        assert ledger_of(connection).everything
    assert sum("raw SQL" in record.message for record in caplog.records) == 1

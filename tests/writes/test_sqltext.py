"""What a plain text may do is judged from its words, and doubt counts as a write."""

from __future__ import annotations

import pytest

from sqlmodel_cache.orm.writes.sqltext import (
    Effect,
    brackets,
    effect_of,
    headline,
    temporary_tables,
)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "  -- a comment\n select * from hero where name = 'update'",
        "/* hint */ SELECT 1",
        "(SELECT 1) UNION (SELECT 2)",
        "SELECT * FROM hero FOR UPDATE",
        "SELECT * FROM hero FOR NO KEY UPDATE",
        "SELECT 'it''s; delete' AS word",
        "PRAGMA database_list",
        "SHOW server_version",
        "SAVEPOINT a",
        "ROLLBACK TO SAVEPOINT a",
        "CREATE INDEX x ON hero (name)",
        "SET statement_timeout = 5",
        "EXPLAIN SELECT 1",
        "SELECT 1;",
        "SELECT 1; SELECT 2",
        "SELECT replace(name, 'a', 'b') FROM hero",
        "SELECT insert('Quadratic', 3, 4, 'What'), truncate(1.5, 1)",
        "SELECT last_update FROM hero",
        "SET CONSTRAINTS ALL DEFERRED",
        "SET LOCAL lock_timeout = '2s'",
        "SET SESSION foreign_key_checks=0, unique_checks = 0",
        "CREATE TABLE x (id int REFERENCES hero (id) ON DELETE CASCADE ON UPDATE SET NULL)",
        "CREATE TRIGGER x AFTER UPDATE ON hero BEGIN DELETE FROM team; END",
        "GRANT UPDATE ON hero TO alice",
        "PRAGMA table_info(hero)",
        "PRAGMA foreign_keys = ON",
        "DECLARE c CURSOR FOR SELECT * FROM hero FOR UPDATE",
    ],
)
def test_harmless(text):
    """Texts that read, or that concern no rows."""
    assert effect_of(text) is Effect.NOTHING


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE hero SET name = 'x'",
        "insert into hero values (1)",
        "DELETE FROM hero",
        "TRUNCATE hero",
        "DROP TABLE hero",
        "ALTER TABLE hero ADD x int",
        "WITH gone AS (DELETE FROM hero RETURNING *) SELECT * FROM gone",
        "SELECT * INTO copy FROM hero",
        "MERGE INTO hero USING x ON true WHEN MATCHED THEN DELETE",
        "CALL rename_all()",
        "DO $$ BEGIN UPDATE hero SET name = 'x'; END $$",
        "EXPLAIN ANALYZE UPDATE hero SET name = 'x'",
        "SELECT 1; UPDATE hero SET name = 'x'",
        "EXECUTE prepared(1)",
        "COPY hero FROM STDIN",
        "REPLACE INTO hero VALUES (1)",
        "LOAD DATA INFILE 'x' INTO TABLE hero",
        "-- only a comment",
        "",
        "select 'a' /* ' */ ; delete from hero",
        "select 'a' /* ' */ ; delete from hero where name = 'x'",
        "select $$'$$ ; delete from hero where name = 'x'",
        "select '\\'' ; delete from hero where name = 'x'",
        "CREATE TABLE gone AS WITH d AS (DELETE FROM hero RETURNING *) SELECT * FROM d",
        "BEGIN NOT ATOMIC UPDATE hero SET name = 'x'; END",
        "SET STATEMENT max_statement_time=1 FOR UPDATE hero SET power = 7",
        "SELECT 1 EXECUTE rename_all",
        "SELECT 1 DELETE FROM hero",
        "/*! UPDATE hero SET power = 1 */",
        "SELECT 1 /*! ; DELETE FROM hero */",
        "SELECT 5--5 ; DELETE FROM hero",
        "SELECT 1 # '\n; DELETE FROM hero # '",
        "SHOW x /* /* */ ' */ ; delete from hero /* ' */",
        "SELECT 1 AS a$$ ; DELETE FROM hero; SELECT 1 AS b$$",
        "WITH [a'] AS (SELECT 1) DELETE FROM hero WHERE name = ''",
        "SELECT 1 -- x\r; DELETE FROM hero",
        "SELECT q'[it's]' FROM dual; DELETE FROM hero WHERE name = 'x'",
    ],
)
def test_anything(text):
    """Texts that write, and texts nobody understands."""
    assert Effect.ANYTHING in effect_of(text)


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("SET search_path TO tenant", Effect.SETTINGS),
        ("SET LOCAL search_path TO tenant", Effect.LOCAL_SETTINGS),
        ("SET ROLE alice", Effect.SETTINGS),
        ("SET SESSION AUTHORIZATION alice", Effect.SETTINGS),
        ("SET app.tenant = '7'", Effect.SETTINGS),
        ("SET LOCAL app.tenant = '7'", Effect.LOCAL_SETTINGS),
        ("SELECT set_config('app.tenant', '7', false)", Effect.SETTINGS),
        ("SELECT set_config('app.tenant', '7', true)", Effect.LOCAL_SETTINGS),
        ("SET TIME ZONE 'UTC'", Effect.SETTINGS),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", Effect.ISOLATION),
        ("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", Effect.SETTINGS),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Effect.SETTINGS),
        ("SET default_transaction_isolation TO serializable", Effect.SETTINGS),
        ("SET @@session.tx_isolation = 'READ-COMMITTED'", Effect.SETTINGS),
        ("USE other", Effect.SETTINGS),
        ('SET "search_path" TO tenant', Effect.SETTINGS),
        ("SET/**/ROLE alice", Effect.SETTINGS),
        ("/* why */ SET -- now\n ROLE alice", Effect.SETTINGS),
        ("SET session_replication_role = replica", Effect.SETTINGS),
        ("SET foreign_key_checks = 0, sql_mode = ''", Effect.SETTINGS),
        ("SET @tenant = 7", Effect.SETTINGS),
        ("SET something_new = 7", Effect.SETTINGS),
        ("SELECT 1; SET ROLE alice", Effect.SETTINGS),
        ("SET ROLE alice; UPDATE hero SET name = 'x'", Effect.SETTINGS | Effect.ANYTHING),
        ("UPDATE hero SET name = 'x'; COMMIT", Effect.COMMIT | Effect.ANYTHING),
        ("SELECT * FROM (SELECT set_config('role', 'alice', false)) AS x", Effect.SETTINGS),
        ("UPDATE pg_settings SET setting = 'x'", Effect.SETTINGS | Effect.ANYTHING),
        ("EXECUTE IMMEDIATE 'SET ROLE alice'", Effect.SETTINGS | Effect.ANYTHING),
        ("ATTACH DATABASE 'x' AS other", Effect.SETTINGS),
        ("DETACH other", Effect.SETTINGS),
        ("PRAGMA main.read_uncommitted = 1", Effect.SETTINGS),
        ("ALTER SESSION SET CURRENT_SCHEMA = other", Effect.SETTINGS | Effect.ANYTHING),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", Effect.ISOLATION),
        ("start transaction read only, isolation level serializable", Effect.ISOLATION),
        ("START TRANSACTION READ ONLY AS OF TIMESTAMP '2026-01-01'", Effect.ISOLATION),
        ("COMMIT", Effect.COMMIT),
        ("end", Effect.COMMIT),
    ],
)
def test_what_later_statements_mean(text, effect):
    """Settings that change which rows are seen, isolation, and a COMMIT in words."""
    assert effect_of(text) is effect


@pytest.mark.parametrize(
    ("dialect", "text", "effect"),
    [
        ("mysql", "SET LOCAL sql_mode = ''", Effect.SETTINGS),
        ("mysql", "SET LOCAL TRANSACTION ISOLATION LEVEL SERIALIZABLE", Effect.SETTINGS),
        ("postgresql", "SELECT data #> '{update}' FROM hero", Effect.NOTHING),
        ("postgresql", "SELECT $q$ update $q$", Effect.NOTHING),
        (
            "postgresql",
            "DO $$ BEGIN PERFORM set_config('role', 'x', false); END $$",
            Effect.SETTINGS | Effect.ANYTHING,
        ),
        (
            "postgresql",
            "DO $$ BEGIN SET ROLE alice; END $$",
            Effect.SETTINGS | Effect.ANYTHING,
        ),
        ("postgresql", "SELECT 1 ` 2 ; DELETE FROM hero ; SELECT 1 ` 2", Effect.ANYTHING),
        ("sqlite", "SELECT 1 AS $$ ; DELETE FROM hero; SELECT 1 AS $$", Effect.ANYTHING),
        ("mssql", "GRANT SELECT ON x TO y DELETE FROM hero", Effect.ANYTHING),
    ],
)
def test_by_dialect(dialect, text, effect):
    """What words mean, and where strings end, differs."""
    assert effect_of(text, dialect) is effect


def test_long_texts_are_not_kept():
    """A text of megabytes is judged, and not remembered."""
    text = "SELECT " + "1, " * 10000 + "1"
    assert effect_of(text) is Effect.NOTHING
    assert effect_of(text + "; DELETE FROM hero") is Effect.ANYTHING


@pytest.mark.parametrize(
    ("text", "opens"),
    [
        ("BEGIN", True),
        ("/* x */ START TRANSACTION", True),
        ("COMMIT; BEGIN", True),
        ("UPDATE hero SET name = 'x'; COMMIT", False),
        ("ROLLBACK TO SAVEPOINT x", None),
        ("SELECT 'BEGIN'", None),
        ("CREATE TRIGGER x AFTER UPDATE ON hero BEGIN DELETE FROM team; END", None),
    ],
)
def test_brackets(text, opens):
    """A transaction in text, also as one of several statements."""
    assert brackets(text) is opens


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("UPDATE hero SET name = 'x'", "UPDATE hero"),
        ("/* c */ insert into public.hero values (1)", "INSERT INTO public.hero"),
        ("DELETE FROM \"Hero\" WHERE name = 'x'", 'DELETE FROM "Hero"'),
        ("TRUNCATE TABLE hero", "TRUNCATE TABLE hero"),
        ("INSERT OR REPLACE INTO `hero` VALUES (1)", "INSERT OR REPLACE INTO `hero`"),
        ("DROP TABLE IF EXISTS hero", "DROP TABLE IF EXISTS hero"),
        ("CALL rename_all('secret')", "CALL rename_all"),
        ("DO $$ BEGIN UPDATE secret SET a = 1; END $$", "DO"),
        ("EXPLAIN ANALYZE UPDATE hero SET name = 'x'", "EXPLAIN ... UPDATE hero"),
        ("SELECT 1; UPDATE hero SET a = 2", "SELECT ... UPDATE hero"),
        ("SELECT 'update secret'; UPDATE hero SET a = 2", "SELECT"),
        ("SELECT E'\\'update secret'; DELETE FROM hero", "SELECT"),
        ("SELECT a # don't\n, 'update secret' INTO x", "SELECT"),
        ("LOAD DATA INFILE 'secret' INTO TABLE hero", "LOAD"),
        ("ALTER USER bob PASSWORD 'secret'", "ALTER USER"),
        ("COPY hero FROM STDIN", "COPY"),
        ("secretwordthatismuchtoolong 5", "a statement without a verb"),
        ("", "a statement without a verb"),
        ("12345", "a statement without a verb"),
    ],
)
def test_headline_has_no_values(text, said):
    """Verb and table for a log line; nothing that was quoted, nothing behind a quote."""
    assert headline(text) == said


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("COMMIT", Effect.COMMIT),
        ("commit work;", Effect.COMMIT),
        ("COMMIT AND NO CHAIN", Effect.COMMIT),
        ("end transaction -- of it", Effect.COMMIT),
        ("COMMIT PREPARED 'x'", Effect.COMMIT_PREPARED),
        ("/* a */ commit -- b\n prepared 'x'", Effect.COMMIT_PREPARED),
        ("PREPARE TRANSACTION 'x'", Effect.NOTHING),
        ("ROLLBACK PREPARED 'x'", Effect.NOTHING),
        ("XA COMMIT 'x' ONE PHASE", Effect.COMMIT_PREPARED),
        ("XA START 'x'", Effect.NOTHING),
        ("XA BEGIN 'x'", Effect.NOTHING),
        ("xa end 'x'", Effect.NOTHING),
        ("XA PREPARE 'x'", Effect.NOTHING),
        ("XA ROLLBACK 'x'", Effect.NOTHING),
        ("XA RECOVER", Effect.NOTHING),
        ("XA /**/ COMMIT 'x'", Effect.COMMIT_PREPARED),
    ],
)
def test_commits_and_what_only_begins_like_one(text: str, effect: Effect) -> None:
    """A prepared transaction's COMMIT makes durable what this connection knows nothing of."""
    assert effect_of(text) is effect


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("CREATE TEMP TABLE hero (id int)", ["hero"]),
        ("create local temporary table if not exists hero as select 1", ["hero"]),
        ('CREATE TEMPORARY VIEW "Hero" AS SELECT 1', [""]),
        ("CREATE TABLE temp.hero (id int)", ["hero"]),
        ("SELECT 1 AS id INTO TEMP hero", ["hero"]),
        ("CREATE TABLE template (id int)", []),
        ("SELECT temp FROM hero", []),
        ("CREATE TABLE hero (temp int)", []),
    ],
)
def test_temporary_tables(text, names):
    """By all their spellings; of a quoted name it is only known that there is one."""
    assert temporary_tables(text, "postgresql") == names

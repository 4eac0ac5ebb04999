"""Which database is this? Rows of two databases never meet; two URLs of one database do.

Asked of the server once per engine, where it can say who it is; otherwise a hash of where the
dialect connects. Every question is one that cannot fail inside a user's transaction. A database
that was dropped and made anew is another one, where that can be seen (PostgreSQL, SQLite files).
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from sqlmodel_cache.events import logger
from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.connections.isolation import commits_itself

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class Database:
    """What is known of the database behind an engine. `name` None: it cannot be told."""

    name: str | None
    replica: bool = False


def identify(connection: Connection) -> Database:
    """Ask the server behind `connection` who it is; one that will not say is not cached."""
    try:
        return _identify(connection)
    except DBAPIError as error:
        logger.warning(
            "the database could not be asked for its identity (%s); it is not cached. Pass a"
            " namespace to configure() or cached_sessionmaker().",
            type(error.orig).__name__,
        )
        return Database(None)


def is_replica(connection: Connection) -> bool:
    """Tell whether PostgreSQL follows another server, so that its rows may be old."""
    return bool(_ask(connection, "SELECT pg_is_in_recovery()").scalar())


def _identify(connection: Connection) -> Database:
    dialect = connection.dialect.name
    if dialect == "sqlite":
        return _sqlite(connection)
    if dialect == "postgresql":
        return _postgresql(connection)
    if dialect in ("mysql", "mariadb"):
        return _mysql(connection)
    return Database(_by_arguments(connection))


def _ask(connection: Connection, question: str) -> Any:
    """Put a question of our own, which writes nothing, whatever the connection declares."""
    return connection.execute(text(question), execution_options={"cache_invalidates": ()})


def _digest(*parts: object) -> str:
    joined = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return blake2b(joined, digest_size=8).hexdigest()


def _sqlite(connection: Connection) -> Database:
    rows = _ask(connection, "PRAGMA database_list").all()
    path = next((row[2] for row in rows if row[1] == "main"), "")
    if path:
        attached = sorted(
            f"{row[1]}={os.path.realpath(row[2])}"
            for row in rows
            if row[1] != "main" and row[1] != "temp"
        )
        if not os.path.exists(path):
            _ask(connection, "PRAGMA schema_version")  # opens the file, and so makes it
        return Database("s" + _digest(os.path.realpath(path), _inode(path), *attached))
    url = str(connection.engine.url.database or "")
    if "cache=shared" in url or "memdb" in url:
        return Database(f"m{_digest(url, os.getpid())}")
    if _sqlalchemy.creator_is_foreign(connection.engine):
        logger.warning(
            "an in-memory SQLite database behind creator= or do_connect cannot be told from"
            " others; it is not cached. Pass a namespace to configure() or cached_sessionmaker()."
        )
        return Database(None)
    return Database(f"m{os.urandom(8).hex()}")


def _inode(path: str) -> int | None:
    """Return what tells a file from another that took its place under the same name."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _postgresql(connection: Connection) -> Database:
    may_ask = _ask(
        connection, "SELECT has_function_privilege('pg_control_system()', 'execute')"
    ).scalar()
    *database, path, replica = _ask(
        connection,
        "SELECT datname, oid, array_to_string(current_schemas(false), ','),"
        " pg_is_in_recovery() FROM pg_database WHERE datname = current_database()",
    ).one()
    if not may_ask:
        where = _by_arguments(connection)
        return Database(None if where is None else _digest(where, *database, path), replica)
    # Some hosted servers refuse it all the same; under AUTOCOMMIT that ends no transaction.
    shield: AbstractContextManager[Any] = nullcontext()
    if not commits_itself(connection):
        shield = connection.begin_nested()
    try:
        with shield:
            system = _ask(connection, "SELECT system_identifier FROM pg_control_system()")
            return Database("p" + _digest(system.scalar(), *database, path), replica)
    except DBAPIError:
        where = _by_arguments(connection)
        return Database(None if where is None else _digest(where, *database, path), replica)


def _mysql(connection: Connection) -> Database:
    server = _ask(
        connection,
        "SHOW GLOBAL VARIABLES WHERE variable_name IN ('server_uid', 'server_uuid')",
    ).all()
    database = _ask(connection, "SELECT DATABASE()").scalar()
    if not server:
        where = _by_arguments(connection)
        return Database(None if where is None else _digest(where, database))
    return Database("y" + _digest(server[0][1], database))


def _by_arguments(connection: Connection) -> str | None:
    """Return a hash of where this engine connects, without user secrets."""
    engine = connection.engine
    if _sqlalchemy.creator_is_foreign(engine):
        logger.warning(
            "the database behind creator= or a do_connect listener cannot be told; it is not"
            " cached. Pass a namespace to configure() or cached_sessionmaker()."
        )
        return None
    args, named = connection.dialect.create_connect_args(engine.url)
    secret = {"password", "passwd", "passphrase", "token"}
    shown = sorted((key, str(value)) for key, value in named.items() if key not in secret)
    return "u" + _digest(engine.dialect.name, [str(arg) for arg in args], shown)

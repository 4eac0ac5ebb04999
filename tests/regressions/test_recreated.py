"""A database that was dropped and made anew has nothing to do with the entries of the old one."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache


class Base(DeclarativeBase):
    """Tables of this file."""


class Row(Base):
    """A cached row."""

    __tablename__ = "recreated_row"
    __cache_config__ = CacheConfig(ttl=60)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def live_once(url: str, name: str) -> list[str]:
    """Make the table and one row without the cache, read it twice, as one deployment would."""
    engine = create_engine(url)
    with SQLModelCache.bypass():
        Base.metadata.create_all(engine)
    connection = engine.raw_connection()
    try:
        connection.cursor().execute(f"INSERT INTO recreated_row VALUES (1, '{name}')")
        connection.commit()
    finally:
        connection.close()
    found = []
    for _ in range(2):
        with Session(engine) as session:
            found.append(session.get_one(Row, 1).name)
    engine.dispose()
    return found


def test_a_recreated_postgresql_database(
    postgres_url: str, redis_url: str, key_prefix: str
) -> None:
    """DROP DATABASE, CREATE DATABASE of the same name: the old rows are not served."""
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    name = f"recreated_{uuid4().hex[:8]}"
    url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    try:
        for life in ("first", "second"):
            with admin.connect() as connection:
                connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
                connection.execute(text(f"CREATE DATABASE {name}"))
            SQLModelCache.configure(redis_url, key_prefix=key_prefix)
            assert live_once(url, life) == [life, life]
        assert SQLModelCache.stats().hits == 1
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
        admin.dispose()


def test_a_recreated_sqlite_file(tmp_path: Path, redis_url: str, key_prefix: str) -> None:
    """A file that took another's place: the old rows are not served."""
    path = tmp_path / "app.sqlite3"
    for life in ("first", "second"):
        SQLModelCache.configure(redis_url, key_prefix=key_prefix)
        assert live_once(f"sqlite:///{path}", life) == [life, life]
        assert SQLModelCache.stats().hits == 1
        os.rename(path, tmp_path / life)


@pytest.mark.parametrize("exists", [True, False])
def test_one_sqlite_file_is_one_database(
    tmp_path: Path, redis_url: str, key_prefix: str, exists: bool
) -> None:
    """Whoever comes first, before or after the file is there, names it as those after do."""
    url = f"sqlite:///{tmp_path / 'app.sqlite3'}"
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    early = create_engine(url)
    if not exists:
        with early.connect() as connection, pytest.raises(Exception, match="no such table"):
            Session(connection).get(Row, 1)
    live_once(url, "one")
    with Session(early) as session:
        session.get_one(Row, 1).name = "two"
        session.commit()
    early.dispose()
    late = create_engine(url)
    with Session(late) as session:
        assert session.get_one(Row, 1).name == "two"
    late.dispose()

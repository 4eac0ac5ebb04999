"""SQLAlchemy 2.1 does not install greenlet: where it is missing, plain sessions are cached."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
sys.modules["greenlet"] = None  # an import of it fails
from sqlmodel import Field, Session, SQLModel, create_engine
from sqlalchemy.orm import sessionmaker
from sqlmodel_cache import CachedModel, SQLModelCache, cached_sessionmaker, get_many
class Hero(CachedModel, table=True):
    id: int = Field(primary_key=True)
    name: str = ""
SQLModelCache.configure(sys.argv[1], key_prefix=sys.argv[2])
engine = create_engine("sqlite:///heroes.sqlite3")
SQLModel.metadata.create_all(engine)
make = cached_sessionmaker(sessionmaker(engine, class_=Session))
with make.begin() as session:
    session.add(Hero(id=1))
for name in ("", "new"):
    with Session(engine) as session:
        session.get_one(Hero, 1).name = name
        session.commit()
    for _ in range(2):
        with Session(engine) as session:
            assert session.get_one(Hero, 1).name == name
            assert get_many(session, Hero, [2, 1])[0] is None
SQLModelCache.invalidate(Hero, 1)
SQLModelCache.clear()
print(SQLModelCache.stats().hits > 0, SQLModelCache.stats().errors)
SQLModelCache.reset()
"""


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_plain_sessions_need_no_greenlet(
    tmp_path: Path, store: str, request: pytest.FixtureRequest, key_prefix: str
) -> None:
    """Reads, writes, factories and explicit calls, in a process that cannot import it."""
    url = "memory://" if store == "memory" else request.getfixturevalue("redis_url")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, url, key_prefix],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True 0\n"

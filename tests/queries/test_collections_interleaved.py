"""Collections at every moment of a commit that a reader can meet, and the other way round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, delete, event, insert, text, update
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.orm.queries import lists
from sqlmodel_cache.orm.writes import listeners
from sqlmodel_cache.transport import MemoryTransport
from tests.queries.stage import Stage
from tests.scenarios.collection_models import Badge, Base, Club, Mascot, Member, worn

if TYPE_CHECKING:
    from pathlib import Path

_TABLES = [each.__table__ for each in (Club, Member, Badge, Mascot)] + [worn]


def _move(session: Session) -> None:
    session.get_one(Member, 1).club_id = 2


def _take_off(session: Session) -> None:
    badge = session.get_one(Badge, 1)
    badge.members.remove(session.get_one(Member, 1))


def _put_on(session: Session) -> None:
    member = session.get_one(Member, 2)
    member.badges.append(session.get_one(Badge, 1))


WRITES: dict[str, Callable[[Session], Any]] = {
    "insert": lambda session: session.add(Member(name="aa", club_id=1)),
    "move": _move,
    "order": lambda session: setattr(session.get_one(Member, 1), "name", "z"),
    "goals": lambda session: setattr(session.get_one(Member, 2), "goals", 30),
    "delete": lambda session: session.delete(session.get_one(Member, 1)),
    "take off": _take_off,
    "put on": _put_on,
    "core": lambda session: session.execute(insert(worn).values(member_id=2, badge_id=1)),
    "core delete": lambda session: session.execute(
        delete(worn).where(worn.c.member_id == 1, worn.c.badge_id == 1)
    ),
    "bulk": lambda session: session.execute(update(Member).values(club_id=2)),
    "returning": lambda session: session.execute(
        update(Member).where(Member.goals > 0).values(club_id=2).returning(Member.id)
    ),
    "core returning": lambda session: session.execute(
        delete(worn).where(worn.c.member_id > 0).returning(worn)
    ),
    "text": lambda session: session.execute(text("DELETE FROM scenario_c_worn")),
    "cascade": lambda session: session.execute(delete(Member.__table__).where(Member.id == 1)),
    "club": lambda session: session.execute(delete(Club.__table__).where(Club.id == 1)),
    "mascot": lambda session: session.add(Mascot(id=1, name="m", club_id=1)),
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Any]:
    """Return an engine of a database with the tables, where foreign keys cascade."""
    made = create_engine(f"sqlite:///{tmp_path / 'stage.sqlite3'}")
    event.listen(made, "connect", _set_up)
    Base.metadata.create_all(made, _TABLES)
    yield made
    made.dispose()


def _set_up(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _read_one(session: Session, model: Any, pk: int, name: str) -> Any:
    owner = session.get(model, pk)
    found = None if owner is None else getattr(owner, name)
    if isinstance(found, list | set):
        rows = [(each.id, each.name) for each in found]
        return sorted(rows) if isinstance(found, set) else rows
    return found and (found.id, found.name)


OF = {
    "members": (Club, 1, "members"),
    "stars": (Club, 1, "stars"),
    "mascot": (Club, 1, "mascot"),
    "badges": (Member, 1, "badges"),
    "wearers": (Badge, 1, "members"),
}


def _read(engine: Any, of: str) -> Any:
    with Session(engine) as session:
        return _read_one(session, *OF[of])


def _truth(engine: Any, of: str) -> Any:
    with SQLModelCache.bypass():
        return _read(engine, of)


def _begin(engine: Any) -> None:
    with engine.begin() as connection:
        for table in reversed(_TABLES):
            connection.execute(delete(table))
        connection.execute(insert(Club), [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}])
        rows = [
            {"id": number, "name": name, "club_id": club, "goals": goals}
            for number, name, club, goals in [(1, "b", 1, 20), (2, "a", 1, 0), (3, "c", 2, 0)]
        ]
        connection.execute(insert(Member.__table__), rows)
        connection.execute(insert(Badge), [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}])
        connection.execute(insert(worn), [{"member_id": 1, "badge_id": 1}])


def _violations(engine: Any, write: str, of: str, *, rounds: str) -> list[str]:
    """Return what was read wrongly, one moment after another until none is left."""
    found: list[str] = []
    moment = 0
    while True:
        transport = MemoryTransport()
        SQLModelCache.configure(transport, key_prefix="stage", namespace="stage")
        stage = Stage(engine, transport)
        _begin(engine)
        for _ in range(3):
            _read(engine, of)

        def writes() -> None:
            with Session(engine) as session:
                WRITES[write](session)
                session.commit()
            _read(engine, of)  # others have the new list cached at once, and its rows
            _read(engine, of)

        before = _truth(engine, of)
        seen: list[Any] = []

        def reads(seen: list[Any] = seen) -> None:
            seen += [_read(engine, of) for _ in range(2)]

        with stage.watched():
            if rounds == "read in write":
                stage.at[moment] = reads
                writes()
            else:
                stage.at[moment] = writes
                seen.append(_read(engine, of))
        if stage.at:
            return found
        after = _truth(engine, of)
        allowed = [before, after]
        if after is None:
            allowed.append([])  # its owner was there a moment ago
        found += [f"step {moment}: {each}" for each in seen if each not in allowed]
        rest = [_read(engine, of) for _ in range(3)]
        found += [f"step {moment}: {each} at rest, not {after}" for each in rest if each != after]
        moment += 1


_OF_CLUBS = ("insert", "move", "order", "goals", "delete", "bulk", "returning", "club")
_OF_BADGES = ("take off", "put on", "core", "core delete", "core returning", "text", "cascade")
_PAIRS = [
    *((of, write) for of in ("members", "stars") for write in _OF_CLUBS),
    *((of, write) for of in ("badges", "wearers") for write in _OF_BADGES),
    ("mascot", "mascot"),
]


@pytest.mark.parametrize(("of", "write"), _PAIRS)
@pytest.mark.parametrize("rounds", ["read in write", "write in read"])
def test_every_interleaving(engine: Any, write: str, of: str, rounds: str) -> None:
    """At each step of the reader a whole commit, at each step of the commit whole reads."""
    assert _violations(engine, write, of, rounds=rounds) == []


def test_writers_that_send_no_stamps_are_seen(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken on purpose: then lists are stale at rest."""
    monkeypatch.setattr(listeners, "touch_stamps", lambda *_, **__: None)
    assert _violations(engine, "insert", "members", rounds="write in read")


def test_a_list_without_its_parameters_is_seen(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken on purpose: one club's list is given for another's."""
    monkeypatch.setattr(
        lists._strategies, "list_load", _of_the_first_owner(lists._strategies.list_load)
    )
    SQLModelCache.configure(MemoryTransport(), key_prefix="stage", namespace="stage")
    _begin(engine)
    for _ in range(2):
        with Session(engine) as session:
            seen = [[m.id for m in session.get_one(Club, pk).members] for pk in (1, 2)]
    assert seen[0] == seen[1]


def _of_the_first_owner(list_load: Callable[..., Any]) -> Callable[..., Any]:
    def broken(*args: Any) -> Any:
        asked = list_load(*args)
        return asked and asked._replace(parameters=dict.fromkeys(asked.parameters, 1))

    return broken

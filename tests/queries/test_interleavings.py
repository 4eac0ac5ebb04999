"""Every moment of a commit that a reader can meet, and of a read that a commit can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, delete, event, func, insert, select, text, union, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.orm import Session, aliased

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.orm.queries import answer, old, results, stamps
from sqlmodel_cache.protocol.ops import Fence, Release
from sqlmodel_cache.transport import MemoryTransport, RedisSyncTransport
from sqlmodel_cache.transport.backlog import Backlog
from sqlmodel_cache.transport.breaker import Breaker
from tests.queries import world
from tests.queries.stage import Nodes, Stage
from tests.servers.cluster import Cluster
from tests.writes.scripted import ScriptedTransport

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = world.SCHEMAS[0]
Hero, Team = SCHEMA.Hero, SCHEMA.Team
Other = aliased(Hero)

QUERIES: dict[str, Any] = {
    "list": lambda: select(Hero).where(Hero.team_id == 1).order_by(Hero.code, Hero.id),
    "count": lambda: select(func.count()).select_from(Hero).where(Hero.team_id == 1),
    "names": lambda: (
        select(Team.name, Hero.rank).join(Hero).where(Hero.team_id.in_([1, 3])).order_by(Hero.id)
    ),
    "both": lambda: (
        select(Hero, Team).outerjoin(Team).where(Hero.id.in_([1, 3, 9])).order_by(Hero.id)
    ),
    "sizes": lambda: select(Team, func.count(Hero.id)).join(Hero).group_by(Team.id),
    "pairs": lambda: (
        select(Hero, Other.id, Other)
        .join(Other, Other.team_id == Hero.team_id)
        .order_by(Hero.id, Other.id)
    ),
    "union": lambda: union(
        select(Hero.rank).where(Hero.team_id == 1), select(Team.rank).where(Team.id == 1)
    ).order_by("rank"),
}


def _of_row(number: int, **values: Any) -> Callable[[Session], None]:
    def write(session: Session) -> None:
        hero = session.get(Hero, number)
        for name, value in values.items():
            setattr(hero, name, value)

    return write


def _twice(session: Session) -> None:
    _of_row(1, team_id=3)(session)
    session.flush()
    _of_row(1, team_id=2)(session)


def _two_models(session: Session) -> None:
    """Change rows of both models, in columns that a result has only by its instances."""
    _of_row(1, flag=True)(session)
    _of_row(3, flag=True)(session)
    session.get(Team, 1).name = session.get(Team, 2).name = "both"  # type: ignore[union-attr]


def _part(session: Session) -> None:
    with session.begin_nested() as savepoint:
        _of_row(3, team_id=1)(session)
        session.flush()
        savepoint.rollback()
    _of_row(2, rank=7)(session)


WRITES: dict[str, Callable[[Session], Any]] = {
    "insert": lambda session: session.add(Hero(id=9, team_id=1, rank=0)),
    "move in": _of_row(3, team_id=1),
    "move out": _of_row(1, team_id=2),
    "move twice": _twice,
    "part of it": _part,
    "order": _of_row(1, code="z"),
    "row only": _of_row(1, flag=True),
    "new key": _of_row(1, id=77),
    "delete": lambda session: session.delete(session.get(Hero, 1)),
    "bulk": lambda session: session.execute(
        update(Hero).where(Hero.rank == 0).values(team_id=2, code="q")
    ),
    "bulk delete": lambda session: session.execute(delete(Hero).where(Hero.rank < 5)),
    "returning": lambda session: session.execute(
        update(Hero).where(Hero.rank == 0).values(team_id=2, code="q").returning(Hero.id)
    ),
    "delete returning": lambda session: session.execute(
        delete(Hero).where(Hero.rank < 5).returning(Hero)
    ),
    "core": lambda session: session.connection().execute(
        insert(Hero.__table__).values(team_id=1, rank=4, code="k")
    ),
    "upsert": lambda session: session.execute(
        upsert(Hero)
        .values(id=3, team_id=1, rank=2)
        .on_conflict_do_update(index_elements=["id"], set_={"team_id": 1})
    ),
    "text": lambda session: session.execute(
        text(f"UPDATE {Hero.__tablename__} SET team_id = 1 WHERE id = 3")
    ),
    "cascade": lambda session: session.execute(
        delete(Team).where(Team.id == 2).execution_options(synchronize_session=False)
    ),
    "two models": _two_models,
    "team": lambda session: setattr(session.get(Team, 1), "name", "new"),
}  # fmt: skip


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Any]:
    """Return an engine of a database with the schema's tables."""
    made = create_engine(f"sqlite:///{tmp_path / 'stage.sqlite3'}")
    event.listen(made, "connect", _set_up)
    SCHEMA.base.metadata.create_all(made)
    yield made
    made.dispose()


def _set_up(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = WAL")


def read(engine: Any, kind: str, **options: Any) -> Any:
    """Return what a query finds in a new session."""
    with Session(engine) as session:
        return world.answer(session, QUERIES[kind](), **options)


def violations(
    engine: Any,
    write: str,
    kind: str,
    *,
    rounds: str,
    cold: bool = False,
    store: Callable[[], Any] = MemoryTransport,
) -> list[str]:
    """Return what was read wrongly, one moment after another until none is left."""
    found: list[str] = []
    moment = 0
    while True:
        transport = store()
        SQLModelCache.configure(transport, key_prefix=uuid4().hex, namespace="stage")
        stage = Stage(engine, transport)
        world.empty(SCHEMA, engine)
        for _ in range(0 if cold else 3):
            read(engine, kind)

        def writes() -> None:
            with Session(engine) as session:
                WRITES[write](session)
                session.commit()
            read(engine, kind)  # others have the new list cached at once, and its rows
            read(engine, kind)

        before = read(engine, kind, cache=False)
        seen: list[Any] = []

        def reads(seen: list[Any] = seen) -> None:
            seen += [read(engine, kind) for _ in range(2)]

        with stage.watched():
            if rounds == "read in write":
                stage.at[moment] = reads
                writes()
            else:
                stage.at[moment] = writes
                seen.append(read(engine, kind))
        if stage.at:
            return found
        after = read(engine, kind, cache=False)
        found += [f"step {moment}: {each}" for each in seen if each not in (before, after)]
        for _ in range(3):
            rest = read(engine, kind)
            if rest != after:
                found.append(f"step {moment}: {rest} at rest, not {after}")
        moment += 1


@pytest.mark.parametrize("kind", QUERIES)
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("rounds", ["read in write", "write in read"])
def test_every_interleaving_with_a_commit(engine: Any, write: str, kind: str, rounds: str) -> None:
    """At each step of the reader a whole commit, at each step of the commit whole reads."""
    assert violations(engine, write, kind, rounds=rounds) == []


@pytest.mark.parametrize("kind", QUERIES)
@pytest.mark.parametrize("write", ["insert", "move in", "delete"])
def test_every_interleaving_with_a_first_read(engine: Any, write: str, kind: str) -> None:
    """The same where nothing was cached: also while stamps are made."""
    assert violations(engine, write, kind, rounds="write in read", cold=True) == []


@pytest.mark.parametrize("kind", ["list", "both"])
@pytest.mark.parametrize("write", WRITES)
def test_every_interleaving_with_nodes(engine: Any, write: str, kind: str) -> None:
    """The same where the nodes of a Cluster answer one question one after another."""
    assert violations(engine, write, kind, rounds="write in read", store=Nodes) == []


@pytest.mark.parametrize("kind", ["list", "both", "names"])
@pytest.mark.parametrize("write", ["move out", "order"])
def test_every_interleaving_on_a_cluster(
    engine: Any, redis_cluster: Cluster, write: str, kind: str
) -> None:
    """Result, stamps and rows lie on three nodes."""
    with redis_cluster.client() as client:
        store = partial(RedisSyncTransport, client)
        assert violations(engine, write, kind, rounds="write in read", store=store) == []
        assert all(counts_per_node(redis_cluster))


def counts_per_node(cluster: Cluster) -> list[int]:
    """Return how many keys lie on each node."""
    counts = []
    for node in cluster.nodes:
        with node.client() as client:
            counts.append(client.dbsize())
    return counts


# Deliberately broken: the tests above must see it


def test_nodes_that_are_asked_once_are_seen(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What several nodes answer is of one moment only if a second look finds it unchanged."""
    monkeypatch.setattr(Nodes, "looks_twice", False)
    assert violations(engine, "order", "list", rounds="write in read", store=Nodes)


def test_a_result_without_stamps_is_seen(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that depend on nothing are stale at rest."""
    monkeypatch.setattr(results, "_content", lambda *_: b"0" * 16)
    assert violations(engine, "insert", "list", rounds="write in read")


def test_a_list_without_a_second_look_is_seen(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the stamps beside the rows, a list is given with rows that came later."""
    monkeypatch.setattr(results.Asked, "agrees", lambda *_: True)
    assert violations(engine, "move out", "list", rounds="write in read")


def test_stamps_made_after_the_select_are_seen(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stamp must have been read before the SELECT that its result comes from."""
    fill = answer._fill

    def late(scope: Any, counters: Any, asked: Any, held: Any, load: Any, *others: Any) -> Any:
        def load_first() -> Any:
            result = load()
            steps = results.look_up(asked, answer.PATIENCE, fills=True)
            answer.bridge.run(scope.cache.stores, steps)
            return result

        return fill(scope, counters, asked, held, load_first, *others)

    monkeypatch.setattr(answer, "_fill", late)
    assert violations(engine, "insert", "list", rounds="write in read", cold=True)


def test_unknown_old_values_are_stamped(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no row is found in the cache, and nothing is said of it, moves are missed."""
    monkeypatch.setattr(old, "_granted", lambda *_: [])
    assert violations(engine, "move out", "count", rounds="write in read")


def test_old_values_of_a_row_that_waits_are_unknown(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store could not be told of a commit: what it has of the row is older than that."""
    world.empty(SCHEMA, engine)
    store: Any = ScriptedTransport()
    SQLModelCache.configure(store, namespace=uuid4().hex)
    monkeypatch.setattr(Backlog, "_start", lambda _: None)
    monkeypatch.setattr(Backlog, "speaks_for", lambda *_: False)
    monkeypatch.setattr(Breaker, "failed", lambda *_: None)
    with Session(engine) as session:
        session.get(Hero, 1)

    def away(op: Any) -> None:
        if isinstance(op, Fence | Release):
            raise ConnectionError

    for on, team in ((away, 2), (lambda op: None, 3)):
        store.on = on
        store.asked.clear()
        with Session(engine) as session:
            session.get(Hero, 1).team_id = team
            session.commit()
        (fence,) = [op for op in store.asked if isinstance(op, Fence)]
        unknown = stamps.unknown("hero_0", "team_id") in {entry.pk for entry in fence.entries}
        assert unknown is (team == 3)

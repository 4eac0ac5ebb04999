"""One peer in its own environment: `python stage.py PEER DATABASE STORE`; prints a line of JSON.

STORE is a Redis URL or "memory". Times are the least of many short turns, in microseconds. Then
situations are forced, each in sessions of its own, and judged by what a reader is given.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any

import models
from adapters import PEERS, Peer
from sqlalchemy import create_engine, event, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Session, SQLModel

TURNS = 40
CALLS = 10


async def over(found: Any) -> Any:
    """Return a result, awaited where it has to be."""
    return await found if inspect.isawaitable(found) else found


class Opened:
    """A session of either kind, in `async with`."""

    def __init__(self, peer: Peer) -> None:
        self._session = peer.session()

    async def __aenter__(self) -> Any:
        return self._session

    async def __aexit__(self, *error: object) -> None:
        await over(self._session.close())


async def read(peer: Peer, pk: int = 1, **how: Any) -> Any:
    """Return a row, read in a session of its own."""
    async with Opened(peer) as session:
        return await over(peer.get(session, pk, **how))


async def write(peer: Peer, name: str, pk: int = 1) -> None:
    """Change a row and commit, as a user of this peer does."""
    async with Opened(peer) as session:
        row = await over(peer.get(session, pk))
        row.name = name
        await over(session.commit())
        await over(peer.changed(pk))


async def least(call: Callable[[], Awaitable[object]]) -> float:
    """Return the microseconds of one call, of the quickest turn."""
    turns = []
    for _turn in range(TURNS):
        begun = perf_counter()
        for _call in range(CALLS):
            await call()
        turns.append((perf_counter() - begun) / CALLS)
    return round(min(turns) * 1e6, 1)


# Situations: is a reader given what the database would give? No hand helps beside `changed`.


async def committed(peer: Peer, sent: list[str]) -> bool:
    """Tell whether the next session reads a commit."""
    await read(peer)
    await write(peer, "committed")
    return bool((await read(peer)).name == "committed")


async def uncommitted(peer: Peer, sent: list[str]) -> bool:
    """Tell whether nobody else ever reads what is rolled back."""
    await write(peer, "before")
    await read(peer)
    async with Opened(peer) as session:
        row = await over(peer.get(session, 1))
        row.name = "never"
        await over(session.flush())
        session.expire_all()
        await over(peer.get(session, 1))
        meanwhile = (await read(peer)).name
        await over(session.rollback())
    return meanwhile == (await read(peer)).name == "before"


async def bulk(peer: Peer, sent: list[str]) -> bool:
    """Tell whether the next session reads a bulk UPDATE."""
    await write(peer, "before")
    await read(peer)
    async with Opened(peer) as session:
        statement = update(models.Row).values(name="bulk").where(models.Row.id == 1)
        await over(session.execute(statement))
        await over(session.commit())
    return bool((await read(peer)).name == "bulk")


async def for_update(peer: Peer, sent: list[str]) -> bool:
    """Tell whether a row that is to be locked is locked."""
    await read(peer)
    sent.clear()
    await read(peer, with_for_update=True)
    return any("FOR UPDATE" in statement for statement in sent)


async def lazy_load(peer: Peer, sent: list[str]) -> bool:
    """Tell whether the row's relationship is the row that it points to."""
    await read(peer)
    async with Opened(peer) as session:
        await over(session.get(models.Team, 1))
    for _turn in range(2):
        async with Opened(peer) as session:
            row = await over(peer.get(session, 1))
            if peer.asynchronous:
                team = await session.run_sync(lambda _, row=row: row.team)
            else:
                team = row.team
            if type(team) is not models.Team or team.id != 2:
                return False
    return True


async def types(peer: Peer, sent: list[str]) -> bool:
    """Tell whether values of a hit have the types that a load gives."""
    await read(peer)
    row = await read(peer)
    with Session(create_engine(sys.argv[2])) as session:
        loaded = session.get(models.Row, 1, execution_options={"cache": False})
        names = ("token", "seen", "price", "score")
        return all(
            (type(getattr(row, name)), getattr(row, name))
            == (type(getattr(loaded, name)), getattr(loaded, name))
            for name in names
        )


SITUATIONS = [committed, uncommitted, bulk, for_update, lazy_load, types]


async def main(name: str, database: str, store: str) -> dict[str, Any]:
    """Measure one peer."""
    kind = PEERS[name]
    make = create_async_engine if kind.asynchronous else create_engine
    engine: Any = make(database)
    sent: list[str] = []
    plain = getattr(engine, "sync_engine", engine)
    outside = create_engine(database)
    SQLModel.metadata.drop_all(outside)
    SQLModel.metadata.create_all(outside)
    peer = kind(engine, store)
    await peer.start(store)
    with Session(outside) as session:
        session.add_all([models.Team(id=1, name="one"), models.Team(id=2, name="two")])
        session.flush()
        session.add(models.Row(id=1, name="a", team_id=2))
        session.commit()
    event.listen(plain, "before_cursor_execute", lambda *told: sent.append(told[2]))
    result: dict[str, Any] = {"packages": {}}
    for package in (*kind.packages, "sqlalchemy"):
        try:
            result["packages"][package] = version(package)
        except PackageNotFoundError:
            result["packages"][package] = "this tree"
    await read(peer)
    await read(peer)
    sent.clear()
    await read(peer)
    result["sql"] = len(sent)
    number = iter(range(10**9))
    result["hit"] = await least(lambda: read(peer))
    result["commit"] = await least(lambda: write(peer, f"name {next(number)}"))
    for situation in SITUATIONS:
        try:
            result[situation.__name__] = "right" if await situation(peer, sent) else "wrong"
        except Exception as error:
            result[situation.__name__] = f"raises {type(error).__name__}"
    await over(engine.dispose())
    return result


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))

"""One process of the harness: threads with sessions, or a loop of tasks with async sessions."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import traceback
from functools import partial
from typing import Any, Final

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sqlmodel_cache import FenceError, SQLModelCache
from sqlmodel_cache.orm.connections import publish
from sqlmodel_cache.protocol.write import Publication
from tests.coherence import flaws, steps, writing
from tests.coherence.board import Board, Slot
from tests.coherence.reading import Judge
from tests.coherence.settings import Settings
from tests.coherence.table import Item, model_of
from tests.servers.databases import async_url

BURST: Final = 8  # lookups of one turn
_SNAPSHOT: Final = {"isolation_level": "REPEATABLE READ"}


def prepare(settings: Settings, seed: int) -> random.Random:
    """Make this process a worker: hooks, the canary's flaw if any, and the configuration."""
    rng = random.Random(seed)
    delay = steps.some_delay(rng, settings.share, settings.dawdle)
    steps.watch_transports(delay)
    steps.delay_fills(delay)
    if settings.fence is not None:
        vars(publish)["Publication"] = partial(Publication, duration=settings.fence)
    if settings.flaw is not None:
        flaws.apply(settings.flaw)
    SQLModelCache.configure(
        settings.redis,
        key_prefix=settings.prefix,
        on_fence_failure="abort" if settings.abort else "proceed",
    )
    return rng


def sync_engine(settings: Settings, rng: random.Random, size: int) -> Engine:
    """Return an engine whose commits are watched."""
    engine = create_engine(settings.database, pool_size=size, max_overflow=0)
    delay = steps.some_delay(rng, settings.share, settings.dawdle)
    steps.watch_commits(engine, delay, delay)
    return engine


class Actor:
    """What one thread or task does, over and over: `turn` with a new session each time."""

    def __init__(self, settings: Settings, board: Board, number: int, seed: int) -> None:
        self.settings = settings
        self.board = board
        self.slot = Slot(board, number)
        self.rng = random.Random(seed)
        self.judge = Judge(self.slot, settings.evidence)

    def turn(self, session: Session) -> None:
        """Write once, or read a few rows."""
        dice, rng, rows = self.rng.random(), self.rng, self.settings.rows
        if dice < self.settings.writes:
            if self.settings.deletions and rng.random() < 0.05:
                writing.remove_and_restore(session, self.slot, rng.randrange(rows))
            else:
                way, chosen = writing.choose(rng, rows, self.settings.whole, self.settings.pairs)
                writing.write(session, self.slot, way, chosen, commit=rng.random() > 0.1)
        elif dice > 0.95:
            self._read_from_snapshot(session)
        else:
            if dice < self.settings.writes + 0.04 and self.settings.queries:
                hot = self.board.hot  # once: another process may be heating a row of another table
                if model_of(hot) is Item:
                    self.judge.ask_for_columns(session, [hot])
                session.rollback()
                self.judge.ask_for_rows(session)
            from_database = {"execution_options": {"cache": False}} if dice > 0.93 else {}
            for number in range(BURST):
                session.expunge_all()  # what is in the identity map is not looked up again
                hot = self.board.hot
                if self.board.known(hot).near or number == 0:
                    self.judge.get(session, hot, **from_database)
                elif number % 4 == 1 and self.settings.bulk:
                    self.judge.get_many(session, rng.sample(range(rows), rows))
                else:
                    self.judge.get(session, rng.randrange(rows), **from_database)

    def failed(self, error: Exception) -> None:
        """Count an error that reached the caller of the library; one is what 'abort' asks for."""
        if isinstance(error, FenceError) and self.settings.abort:
            self.slot.count("rollbacks")
            return
        self.slot.count("errors")
        self.judge.report("error", error=repr(error)[:500],
                          trace=traceback.format_exc()[-1500:])  # fmt: skip

    def _read_from_snapshot(self, session: Session) -> None:
        """Read, in a snapshot, a row that was committed after it began.

        What is read is old, and rightly so: it is not judged. It must leave nothing behind.
        """
        session.connection(execution_options=_SNAPSHOT)
        session.execute(text("SELECT 1")).close()
        row = self.board.hot
        before = self.board.known(row).seen
        for _ in range(30):
            if self.board.over or self.board.known(row).seen > before:
                break
            steps.pause(0.001)
        session.get(model_of(row), row)


def run_threads(settings: Settings, first_slot: int, number: int, seed: int) -> None:
    """Be a process of `number` threads. The entry point of a child."""
    rng = prepare(settings, seed)
    board = Board(settings.board, settings.rows, settings.slots)
    engine = sync_engine(settings, rng, number)

    def act(actor: Actor) -> None:
        actor.slot.count("ready")
        while not board.over:
            time.sleep(settings.idle)
            try:
                with Session(engine) as session:
                    actor.turn(session)
            except Exception as error:
                actor.failed(error)

    actors = [
        Actor(settings, board, first_slot + index, seed * 1000 + index) for index in range(number)
    ]
    threads = [threading.Thread(target=act, args=(actor,)) for actor in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    SQLModelCache.reset()
    engine.dispose()


def run_tasks(settings: Settings, slot: int, number: int, seed: int) -> None:
    """Be a process of one event loop with `number` tasks. The entry point of a child."""
    rng = prepare(settings, seed)
    board = Board(settings.board, settings.rows, settings.slots)

    async def main() -> None:
        engine = create_async_engine(async_url(settings.database), pool_size=number, max_overflow=0)
        delay = steps.some_delay(rng, settings.share, settings.dawdle)
        steps.watch_commits(engine.sync_engine, delay, delay)
        actors = [Actor(settings, board, slot, seed * 1000 + index) for index in range(number)]
        await asyncio.gather(*(act(engine, actor) for actor in actors))
        SQLModelCache.reset()
        await engine.dispose()

    async def act(engine: Any, actor: Actor) -> None:
        actor.slot.count("ready")
        while not board.over:
            await asyncio.sleep(settings.idle)
            try:
                async with AsyncSession(engine) as session:
                    await session.run_sync(actor.turn)
            except Exception as error:
                actor.failed(error)

    asyncio.run(main())

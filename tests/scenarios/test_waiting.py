"""Waiting for another's fill must let that other run."""

from __future__ import annotations

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache


async def test_tasks_waiting_on_memory_do_not_block_their_loop(tmp_path):
    """Twenty tasks miss one row at once: one fills, the others wait for it and hit."""

    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "thing"
        __cache_config__ = CacheConfig()
        id: Mapped[int] = mapped_column(primary_key=True)

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/things.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    SQLModelCache.configure("memory://")
    async with AsyncSession(engine) as session:
        session.add(Thing(id=1))
        await session.commit()

    async def read():
        async with AsyncSession(engine) as session:
            return (await session.get(Thing, 1)).id

    assert await asyncio.gather(*[read() for _ in range(20)]) == [1] * 20
    stats = SQLModelCache.stats()
    assert stats.fills == 1
    assert stats.hits == 19
    await engine.dispose()
    Base.registry.dispose()

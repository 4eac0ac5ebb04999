"""A column that is never stored loads on access; under asyncio that would raise."""

from __future__ import annotations

from sqlalchemy import PickleType
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlmodel_cache import CacheConfig, SQLModelCache


async def test_a_pickled_column_is_there_under_asyncio(tmp_path):
    """A hit that lacks a column is loaded instead, so that the attribute is simply there."""

    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "thing"
        __cache_config__ = CacheConfig()
        id: Mapped[int] = mapped_column(primary_key=True)
        blob = mapped_column(PickleType)

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/things.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    SQLModelCache.configure("memory://")
    async with AsyncSession(engine) as session:
        session.add(Thing(id=1, blob={"a": 1}))
        await session.commit()
    for _ in range(3):
        async with AsyncSession(engine) as session:
            assert (await session.get(Thing, 1)).blob == {"a": 1}
    await engine.dispose()
    Base.registry.dispose()

"""Engines and models that are let go are let go: nothing of ours keeps them alive."""

from __future__ import annotations

import gc
import weakref

import pytest
from sqlalchemy import Engine, create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from sqlmodel_cache import CacheConfig, SQLModelCache


def _engine_that_was_used(model: type) -> weakref.ref[object]:
    """Return a reference to the dialect of an engine that wrote and read through the cache.

    Not by a flush: a mapper keeps the dialects of its last hundred flushed statements itself.
    """
    engine = create_engine("sqlite://", poolclass=StaticPool)
    model.metadata.create_all(engine)  # type: ignore[attr-defined]
    with Session(engine) as session:
        session.execute(insert(model.__table__).values(id=1))  # type: ignore[attr-defined]
        session.commit()
    for _ in range(2):
        with Session(engine) as session:
            session.get(model, 1)
            session.scalars(select(model).where(model.id > 0)).all()  # type: ignore[attr-defined]
    engine.dispose()
    return weakref.ref(engine.dialect)


def test_an_engine_per_tenant_is_not_kept() -> None:
    """Its dialect, and all that was compiled for it, goes with it; the model stays cached."""

    class Base(DeclarativeBase):
        pass

    class Kept(Base):
        __tablename__ = "lifetimes_kept"
        __cache_config__ = CacheConfig(ttl=60, queries=True)
        id: Mapped[int] = mapped_column(primary_key=True)

    SQLModelCache.configure("memory://")
    dialects = [_engine_that_was_used(Kept) for _ in range(3)]
    gc.collect()
    stats = SQLModelCache.stats()
    assert stats.models["Kept"].hits >= 3
    assert stats.models["Kept (queries)"].fills == 3
    assert [dialect() for dialect in dialects] == [None, None, None]


def test_a_model_made_by_a_function_is_not_kept() -> None:
    """A class mapped, read through the cache and forgotten by its maker is collected."""

    def make_and_use() -> weakref.ref[type]:
        class Base(DeclarativeBase):
            pass

        class Brief(Base):
            __tablename__ = "lifetimes_brief"
            __cache_config__ = CacheConfig(ttl=60, queries=True)
            id: Mapped[int] = mapped_column(primary_key=True)

        _engine_that_was_used(Brief)
        return weakref.ref(Brief)

    class OtherBase(DeclarativeBase):
        pass

    SQLModelCache.configure("memory://")
    brief = make_and_use()

    class Other(OtherBase):  # a mapper that is new has the map of tables built anew
        __tablename__ = "lifetimes_other"
        id: Mapped[int] = mapped_column(primary_key=True)

    gc.collect()
    assert brief() is None


def _model_that_was_used(engine: Engine, name: str, *, dispose: bool) -> weakref.ref[type]:
    """Return a reference to a class of its own registry, read through the cache and given up."""

    class Base(DeclarativeBase):
        pass

    class GivenUp(Base):
        __tablename__ = name
        __cache_config__ = CacheConfig(ttl=60, queries=True)
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(GivenUp).values(id=1))
    for _ in range(2):
        with Session(engine) as session:
            assert session.get(GivenUp, 1) is not None
            assert session.scalars(select(GivenUp).where(GivenUp.id > 0)).all()
    if dispose:
        Base.registry.dispose()
    engine.clear_compiled_cache()  # SQLAlchemy's own, which has its last 500 statements
    return weakref.ref(GivenUp)


@pytest.mark.parametrize("dispose", [True, False])
def test_a_model_that_was_given_up_is_not_kept(dispose: bool) -> None:
    """Its engine lives on. It goes at once, or, without a word of it, when another is mapped."""
    SQLModelCache.configure("memory://")
    engine = create_engine("sqlite://", poolclass=StaticPool)
    models = [_model_that_was_used(engine, f"lifetimes_{n}", dispose=dispose) for n in range(2)]
    assert SQLModelCache.stats().models["GivenUp"].hits
    gc.collect()
    gone = models if dispose else models[:1]
    assert [model() for model in gone] == [None] * len(gone)
    engine.dispose()

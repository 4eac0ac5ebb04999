"""Engines and models that are let go are let go: nothing of ours keeps them alive."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from sqlmodel_cache import CacheConfig, SQLModelCache


def _mapped(name: str) -> type:
    """Return a class of a registry of its own, whose rows and queries are cached."""

    class Base(DeclarativeBase):
        pass

    class Brief(Base):
        __tablename__ = name
        __cache_config__ = CacheConfig(ttl=60, queries=True)
        id: Mapped[int] = mapped_column(primary_key=True)

    return Brief


def _use(engine: Engine, model: Any) -> None:
    """Write and read through the cache.

    Not by a flush: a mapper keeps the dialects of its last hundred flushed statements itself.
    """
    model.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(model.__table__).values(id=1))
    for _ in range(2):
        with Session(engine) as session:
            assert session.get(model, 1) is not None
            assert session.scalars(select(model).where(model.id > 0)).all()


def _engine_that_was_used(model: type) -> weakref.ref[object]:
    """Return a reference to the dialect of an engine that was given up."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    _use(engine, model)
    engine.dispose()
    return weakref.ref(engine.dialect)


def _model_that_was_used(engine: Engine, name: str, *, dispose: bool) -> weakref.ref[type]:
    """Return a reference to a class that was given up."""
    model: Any = _mapped(name)
    _use(engine, model)
    if dispose:
        model.registry.dispose()
    engine.clear_compiled_cache()  # SQLAlchemy's own, which has its last 500 statements
    return weakref.ref(model)


def test_an_engine_per_tenant_is_not_kept() -> None:
    """Its dialect, and all that was compiled for it, goes with it; the model stays cached."""
    SQLModelCache.configure("memory://")
    kept = _mapped("lifetimes_kept")
    dialects = [_engine_that_was_used(kept) for _ in range(3)]
    gc.collect()
    stats = SQLModelCache.stats()
    assert stats.models["Brief"].hits >= 3
    assert stats.models["Brief (queries)"].fills == 3
    assert [dialect() for dialect in dialects] == [None, None, None]


def test_a_model_made_by_a_function_is_not_kept() -> None:
    """A class mapped, read through the cache and forgotten by its maker is collected."""

    def make_and_use() -> weakref.ref[type]:
        model = _mapped("lifetimes_brief")
        _engine_that_was_used(model)
        return weakref.ref(model)

    SQLModelCache.configure("memory://")
    brief = make_and_use()
    _mapped("lifetimes_other")  # a mapper that is new has the map of tables built anew
    gc.collect()
    assert brief() is None


@pytest.mark.parametrize("dispose", [True, False])
def test_a_model_that_was_given_up_is_not_kept(dispose: bool) -> None:
    """Its engine lives on. It goes at once, or, without a word of it, when another is mapped."""
    SQLModelCache.configure("memory://")
    engine = create_engine("sqlite://", poolclass=StaticPool)
    models = [_model_that_was_used(engine, f"lifetimes_{n}", dispose=dispose) for n in range(2)]
    assert SQLModelCache.stats().models["Brief"].hits
    gc.collect()
    gone = models if dispose else models[:1]
    assert [model() for model in gone] == [None] * len(gone)
    engine.dispose()

"""Two threads that meet a model for the first time, at the same moment."""

from __future__ import annotations

import threading

from sqlalchemy import create_engine, inspect

from sqlmodel_cache import SQLModelCache, _state
from sqlmodel_cache.orm.model import reader
from sqlmodel_cache.orm.model.plan import plan_of
from tests.coherence.table import Item


def test_one_compiles_while_the_other_reads(monkeypatch):
    """A reader half compiled by one thread is compiled by the other, not taken for finished."""
    SQLModelCache.configure("memory://", namespace="threads")
    engine = create_engine("sqlite://")
    half, whole = threading.Event(), threading.Event()
    make = reader.Shape.__init__

    def make_slowly(self, *arguments):
        if threading.current_thread() is slow and not half.is_set():
            half.set()
            whole.wait(10)
        make(self, *arguments)

    monkeypatch.setattr(reader.Shape, "__init__", make_slowly)
    found = _state.active.sites.of(engine.dialect).reader("threads", plan_of(Item))
    shapes = []
    slow = threading.Thread(target=lambda: shapes.append(found.shape_of(inspect(Item))))
    slow.start()
    assert half.wait(10)
    shapes.append(found.shape_of(inspect(Item)))
    whole.set()
    slow.join()
    engine.dispose()
    assert len({shape.codec.fingerprint for shape in shapes}) == 1
    assert len(shapes) == 2

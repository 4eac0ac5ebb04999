"""Log lines that name a model have it as a field too."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import TYPE_CHECKING

import pytest

from sqlmodel_cache import SQLModelCache, _state
from tests.operating.models import Hero, read

if TYPE_CHECKING:
    from sqlalchemy import Engine


def test_a_key_that_fits_no_column(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """The model, and the name of the bypass."""
    SQLModelCache.configure("memory://")
    with caplog.at_level(logging.INFO, "sqlmodel_cache"):
        read(engine, Hero, "1")
    (record,) = caplog.records
    assert (record.cache_model, record.cache_reason) == ("Hero", "key_value")


def test_a_model_that_is_never_cached(caplog: pytest.LogCaptureFixture) -> None:
    """The model, and the name of the bypass."""
    sys.modules.pop("tests.operating.blocked", None)
    crowd = importlib.import_module("tests.operating.blocked").Crowd
    SQLModelCache.configure("memory://")
    from sqlmodel_cache.orm.model.plan import plan_of

    plan_of(crowd)
    (record,) = [one for one in caplog.records if "Crowd" in one.getMessage()]
    assert (record.cache_model, record.cache_reason) == ("Crowd", "column_expression")


def test_a_lost_invalidation(caplog: pytest.LogCaptureFixture) -> None:
    """The models that it is about."""
    SQLModelCache.configure("memory://")
    _state.active.lose({"Hero": 1, "Team": 2}, "for a test")
    assert caplog.records[-1].cache_model == "Hero, Team"

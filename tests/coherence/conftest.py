"""Where the harness runs: a Redis, a database in PostgreSQL, a folder for the shared words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.coherence.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def settings(postgres_url: str, redis_url: str, key_prefix: str, tmp_path: Path) -> Settings:
    """Return a short run; `dataclasses.replace` makes it another."""
    return Settings(folder=tmp_path, database=postgres_url, redis=redis_url, prefix=key_prefix)

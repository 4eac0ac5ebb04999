"""Where the database and the cache are, from the environment; SQLite and memory without it."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """`support_token` lets its bearer go past the cache; without one nobody may."""

    database_url: str = "sqlite+aiosqlite:///heroes.sqlite3"
    cache_url: str = "memory://"
    support_token: str | None = None
    key_prefix: str = "heroes"

    @classmethod
    def from_environment(cls) -> Settings:
        """Read HEROES_DATABASE_URL, HEROES_CACHE_URL and HEROES_SUPPORT_TOKEN."""
        return cls(
            os.environ.get("HEROES_DATABASE_URL", cls.database_url),
            os.environ.get("HEROES_CACHE_URL", cls.cache_url),
            os.environ.get("HEROES_SUPPORT_TOKEN"),
        )

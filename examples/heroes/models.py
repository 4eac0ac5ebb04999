"""Two cached tables, and what requests and responses look like.

`CachedModel` is the only trace of the cache in this file.
"""

from __future__ import annotations

from sqlmodel import Field, SQLModel

from sqlmodel_cache import CacheConfig, CachedModel


class Team(CachedModel, table=True):
    """Changes seldom and is read with each of its heroes: kept for an hour."""

    __cache_config__ = CacheConfig(ttl=3600)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=100)


class Hero(CachedModel, table=True):
    """Kept for as long as `configure(default_ttl=...)` says."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=100)
    secret_name: str = Field(max_length=100)
    team_id: int | None = Field(default=None, foreign_key="team.id", index=True)


class TeamCreate(SQLModel):
    """What a new team needs."""

    name: str


class HeroCreate(SQLModel):
    """What a new hero needs."""

    name: str
    secret_name: str
    team_id: int | None = None


class HeroUpdate(SQLModel):
    """What may be changed; what is left out stays."""

    name: str | None = None
    team_id: int | None = None


class HeroPublic(SQLModel):
    """What the world may know of a hero."""

    id: int
    name: str
    team: str | None

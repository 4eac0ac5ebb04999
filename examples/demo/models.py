"""Two cached tables. Nothing below this file mentions the cache again, except to switch it off."""

from __future__ import annotations

from sqlalchemy import JSON, Column
from sqlmodel import Field

from sqlmodel_cache import CachedModel


class Country(CachedModel, table=True):
    """One of 252 countries, by its two-letter ISO code."""

    iso: str = Field(primary_key=True)
    name: str
    capital: str
    continent: str
    area_km2: float
    population: int
    currency: str
    languages: str


class City(CachedModel, table=True):
    """One of about 34,000 cities with more than 15,000 inhabitants."""

    id: int = Field(primary_key=True)
    name: str
    country: str = Field(foreign_key="country.iso")
    latitude: float
    longitude: float
    population: int
    timezone: str
    other_names: list[str] = Field(sa_column=Column(JSON))

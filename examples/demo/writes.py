"""The writes, and the proof that each one was seen.

Before every write the city is read, so that its old row lies in the cache. After the commit it is
read through a fresh session and through a second engine, and both are compared with what the
database file says, asked through Python's own sqlite3, past SQLAlchemy and the cache.

A proof that cannot fail proves nothing. So at the end a few writes are made through sqlite3 too,
behind the library's back, where it cannot know of them: these reads must come out stale.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

from sqlalchemy import Engine, update
from sqlmodel import Session, col

from examples.demo.models import City
from sqlmodel_cache import SQLModelCache


@dataclass(slots=True)
class Proof:
    """Counts over all writes. `stale` must be 0, `control_stale` must be `control`."""

    writes: int = 0
    rereads: int = 0
    from_cache: int = 0
    stale: int = 0
    control: int = 0
    control_stale: int = 0

    @property
    def holds(self) -> bool:
        """Tell whether no write was missed, by a check that does find what was missed."""
        return self.stale == 0 and self.from_cache > 0 and self.control_stale == self.control > 0


def write_and_check(
    engine: Engine,
    second: Engine,
    file: Path,
    cities: list[int],
    seed: int,
    progress: Callable[[int, int], None],
) -> Proof:
    """Change the population of each city in `cities`, three ways in turn, and check each."""
    proof = Proof()
    random = Random(seed)
    ways = (_through_the_orm, _by_update_statement, _in_a_savepoint)
    with closing(sqlite3.connect(file)) as truth:
        for number, city_id in enumerate(cities):
            _population(engine, city_id)
            ways[number % len(ways)](engine, city_id, random.randrange(10**7))
            proof.writes += 1
            before = SQLModelCache.stats().hits
            expected = _in_the_file(truth, city_id)
            for each in (engine, second):
                proof.rereads += 1
                proof.stale += _population(each, city_id) != expected
            proof.from_cache += SQLModelCache.stats().hits - before
            progress(number + 1, len(cities))
    return proof


def check_the_check(engine: Engine, file: Path, cities: list[int], proof: Proof) -> None:
    """Change `cities` behind the library's back, and count the reads that do not see it."""
    with closing(sqlite3.connect(file)) as truth:
        for city_id in cities:
            _population(engine, city_id)
            with truth:
                truth.execute("UPDATE city SET population = -1 WHERE id = ?", (city_id,))
            proof.control += 1
            proof.control_stale += _population(engine, city_id) != -1
    SQLModelCache.invalidate(City, *cities)


def _through_the_orm(engine: Engine, city_id: int, population: int) -> None:
    with Session(engine) as session:
        session.get_one(City, city_id).population = population
        session.commit()


def _by_update_statement(engine: Engine, city_id: int, population: int) -> None:
    with Session(engine) as session:
        session.execute(update(City).where(col(City.id) == city_id).values(population=population))
        session.commit()


def _in_a_savepoint(engine: Engine, city_id: int, population: int) -> None:
    with Session(engine) as session:
        city = session.get_one(City, city_id)
        with session.begin_nested():
            city.population = population
        session.commit()


def _population(engine: Engine, city_id: int) -> int:
    with Session(engine) as session:
        return session.get_one(City, city_id).population


def _in_the_file(truth: sqlite3.Connection, city_id: int) -> int:
    (population,) = truth.execute("SELECT population FROM city WHERE id = ?", (city_id,)).fetchone()
    return int(population)

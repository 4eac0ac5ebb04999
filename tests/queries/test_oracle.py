"""Programs with cached queries and without a cache: no difference, whatever is asked and written.

`make queries` is the long form. QUERIES_EXAMPLES says how many programs, QUERIES_SEED which,
QUERIES_URL on which database, by plain sessions or by those of an async driver, and QUERIES_LEVEL
at which isolation level. Schemas are new in each batch.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from sqlmodel_cache.orm.model.tables import TableMap
from sqlmodel_cache.orm.queries import depends, old
from sqlmodel_cache.orm.writes import stamping
from tests.queries.asked import Query
from tests.queries.blueprints import Blueprint, ColumnPlan, RefPlan, TablePlan, pool
from tests.queries.mapped import Schema
from tests.queries.places import place
from tests.queries.programs import Program, Step, differences, programs
from tests.queries.written import Write
from tests.servers.databases import async_url, plain_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")

EXAMPLES = int(os.environ.get("QUERIES_EXAMPLES") or 0)
SEED = int(os.environ.get("QUERIES_SEED") or 0)
URL = os.environ.get("QUERIES_URL")
LEVEL = os.environ.get("QUERIES_LEVEL") or None
BATCH = 200  # programs
SCHEMAS = 5  # of one batch


class Where(NamedTuple):
    """A database, its isolation level if it is not the usual one, and how many programs run."""

    url: str
    level: str | None
    programs: int


_PLACES: dict[str, tuple[str, Callable[[str], str], str | None, int]] = {
    "sqlite": ("sqlite_url", plain_url, None, 200),
    "sqlite-async": ("sqlite_url", async_url, None, 30),
    "postgresql": ("postgres_url", plain_url, None, 30),
    "postgresql-async": ("postgres_url", async_url, None, 30),
    "mariadb": ("mariadb_url", plain_url, None, 30),
    "mariadb-async": ("mariadb_url", async_url, "READ COMMITTED", 30),
}


@pytest.fixture(params=["given"] if URL else _PLACES)
def where(request: pytest.FixtureRequest) -> Where:
    """Return each database with each kind of session, or what the environment names."""
    if URL:
        return Where(URL, LEVEL, EXAMPLES or 200)
    server, with_driver, level, most = _PLACES[request.param]
    return Where(with_driver(request.getfixturevalue(server)), level, EXAMPLES or most)


@contextmanager
def _mapped(blueprints: list[Blueprint], where: Where, path: Path) -> Iterator[list[Schema]]:
    """Map schemas, each in a database file of its own, or all on the server."""
    schemas: list[Schema] = []
    try:
        for number, blueprint in enumerate(blueprints):
            url = make_url(where.url)
            if url.get_backend_name() == "sqlite":
                url = url.set(database=f"{path}/{number}.sqlite3")
            at = place(url.render_as_string(hide_password=False), where.level)
            schemas.append(Schema(blueprint, at, number))
        yield schemas
    finally:
        for schema in schemas:
            schema.dispose()


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a log of a hundred thousand lines out of pytest's memory."""
    monkeypatch.setattr(logging.getLogger("sqlmodel_cache"), "disabled", True)


class _Counts:
    programs = 0
    hits = 0


def _batch(
    schemas: list[Schema], number: int, most: int, counts: _Counts, *, shrinks: bool = True
) -> None:
    """Run generated programs; raises AssertionError for one that hears of the cache."""
    generated = [programs(schema) for schema in schemas]
    places = st.sampled_from(range(len(schemas)))

    @seed(number)
    @settings(
        max_examples=most,
        database=None,
        derandomize=False,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, *([Phase.shrink] if shrinks else [])],
    )
    @given(places.flatmap(lambda place: st.tuples(st.just(place), generated[place])))
    def hears_nothing(drawn: tuple[int, Program]) -> None:
        place, program = drawn
        found, hits = differences(schemas[place], program)
        counts.programs += 1
        counts.hits += hits
        if found:
            note(f"tables: {schemas[place]}")  # whole: pytest shortens what an assertion says
        assert found == []

    hears_nothing()


def test_no_difference(
    where: Where, tmp_path_factory: pytest.TempPathFactory, record_property: Any
) -> None:
    """Generated schemas, queries and programs of two sessions; and many of the answers are hits."""
    counts = _Counts()
    for number, first in enumerate(range(0, where.programs, BATCH)):
        chosen = SEED * 1_000_003 + number
        path = tmp_path_factory.mktemp("oracle")
        with _mapped(pool(chosen, SCHEMAS), where, path) as schemas:
            try:
                _batch(schemas, chosen, min(BATCH, where.programs - first), counts)
            finally:
                print(f"{counts.programs} programs, {counts.hits} hits", flush=True)  # noqa: T201
    assert counts.hits > counts.programs * 2, "the queries were hardly ever cached"
    record_property("examples", counts.programs)
    record_property("hits", counts.hits)


# -- what is broken deliberately -------------------------------------------------------------------

_SMALL = Blueprint(
    (
        TablePlan(columns=(ColumnPlan("c0", "int", index="index"),)),
        TablePlan(
            columns=(ColumnPlan("c0", "int", index="index"),),
            refs=(RefPlan("r0", 0, True, "SET NULL"),),
        ),
    ),
    links=(0, 1),
)
_OF_ONE = Query("rows", "T1", [("=", "r0", (1,))])  # row (1,) and row (3,)
_OF_TWO = Query("rows", "T1", [("=", "r0", (2,))])  # row (2,)
_ALL = Query("rows", "T1", [])  # its rows are cached, so that what they were is known


def _set(key: int, **values: Any) -> Write:
    return Write("set", "T1", (key,), values, [])


def _committed(queries: list[Query], *writes: Write) -> Program:
    return Program(queries, [*(Step(0, "write", each) for each in writes), Step(0, "commit")])


_DIRECTED = {
    "no old values": (old, "_granted", lambda *_: [], _committed([_OF_ONE], _set(1, r0=(2,)))),
    "no new values": (
        stamping,
        "_new_values",
        lambda *_: set(),
        _committed([_OF_TWO, _ALL], _set(1, r0=(2,))),
    ),
    "no tables and columns": (
        depends.Need,
        "all",
        lambda need: [],
        _committed([Query("columns", "T1", [])], _set(1, r0=(2,))),
    ),
    "no cascades": (
        TableMap,
        "dependants",
        lambda *_, **__: frozenset(),
        _committed([_OF_ONE], Write("core remove", "T0", (1,), {}, [])),
    ),
}


@pytest.mark.parametrize("name", _DIRECTED)
def test_the_judge_sees(
    name: str, where: Where, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A program for each fault: with it there is a difference, without it there is none."""
    module, what, broken, program = _DIRECTED[name]
    with _mapped([_SMALL], where, tmp_path) as (schema,):
        found, hits = differences(schema, program)
        assert found == []
        assert hits
        monkeypatch.setattr(module, what, broken)
        assert differences(schema, program)[0]


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)  # elsewhere by `make queries`
@pytest.mark.parametrize("name", ["no old values", "no new values", "no tables and columns"])
def test_the_generator_gets_there(
    name: str, where: Where, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same faults are met by generated programs: always the same ones, so no luck is needed."""
    module, what, broken, _ = _DIRECTED[name]
    monkeypatch.setattr(module, what, broken)
    found = pytest.raises((AssertionError, ExceptionGroup))
    with _mapped(pool(5, 10), where, tmp_path) as schemas, found:
        _batch(schemas, 5, 2_000, _Counts(), shrinks=False)


# -- what once differed ----------------------------------------------------------------------------

_FOUND = {
    "two tables, one name of a column": _committed(
        [_ALL, Query("rows", "T1", [("=", "c0", (2,))])],
        Write("joined set", "T1", (1,), {"c0": (2,)}, [], "r0", 2),
    ),
}


@pytest.mark.parametrize("name", _FOUND)
def test_no_more(name: str, where: Where, tmp_path: Path) -> None:
    """Programs that this oracle found, as small as they became."""
    with _mapped([_SMALL], where, tmp_path) as (schema,):
        found, hits = differences(schema, _FOUND[name])
    assert found == []
    assert hits

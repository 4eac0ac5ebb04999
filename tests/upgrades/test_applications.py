"""A model changes while both versions run: neither sees wrong attributes or stale rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.upgrades.conftest import Process

Columns = dict[str, list[str]]


@dataclass(frozen=True)
class Change:
    """A table, the model of both versions, a first row, and what either version writes.

    `row` is what the old version inserts. Of each write: attribute, value, and what both versions
    must read afterwards.
    """

    table: str
    old: Columns
    new: Columns
    row: dict[str, Any]
    first: tuple[dict[str, str], dict[str, str]]
    old_writes: tuple[str, Any, dict[str, str], dict[str, str]]
    new_writes: tuple[str, Any, dict[str, str], dict[str, str]]


NAME = {"name": ["str", "name"]}
CHANGES = {
    "added": Change(
        "name TEXT, power INTEGER DEFAULT 7",
        NAME,
        {**NAME, "power": ["int", "power"]},
        {"id": 1, "name": "a"},
        ({"name": "'a'"}, {"name": "'a'", "power": "7"}),
        ("name", "b", {"name": "'b'"}, {"name": "'b'", "power": "7"}),
        ("power", 8, {"name": "'b'"}, {"name": "'b'", "power": "8"}),
    ),
    "removed": Change(
        "name TEXT, power INTEGER DEFAULT 7",
        {**NAME, "power": ["int", "power"]},
        NAME,
        {"id": 1, "name": "a", "power": 6},
        ({"name": "'a'", "power": "6"}, {"name": "'a'"}),
        ("power", 5, {"name": "'a'", "power": "5"}, {"name": "'a'"}),
        ("name", "b", {"name": "'b'", "power": "5"}, {"name": "'b'"}),
    ),
    "renamed": Change(
        "name TEXT",
        NAME,
        {"title": ["str", "name"]},
        {"id": 1, "name": "a"},
        ({"name": "'a'"}, {"title": "'a'"}),
        ("name", "b", {"name": "'b'"}, {"title": "'b'"}),
        ("title", "c", {"name": "'c'"}, {"title": "'c'"}),
    ),
    "swapped": Change(
        "name TEXT, nick TEXT",
        {"name": ["str", "name"], "nick": ["str", "nick"]},
        {"name": ["str", "nick"], "nick": ["str", "name"]},
        {"id": 1, "name": "a", "nick": "b"},
        ({"name": "'a'", "nick": "'b'"}, {"name": "'b'", "nick": "'a'"}),
        ("name", "c", {"name": "'c'", "nick": "'b'"}, {"name": "'b'", "nick": "'c'"}),
        ("name", "d", {"name": "'c'", "nick": "'d'"}, {"name": "'d'", "nick": "'c'"}),
    ),
    "retyped": Change(
        "price NUMERIC(10, 2)",
        {"price": ["decimal", "price"]},
        {"price": ["float", "price"]},
        {"id": 1, "price": 1.5},
        ({"price": "Decimal('1.50')"}, {"price": "1.5"}),
        ("price", 2.5, {"price": "Decimal('2.50')"}, {"price": "2.5"}),
        ("price", 3.5, {"price": "Decimal('3.50')"}, {"price": "3.5"}),
    ),
    "retyped-to-enum": Change(
        "color TEXT",
        {"color": ["str", "color"]},
        {"color": ["color", "color"]},
        {"id": 1, "color": "red"},
        ({"color": "'red'"}, {"color": "<Color.red: 'red'>"}),
        ("color", "blue", {"color": "'blue'"}, {"color": "<Color.blue: 'blue'>"}),
        ("color", "red", {"color": "'red'"}, {"color": "<Color.red: 'red'>"}),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_both_versions_are_right(
    change: Change, table: Callable[[str], str], start: Callable[..., Process]
) -> None:
    """Whoever filled and whoever wrote, each reads its own attributes, with the newest values."""
    name = table(change.table)
    old, new = start(name, change.old), start(name, change.new)
    for process in (old, new):
        assert process("get", 1) is None  # both remember that there is none
    old("insert", change.row)
    _both_read(old, new, *change.first)
    _both_read(new, old, *reversed(change.first))
    for writer, (attribute, value, by_old, by_new) in (
        (old, change.old_writes),
        (new, change.new_writes),
    ):
        writer("set", 1, attribute, value)
        _both_read(old, new, by_old, by_new)
        writer("set", 1, attribute, value)
        _both_read(new, old, by_new, by_old)


def _both_read(
    one: Process, other: Process, by_one: dict[str, str], by_other: dict[str, str]
) -> None:
    """In turn, so that each meets what the other one has stored."""
    for _ in range(2):
        assert one("get", 1) == {"id": "1", **by_one}
        assert other("get", 1) == {"id": "1", **by_other}


def test_each_version_alone_has_hits(
    table: Callable[[str], str], start: Callable[..., Process]
) -> None:
    """The processes do use the cache: of two of one version the second hits what the first read."""
    name = table("name TEXT")
    one, other = start(name, NAME), start(name, NAME)
    one("insert", {"id": 1, "name": "a"})
    assert one("get", 1) == other("get", 1)
    assert other("get", 1) == {"id": "1", "name": "'a'"}
    assert other.hit

"""Generated relationships: the same few tables, with any loader strategy on any attribute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, String, create_engine, event, inspect
from sqlalchemy.orm import Session, declarative_base, relationship
from sqlalchemy.orm.collections import collection_adapter

from sqlmodel_cache import CacheConfig

# What a relationship is told when its strategy is chosen; "deep" ones follow cycles.
ATTRIBUTES = (
    "team",
    "heroes",
    "org",
    "teams",
    "boss",
    "minions",
    "pets",
    "owner",
    "badge",
    "bearer",
)
STRATEGIES = ("select", "joined", "selectin", "subquery", "immediate", "raise")
CYCLES = ("boss", "minions")


@dataclass(frozen=True)
class Choice:
    """One strategy per relationship, which classes are cached, and how deep cycles go."""

    lazy: dict[str, str]
    cached: frozenset[str]
    depth: int | None = None


def build(choice: Choice) -> tuple[Any, dict[str, Any]]:
    """Map the classes of a choice."""
    base: Any = declarative_base()

    def to(target: str, name: str, **how: Any) -> Any:
        if name in CYCLES and choice.depth:
            how["join_depth"] = choice.depth
        how["lazy"] = choice.lazy.get(name, "select")
        return relationship(target, **how)

    def mapped(name: str, **attributes: Any) -> Any:
        key = {"id": Column(Integer, primary_key=True), "name": Column(String)}
        policy = {"__cache_config__": CacheConfig(ttl=300)} if name in choice.cached else {}
        return type(name, (base,), {"__tablename__": name.lower(), **key, **policy, **attributes})

    def foreign(table: str, **how: Any) -> Any:
        return Column(Integer, ForeignKey(f"{table}.id"), **how)

    classes = {
        "Org": mapped("Org", teams=to("Team", "teams", back_populates="org", order_by="Team.id")),
        "Team": mapped(
            "Team",
            org_id=foreign("org"),
            org=to("Org", "org", back_populates="teams"),
            heroes=to("Hero", "heroes", back_populates="team", order_by="Hero.id"),
        ),
        "Hero": mapped(
            "Hero",
            team_id=foreign("team"),
            boss_id=foreign("hero"),
            team=to("Team", "team", back_populates="heroes"),
            boss=to("Hero", "boss", back_populates="minions", remote_side="Hero.id"),
            minions=to("Hero", "minions", back_populates="boss", order_by="Hero.id"),
            pets=to("Pet", "pets", back_populates="owner", order_by="Pet.id"),
            badge=to("Badge", "badge", back_populates="bearer", uselist=False),
        ),
        "Pet": mapped(
            "Pet", owner_id=foreign("hero"), owner=to("Hero", "owner", back_populates="pets")
        ),
        "Badge": mapped(
            "Badge", hero_id=foreign("hero"), bearer=to("Hero", "bearer", back_populates="badge")
        ),
    }
    base.registry.configure()
    return base, classes


@contextmanager
def mapped_world(choice: Choice) -> Iterator[tuple[Any, dict[str, Any], list[str]]]:
    """Build classes and rows; yield the engine, the classes and the list of statements sent."""
    base, classes = build(choice)
    engine = create_engine("sqlite://")
    sent: list[str] = []
    try:
        base.metadata.create_all(engine)
        with engine.begin() as connection:
            for name, rows in ROWS.items():
                table = classes[name].__table__
                for row in rows:
                    connection.execute(table.insert(), row)
        event.listen(engine, "before_cursor_execute", lambda *a: sent.append(a[2]))
        yield engine, classes, sent
    finally:
        engine.dispose()
        base.registry.dispose()


ROWS: dict[str, list[dict[str, Any]]] = {
    "Org": [{"id": 1, "name": "o"}],
    "Team": [{"id": 1, "name": "t1", "org_id": 1}, {"id": 2, "name": "t2", "org_id": 1}],
    "Hero": [
        {"id": 1, "name": "boss", "team_id": 1, "boss_id": None},
        {"id": 2, "name": "h2", "team_id": 1, "boss_id": 1},
        {"id": 3, "name": "h3", "team_id": 2, "boss_id": 2},
        {"id": 4, "name": "dangling", "team_id": 9, "boss_id": 3},
    ],
    "Pet": [{"id": 1, "name": "p1", "owner_id": 2}, {"id": 2, "name": "p2", "owner_id": 2}],
    "Badge": [{"id": 1, "name": "b1", "hero_id": 2}, {"id": 2, "name": "b2", "hero_id": None}],
}


def graph(session: Session, start: Any, *, paths: bool = True) -> dict[str, Any]:
    """Return everything that is loaded and can be reached from `start` by what is loaded."""
    seen: dict[str, Any] = {}
    waiting = [start]
    while waiting:
        instance = waiting.pop()
        state = inspect(instance)
        name = f"{type(instance).__name__} {state.identity}"
        if name in seen:
            continue
        facts: dict[str, Any] = {
            "loaded": sorted(key for key in state.dict if key != "_sa_instance_state"),
            "load path": paths and str(state.load_path),
            "load options": len(state.load_options),
            "expired": sorted(state.expired_attributes),
            "modified": state.modified,
            "in session": instance in session,
        }
        for prop in state.mapper.relationships:
            if prop.key not in state.dict:
                continue
            value = state.dict[prop.key]
            members = list(collection_adapter(value)) if prop.uselist else [value]
            facts[prop.key] = [each and inspect(each).identity for each in members]
            waiting.extend(each for each in members if each is not None)
        seen[name] = facts
    return seen

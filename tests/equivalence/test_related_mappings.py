"""Eager relationships in hierarchies, with collection classes and secondary tables (B10, B12)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, String, Table, create_engine
from sqlalchemy.orm import Session, declarative_base, relationship
from sqlalchemy.orm.collections import attribute_keyed_dict

from sqlmodel_cache import CacheConfig, SQLModelCache
from tests.equivalence.exactly import differences
from tests.equivalence.relations import graph

pytestmark = [
    # What 2.1 says of lazy="noload".
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"),
]


def _mapped(zoo: str, tags: str, labels: str) -> tuple[Any, dict[str, Any]]:
    base: Any = declarative_base()
    base.__cache_config__ = CacheConfig(ttl=300)
    link = Table(
        "link",
        base.metadata,
        Column("animal", ForeignKey("animal.id")),
        Column("tag", ForeignKey("tag.id")),
    )

    def of(name: str, bases: tuple[type, ...] = (base,), **attributes: Any) -> Any:
        if bases == (base,):
            attributes |= {
                "__tablename__": name.lower(),
                "id": Column(Integer, primary_key=True),
                "name": Column(String),
            }
        return type(name, bases, attributes)

    def kind(name: str) -> dict[str, Any]:
        return {"__mapper_args__": {"polymorphic_identity": name}}

    def on_kind(name: str) -> dict[str, Any]:
        return {"__mapper_args__": {"polymorphic_on": "kind", "polymorphic_identity": name}}

    tag = of("Tag")
    park = of("Zoo", kind=Column(String), **on_kind("zoo"))
    own_key = Column(ForeignKey("zoo.id"), primary_key=True)
    big = of("Big", (park,), __tablename__="big", id=own_key, acres=Column(Integer), **kind("big"))

    def tagged(lazy: Any, **how: Any) -> Any:
        return relationship(tag, secondary=link, lazy=lazy, viewonly=True, **how)

    animal = of(
        "Animal",
        kind=Column(String),
        **on_kind("animal"),
        zoo_id=Column(ForeignKey("zoo.id")),
        keeper_id=Column(ForeignKey("tag.id"), nullable=False),
        zoo=relationship(park, lazy=zoo),
        keeper=relationship(tag, lazy="joined", innerjoin=True),
        tags=tagged(tags, collection_class=attribute_keyed_dict("name")),
        labels=tagged(labels, order_by=tag.id),
        nothing=tagged("noload"),
        dynamic=tagged("dynamic"),
        never=tagged("raise"),
    )
    key = Column(ForeignKey("animal.id"), primary_key=True)
    cat = of("Cat", (animal,), __tablename__="cat", id=key, lives=Column(Integer), **kind("cat"))
    dog = of("Dog", (animal,), tricks=Column(Integer), **kind("dog"))
    base.registry.configure()
    return base, {"animal": animal, "cat": cat, "dog": dog, "big": big, "tag": tag, "link": link}


@pytest.mark.parametrize(
    "lazy",
    [
        ("joined", "selectin", "subquery"),
        ("selectin", "joined", "select"),
        ("subquery", "subquery", "joined"),
        ("select", "immediate", "selectin"),
        ("immediate", "select", "select"),
    ],
    ids="-".join,
)
def test_hierarchies_with_eager_relationships(lazy: tuple[str, str, str]) -> None:
    """Through the base or the class itself, rows of any class bring the same along."""
    base, classes = _mapped(*lazy)
    engine = create_engine("sqlite://")
    base.metadata.create_all(engine)
    animal, cat, dog = classes["animal"], classes["cat"], classes["dog"]
    with Session(engine) as session:
        session.add_all([classes["tag"](id=1, name="t"), classes["tag"](id=2, name="u")])
        session.add(classes["big"](id=1, name="z", acres=3))
        session.flush()
        session.add(cat(id=1, name="c", lives=9, zoo_id=1, keeper_id=1))
        session.add(dog(id=2, name="d", zoo_id=1, keeper_id=1))
        session.add(animal(id=3, name="a", keeper_id=2))
        session.flush()
        session.execute(
            classes["link"].insert(), [{"animal": 1, "tag": 1}, {"animal": 1, "tag": 2}]
        )
        session.commit()
    SQLModelCache.configure("memory://")
    try:
        for cls, pk in ((animal, 1), (cat, 1), (animal, 2), (dog, 2), (animal, 3)):
            with Session(engine) as session, SQLModelCache.bypass():
                wanted = graph(session, session.get(cls, pk), paths=False)
            for _ in range(3):
                with Session(engine) as session:
                    found = graph(session, session.get(cls, pk), paths=False)
                different = list(differences(wanted, found))
                assert not different, f"{cls.__name__} {pk}:\n" + "\n".join(different)
        stats = SQLModelCache.stats()
        blocked = "immediate" in lazy  # in a class with subclasses
        assert bool(stats.bypasses.get("eager_relationship")) is blocked
        assert stats.models["Dog"].hits
    finally:
        engine.dispose()
        base.registry.dispose()

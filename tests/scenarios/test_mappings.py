"""What a mapper can do to a row, a hit does too (B11, B12, B18, B19, B20)."""

from __future__ import annotations

import pytest
from sqlalchemy import inspect, update
from sqlalchemy.orm.exc import StaleDataError

from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import (
    Animal,
    Cat,
    Circle,
    Dog,
    Draft,
    Engineer,
    Hero,
    Invoice,
    Manager,
    Memo,
    Person,
    Seat,
    Shape,
)

# B11: deferred columns


def test_b11_deferred_columns_stay_deferred_on_a_hit(world: World) -> None:
    """A hit does not have them, and loads them on access with one SELECT."""
    pk = world.store(Memo(title="t", body="long"))
    memo = world.warm(Memo, pk)
    assert inspect(memo).unloaded == {"body"}
    with world.session() as session:
        memo = session.get(Memo, pk)
        with world.one_select():
            assert world.attribute(session, memo, "body") == "long"


@on_sqlite
def test_b11_the_body_is_not_in_the_store(world: World) -> None:
    """What a load leaves out is not cached either."""
    pk = world.store(Memo(title="short-title", body="a-deferred-body"))
    world.warm(Memo, pk)
    (value,) = world.backing.values().values()
    assert b"short-title" in value
    assert b"a-deferred-body" not in value


@on_sqlite
def test_b11_a_write_to_a_deferred_column_invalidates(world: World) -> None:
    """The row is one entry; its next get is a miss, then a hit."""
    pk = world.store(Memo(title="t", body="old"))
    world.warm(Memo, pk)
    with world.session() as session:
        session.get(Memo, pk).body = "new"
        session.commit()
    world.miss(Memo, pk)
    with world.session() as session:
        with world.no_sql():
            memo = session.get(Memo, pk)
        assert world.attribute(session, memo, "body") == "new"


# B12: inheritance


def test_b12_single_table_subclasses_through_their_base(world: World) -> None:
    """`get(Animal)` gives the right class, with the attributes that its load gives."""
    cat, dog = world.store(Cat(name="Tom", lives=9), Dog(name="Rex", tricks=3))
    found = world.warm(Animal, cat)
    assert (type(found), found.name) == (Cat, "Tom")
    assert inspect(found).unloaded == {"lives"}
    assert type(world.warm(Animal, dog)) is Dog


@on_sqlite
def test_b12_a_sibling_is_not_there(world: World) -> None:
    """`get(Dog)` of a cat's key is None, whoever stored it; the cat stays a hit."""
    pk = world.store(Cat(name="Tom", lives=9))
    world.warm(Cat, pk)
    assert world.get(Dog, pk) is None
    assert world.hit(Cat, pk).lives == 9
    assert world.get(Dog, pk) is None


@on_sqlite
def test_b12_a_sibling_asked_for_first(world: World) -> None:
    """The None of `get(Dog)` leaves nothing behind that hides the cat."""
    pk = world.store(Cat(name="Tom", lives=9))
    assert world.get(Dog, pk) is None
    assert world.warm(Animal, pk).name == "Tom"
    assert world.warm(Cat, pk).lives == 9


@pytest.mark.parametrize(
    ("base", "sub", "row", "own"),
    [
        (Animal, Cat, {"name": "Tom", "lives": 9}, "lives"),
        (Person, Engineer, {"name": "Ada", "language": "C"}, "language"),
    ],
    ids=["single", "joined"],
)
@on_sqlite
def test_b12_stored_by_the_base_is_a_miss_for_the_subclass(
    world: World, base: type, sub: type, row: dict[str, object], own: str
) -> None:
    """The subclass needs more columns; once it stored them, the base is content with its own."""
    pk = world.store(sub(**row))
    assert inspect(world.warm(base, pk)).unloaded == {own}
    with world.session() as session:
        instance = session.get(base, pk)
        with world.one_select():
            assert world.attribute(session, instance, own) == row[own]
    assert getattr(world.miss(sub, pk), own) == row[own]
    assert getattr(world.hit(sub, pk), own) == row[own]
    assert inspect(world.hit(base, pk)).unloaded == {own}
    assert len(world.backing.values()) == 1


def test_b12_a_joined_write_invalidates_once(world: World) -> None:
    """Two UPDATEs of one identity are one invalidation, seen through base and subclass."""
    pk = world.store(Engineer(name="Ada", language="C"))
    world.warm(Engineer, pk)
    before = world.stats().models["Person"].invalidations
    with world.session() as session:
        ada = session.get(Engineer, pk)
        ada.name, ada.language = "Grace", "COBOL"
        with world.sql() as sent:
            session.commit()
        assert len(sent.starting("UPDATE")) == 2
    assert world.stats().models["Person"].invalidations == before + 1
    assert world.miss(Engineer, pk).language == "COBOL"
    assert world.hit(Person, pk).name == "Grace"


@on_sqlite
def test_b12_a_write_to_the_subclass_table_alone(world: World) -> None:
    """Only the joined table is updated; the entry, which is the base's, is invalidated."""
    pk = world.store(Engineer(name="Ada", language="C"))
    world.warm(Engineer, pk)
    with world.session() as session:
        session.get(Engineer, pk).language = "Ada"
        session.commit()
    assert world.miss(Engineer, pk).language == "Ada"
    assert world.hit(Engineer, pk).language == "Ada"


@on_sqlite
def test_b12_a_deleted_subclass_row(world: World) -> None:
    """After the delete neither class finds it."""
    pk = world.store(Manager(name="Max", budget=5))
    world.warm(Manager, pk)
    with world.session() as session:
        session.delete(session.get(Manager, pk))
        session.commit()
    assert world.get(Manager, pk) is None
    assert world.get(Person, pk) is None


@on_sqlite
def test_b12_concrete_classes_have_keys_of_their_own(world: World) -> None:
    """A Shape and a Circle may have one number; writes to one leave the other alone."""
    pk = int(world.fresh[:6], 16)
    world.store(Shape(id=pk, name="shape"))
    world.store(Circle(id=pk, name="circle", radius=2))
    assert world.warm(Shape, pk).name == "shape"
    assert world.warm(Circle, pk).radius == 2
    with world.session() as session:
        session.get(Circle, pk).radius = 3
        session.commit()
    assert world.hit(Shape, pk).name == "shape"
    assert world.miss(Circle, pk).radius == 3
    assert world.hit(Circle, pk).radius == 3


# B18: version_id_col


def test_b18_the_version_is_stored(world: World) -> None:
    """A hit has it, and the next update counts on from there."""
    pk = world.store(Draft(name="a"))
    assert world.warm(Draft, pk).version == 1
    with world.session() as session:
        with world.no_sql():
            draft = session.get(Draft, pk)
        draft.name = "b"
        session.commit()
    assert world.row(Draft, pk)["version"] == 2
    assert world.miss(Draft, pk).version == 2
    assert world.hit(Draft, pk).version == 2


@on_sqlite
def test_b18_a_stale_object_still_fails_at_flush(world: World) -> None:
    """An instance from a hit that somebody overtook cannot be written."""
    pk = world.store(Draft(name="a"))
    world.warm(Draft, pk)
    with world.session() as slow:
        draft = slow.get(Draft, pk)
        with world.session() as fast:
            fast.get(Draft, pk).name = "fast"
            fast.commit()
        draft.name = "slow"
        with pytest.raises(StaleDataError):
            slow.flush()
        slow.rollback()
    assert world.get(Draft, pk).name == "fast" == world.row(Draft, pk)["name"]


# B19: the primary key changes


def test_b19_both_identities_are_invalidated_by_a_flush(world: World) -> None:
    """The old key finds nothing, the new one the row, though another row was cached there."""
    row = int(world.fresh[:6], 16)
    world.store(Seat(row=row, number="a", name="mover"), Seat(row=row, number="b", name="gone"))
    world.warm(Seat, (row, "a"))
    world.warm(Seat, (row, "b"))
    with world.session() as session:
        session.delete(session.get(Seat, (row, "b")))
        session.flush()
        session.get(Seat, (row, "a")).number = "b"
        session.commit()
    assert world.get(Seat, (row, "a")) is None
    assert world.miss(Seat, (row, "b")).name == "mover"
    assert world.hit(Seat, (row, "b")).name == "mover"


@on_sqlite
def test_b19_both_identities_are_invalidated_by_a_statement(world: World) -> None:
    """The same by an UPDATE of the key."""
    old = world.store(Hero(name="Ann"))
    new = old + 1_000_000
    world.warm(Hero, old)
    with world.session() as session:
        session.execute(update(Hero).where(Hero.id == old).values(id=new))
        session.commit()
    assert world.get(Hero, old) is None
    assert world.get(Hero, new).name == "Ann"
    assert world.hit(Hero, new).name == "Ann"


# B20: what the database writes


def test_b20_defaults_and_computed_columns_come_from_the_database(world: World) -> None:
    """After an insert by the ORM the first get is a load; the hit equals it."""
    with world.session() as session:
        invoice = Invoice(amount=21)
        session.add(invoice)
        session.commit()
        pk = world.attribute(session, invoice, "id")
    loaded = world.miss(Invoice, pk)
    hit = world.hit(Invoice, pk)
    row = world.row(Invoice, pk)
    for name in ("amount", "currency", "created", "doubled", "changes"):
        assert getattr(hit, name) == getattr(loaded, name) == row[name]
    assert (hit.currency, hit.doubled) == ("EUR", 42)


def test_b20_a_computed_column_follows_its_source(world: World) -> None:
    """After an update nobody sees the old sum."""
    pk = world.store(Invoice(amount=1))
    world.warm(Invoice, pk)
    with world.session() as session:
        session.get(Invoice, pk).amount = 5
        session.commit()
    assert world.miss(Invoice, pk).doubled == 10
    assert world.hit(Invoice, pk).doubled == 10


def test_b20_what_a_trigger_wrote_is_read(world: World) -> None:
    """A trigger counts updates; the hit has the database's count, not the flushed object's."""
    pk = world.store(Invoice(amount=1))
    world.warm(Invoice, pk)
    for amount in (2, 3):
        with world.session() as session:
            session.get(Invoice, pk).amount = amount
            session.commit()
    assert world.miss(Invoice, pk).changes == 2 == world.row(Invoice, pk)["changes"]
    assert world.hit(Invoice, pk).changes == 2

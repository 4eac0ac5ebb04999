"""Collections as cached lists of keys: `CacheConfig(collections=...)` (B10, B16, B17)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    delete,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, configure_mappers, mapped_column, relationship

from sqlmodel_cache import ConfigurationError, cached
from sqlmodel_cache.orm.model.tables import TableMap, table_map
from tests.scenarios.collection_models import (
    Badge,
    Club,
    Drawer,
    Lamp,
    Letter,
    Mascot,
    Member,
    Paper,
    Street,
    worn,
)
from tests.scenarios.harness import World, on_sqlite


def _club(world: World, *names: str, **more: Any) -> tuple[int, list[int]]:
    """Commit a club and its members; return their keys."""
    club = world.store(Club(name=world.fresh))
    keys = [world.store(Member(name=name, club_id=club, **more)) for name in names]
    return club, keys


def _names(world: World, club: int, of: str = "members") -> list[str]:
    """Return the names in a collection as a new session sees them."""
    with world.session() as session:
        found = world.attribute(session, session.get(Club, club), of)
        return [each.name for each in found]


def _hit(world: World, club: int, of: str = "members") -> list[str]:
    """Return the same, in no SQL at all."""
    with world.no_sql():
        return _names(world, club, of)


def _true(world: World, club: int) -> list[str]:
    """Return what another connection reads, past the library."""
    with world.outside.connect() as connection:
        where = select(Member.name).where(Member.club_id == club).order_by(Member.name)
        return list(connection.execute(where).scalars())


def _warm(world: World, club: int, of: str = "members") -> list[str]:
    """Have a collection and its rows cached, and prove it."""
    world.warm(Club, club)  # MariaDB's default level stores what is read first
    _names(world, club, of)
    _names(world, club, of)  # rows are stored when a list first asks for them
    return _hit(world, club, of)


def test_b10_a_collection_is_read_once(world: World) -> None:
    """The second session needs no SQL; its objects are those of a load, in the same order."""
    club, keys = _club(world, "c", "a", "b")
    world.warm(Club, club)
    seen = []
    for _ in range(3):
        with world.session() as session:
            found = session.get(Club, club)
            with world.sql() as sent:
                members = world.attribute(session, found, "members")
            states = [inspect(each) for each in members]
            seen.append((
                [each.name for each in members],
                [(s.persistent, s.modified, set(s.dict), str(s.load_path)) for s in states],
                inspect(found).modified,
                [each is session.get(Member, each.id) for each in members],
            ))  # fmt: skip
    assert not sent, sent
    assert seen[0][0] == ["a", "b", "c"]
    assert seen[0] == seen[1] == seen[2]
    with world.session() as session, world.no_sql():
        assert session.get(Member, keys[0]).name == "c"  # its rows are those of the entity cache


_CHANGES: dict[str, Callable[[Any, int, int, list[int]], None]] = {
    "insert": lambda s, club, other, keys: s.add(Member(name="aa", club_id=club)),
    "delete": lambda s, club, other, keys: s.delete(s.get(Member, keys[1])),
    "move out": lambda s, club, other, keys: setattr(s.get(Member, keys[1]), "club_id", other),
    "to nowhere": lambda s, club, other, keys: setattr(s.get(Member, keys[1]), "club_id", None),
    "reorder": lambda s, club, other, keys: setattr(s.get(Member, keys[1]), "name", "z"),
    "bulk update": lambda s, club, other, keys: s.execute(
        update(Member).where(Member.name == "b", Member.club_id == club).values(club_id=other)
    ),
    "bulk delete": lambda s, club, other, keys: s.execute(
        delete(Member).where(Member.club_id == club)
    ),
    "core insert": lambda s, club, other, keys: s.execute(
        insert(Member.__table__), [{"name": "x", "club_id": club, "goals": 0}]
    ),
    "by key": lambda s, club, other, keys: s.execute(
        update(Member).where(Member.id == keys[1]).values(club_id=other)
    ),
    "raw": lambda s, club, other, keys: s.execute(
        text("UPDATE scenario_c_member SET club_id = :o WHERE id = :k"),
        {"o": other, "k": keys[1]},
    ),
}


@pytest.mark.parametrize("change", list(_CHANGES))
def test_b10_a_change_is_seen(world: World, change: str) -> None:
    """After a commit elsewhere both clubs' collections are what the database has."""
    club, keys = _club(world, "a", "b", "c")
    other, _ = _club(world, "o")
    _warm(world, club)
    _warm(world, other)
    with world.session() as session:
        if world.mode == "sync":
            _CHANGES[change](session, club, other, keys)
        else:
            session.run_sync(lambda plain: _CHANGES[change](plain, club, other, keys))
        session.commit()
    for each in (club, other):
        assert _names(world, each) == _true(world, each)
        assert _warm(world, each) == _true(world, each)


def test_b10_another_club_stays_cached(world: World) -> None:
    """What moves between two clubs, comes or goes leaves a third one's list alone."""
    club, keys = _club(world, "a", "b")
    other, _ = _club(world, "o")
    third, _ = _club(world, "t")
    for each in (club, other, third):
        _warm(world, each)
    for key in keys:
        world.warm(Member, key)
    with world.session() as session:
        session.get(Member, keys[0]).club_id = other
        session.delete(session.get(Member, keys[1]))
        session.add(Member(name="n", club_id=club))
        session.commit()
    assert _hit(world, third) == ["t"]
    assert _names(world, club) == _true(world, club) == ["n"]
    assert _names(world, other) == _true(world, other) == ["a", "o"]


def test_b10_a_column_of_a_member(world: World) -> None:
    """The list stays, and has the new row: one lookup of it, none of the list."""
    club, keys = _club(world, "a", "b")
    _warm(world, club)
    with world.session() as session:
        session.get(Member, keys[0]).note = "new"
        session.commit()
    with world.session() as session:
        found = session.get(Club, club)
        with world.one_select():
            members = world.attribute(session, found, "members")
        assert [each.note for each in members] == ["new", None]
    assert _hit(world, club) == ["a", "b"]


def test_b10_a_condition_of_the_relationship(world: World) -> None:
    """A column that the condition names decides who is in the collection."""
    club, keys = _club(world, "a", "b", goals=10)
    assert _warm(world, club, "stars") == ["a", "b"]
    with world.session() as session:
        session.get(Member, keys[0]).goals = 3
        session.commit()
    assert _names(world, club, "stars") == ["b"]
    assert _warm(world, club, "stars") == ["b"]


@on_sqlite
def test_b10_an_empty_collection(world: World) -> None:
    """That there is nobody is remembered, until somebody comes."""
    club, _ = _club(world)
    assert _warm(world, club) == []
    with world.session() as session:
        session.add(Member(name="first", club_id=club))
        session.commit()
    assert _names(world, club) == ["first"]


@on_sqlite
def test_b10_one_to_one_without_the_key(world: World) -> None:
    """A mascot, then none, then another."""
    club, _ = _club(world)
    mascot = world.store(Mascot(name="m", club_id=club))
    for _ in range(3):
        with world.session() as session:
            found = session.get(Club, club)
            with world.sql() as sent:
                assert world.attribute(session, found, "mascot").id == mascot
    assert not sent, sent
    with world.session() as session:
        session.delete(session.get(Mascot, mascot))
        session.commit()
    for _ in range(2):
        with world.session() as session:
            found = session.get(Club, club)
            with world.sql() as sent:
                assert world.attribute(session, found, "mascot") is None
    assert not sent, sent


@on_sqlite
def test_b29_others_are_left_alone(world: World) -> None:
    """A relationship that nobody named is loaded each time."""
    club, _ = _club(world)
    world.store(Member(name="f", fan_of_id=club))
    for _ in range(3):
        with world.session() as session:
            found = session.get(Club, club)
            with world.one_select():
                assert len(world.attribute(session, found, "fans")) == 1


def test_b17_both_sides_of_an_association(world: World) -> None:
    """Appended at one side, removed at the other; both collections follow."""
    member = world.store(Member(name="p"))
    badges = [world.store(Badge(name=name)) for name in "xyz"]

    def sides() -> tuple[list[int], list[list[int]]]:
        with world.session() as session:
            mine = world.attribute(session, session.get(Member, member), "badges")
            theirs = [
                world.attribute(session, session.get(Badge, badge), "members") for badge in badges
            ]
            return [b.id for b in mine], [[p.id for p in each] for each in theirs]

    def hit() -> tuple[list[int], list[list[int]]]:
        first = sides()
        for _ in range(9):  # in MariaDB a session stores just what it reads first
            sides()
        with world.no_sql():
            assert sides() == first
        return first

    assert hit() == ([], [[], [], []])
    with world.session() as session:
        owner = session.get(Member, member)
        mine = world.attribute(session, owner, "badges")
        mine.append(session.get(Badge, badges[0]))
        mine.append(session.get(Badge, badges[1]))
        session.commit()
    assert hit() == (badges[:2], [[member], [member], []])
    with world.session() as session:
        badge = session.get(Badge, badges[0])
        theirs = world.attribute(session, badge, "members")
        theirs.remove(session.get(Member, member))
        session.commit()
    assert hit() == (badges[1:2], [[], [member], []])
    with world.begin() as connection:
        connection.execute(insert(worn), [{"member_id": member, "badge_id": badges[2]}])
    assert hit() == (badges[1:], [[], [member], [member]])
    with world.begin() as connection:
        connection.execute(delete(worn).where(worn.c.badge_id == badges[1]))
    assert hit() == (badges[2:], [[], [], [member]])
    with world.session() as session:
        session.delete(session.get(Badge, badges[2]))
        session.commit()
    with world.session() as session:
        assert world.attribute(session, session.get(Member, member), "badges") == []


def test_b17_another_association_stays_cached(world: World) -> None:
    """A row of the association table concerns its two ends."""
    mine, yours = world.store(Member(name="m")), world.store(Member(name="y"))
    badge = world.store(Badge(name="b"))

    def badges(member: int) -> list[int]:
        with world.session() as session:
            found = world.attribute(session, session.get(Member, member), "badges")
            return [each.id for each in found]

    for _ in range(3):
        badges(yours)
    with world.begin() as connection:
        connection.execute(insert(worn), [{"member_id": mine, "badge_id": badge}])
    with world.no_sql():
        assert badges(yours) == []
    assert badges(mine) == [badge]


def test_b3_a_transactions_own_changes(world: World) -> None:
    """It sees them, nobody else does, and after a rollback nobody ever did."""
    club, keys = _club(world, "a", "b")
    _warm(world, club)
    with world.session() as session:
        session.get(Member, keys[0]).club_id = None
        session.flush()
        session.expunge_all()
        found = world.attribute(session, session.get(Club, club), "members")
        assert [each.name for each in found] == ["b"]
        assert _hit(world, club) == ["a", "b"]
        session.rollback()
    assert _names(world, club) == ["a", "b"]
    with world.session() as session:
        session.add(Member(name="pending", club_id=club))
        found = world.attribute(session, session.get(Club, club), "members")
        assert [each.name for each in found] == ["a", "b", "pending"]  # autoflush
        session.rollback()
    assert _names(world, club) == ["a", "b"]


def test_b16_the_database_cascades(world: World) -> None:
    """ON DELETE SET NULL and CASCADE change collections that no statement names."""
    club, keys = _club(world, "a")
    badge = world.store(Badge(name="b"))
    with world.begin() as connection:
        connection.execute(insert(worn), [{"member_id": keys[0], "badge_id": badge}])

    def wearers() -> list[int]:
        with world.session() as session:
            found = world.attribute(session, session.get(Badge, badge), "members")
            return [each.id for each in found]

    assert wearers() == keys
    with world.begin() as connection:
        connection.execute(delete(Member.__table__).where(Member.id == keys[0]))
    assert wearers() == []
    assert _names(world, club) == []


@on_sqlite
def test_b10_a_member_that_was_evicted(world: World) -> None:
    """One `IN` query for the rows that are missing; then no SQL again."""
    club, _ = _club(world, "a", "b", "c")
    _warm(world, club)
    rows = [key for key in world.backing.values() if "c_member:" in key and "}:~" not in key]
    assert len(rows) == 3
    for row in rows[:2]:
        world.backing.overwrite(row, b"gone")
    with world.session() as session:
        found = session.get(Club, club)
        with world.one_select():
            members = world.attribute(session, found, "members")
        assert [each.name for each in members] == ["a", "b", "c"]
    assert _hit(world, club) == ["a", "b", "c"]


@on_sqlite
def test_b10_what_the_session_has(world: World) -> None:
    """An object that is here, and modified, is the one in the collection, as after a load."""
    club, keys = _club(world, "a", "b")
    _warm(world, club)
    with world.session(autoflush=False) as session:
        mine = session.get(Member, keys[0])
        mine.note = "mine"
        found = world.attribute(session, session.get(Club, club), "members")
        assert found[0] is mine
        assert mine.note == "mine"


@on_sqlite
def test_b10_loaded_with_its_owner(world: World) -> None:
    """`lazy="selectin"`: after a hit the collection is there, and none of it took SQL."""
    street = world.store(Street())
    lamps = [world.store(Lamp(street_id=street)) for _ in range(3)]
    for _ in range(3):
        world.get(Street, street)
    with world.no_sql():
        found = world.get(Street, street)
    assert [each.id for each in vars(found)["lamps"]] == lamps
    with world.session() as session:
        session.add(Lamp(street_id=street))
        session.commit()
    assert len(vars(world.get(Street, street))["lamps"]) == 4


@on_sqlite
@pytest.mark.parametrize(("of", "thing"), [("letters", Letter), ("papers", Paper)])
def test_b10_the_way_back_is_left_out(world: World, of: str, thing: type[Any]) -> None:
    """A lazy load does not load eagerly what leads back to the owner: neither does a hit.

    The list is stored by the first access, its rows by the second.
    """
    drawer = world.store(Drawer())
    world.store(thing(drawer_id=drawer))
    world.warm(Drawer, drawer)
    for selects in (1, 1, 0):
        with world.session() as session:
            found = session.get(Drawer, drawer)
            with world.sql() as sent:
                (each,) = world.attribute(session, found, of)
            assert inspect(each).unloaded == {"drawer"}
            assert len(sent) == selects


# Configuration


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cars", "names 'cars', which is no relationship of it; name relationships"),
        ("id", "which is no relationship"),
        ("mother", "which is looked up by key, and cached without being named; leave it out"),
        ("log", "which has lazy='dynamic' and is never loaded as a list"),
        ("pets", "whose target Pet is not cached; decorate it with @cached"),
    ],
)
def test_collections_that_cannot_be(name: str, said: str) -> None:
    """Said with model, relationship and remedy when the mapper is configured."""
    model = _person((name,))
    with pytest.raises(ConfigurationError, match=said) as caught:
        model.registry.configure()
    assert "Person.__cache_config__: collections names" in str(caught.value)
    model.registry.dispose()


@pytest.mark.parametrize("names", ["children", ["children"], (1,), ("",), None])
def test_collections_of_another_form(names: Any) -> None:
    """Refused at the class statement."""
    with pytest.raises(ConfigurationError, match="use a tuple of names of relationships"):
        _person(names)


def _person(names: Any) -> Any:
    class Base(DeclarativeBase):
        metadata = MetaData()

    class Pet(Base):
        __tablename__ = "pet"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int] = mapped_column(ForeignKey("person.id"))

    @cached(collections=names)
    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        mother_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
        mother: Mapped[Any] = relationship("Person", remote_side=id, back_populates="children")
        children: Mapped[list[Any]] = relationship("Person", back_populates="mother")
        log = relationship(Pet, lazy="dynamic", viewonly=True)
        pets: Mapped[list[Pet]] = relationship(Pet)

    return Person


def test_b29_a_model_in_no_collection_sends_no_stamps() -> None:
    """Only targets and association tables do."""
    configure_mappers()
    stamped = {root.table for root in table_map().roots() if root.stamped}
    assert {"scenario_c_member", "scenario_c_badge", "scenario_c_worn"} <= stamped
    assert not stamped & {"scenario_c_club", "scenario_c_street"}


def test_b17_before_relationships_are_resolved() -> None:
    """A writer whose mappers nobody configured tells of all that a reader may rely on, and more.

    Where a relationship leads, through which columns and tables, it cannot know.
    """

    class Base(DeclarativeBase):
        metadata = MetaData()

    between = Table("between", Base.metadata, Column("a", Integer), Column("b", Integer))

    @cached(collections=("near", "far"))
    class Here(Base):
        __tablename__ = "here"
        id: Mapped[int] = mapped_column(primary_key=True)
        near = relationship("There", primaryjoin="Here.id == foreign(There.of)", viewonly=True)
        far = relationship(
            "There",
            secondary="between",
            primaryjoin="Here.id == foreign(between.c.a)",
            secondaryjoin="There.id == foreign(between.c.b)",
        )

    @cached(query_columns=())
    class There(Base):
        __tablename__ = "there"
        id: Mapped[int] = mapped_column(primary_key=True)
        of: Mapped[int]

    mappers = [inspect(Here), inspect(There)]

    def told() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
        """Return what writers tell of each table, and what of it readers rely on."""
        stamped = [each for root in TableMap(mappers).roots() for each in root.stamped]
        said = {each.table.name: {c.name for c in each.conditions} for each in stamped}
        sure = {each.table.name: {*each.sure} for each in stamped if each.sure is not None}
        return said, sure

    before = told()
    Base.registry.configure()
    said, sure = told()
    assert Here.__mapper__.relationships["far"].secondary is between
    assert said.keys() <= before[0].keys()
    assert all(columns <= before[0][table] for table, columns in said.items())
    assert said == sure == {"there": {"of"}, "between": set()}
    assert before[1] == {}
    Base.registry.dispose()

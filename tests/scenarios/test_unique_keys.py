"""Lookups by unique keys: `get_by`, and a `select()` that pins just one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlmodel
from sqlalchemy import (
    Index,
    MetaData,
    String,
    UniqueConstraint,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import MultipleResultsFound
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    deferred,
    mapped_column,
    relationship,
)

from sqlmodel_cache import ConfigurationError, SQLModelCache, aget_by, cached, get_by
from sqlmodel_cache.orm.reads import pointers
from sqlmodel_cache.orm.writes import listeners
from tests.queries.stage import Stage
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Hero, Member, Note


def by(world: World, **values: Any) -> Any:
    """Return what `get_by` returns in a new session, detached."""
    with world.session() as session:
        if world.mode == "sync":
            return get_by(session, Member, **values)
        return world.loop.run_until_complete(aget_by(session._wrapped, Member, **values))


def hit(world: World, **values: Any) -> Any:
    """Return the same; it must send no SQL."""
    with world.no_sql():
        return by(world, **values)


def miss(world: World, **values: Any) -> Any:
    """Return the same; it must send one SELECT."""
    with world.one_select():
        return by(world, **values)


def warm(world: World, **values: Any) -> Any:
    """Have a unique key and its row cached: the first read learns the key, the second the row."""
    by(world, **values)
    by(world, **values)
    return hit(world, **values)


def numbers(world: World) -> int:
    """Return a number that no other test uses, and ten after it."""
    return int(world.fresh[:6], 16) * 20 + 1_000_000


# Reading


def test_the_key_is_learnt_then_the_row(world: World) -> None:
    """The unique key stores the primary key only; with the row cached, the second is a hit."""
    email = f"ann-{world.fresh}@example.com"
    pk = world.store(Member(email=email, name="Ann"))
    assert miss(world, email=email).name == "Ann"
    assert len(world.backing.values()) == 1
    assert miss(world, email=email).name == "Ann"
    assert len(world.backing.values()) == 2
    assert hit(world, email=email).name == "Ann"
    assert world.hit(Member, pk).name == "Ann"


@on_sqlite
def test_a_row_that_is_cached_already(world: World) -> None:
    """It lives once, under its primary key, whoever stored it."""
    number = numbers(world)
    pk = world.store(Member(no=number, name="Ann"))
    world.warm(Member, pk)
    miss(world, no=number)
    assert hit(world, no=number).name == "Ann"


@on_sqlite
def test_select_is_served_too(world: World) -> None:
    """Transparently, in any spelling, for one column or several."""
    number = numbers(world)
    world.store(Member(no=number, org=number, seat=1, name="Ann"))
    warm(world, no=number)
    warm(world, org=number, seat=1)
    statements = [
        select(Member).where(Member.no == number),
        select(Member).filter_by(no=number),
        sqlmodel.select(Member).where(Member.no == number),
        select(Member).where(Member.org == number, Member.seat == 1),
        select(Member).where(Member.seat == 1).where(Member.org == number),
        select(Member).where(Member.no.in_([number])),  # type: ignore[union-attr]
    ]
    for statement in statements:
        with world.session() as session, world.no_sql():
            assert session.execute(statement).scalar_one().name == "Ann"
    others = [
        select(Member).where(Member.org == number),
        select(Member).where(Member.no == number, Member.name == "Ann"),
        select(Member).where(Member.no == number, Member.org == number),
        select(Member).where(Member.no == number).limit(1),
        select(Member).where(Member.no.in_([number, number + 1])),  # type: ignore[union-attr]
    ]
    for statement in others:
        with world.session() as session, world.one_select():
            session.execute(statement).all()


@on_sqlite
def test_by_the_primary_key(world: World) -> None:
    """`get_by(id=...)` is a get."""
    pk = world.store(Member(name="Ann"))
    world.warm(Member, pk)
    assert hit(world, id=pk).name == "Ann"


@on_sqlite
def test_null_is_no_key(world: World) -> None:
    """There may be many rows without a value; they are never cached by it."""
    org = numbers(world)
    world.store(Member(org=org), Member(org=org))
    before = world.backing.values()
    for _ in range(2):
        with pytest.raises(MultipleResultsFound):
            by(world, org=org, seat=None)
    assert world.backing.values() == before


@on_sqlite
def test_instances_in_the_session(world: World) -> None:
    """One instance for one row, whichever key it came by; own writes are seen."""
    number = numbers(world)
    pk = world.store(Member(no=number, name="Ann"))
    warm(world, no=number)
    statement = select(Member).where(Member.no == number)
    with world.session() as session:
        with world.no_sql():
            member = session.get(Member, pk)
            assert session.scalars(statement).one() is member
        member.no = number + 1
        assert session.scalars(statement).one_or_none() is None
        assert session.scalars(select(Member).where(Member.no == number + 1)).one() is member
        session.rollback()
    assert hit(world, no=number).name == "Ann"
    with world.session() as session:
        session.execute(update(Member).where(Member.id == pk).values(no=number + 2))
        assert session.scalars(statement).one_or_none() is None
        session.rollback()
    assert hit(world, no=number).name == "Ann"


# Coherence


def test_a_changed_value(world: World) -> None:
    """The old value finds nobody, the new one the row; each is right at once."""
    number = numbers(world)
    pk = world.store(Member(no=number, name="Ann"))
    warm(world, no=number)
    assert by(world, no=number + 1) is None
    with world.session() as session:
        session.get(Member, pk).no = number + 1
        session.commit()
    assert by(world, no=number) is None
    assert by(world, no=number + 1).name == "Ann"
    assert warm(world, no=number + 1).name == "Ann"


@pytest.mark.parametrize("how", ["unit of work", "update", "expression", "core", "text", "values"])
@on_sqlite
def test_a_value_moves_to_another_row(world: World, how: str) -> None:
    """The pointer still says the old row; its value says that it is wrong, and it is replaced."""
    number = numbers(world)
    first, second = world.store(Member(no=number, name="first"), Member(name="second"))
    warm(world, no=number)
    warm(world, id=second)
    with world.session() as session:
        if how == "unit of work":
            session.get(Member, first).no = None
            session.flush()
            session.get(Member, second).no = number
        elif how == "text":
            session.execute(text(f"UPDATE scenario_member SET no = NULL WHERE id = {first}"))
            session.execute(text(f"UPDATE scenario_member SET no = {number} WHERE id = {second}"))
        else:
            table: Any = Member.__table__ if how == "core" else Member  # type: ignore[attr-defined]
            values: dict[str, Any] = {"no": number}
            if how == "expression":
                values = {"no": func.abs(-number)}
            session.execute(update(table).where(Member.id == first).values(no=None))
            session.execute(update(table).where(Member.id == second).values(values))
        session.commit()
    assert by(world, no=number).name == "second"
    assert warm(world, no=number).name == "second"


@pytest.mark.parametrize(
    "appears",
    [
        "add",
        "add_all",
        "insert",
        "insert many",
        "from select",
        "core",
        "text",
        "set",
        "expression",
        "upsert",
        "values",
    ],
)
@on_sqlite
def test_an_absence_ends(world: World, appears: str) -> None:
    """That a number has no row is remembered, until somebody's commit brings it."""
    number = numbers(world)
    other = world.store(Member(name="other"))
    assert miss(world, no=number) is None
    assert hit(world, no=number) is None
    note = world.store(Note(name="new"))
    with world.session() as session:
        new = {"no": number, "name": "new"}
        if appears == "add":
            session.add(Member(**new))
        elif appears == "add_all":
            session.add_all([Member(no=number + 1), Member(**new), Member(no=number + 2)])
        elif appears == "insert":
            session.execute(insert(Member).values(**new))
        elif appears == "insert many":
            session.execute(insert(Member), [{"no": number + 1, "name": ""}, new])
        elif appears == "from select":
            source = select(Note.id + (number - note), Note.name).where(Note.id == note)  # type: ignore[operator]
            session.execute(insert(Member).from_select(["no", "name"], source))
        elif appears == "core":
            session.execute(insert(Member.__table__).values(**new))  # type: ignore[attr-defined]
        elif appears == "text":
            session.execute(
                text(f"INSERT INTO scenario_member (no, name) VALUES ({number}, 'new')")
            )
        elif appears == "upsert":
            upsert: Any = sqlite_insert(Member).values(id=other, name="x")
            upsert = upsert.on_conflict_do_update(index_elements=["id"], set_=new)
            session.execute(upsert)
        elif appears == "values":
            session.execute(insert(Member).values([{"no": number + 1, "name": ""}, new]))
        elif appears == "set":
            session.execute(update(Member).where(Member.id == other).values(**new))
        else:
            value = {"no": func.abs(-number), "name": "new"}
            session.execute(update(Member).where(Member.id == other).values(value))
        session.flush()
        found = session.scalars(select(Member).where(Member.no == number)).one()
        assert found.name == "new"  # by the writer itself, before its commit
        session.commit()
    assert by(world, no=number).name == "new"


@on_sqlite
def test_an_absence_of_two_columns_ends(world: World) -> None:
    """Also where an UPDATE sets one of them only: then the model is forgotten."""
    org = numbers(world)
    pk = world.store(Member(org=org, seat=1))
    assert miss(world, org=org, seat=2) is None
    assert hit(world, org=org, seat=2) is None
    with world.session() as session:
        session.get(Member, pk).seat = 2
        session.commit()
    assert by(world, org=org, seat=2).id == pk
    assert by(world, org=org, seat=1) is None


@on_sqlite
def test_an_absence_survives_what_has_nothing_to_do_with_it(world: World) -> None:
    """Other values, other columns, deletes, and a rollback."""
    number = numbers(world)
    pk, gone = world.store(Member(name="x"), Member(no=number + 5))
    assert miss(world, no=number) is None
    with world.session() as session:
        session.add(Member(no=number + 1))
        session.get(Member, pk).name = "y"
        session.delete(session.get(Member, gone))
        session.commit()
        session.add(Member(no=number))
        session.flush()
        session.rollback()
    assert hit(world, no=number) is None


def test_a_deleted_row(world: World) -> None:
    """Its value finds nobody, and finds the row that takes it over."""
    number = numbers(world)
    pk = world.store(Member(no=number, name="Ann"))
    warm(world, no=number)
    with world.session() as session:
        session.delete(session.get(Member, pk))
        session.commit()
    assert by(world, no=number) is None
    world.store(Member(no=number, name="heir"))
    assert by(world, no=number).name == "heir"
    assert warm(world, no=number).name == "heir"


def test_text_is_what_the_row_says(world: World) -> None:
    """A database may call BOB and bob equal: neither a hit nor an absence of one is the other's."""
    email = f"bob-{world.fresh}@example.com"
    shout = email.upper()
    assert by(world, email=shout) is None
    assert miss(world, email=shout) is None  # never remembered of text
    world.store(Member(email=email, name="Bob"))
    assert warm(world, email=email).name == "Bob"
    for _ in range(3):
        found = miss(world, email=shout)
        assert (found is not None) == (world.database == "mariadb")
    assert hit(world, email=email).name == "Bob"


@on_sqlite
def test_invalidate_and_clear(world: World) -> None:
    """Forgetting the model forgets its unique keys, absences included."""
    number = numbers(world)
    world.behind_the_back("SELECT 1")
    assert miss(world, no=number) is None
    world.behind_the_back(f"INSERT INTO scenario_member (no, name) VALUES ({number}, 'x')")
    assert hit(world, no=number) is None
    if world.mode == "sync":
        SQLModelCache.invalidate(Member)
    else:
        world.loop.run_until_complete(SQLModelCache.ainvalidate(Member))
    assert by(world, no=number).name == "x"


@on_sqlite
def test_foreign_bytes_under_a_unique_key(world: World) -> None:
    """A row's envelope there, or rubbish, is a miss."""
    number = numbers(world)
    pk = world.store(Member(no=number, name="Ann"))
    warm(world, no=number)
    (pointer,) = (key for key in world.backing.values() if "~" in key)
    (row,) = (key for key in world.backing.values() if key.endswith(f":i{pk}"))
    for value in (world.backing.values()[row], b"rubbish", b""):
        world.backing.overwrite(pointer, value)
        assert miss(world, no=number).name == "Ann"


def test_transports_with_three_methods(make_world: Callable[..., World]) -> None:
    """Their absences end with the commit, and a pointer that is wrong is seen."""
    world = make_world("sync", "dict", "sqlite")
    number = numbers(world)
    assert by(world, no=number) is None
    assert hit(world, no=number) is None
    pk = world.store(Member(no=number, name="Ann"))
    assert warm(world, no=number).name == "Ann"
    with world.session() as session:
        session.get(Member, pk).no = number + 1
        session.commit()
    assert by(world, no=number) is None
    assert by(world, no=number + 1).name == "Ann"


@pytest.mark.parametrize("fault", ["error", "timeout"])
def test_a_store_that_fails(make_world: Callable[..., World], fault: str) -> None:
    """The database answers."""
    world = make_world("sync", "memory", "sqlite")
    number = numbers(world)
    world.store(Member(no=number, name="Ann"))
    warm(world, no=number)
    SQLModelCache.configure("redis://127.0.0.1:1/0?socket_connect_timeout=0.01")
    for _ in range(3):
        assert by(world, no=number).name == "Ann"


# Every interleaving of one reader by unique key with one commit


def _read(engine: Any, number: int) -> Any:
    """Return the name found under a number, None if there is no row."""
    with Session(engine) as session:
        found = get_by(session, Member, no=number)
        return found and found.name


def _truth(engine: Any, number: int) -> Any:
    """Return the same, of the database."""
    with engine.connect() as connection:
        table: Any = Member.__table__  # type: ignore[attr-defined]
        return connection.scalar(select(table.c.name).where(table.c.no == number))


def _swap(session: Session, keys: tuple[int, int], number: int) -> None:
    session.get_one(Member, keys[0]).no = None
    session.flush()
    session.get_one(Member, keys[1]).no = number


def _change(session: Session, keys: tuple[int, int], number: int) -> None:
    session.get_one(Member, keys[0]).no = number + 2


def _take(session: Session, keys: tuple[int, int], number: int) -> None:
    session.execute(update(Member).where(Member.id == keys[0]).values(no=number + 2))


def _delete(session: Session, keys: tuple[int, int], number: int) -> None:
    session.delete(session.get_one(Member, keys[0]))


def _insert(session: Session, keys: tuple[int, int], number: int) -> None:
    session.add(Member(no=number + 2, name="new"))


_WRITES = {each.__name__: each for each in (_swap, _change, _take, _delete, _insert)}


def _violations(world: World, write: str, *, rounds: str) -> list[str]:
    """Run one commit inside one read at each step of it, or the other way round."""
    found: list[str] = []
    moment = 0
    while True:
        base = numbers(world) + moment * 10 + (100_000 if rounds == "read in write" else 0)
        stage = Stage(world.engine, world.backing.transport)
        first, second = world.store(
            Member(no=base, name="first"), Member(no=base + 1, name="second")
        )
        for number in (base, base + 1, base + 2):
            for _ in range(3):
                _read(world.engine, number)

        def writes(base: int = base, keys: tuple[int, int] = (first, second)) -> None:
            with Session(world.engine) as session:
                _WRITES[write](session, keys, base)
                session.commit()
            for key in keys:  # others have the new rows cached at once
                world.get(Member, key)

        def reads(base: int = base) -> None:
            for number in (base, base + 1, base + 2):
                _read(world.engine, number)

        before = {n: _truth(world.engine, base + n) for n in range(3)}
        seen: dict[int, Any] = {}
        with stage.watched():
            if rounds == "read in write":
                stage.at[moment] = reads
                writes()
            else:
                stage.at[moment] = writes
                for n in range(3):
                    seen[n] = _read(world.engine, base + n)
        late = bool(stage.at)
        if late:
            return found
        after = {n: _truth(world.engine, base + n) for n in range(3)}
        for n, name in seen.items():
            if name not in (before[n], after[n]):
                found.append(f"step {moment}: {n} was {name!r}")
        for _ in range(3):
            rest = {n: _read(world.engine, base + n) for n in range(3)}
            if rest != after:
                found.append(f"step {moment}: {rest} at rest, not {after}")
        moment += 1


@pytest.mark.parametrize("write", _WRITES)
@pytest.mark.parametrize("rounds", ["read in write", "write in read"])
def test_every_interleaving_with_a_commit(
    make_world: Callable[..., World], write: str, rounds: str
) -> None:
    """At each step of the reader a whole commit, at each step of the commit whole reads."""
    world = make_world("sync", "memory", "sqlite")
    assert _violations(world, write, rounds=rounds) == []


def test_the_interleavings_see_a_pointer_that_is_believed(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a look at the row's own value, old pointers are stale reads."""
    world = make_world("sync", "memory", "sqlite")
    monkeypatch.setattr(pointers.Pointers, "agrees", lambda *_: True)
    assert _violations(world, "_swap", rounds="write in read")


def test_the_interleavings_see_an_absence_that_nobody_ends(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without fences for values that appear, absences are stale reads."""
    world = make_world("sync", "memory", "sqlite")
    monkeypatch.setattr(listeners, "touch_appearing", lambda *_: None)
    assert _violations(world, "_take", rounds="read in write")


# Configuration


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("mail",), "names 'mail', which is no attribute of it"),
        (("nick",), "has no unique constraint or index"),
        (("email", "nick"), "'nick' has no unique constraint or index"),
        ((("email", "nick"),), "has no unique constraint or index"),
        (("body",), "which is deferred"),
        (("loud",), "which is no column"),
        (("half",), "has no unique constraint or index"),
        (("folded",), "has no unique constraint or index"),
    ],
)
def test_keys_that_cannot_be(keys: Any, said: str) -> None:
    """Said with model, key and remedy when the mapper is configured."""
    model = _person(keys)
    with pytest.raises(ConfigurationError, match=said) as caught:
        model.registry.configure()
    assert "Person.__cache_config__: unique=" in str(caught.value)
    model.registry.dispose()


@pytest.mark.parametrize(
    "keys", [("email",), ("one", "email"), (("nick", "org"),), (("org", "nick"),)]
)
def test_keys_that_can_be(keys: Any) -> None:
    """By a column's unique=True, a constraint or an index."""
    model = _person(keys)
    model.registry.configure()
    model.registry.dispose()


def _person(keys: Any) -> Any:
    class Base(DeclarativeBase):
        metadata = MetaData()

    @cached(unique=keys)
    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str] = mapped_column(String(20), unique=True)
        nick: Mapped[str] = mapped_column(String(20))
        org: Mapped[int]
        one: Mapped[int] = mapped_column(unique=True, index=True)
        half: Mapped[int]
        folded: Mapped[str]
        body: Mapped[str] = deferred(mapped_column(unique=True))
        loud = relationship("Person", primaryjoin="Person.id == foreign(Person.org)", viewonly=True)
        __table_args__ = (
            UniqueConstraint("nick", "org"),
            Index("half", "half", unique=True, sqlite_where=text("org > 0")),
            Index("folded", text("lower(folded)"), unique=True),
        )

    return Person


@pytest.mark.parametrize(
    "keys", ["email", ["email"], (1,), ((),), (("a", "a"),), (("a", 1),), ("",)]
)
def test_keys_of_another_form(keys: Any) -> None:
    """A tuple of names, or of tuples of names; said at the class statement."""
    with pytest.raises(ConfigurationError, match="unique="):
        cached(unique=keys)(type("Person", (), {}))


def test_get_by_names_what_it_wants(make_world: Callable[..., World]) -> None:
    """Attributes that are no key, uncached models, the wrong session, no configuration."""
    world = make_world("sync", "memory", "sqlite")
    with world.session() as session:
        with pytest.raises(ConfigurationError, match=r"\(name\) is no unique key .* email; no"):
            get_by(session, Member, name="Ann")
        with pytest.raises(ConfigurationError, match=r"\(email, no\) is no unique key"):
            get_by(session, Member, email="a", no=1)
        with pytest.raises(ConfigurationError, match=r"\(nothing\) is no unique key"):
            get_by(session, Member)
        with pytest.raises(ConfigurationError, match="known are: id"):
            get_by(session, Hero, name="Ann")
        with pytest.raises(ConfigurationError, match=r"Note.*not cached"):
            get_by(session, Note, name="n")
        with pytest.raises(ConfigurationError, match="Session first"):
            get_by("session", Member, no=1)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"with a Session write get_by"):
            world.loop.run_until_complete(aget_by(session, Member, no=1))
        SQLModelCache.reset()
        with pytest.raises(ConfigurationError, match="not configured"):
            get_by(session, Member, no=1)

"""Models whose primary keys are personal: hits like any other, and no such key in the store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import redis
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry, sessionmaker
from sqlmodel import Field, select

from sqlmodel_cache import (
    CacheConfig,
    CachedModel,
    ConfigurationError,
    SQLModelCache,
    _state,
    aget_by,
    cached_sessionmaker,
    get_by,
)
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.keys import local_channel, secrets_board
from sqlmodel_cache.protocol.ops import Switches, Turn
from tests.scenarios.harness import WORLDS, World
from tests.scenarios.models import Hero

MakeWorld = Callable[..., World]
SECRET = "correct horse battery staple"
ANN, BOB = "ann@example.org", "bob@example.org"


def _base(known: Any) -> Any:
    class Base(CachedModel, registry=known):
        """Base of models that are forgotten again."""

    return Base


@pytest.fixture
def models() -> Iterator[SimpleNamespace]:
    """Return a model that exists for one test: beside it every cache needs a secret."""
    known = registry()
    SQLModelCache.reset()

    class Person(_base(known), table=True):  # type: ignore[misc]
        __tablename__ = "hidden_person"
        __cache_config__ = CacheConfig(
            hash_keys=True, unique=("phone",), queries="asked", query_columns=("name",)
        )

        email: str = Field(primary_key=True, max_length=100)
        phone: str = Field(unique=True, max_length=100)
        name: str = Field(max_length=100)

    yield SimpleNamespace(Person=Person, registry=known)
    SQLModelCache.reset()
    known.dispose()


@pytest.fixture
def make(make_world: MakeWorld, models: SimpleNamespace) -> MakeWorld:
    """Return the function that sets up a world with the table, and two rows in it."""

    def made(*where: str, **settings: Any) -> Any:
        world: Any = make_world(*where, **{"key_secret": SECRET, **settings})
        world.Person = models.Person
        world.Person.__table__.drop(world.outside, checkfirst=True)
        world.Person.__table__.create(world.outside)
        world.store(
            world.Person(email=ANN, phone="555-ann", name="Ann"),
            world.Person(email=BOB, phone="555-bob", name="Bob"),
        )
        return world

    return made


ON_SQLITE = [where for where in WORLDS if where[2] == "sqlite"]
everywhere = pytest.mark.parametrize("where", ON_SQLITE, ids="-".join)


def all_keys(world: Any) -> list[str]:
    """Return every key in the store, of whatever kind."""
    if isinstance(world.backing.transport, str):
        client = world.backing._client
        return [key.decode() for key in client.scan_iter(f"{world.backing._prefix}*")]
    memory = world.backing.transport
    return [*memory._values, *memory._locks, *memory._epochs]


def by_phone(world: Any, phone: str) -> Any:
    """Return the person with this number."""
    with world.session() as session:
        if world.mode == "sync":
            return get_by(session, world.Person, phone=phone)
        asked = aget_by(session._wrapped, world.Person, phone=phone)
        return world.loop.run_until_complete(asked)


@pytest.mark.parametrize("where", WORLDS, ids="-".join)
def test_hits_and_commits(make: MakeWorld, where: tuple[str, str, str]) -> None:
    """As without; a commit reaches what was stored, by key and by unique key."""
    world: Any = make(*where)
    world.miss(world.Person, ANN)
    assert world.hit(world.Person, ANN).name == "Ann"
    for _ in range(2):  # whose number it is, and the row
        with world.one_select():
            assert by_phone(world, "555-bob").email == BOB
    with world.no_sql():
        assert by_phone(world, "555-bob").email == BOB
    with world.session() as session:
        session.get(world.Person, ANN).name = "Anna"
        session.get(world.Person, BOB).phone = "555-robert"
        session.commit()
    assert world.miss(world.Person, ANN).name == "Anna"
    assert by_phone(world, "555-bob") is None
    keys = all_keys(world)
    assert any("hidden_person" in key for key in keys)
    assert not [key for key in keys if "ann" in key.lower() or "555" in key or "bob" in key]


@everywhere
def test_purge_and_invalidate(make: MakeWorld, where: tuple[str, str, str]) -> None:
    """They find what is meant, by key and all of it."""
    world: Any = make(*where)
    for person in (ANN, BOB):
        world.warm(world.Person, person)
    by_phone(world, "555-bob")
    _run(world, SQLModelCache.invalidate, SQLModelCache.ainvalidate, world.Person, ANN)
    world.miss(world.Person, ANN)
    world.hit(world.Person, BOB)
    # The row, and whatever unique keys there are, which do not say whose they are.
    assert _run(world, SQLModelCache.purge, SQLModelCache.apurge, world.Person, BOB) == 2
    world.hit(world.Person, ANN)
    world.miss(world.Person, BOB)
    assert _run(world, SQLModelCache.purge, SQLModelCache.apurge, world.Person) == 2
    assert not [key for key in world.backing.values() if "hidden_person" in key]
    world.miss(world.Person, ANN)
    world.hit(world.Person, ANN)


@everywhere
def test_nothing_is_said(
    make: MakeWorld, where: tuple[str, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the log, nor by explain()."""
    with caplog.at_level(logging.DEBUG, "sqlmodel_cache"):
        world: Any = make(*where)
        world.warm(world.Person, ANN)
        with world.session() as session:
            explain = SQLModelCache.explain if world.mode == "sync" else SQLModelCache.aexplain
            asked: Any = explain(getattr(session, "_wrapped", session), world.Person, ANN)
            told = asked if world.mode == "sync" else world.loop.run_until_complete(asked)
            assert told.expected == "hit"
            session.delete(session.get(world.Person, ANN))
            session.commit()
    for said in (caplog.text, str(told), repr(told), repr(SQLModelCache.get_config())):
        assert ANN not in said
        assert SECRET not in said


def test_messages_to_other_processes(make: MakeWorld, redis_url: str) -> None:
    """They name what must go by its hidden key."""
    world: Any = make("sync", "tiered", "sqlite")
    with redis.Redis.from_url(redis_url) as client, client.pubsub() as heard:
        heard.subscribe(local_channel(world.backing._prefix))
        assert heard.get_message(timeout=20)
        world.warm(world.Person, ANN)
        with world.session() as session:
            session.get(world.Person, ANN).name = "Anna"
            session.commit()
        said = str(heard.get_message(timeout=20))
    assert "hidden_person" in said
    assert ANN not in said


def test_others_are_not_hidden(make: MakeWorld) -> None:
    """A model that does not ask for it has its keys as they are."""
    world: Any = make("sync", "redis", "sqlite")
    pk = world.store(Hero(name="x"))
    world.warm(Hero, pk)
    assert any(key.endswith(f":i{pk}") for key in world.backing.values())


# Another secret in another process


def on_the_board(world: Any, op: type[Any], *said: Any) -> Any:
    """Perform an operation on the board of fingerprints."""
    board = secrets_board(SQLModelCache.get_config().key_prefix)
    stores = _state.active.stores
    return getattr(stores.sync, "_store", stores.sync).perform(op(board, *said))


def another_process_says(world: Any, *, on: bool = True) -> None:
    """Have another process show its secret's fingerprint, and this one look."""
    on_the_board(world, Turn, "f" * 16, on)


@everywhere
def test_another_secret_is_noticed(
    make: MakeWorld, where: tuple[str, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Said once; nothing is read, and a commit forgets the model whole, until a purge."""
    world: Any = make(*where)
    world.warm(world.Person, ANN)
    another_process_says(world)
    _state.active.switch.due = 0.0
    with caplog.at_level(logging.WARNING, "sqlmodel_cache"):
        world.hit(world.Person, ANN)  # after it the process looks
        for _ in range(3):
            _state.active.switch.due = 0.0
            world.miss(world.Person, ANN)
    assert world.stats().models["Person"].bypasses == {Bypass.KEY_SECRET.value: 3}
    (said,) = caplog.messages
    assert "key_secret" in said
    assert "f" * 16 in said
    before = _epochs(world)
    with world.session() as session:
        session.get(world.Person, BOB).name = "Robert"
        session.commit()
    assert before
    assert not before & _epochs(world)  # what the other process stored is gone, too
    caplog.clear()
    with caplog.at_level(logging.WARNING, "sqlmodel_cache"):
        _run(world, SQLModelCache.purge, SQLModelCache.apurge, world.Person)
    assert "again" in caplog.text
    world.miss(world.Person, ANN)
    world.hit(world.Person, ANN)


@everywhere
def test_a_purge_of_rows_under_another_secret(make: MakeWorld, where: tuple[str, str, str]) -> None:
    """All go: nobody here knows which rows of the other process are meant."""
    world: Any = make(*where)
    for person in (ANN, BOB):
        world.warm(world.Person, person)
    another_process_says(world)
    purged = _run(world, SQLModelCache.purge, SQLModelCache.apurge, world.Person, BOB)
    assert purged == 2
    assert not [key for key in world.backing.values() if "hidden_person" in key]
    assert "f" * 16 in on_the_board(world, Switches)


@everywhere
def test_another_secret_was_there_first(make: MakeWorld, where: tuple[str, str, str]) -> None:
    """Then not even the first read is answered, nor is the first commit told by row."""
    world: Any = make(*where)
    former = SQLModelCache.get_config()
    world.warm(world.Person, ANN)
    before = _epochs(world)
    transport = world.backing.transport
    SQLModelCache.configure(
        transport, key_prefix=former.key_prefix, key_secret="another secret altogether"
    )
    with world.session() as session:
        session.get(world.Person, BOB).name = "Robert"
        session.commit()
    assert not before & _epochs(world)
    world.miss(world.Person, ANN)
    world.miss(world.Person, ANN)


def test_a_store_that_cannot_be_asked(make: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows then: nothing is read, until it was asked."""
    world: Any = make("sync", "memory", "sqlite")
    switch = _state.active.switch
    switch.agrees = None

    def unplugged() -> Any:
        raise UnavailableError("unplugged")

    monkeypatch.setattr(type(switch), "comparing", lambda self: unplugged())
    for _ in range(2):
        world.miss(world.Person, ANN)
    assert world.stats().models["Person"].bypasses == {Bypass.KEY_SECRET.value: 2}
    monkeypatch.undo()
    switch.due = 0.0
    world.miss(world.Person, ANN)
    world.hit(world.Person, ANN)


def _epochs(world: Any) -> set[bytes]:
    """Return the epochs of the table."""
    if isinstance(world.backing.transport, str):
        client = world.backing._client
        keys = client.scan_iter(f"{world.backing._prefix}*hidden_person*!epoch")
        return {client.get(key) for key in keys}
    epochs = world.backing.transport._epochs
    return {epoch for key, epoch in epochs.items() if "hidden_person" in key}


def _run(world: Any, plain: Any, coroutine: Any, *arguments: Any) -> Any:
    if world.mode == "sync":
        return plain(*arguments)
    return world.loop.run_until_complete(coroutine(*arguments))


# What it takes


def test_without_a_secret(models: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, with model, field and remedy; the environment may have it."""
    wanted = r"Person.*hash_keys=True.*key_secret.*SQLMODEL_CACHE_KEY_SECRET"
    with pytest.raises(ConfigurationError, match=wanted):
        SQLModelCache.configure("memory://")
    with pytest.raises(ConfigurationError, match=wanted):
        cached_sessionmaker(sessionmaker(), transport="memory://")
    monkeypatch.setenv("SQLMODEL_CACHE_KEY_SECRET", SECRET)
    SQLModelCache.configure("memory://")
    assert SECRET not in repr(SQLModelCache.get_config())
    SQLModelCache.reset()
    monkeypatch.delenv("SQLMODEL_CACHE_KEY_SECRET")
    models.registry.dispose()
    SQLModelCache.configure("memory://")
    known = registry()
    try:
        with pytest.raises(ConfigurationError, match=r"Later.*hash_keys=True.*key_secret"):

            class Later(_base(known), table=True):  # type: ignore[misc]
                __tablename__ = "hidden_later"
                __cache_config__ = CacheConfig(hash_keys=True)

                id: int | None = Field(default=None, primary_key=True)

    finally:
        known.dispose()


@pytest.mark.parametrize("secret", ["too short", b"too short", 1234567890123456, ""])
def test_what_is_no_secret(secret: Any) -> None:
    """Refused, and not shown."""
    with pytest.raises(ConfigurationError, match="key_secret is not valid") as error:
        SQLModelCache.configure("memory://", key_secret=secret)
    assert not secret or str(secret) not in str(error.value)


def test_a_hierarchy_hides_or_does_not() -> None:
    """Classes that share rows must name them alike."""

    class Base(DeclarativeBase):
        """Of classes that are forgotten again."""

    class Animal(Base):
        __tablename__ = "hidden_animal"
        __cache_config__ = CacheConfig()
        __mapper_args__: ClassVar = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    try:
        with pytest.raises(ConfigurationError, match=r"Animal.*hash_keys=False.*Dog.*True.*same"):

            class Dog(Animal):
                __cache_config__ = CacheConfig(hash_keys=True)
                __mapper_args__: ClassVar = {"polymorphic_identity": "dog"}

    finally:
        Base.registry.dispose()


def test_selects_by_key(make: MakeWorld) -> None:
    """A select() that pins the key is a read by key here, too."""
    world: Any = make("sync", "redis", "sqlite")
    world.warm(world.Person, ANN)
    with world.session() as session, world.no_sql():
        row = session.execute(select(world.Person).where(world.Person.email == ANN)).scalar_one()
        assert row.name == "Ann"


def test_cached_queries(make: MakeWorld) -> None:
    """Neither results nor the values that they depend on can be seen."""
    world: Any = make("sync", "redis", "sqlite")
    query = select(world.Person).where(world.Person.name == "Ann")

    def emails() -> list[str]:
        with world.session() as session:
            found = session.scalars(query, execution_options={"cache": True})
            return [person.email for person in found]

    for _ in range(2):  # the result, and its row
        assert emails() == [ANN]
    with world.no_sql():
        assert emails() == [ANN]
    with world.session() as session:
        session.get(world.Person, BOB).name = "Ann"
        session.commit()
    assert sorted(emails()) == [ANN, BOB]
    assert not [key for key in all_keys(world) if "Ann" in key or "ann@" in key]

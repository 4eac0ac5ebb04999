"""One row has one key and no other row has it, however the row is asked for (B2)."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import StatementError

from sqlmodel_cache import SQLModelCache, get_many
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Day, Hero, Seat, Token, Word

STRANGE = [
    "a:b",
    "a=b",
    "{a}",
    "{a",
    "a b",
    "a\nb",
    "a\tb",
    "%3a",
    "*",
    "!epoch",
    "ä",
    "\N{PILE OF POO}",
    "' OR 1=1 --",
]


@pytest.mark.parametrize("key", STRANGE)
@on_sqlite
def test_b02_strange_text_keys_are_hits(world: World, key: str) -> None:
    """Whatever a text key is made of, its second get is a hit on its own row."""
    pk = world.store(Word(id=f"{world.fresh}{key}", name=key))
    assert world.warm(Word, pk).name == key


def test_b02_text_keys_on_every_database(world: World) -> None:
    """Keys that differ in their punctuation only are different rows, each a hit."""
    keys = [f"{world.fresh}{key}" for key in ("a:b", "a=b", "a{b}", "a b", "a\nb", "a%b")]
    world.store(*(Word(id=key, name=repr(key)) for key in keys))
    for key in keys:
        world.warm(Word, key)
    assert [world.hit(Word, key).name for key in keys] == [repr(key) for key in keys]
    assert len(world.backing.values()) == len(keys)


@on_sqlite
def test_b02_a_key_of_ten_kilobytes(world: World) -> None:
    """A long key is a hit; one that differs in its last letter is another row."""
    long = world.fresh + "x" * 10_000
    world.store(Word(id=long + "a", name="a"), Word(id=long + "b", name="b"))
    assert world.warm(Word, long + "a").name == "a"
    assert world.warm(Word, long + "b").name == "b"


def test_b02_a_text_key_and_the_number_that_looks_like_it(world: World) -> None:
    """`1`, `"1"` and `True` never share an entry, whatever the database makes of them."""
    pk = world.store(Hero(name="Ann"))
    word = f"{pk}"
    if world.row(Word, word) is None:
        world.store(Word(id=word, name="text"))
    world.warm(Hero, pk)
    world.warm(Word, word)
    assert type(world.hit(Hero, pk).id) is int
    assert type(world.hit(Word, word).id) is str


@on_sqlite
def test_b02_true_is_not_the_hero_one(world: World) -> None:
    """`get(Hero, True)` goes to the database and leaves the entry of 1 alone."""
    if world.row(Hero, 1) is None:
        world.store(Hero(id=1, name="first"))
    before = world.warm(Hero, 1)
    assert world.miss(Hero, True).name == before.name
    after = world.hit(Hero, 1)
    assert (type(after.id), after.name) == (int, before.name)
    assert len(world.backing.values()) == 1


def _answer(world: World, read: Callable[[Any], Any]) -> Any:
    """Return the primary key of what a read finds, None for nothing, or the error's class."""
    with world.session() as session:
        try:
            found = read(session)
        except StatementError as error:
            return type(error)
    return None if found is None else found.id


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("read", ["get", "select", "get_many"])
def test_b02_a_uuid_as_text_means_what_it_means_to_a_load(
    world: World, read: str, warm: bool
) -> None:
    """A path parameter hits the UUID's entry where the driver takes it; else it is refused."""
    reads: dict[str, Callable[[str], Callable[[Any], Any]]] = {
        "get": lambda text: lambda session: session.get(Token, text),
        "select": lambda text: (
            lambda session: session.scalars(select(Token).where(Token.id == text)).first()  # type: ignore[arg-type]
        ),
    }
    reads["get_many"] = lambda text: (
        lambda session: (
            get_many(session, Token, [text])[0]
            if world.mode == "sync"
            else session.run_sync(get_many, Token, [text])[0]
        )
    )
    key = uuid.uuid4()
    world.store(Token(id=key, name="t"))
    if warm:
        world.warm(Token, key)
    text = str(key)
    spellings = (text, key.hex, text.upper(), f"{{{text}}}", f"urn:uuid:{text}", "no", text[1:])
    for spelling in spellings:
        ask = reads[read](spelling)
        with SQLModelCache.bypass():
            loaded = _answer(world, reads["get"](spelling))
            assert _answer(world, ask) == loaded, spelling
        assert _answer(world, ask) == loaded, spelling
        if loaded == key and spelling in (text, key.hex, text.upper()):
            with world.no_sql():
                assert _answer(world, ask) == key
    assert len(world.backing.values()) == (1 if warm or _takes_text(world) else 0)


def _takes_text(world: World) -> bool:
    with SQLModelCache.bypass():
        return _answer(world, lambda session: session.get(Token, str(uuid.uuid4()))) is None


def test_b02_a_uuid_asked_for_by_string_first(world: World) -> None:
    """What a string filled, the UUID hits; in one session both are one object."""
    key = uuid.uuid4()
    world.store(Token(id=key, name="t"))
    if not _takes_text(world):
        pytest.skip("this driver takes no text for a UUID")
    assert world.get(Token, str(key)).id == key
    assert world.hit(Token, key).name == "t"
    with world.session() as session, world.no_sql():
        assert session.get(Token, str(key)) is session.get(Token, key)


def test_b02_a_commit_reaches_every_spelling(world: World) -> None:
    """After a write through the UUID the string reads the new value."""
    key = uuid.uuid4()
    world.store(Token(id=key, name="old"))
    if not _takes_text(world):
        pytest.skip("this driver takes no text for a UUID")
    world.warm(Token, key)
    with world.session() as session:
        session.get(Token, str(key)).name = "new"
        session.commit()
    assert world.miss(Token, key).name == "new"
    assert world.hit(Token, str(key)).name == "new"


def test_b02_dates(world: World) -> None:
    """A date is a key."""
    day = dt.date(1900, 1, 1) + dt.timedelta(days=int(world.fresh[:5], 16) % 60_000)
    if world.row(Day, day) is None:
        world.store(Day(id=day, name="d"))
    assert world.warm(Day, day).id == day


SPELLINGS: list[Any] = [
    lambda row, number: (row, number),
    lambda row, number: [row, number],
    lambda row, number: {"row": row, "number": number},
    lambda row, number: {"number": number, "row": row},
    lambda row, number: {"line": row, "number": number},
]


@on_sqlite
def test_b02_spellings_of_a_composite_key_are_one_entry(world: World) -> None:
    """Tuple, list, dict in any order, and the name of a synonym."""
    row, number = int(world.fresh[:6], 16), "7a"
    world.store(Seat(row=row, number=number, name="s"))
    world.warm(Seat, (row, number))
    for spelling in SPELLINGS:
        assert world.hit(Seat, spelling(row, number)).name == "s"
    assert len(world.backing.values()) == 1


def test_b02_composite_keys_do_not_run_together(world: World) -> None:
    """(1, "23") and (12, "3") are two rows, and so are keys that hold separators."""
    base = int(world.fresh[:6], 16)
    keys = [(base, "23"), (base * 10 + 2, "3"), (base, "2:3"), (base, '2",3'), (base, "")]
    world.store(*(Seat(row=row, number=number, name=repr((row, number))) for row, number in keys))
    for key in keys:
        world.warm(Seat, key)
    assert [world.hit(Seat, key).name for key in keys] == [repr(key) for key in keys]


def test_b02_a_key_that_the_collation_takes_for_another(world: World) -> None:
    """Where 'ANN' finds 'ann', the answer is the database's, and writes still reach both."""
    key = f"{world.fresh}ann"
    world.store(Word(id=key, name="old"))
    for spelling in (key, key.upper(), key + " "):
        found, row = world.get(Word, spelling), world.row(Word, spelling)
        assert (found and found.name) == (row and row["name"])
    with world.session() as session:
        session.get(Word, key).name = "new"
        session.commit()
    for spelling in (key, key.upper(), key + " "):
        found, row = world.get(Word, spelling), world.row(Word, spelling)
        assert (found and found.name) == (row and row["name"])


@on_sqlite
def test_b02_a_string_for_an_integer(world: World) -> None:
    """`get(Hero, "1")` gives what SQLAlchemy gives, and stores nothing under a second key."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    with world.one_select():
        found = world.get(Hero, str(pk))
    assert found is None or found.id == pk
    assert len(world.backing.values()) == 1

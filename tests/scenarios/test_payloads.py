"""What cannot be this row is a miss: of another release (B27), broken, or hostile (B28)."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Integer, MetaData, String, delete, insert
from sqlalchemy.orm import DeclarativeBase, mapped_column, registry

from sqlmodel_cache import cached
from sqlmodel_cache.codec.envelope import seal, unseal
from sqlmodel_cache.codec.wire import MAX_SIZE
from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import Hero, Product

NAME = {"name": String(200)}
BOTH = {"name": String(200), "stock": Integer}
RETYPED = {"name": String(200), "stock": String(200)}
RENAMED = {"title": String(200), "stock": Integer}


@contextmanager
def _deployed(**columns: Any) -> Iterator[Any]:
    """Map Product's table as another release of the program has it."""

    class Base(DeclarativeBase):
        metadata = MetaData()
        registry = registry()

    names = {"title": "name"}
    body = {
        key: mapped_column(names.get(key, key), type_, nullable=True)
        for key, type_ in columns.items()
    }
    body |= {"__tablename__": "scenario_product", "id": mapped_column(Integer, primary_key=True)}
    body |= {"__module__": "shop", "__qualname__": "Article"}
    try:
        yield cached(type("Article", (Base,), body))
    finally:
        Base.registry.dispose()


def _product(world: World) -> int:
    pk: int = world.store(Product(name="lamp", stock=5))
    return pk


# B27


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (NAME, BOTH, {"name": "lamp", "stock": 5}),
        (BOTH, NAME, {"name": "lamp"}),
        (BOTH, RENAMED, {"title": "lamp", "stock": 5}),
        (RENAMED, BOTH, {"name": "lamp", "stock": 5}),
    ],
    ids=["column-added", "column-removed", "column-renamed", "and-back"],
)
@on_sqlite
def test_b27_a_payload_of_another_shape_is_a_miss(
    world: World, old: Any, new: Any, expected: dict[str, Any]
) -> None:
    """The new release loads the row, stores it in its own shape, and hits from then on."""
    pk = _product(world)
    with _deployed(**old) as before, _deployed(**new) as after:
        world.warm(before, pk)
        loaded = world.miss(after, pk)
        hit = world.hit(after, pk)
        for name, value in expected.items():
            assert getattr(loaded, name) == getattr(hit, name) == value
        assert len(world.backing.values()) == 1
        assert getattr(world.miss(before, pk), next(iter(old))) == "lamp"


@on_sqlite
def test_b27_a_retyped_column_is_a_miss(world: World) -> None:
    """What was an integer and is text now never comes back as an integer."""
    pk = _product(world)
    world.behind_the_back(f"UPDATE scenario_product SET stock = '5' WHERE id = {pk}")
    with _deployed(**BOTH) as before, _deployed(**RETYPED) as after:
        assert type(world.warm(before, pk).stock) is int
        loaded, hit = world.miss(after, pk).stock, world.hit(after, pk).stock
        assert type(hit) is type(loaded)
        assert hit == loaded


@pytest.mark.parametrize("writer", ["old", "new"])
def test_b27_a_commit_reaches_both_releases(world: World, writer: str) -> None:
    """Both have one key, so whoever commits invalidates what either stored."""
    pk = _product(world)
    with _deployed(**NAME) as before, _deployed(**BOTH) as after:
        for filler in (before, after):
            world.warm(filler, pk)
            with world.session() as session:
                found = session.get(before if writer == "old" else after, pk)
                found.name = f"{writer}-{filler is before}"
                session.commit()
            assert world.miss(filler, pk).name == f"{writer}-{filler is before}"


@on_sqlite
def test_b27_a_release_that_only_writes_statements(world: World) -> None:
    """The other release's Core DELETE reaches the entry too."""
    pk = _product(world)
    with _deployed(**NAME) as before, _deployed(**BOTH) as after:
        world.warm(after, pk)
        with world.begin() as connection:
            connection.execute(delete(before.__table__).where(before.__table__.c.id == pk))
        assert world.get(after, pk) is None
        with world.begin() as connection:
            connection.execute(insert(before.__table__).values(id=pk, name="again"))
        assert world.get(after, pk).name == "again"


# B28


def _forged(key: str, value: bytes, payload: bytes, **changes: Any) -> bytes:
    """Return an envelope that is right in all but its payload."""
    envelope: Any = unseal(key, value, None)
    settings: dict[str, Any] = {"flags": envelope.flags, "stored_at": 2e9, "ttl": 300}
    return seal(key, value[2:14], envelope.fingerprint, payload, **(settings | changes))


class _Bomb:
    """Unpickled, it would fail the test."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("cached bytes were executed",))


BROKEN: dict[str, Callable[[str, bytes], bytes]] = {
    "empty": lambda key, value: b"",
    "one-byte": lambda key, value: b"\x01",
    "text": lambda key, value: b'{"name": "Eve"}',
    "zeros": lambda key, value: bytes(len(value)),
    "truncated": lambda key, value: value[:-1],
    "truncated-payload": lambda key, value: value[:50],
    "header-only": lambda key, value: value[:45],
    "longer": lambda key, value: value + b"x",
    "flipped-bit": lambda key, value: value[:-6] + bytes([value[-6] ^ 1]) + value[-5:],
    "next-format": lambda key, value: b"\x03" + value[1:],
    "oversized": lambda key, value: value + bytes(MAX_SIZE),
    "pickle": lambda key, value: pickle.dumps(_Bomb()),
    "forged-pickle": lambda key, value: _forged(key, value, pickle.dumps(_Bomb())),
    "forged-nothing": lambda key, value: _forged(key, value, b""),
    "forged-map": lambda key, value: _forged(key, value, b"\x80"),
    "forged-short": lambda key, value: _forged(key, value, b"\x91\x01"),
    "forged-types": lambda key, value: _forged(key, value, b"\x93\xa1a\x01\xc3"),
    "forged-nesting": lambda key, value: _forged(key, value, b"\x91" * 100_000),
    "forged-huge-array": lambda key, value: _forged(key, value, b"\xdd\xff\xff\xff\xff"),
    "forged-huge-text": lambda key, value: _forged(key, value, b"\x93\x01\xdb\xff\xff\xff\xff"),
    "forged-flags": lambda key, value: _forged(key, value, value[45:-4], flags=0x80),
}


@pytest.mark.parametrize("which", BROKEN)
@on_sqlite
def test_b28_bytes_that_are_no_row_are_a_miss(world: World, which: str) -> None:
    """The database answers, the entry is replaced, and the next get is a hit."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    ((key, value),) = world.backing.values().items()
    world.backing.overwrite(key, BROKEN[which](key, value))
    before = world.stats()
    assert world.miss(Hero, pk).name == "Ann"
    after = world.stats()
    assert after.misses == before.misses + 1
    assert after.fills == before.fills + 1
    assert world.hit(Hero, pk).name == "Ann"


@pytest.mark.parametrize("which", ["truncated", "flipped-bit", "oversized", "forged-types"])
@on_sqlite
def test_b28_damage_is_counted(world: World, which: str) -> None:
    """Damage shows as an error in the model's counts; a miss alone would hide it."""
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    ((key, value),) = world.backing.values().items()
    world.backing.overwrite(key, BROKEN[which](key, value))
    world.get(Hero, pk)
    assert world.stats().models["Hero"].errors == 1


@on_sqlite
def test_b28_another_row_s_value_under_this_key(world: World) -> None:
    """A value that was moved, or met in a crossed reply, is not this row."""
    first, second = world.store(Hero(name="Ann"), Hero(name="Eve"))
    world.warm(Hero, first)
    (ours,) = world.backing.values()
    world.warm(Hero, second)
    values = world.backing.values()
    (theirs,) = values.keys() - {ours}
    world.backing.overwrite(ours, values[theirs])
    assert world.miss(Hero, first).name == "Ann"
    assert world.hit(Hero, first).name == "Ann"


def test_b28_a_key_of_another_redis_type(make_world: Callable[..., World]) -> None:
    """A list under our key is nobody's error: the database answers, a commit clears it."""
    world: Any = make_world("sync", "redis", "sqlite")
    pk = world.store(Hero(name="Ann"))
    world.warm(Hero, pk)
    (key,) = world.backing.values()
    world.backing.make_list(key)
    assert world.get(Hero, pk).name == "Ann"
    with world.session() as session:
        session.get(Hero, pk).name = "Bea"
        session.commit()
    assert world.get(Hero, pk).name == "Bea"
    assert world.hit(Hero, pk).name == "Bea"

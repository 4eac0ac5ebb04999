"""What a transport with `get`, `set` and `delete` must do, sync or async."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.ops import Release
from sqlmodel_cache.testing.contract.store import StoreFixtures
from sqlmodel_cache.transport._protocols import classify
from sqlmodel_cache.transport.drive import adrive, drive
from sqlmodel_cache.transport.stores import open_stores

if TYPE_CHECKING:
    import asyncio

    from sqlmodel_cache.keys import KeySpace
    from sqlmodel_cache.testing.contract.store import Store

LONG = 1000  # seconds
PATIENCE = read.Patience(wait=0.0)


class CacheTransportContract(StoreFixtures):
    """Inherit, and provide a fixture `transport` that yields an empty transport.

    `let_pass` may be overridden where the transport's clock can be moved; as it stands, one test
    waits for a second.
    """

    def let_pass(self, seconds: float) -> None:
        """Let time pass for the transport."""
        time.sleep(seconds)

    def test_it_is_a_transport(self, transport: Any) -> None:
        """`configure()` takes it: three methods, all of them async or none."""
        traits = classify(transport)
        assert traits.serves_sync or traits.serves_async

    def test_what_was_never_stored_is_none(self, store: Store, space: KeySpace) -> None:
        """A miss is None: no exception, no empty value."""
        assert store.get(space.entry("1").value) is None

    @pytest.mark.parametrize(
        "value",
        [b"row", b"", b"\x00\xff\r\n", bytes(range(256)) * 4096],
        ids=["text", "empty", "binary", "a megabyte"],
    )
    def test_bytes_come_back_as_they_were(
        self, store: Store, space: KeySpace, value: bytes
    ) -> None:
        """Any bytes, as bytes."""
        key = space.entry("1").value
        assert store.set(key, value, LONG) is None  # type: ignore[func-returns-value]
        found = store.get(key)
        assert type(found) is bytes
        assert found == value

    def test_the_last_value_wins(self, store: Store, space: KeySpace) -> None:
        """A set replaces what was there."""
        key = space.entry("1").value
        store.set(key, b"a longer old value", LONG)
        store.set(key, b"new", LONG)
        assert store.get(key) == b"new"

    def test_keys_are_told_apart(self, store: Store, space: KeySpace) -> None:
        """By case, by trailing blanks, by every sign: one row must never be read as another."""
        names = [
            "a",
            "A",
            "a ",
            "a:b",
            "a{b}",
            "a%b",
            "a_b",
            "a*",
            "a?",
            "\xe9",
            "e\u0301",
            "x" * 400,
        ]
        keys = [space.entry(name).value for name in names]
        for name, key in zip(names, keys, strict=True):
            store.set(key, name.encode(), LONG)
        assert [store.get(key) for key in keys] == [name.encode() for name in names]
        store.delete(space.entry("a*").value)
        assert store.get(keys[0]) == b"a"

    def test_delete_takes_any_number_of_keys(self, store: Store, space: KeySpace) -> None:
        """None at all, absent ones, and each that was named."""
        one, two, three = (space.entry(str(number)).value for number in range(3))
        for key in (one, two, three):
            store.set(key, b"row", LONG)
        store.delete()
        store.delete(space.entry("absent").value)
        assert store.get(one) == b"row"
        store.delete(one, two, one, space.entry("absent").value)
        assert [store.get(key) for key in (one, two, three)] == [None, None, b"row"]
        store.delete(*[space.entry(str(number)).value for number in range(1500)])
        assert store.get(three) is None

    def test_a_value_ends_with_its_ttl(self, store: Store, space: KeySpace) -> None:
        """Seconds, counted from the last set."""
        short, renewed = space.entry("short").value, space.entry("renewed").value
        store.set(short, b"row", 1)
        store.set(renewed, b"row", 1)
        store.set(renewed, b"row", LONG)
        assert store.get(short) == b"row"
        self.let_pass(1.1)
        assert store.get(short) is None
        assert store.get(renewed) == b"row"

    def test_threads_and_tasks_do_not_disturb_each_other(
        self, transport: Any, runner: asyncio.Runner, space: KeySpace
    ) -> None:
        """Requests come many at a time; each finds what it stored itself."""
        if classify(transport).serves_sync:
            with ThreadPoolExecutor(8) as pool:
                wrong = list(pool.map(partial(_use, transport, space), range(8)))
        else:
            wrong = runner.run(_use_all(transport, space))
        assert wrong == [[]] * 8

    def test_a_row_goes_through_the_protocol(
        self, transport: Any, runner: asyncio.Runner, space: KeySpace
    ) -> None:
        """A miss, a fill, a hit, and a miss again after a commit."""
        entry = space.entry("1")

        def run(steps: read.Steps[Any]) -> Any:
            stores = open_stores(transport)
            if stores.sync is not None:
                return drive(steps, stores.sync)
            return runner.run(adrive(steps, stores.async_))

        lookup = partial(read.lookup, entry, lambda value, epoch: value, PATIENCE)
        missed = run(lookup())
        assert isinstance(missed, read.Miss)
        assert missed.held is not None
        assert run(read.fill(missed.held, b"row", LONG * 1000)) is True
        assert run(lookup()) == read.Hit(b"row")
        run(_committed(Release("1" * 32, (entry,), ())))
        assert isinstance(run(lookup()), read.Miss)


def _use(transport: Any, space: KeySpace, number: int) -> list[int]:
    """Store, read and delete keys that are this thread's alone; return where that went wrong."""
    wrong = []
    for turn in range(25):
        key = space.entry(f"{number}-{turn}").value
        value = f"{number}-{turn}".encode()
        transport.set(key, value, LONG)
        if transport.get(key) != value:
            wrong.append(turn)
        transport.delete(key)
        if transport.get(key) is not None:
            wrong.append(turn)
    return wrong


async def _use_all(transport: Any, space: KeySpace) -> list[list[int]]:
    import asyncio

    async def use(number: int) -> list[int]:
        wrong = []
        for turn in range(25):
            key = space.entry(f"{number}-{turn}").value
            value = f"{number}-{turn}".encode()
            await transport.set(key, value, LONG)
            if await transport.get(key) != value:
                wrong.append(turn)
            await transport.delete(key)
            if await transport.get(key) is not None:
                wrong.append(turn)
        return wrong

    return await asyncio.gather(*map(use, range(8)))


def _committed(release: Release) -> read.Steps[None]:
    yield release

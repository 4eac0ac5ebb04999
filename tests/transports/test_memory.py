"""What is particular to the store in process: bounds, frozen time, threads, forks."""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from freezegun import freeze_time

from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol.ops import Fence, Fenced, Get, Granted, Leased, Release, Reply
from sqlmodel_cache.testing.contract.full import LONG, OVER, WRITER, envelope, fill, lease
from sqlmodel_cache.transport import MemoryTransport, forks, memory

if TYPE_CHECKING:
    from sqlmodel_cache.keys import Entry


def put(transport: MemoryTransport, entry: Entry) -> None:
    """Lease and fill one row."""
    grant = transport.perform(lease(entry))
    assert transport.perform(fill(entry, grant)) is True


def test_the_least_recently_used_value_goes(space: KeySpace) -> None:
    """A get is a use."""
    transport = MemoryTransport(max_entries=3)
    one, two, three, four = (space.entry(str(number)) for number in range(4))
    for entry in (one, two, three):
        put(transport, entry)
    transport.perform(Get(one))
    put(transport, four)
    assert len(transport) == 3
    found = [transport.perform(Get(entry)).value is not None for entry in (one, two, three, four)]
    assert found == [True, False, True, True]


def test_eviction_takes_no_fence_and_no_lease(space: KeySpace) -> None:
    """However many values come and go, writers in flight keep their rows closed."""
    transport = MemoryTransport(max_entries=1)
    fenced, leased = space.entry("fenced"), space.entry("leased")
    transport.perform(Fence(WRITER, (fenced,), (), LONG))
    grant = transport.perform(lease(leased))
    for number in range(3000):
        put(transport, space.entry(str(number)))
    assert transport.perform(lease(fenced)) == Fenced()
    assert transport.perform(lease(leased, "b" * 32)) == Leased()
    assert transport.perform(fill(leased, grant)) is True


def test_what_died_is_forgotten(space: KeySpace) -> None:
    """Leases and fences that nobody gave back do not accumulate, live ones stay."""
    transport = MemoryTransport()
    for number in range(5000):
        transport.perform(lease(space.entry(f"r{number}"), duration=OVER))
        transport.perform(Fence(f"w{number}", (space.entry(f"w{number}"),), (), OVER))
    assert len(transport._locks) <= memory._SWEEP_FROM + 1
    for number in range(2 * memory._SWEEP_FROM):
        transport.perform(Fence(WRITER, (space.entry(f"live{number}"),), (), LONG))
    assert transport.perform(lease(space.entry("live0"))) == Fenced()


def test_epochs_are_bounded_and_an_evicted_one_is_a_miss() -> None:
    """A value whose epoch went is not brought back by the next one."""
    transport = MemoryTransport(max_entries=5000)
    first = KeySpace("p", "n", "first").entry("1")
    put(transport, first)
    for number in range(6000):
        put(transport, KeySpace("p", "n", f"t{number}").entry("1"))
        if number == 3000:
            transport.perform(Get(first))
    assert len(transport._epochs) <= 5000
    assert transport.perform(Get(first)).epoch is None
    assert isinstance(transport.perform(lease(first)), Granted)


def test_frozen_time_passes_a_ttl(space: KeySpace) -> None:
    """A test that freezes time sees values expire without sleeping."""
    transport = MemoryTransport()
    with freeze_time("2030-01-01") as frozen:
        transport.set("key", b"value", 300)
        frozen.tick(299)
        assert transport.get("key") == b"value"
        frozen.tick(1)
        assert transport.get("key") is None


def test_real_time_alone_decides_while_nothing_is_frozen() -> None:
    """What was stored in a frozen past does not expire in the thawed present."""
    transport = MemoryTransport()
    with freeze_time("2001-01-01"):
        transport.set("key", b"value", 300)
    assert transport.get("key") == b"value"


def test_values_expire_in_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly at the end of the ttl."""
    transport = MemoryTransport()
    begin = time.monotonic()
    monkeypatch.setattr("sqlmodel_cache.clock.real", lambda: begin)
    transport.set("key", b"value", 10)
    monkeypatch.setattr("sqlmodel_cache.clock.real", lambda: begin + 9.999)
    assert transport.get("key") == b"value"
    monkeypatch.setattr("sqlmodel_cache.clock.real", lambda: begin + 10)
    assert transport.get("key") is None


def test_leases_and_fences_run_in_real_time_under_freeze(space: KeySpace) -> None:
    """Frozen time stops neither: a dead reader holds up a frozen test no longer than any other."""
    transport = MemoryTransport()
    entry = space.entry("1")
    with freeze_time("2030-01-01"):
        transport.perform(lease(entry, duration=1))
        while isinstance(transport.perform(lease(entry, "b" * 32)), Leased):
            pass
        transport.perform(Release(WRITER, (entry,), ()))
        transport.perform(Fence(WRITER, (entry,), (), 1))
        while transport.perform(lease(entry)) == Fenced():
            pass


@pytest.mark.parametrize("bad", [0, -1, True, "5", 2.5, None])
def test_a_bound_that_cannot_be(bad: Any) -> None:
    """`max_entries` is a positive int."""
    with pytest.raises(ConfigurationError, match="max_entries="):
        MemoryTransport(max_entries=bad)


@pytest.mark.parametrize("lock", ["lock", "epoch_lock"])
def test_a_fill_looks_at_both_locks_itself(space: KeySpace, lock: str) -> None:
    """As in Redis, where a writer may come in without taking the lease away."""
    transport = MemoryTransport()
    entry = space.entry("1")
    grant = transport.perform(lease(entry))
    key = entry.lock if lock == "lock" else entry.shard.epoch_lock
    transport._locks.setdefault(key, {})["restored"] = float("inf")
    assert transport.perform(fill(entry, grant)) is False


def test_a_value_that_goes_while_it_is_read() -> None:
    """Another thread deletes it between the look and the touch: it was found all the same."""
    transport = MemoryTransport()
    transport.set("key", b"value", 300)
    real = transport._values

    class Vanishing(dict[str, Any]):
        def move_to_end(self, key: str) -> None:
            raise KeyError(key)

    transport._values = Vanishing(real)  # type: ignore[assignment]
    assert transport.get("key") == b"value"


def test_a_transport_in_a_child_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Once, whatever it is asked first."""
    transport = MemoryTransport()
    transport.set("key", b"value", 300)
    transport.after_fork()
    with caplog.at_level(logging.WARNING, "sqlmodel_cache"):
        assert [transport.get("key"), transport.get("key")] == [None, None]
    assert len(caplog.messages) == 1


def test_threads(space: KeySpace) -> None:
    """Readers and writers of a few keys at once: no exception, and no value under a fence."""
    transport = MemoryTransport(max_entries=3)
    entries = [space.entry(str(number)) for number in range(6)]
    wrong: list[object] = []

    def work(number: int) -> None:
        writer = f"{number}" * 32
        try:
            for turn in range(1500):
                entry = entries[(turn * 7 + number) % 6]
                if turn % 5 == number % 5:
                    transport.perform(Fence(writer, (entry,), (), LONG))
                    if transport.perform(Get(entry)).value is not None:
                        wrong.append("a value under a fence")
                    transport.perform(Release(writer, (entry,), ()))
                    continue
                found = transport.perform(Get(entry))
                if found.value is not None and found.epoch is not None:
                    assert found.value[2:14] == found.epoch
                answer = transport.perform(lease(entry, writer))
                if isinstance(answer, Granted):
                    transport.perform(fill(entry, answer))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert transport._locks == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_empty_and_says_so_once(
    space: KeySpace, caplog: pytest.LogCaptureFixture
) -> None:
    """It would not hear of its parent's commits. Even a lock held at the fork is no trap."""
    transport = MemoryTransport()
    entry = space.entry("1")
    put(transport, entry)
    with transport._lock:
        told = in_child(lambda: _what_a_child_sees(transport, entry, caplog))
    assert told == (Reply(None, None), True, 1)
    assert transport.perform(Get(entry)).value is not None


def _what_a_child_sees(
    transport: MemoryTransport, entry: Entry, caplog: pytest.LogCaptureFixture
) -> object:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "sqlmodel_cache"):
        first = transport.perform(Get(entry))
        put(transport, entry)
        transport.perform(Get(entry))
    said = [record for record in caplog.records if "forked" in record.message]
    return first, transport.perform(Get(entry)).value is not None, len(said)


def in_child(work: Any) -> Any:
    """Fork, run `work` in the child, return its result."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result = work()
        except BaseException as error:
            result = repr(error)
        os.write(writing, pickle.dumps(result))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    return told


def test_a_dropped_transport_is_collected() -> None:
    """The list for forks holds nobody alive."""
    before = len(forks._alive)
    transport = MemoryTransport()
    assert len(forks._alive) == before + 1
    del transport
    assert len(forks._alive) == before


def test_the_repr_counts(space: KeySpace) -> None:
    """And shows no key."""
    transport = MemoryTransport(max_entries=7)
    transport.set("secret", envelope(b"e" * 12), 10)
    assert repr(transport) == "<MemoryTransport 1 of 7 values>"

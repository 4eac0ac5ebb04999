"""Lua and the dictionaries are one machine: the same operations get the same answers.

What a store makes by its clock (grants, epochs) differs, so a run names them in order of
appearance, and operations refer to them by that name. Durations have passed or never will.
"""

from __future__ import annotations

from contextlib import ExitStack
from hashlib import sha1
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlmodel_cache.keys import KeySpace
from sqlmodel_cache.protocol.ops import (
    Abandon,
    Fence,
    Fill,
    Get,
    GetMany,
    Granted,
    Lease,
    Release,
    Reply,
)
from sqlmodel_cache.testing.contract.full import LONG, OVER, envelope
from tests.transports.stores import Store, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 4
entry = st.integers(0, ROWS - 1)
grant = st.integers(0, 3)  # counted back from the newest
who = st.sampled_from(["1" * 32, "2" * 32, "3" * 32])
duration = st.sampled_from([LONG, LONG, LONG, OVER, -5])
run = st.sampled_from([b"eeee", b"eeee", b"\0\0\0\0", b"othe"])  # of the server
some = st.lists(entry, max_size=3)

ACTION = st.one_of(
    st.tuples(st.just("get"), entry),
    st.tuples(st.just("get_many"), some),
    st.tuples(st.just("lease"), entry, who, st.booleans(), duration, run),
    st.tuples(st.just("lease"), entry, who, st.booleans(), duration, run),
    st.tuples(st.just("fill"), entry, grant, st.booleans(), duration),
    st.tuples(st.just("fill"), entry, grant, st.just(True), st.just(LONG)),
    st.tuples(st.just("fill own"), grant),
    st.tuples(st.just("fill own"), grant),
    st.tuples(st.just("abandon"), entry, grant),
    st.tuples(st.just("fence"), who, some, some, duration),
    st.tuples(st.just("release"), who, some, some),
    st.tuples(st.just("set"), entry, st.booleans(), st.sampled_from([0, 1000])),
    st.tuples(st.just("delete"), some),
)


class Run:
    """One sequence of actions on one store."""

    def __init__(self, store: Store, prefix: str) -> None:
        self.store = store
        space = KeySpace(prefix, "n", "t")
        # two shards, two rows in each
        first = space.entry("0")
        same = next(e for n in range(1, 99) if (e := space.entry(str(n))).shard == first.shard)
        others = [e for n in range(1, 99) if (e := space.entry(str(n))).shard != first.shard]
        twin = next(e for e in others[1:] if e.shard == others[0].shard)
        self.entries = (first, same, others[0], twin)
        self.grants: list[tuple[int, Granted]] = []
        self.names: dict[bytes | str, str] = {}

    def act(self, action: tuple[Any, ...]) -> object:
        """Carry out one action; return its answer with our names for what the store made."""
        name, *rest = action
        return getattr(self, name.replace(" ", "_"))(*rest)

    def get(self, row: int) -> object:
        return self._told(self.store.perform(Get(self.entries[row])))

    def get_many(self, rows: list[int]) -> object:
        entries = tuple(self.entries[row] for row in rows)
        return [self._told(reply) for reply in self.store.perform(GetMany(entries))]

    def lease(self, row: int, token: str, reject: bool, duration: int, run: bytes) -> object:
        entry = self.entries[row]
        value = self.store.perform(Get(entry)).value if reject else None
        digest = None if value is None else sha1(value).hexdigest()
        answer = self.store.perform(Lease(entry, token, b"e" * 8 + run, digest, duration))
        if isinstance(answer, Granted):
            self.grants.append((row, answer))
        return self._told(answer)

    def fill(self, row: int, back: int, true_epoch: bool, ttl: int) -> object:
        granted = self._granted(back)[1]
        epoch = granted.epoch if true_epoch else b"f" * 12
        value = envelope(epoch, str(len(self.grants)).encode())
        return self.store.perform(Fill(self.entries[row], granted.token, epoch, value, ttl))

    def fill_own(self, back: int) -> object:
        return self.fill(self._granted(back)[0], back, True, LONG)

    def abandon(self, row: int, back: int) -> object:
        return self.store.perform(Abandon(self.entries[row], self._granted(back)[1].token))

    def fence(self, writer: str, rows: list[int], shards: list[int], duration: int) -> object:
        return self.store.perform(Fence(writer, *self._touched(rows, shards), duration))

    def release(self, writer: str, rows: list[int], shards: list[int]) -> object:
        return self.store.perform(Release(writer, *self._touched(rows, shards)))

    def set(self, row: int, of_the_epoch: bool, ttl: int) -> object:
        entry = self.entries[row]
        epoch = self.store.perform(Get(entry)).epoch if of_the_epoch else None
        self.store.set(entry.value, envelope(epoch or b"g" * 12, b"set"), ttl)
        return self._told(self.store.perform(Get(entry)))

    def delete(self, rows: list[int]) -> object:
        self.store.delete(*(self.entries[row].value for row in rows))
        return self.get_many(rows)

    def _touched(self, rows: list[int], shards: list[int]) -> tuple[Any, Any]:
        entries = tuple(self.entries[row] for row in rows)
        return entries, tuple(self.entries[row].shard for row in shards)

    def _granted(self, back: int) -> tuple[int, Granted]:
        nobody = (0, Granted(b"h" * 12, "nobody"))
        return self.grants[-1 - back] if back < len(self.grants) else nobody

    def _told(self, answer: object) -> object:
        if isinstance(answer, Granted):
            return ("granted", self._name(answer.epoch), self._name(answer.token))
        if isinstance(answer, Reply):
            value = answer.value
            known = None if value is None else (self._name(value[2:14]), value[14:])
            return ("reply", known, self._name(answer.epoch))
        return answer

    def _name(self, made: bytes | str | None) -> str | None:
        return None if made is None else self.names.setdefault(made, f"#{len(self.names)}")


@pytest.fixture(scope="module")
def stores(redis_url: str, valkey_url: str, cluster_url: str) -> Iterator[dict[str, Store]]:
    """One store of each kind, kept open for all examples."""
    urls = {
        "memory": "",
        "redis-sync": redis_url,
        "redis-async": redis_url,
        "valkey-sync": valkey_url,
        "cluster-sync": cluster_url,
    }
    with ExitStack() as stack:
        yield {kind: stack.enter_context(opened(kind, url)) for kind, url in urls.items()}


@given(st.lists(ACTION, min_size=3, max_size=25))
def test_the_same_operations_get_the_same_answers(
    stores: dict[str, Store], actions: list[tuple[Any, ...]]
) -> None:
    """Memory is the model: every server answers as it does, action by action."""
    runs = {kind: Run(store, f"same-{uuid4().hex}") for kind, store in stores.items()}
    for number, action in enumerate(actions):
        answers = {kind: run.act(action) for kind, run in runs.items()}
        expected = answers["memory"]
        assert answers == dict.fromkeys(answers, expected), (number, action)


def test_the_sequences_reach_every_answer(stores: dict[str, Store]) -> None:
    """A hand-made sequence of those actions, so that the test above cannot be blind."""
    run = Run(stores["memory"], "by-hand")
    assert run.act(("lease", 0, "1" * 32, False, LONG, b"eeee")) == ("granted", "#0", "#1")
    assert run.act(("fill own", 0)) is True
    assert run.act(("lease", 0, "2" * 32, False, LONG, b"eeee")) == ("reply", ("#0", b"1"), "#0")
    assert run.act(("lease", 1, "2" * 32, False, LONG, b"othe")) == ("granted", "#2", "#3")
    assert run.act(("lease", 0, "3" * 32, False, LONG, b"\0\0\0\0")) == ("granted", "#2", "#4")
    assert run.act(("fence", "1" * 32, [], [0], OVER)) is None
    assert run.act(("get", 0)) == ("reply", ("#0", b"1"), None)

"""Two rows that one commit changes, read together: never one from before it and one from after.

Every interleaving of a reader of both, a writer who commits twice, and readers who fill. A fence
and a release reach one row after the other, as they do where rows lie in two slots. Whoever takes
no further step has crashed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeAlias

import pytest

from sqlmodel_cache.keys import Entry, KeySpace
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.ops import GetMany, Lease, Reply
from sqlmodel_cache.protocol.write import Outcome, Publication
from tests.protocol.actors import Commit, Select
from tests.protocol.model import Fresh, Rules, Store, encode, verify

Script: TypeAlias = Generator[Any, Any, Any]
Readers: TypeAlias = Callable[[], Script]

ONE, TWO = (KeySpace("p", "db", "hero").entry(pk) for pk in "12")
EPOCH = b"e"


class _World(NamedTuple):
    """What both rows' keys hold, how many commits there were, what each actor was answered."""

    stores: tuple[Store, Store]
    commits: int
    histories: tuple[tuple[object, ...], ...]


def _finish(replies: list[Reply], *, looks: bool = True) -> Script:
    """Load what is missing, and look at the others once more; None: all come by one SELECT."""
    seen = dict(zip((ONE, TWO), replies, strict=True))
    found = {entry: read.judge(reply, verify)[0] for entry, reply in seen.items()}
    hits = {entry: seen[entry] for entry, version in found.items() if version is not read.MISS}
    if len(hits) < 2:
        loaded = yield Select()
        if looks and not (yield from read.unchanged(hits)):
            return None
        found.update(dict.fromkeys(seen.keys() - hits.keys(), loaded))
    return tuple(found.values())


def _one_by_one() -> Script:
    replies = []
    for entry in (ONE, TWO):
        replies += yield GetMany((entry,))
    return replies


def in_one_step() -> Script:
    """Read from a store that has both in one step."""
    return (yield from _finish((yield GetMany((ONE, TWO)))))


def in_two_steps() -> Script:
    """Read where they lie in two slots: each twice, and what has changed counts as absent."""
    first = yield from _one_by_one()
    pairs = zip(first, (yield from _one_by_one()), strict=True)
    return (yield from _finish([one if one == two else Reply(None, None) for one, two in pairs]))


def without_a_second_look() -> Script:
    """Broken: what was loaded is put beside hits from before."""
    return (yield from _finish((yield GetMany((ONE, TWO))), looks=False))


def in_two_steps_at_once() -> Script:
    """Broken: two slots, each read once."""
    return (yield from _finish((yield from _one_by_one())))


def _writer() -> Script:
    for number in range(2):
        rows = [Publication((entry,), (), writer=f"w{number}") for entry in (ONE, TWO)]
        for row in rows:
            yield from row.fence()
        yield Commit(number)
        for row in rows:
            yield from row.settle(Outcome.COMMITTED)


def _filler(entry: Entry) -> Script:
    outcome = yield from read.lookup(entry, verify, read.Patience(wait=0))
    if isinstance(outcome, read.Miss) and outcome.held is not None:
        version = yield Select()
        yield from read.fill(outcome.held, encode(outcome.held.epoch, version), 60_000)


def _perform(world: _World, op: Any, fresh: Fresh) -> tuple[object, _World]:
    if isinstance(op, Select):
        return world.commits, world
    if isinstance(op, Commit):
        return None, world._replace(commits=world.commits + 1)
    stores = dict(zip((ONE, TWO), world.stores, strict=True))
    if isinstance(op, GetMany):
        return [Rules().get(stores[entry]) for entry in op.entries], world
    entry = op.entry if hasattr(op, "entry") else op.entries[0]
    reply, stores[entry] = Rules().perform(stores[entry], op, fresh)
    return reply, world._replace(stores=(stores[ONE], stores[TWO]))


def read_by(reader: Readers, cached: tuple[Entry, ...]) -> set[Any]:
    """Return all that the reader can find; `cached` are there when it begins."""
    scripts: list[Readers] = [reader, _writer, *(lambda e=e: _filler(e) for e in (ONE, TWO))]
    warm = Store(value=encode(EPOCH, 0), epoch=EPOCH)
    stores = [warm if entry in cached else Store(epoch=EPOCH) for entry in (ONE, TWO)]
    todo = [_World((stores[0], stores[1]), 0, ((),) * len(scripts))]
    known, results = set(todo), set()
    while todo:
        world = todo.pop()
        for number, script in enumerate(scripts):
            history = world.histories[number]
            try:
                op = _replayed(script(), history)
            except StopIteration as stop:
                if number == 0:
                    results.add(stop.value)
                continue
            name = f"{number}.{len(history)}"
            reply, after = _perform(world, op, Fresh(name.encode(), f"{_token(op)}.{name}"))
            reply = tuple(reply) if isinstance(reply, list) else reply
            histories = list(after.histories)
            histories[number] = (*history, reply)
            after = after._replace(histories=tuple(histories))
            if after not in known:
                known.add(after)
                todo.append(after)
    return results


def _token(op: Any) -> str:
    return op.token if isinstance(op, Lease) else ""


def _replayed(script: Script, history: tuple[object, ...]) -> Any:
    """Return the next operation of a script that was answered so."""
    op = next(script)
    for reply in history:
        op = script.send(list(reply) if isinstance(reply, tuple) else reply)
    return op


_CACHED = [(ONE, TWO), (ONE,), (TWO,), ()]


@pytest.mark.parametrize("cached", _CACHED, ids=len)
@pytest.mark.parametrize("reader", [in_one_step, in_two_steps])
def test_both_rows_are_of_one_moment(
    reader: Readers, cached: tuple[Entry, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both old, both new, or one SELECT for both."""
    monkeypatch.setattr(read, "new_token", lambda: "t")
    monkeypatch.setattr(read, "new_epoch", lambda: b"?")
    results = read_by(reader, cached)
    assert {(0, 0), (1, 1), (2, 2)} <= results
    assert results <= {(0, 0), (1, 1), (2, 2), None}


@pytest.mark.parametrize("reader", [without_a_second_look, in_two_steps_at_once])
def test_a_broken_one_is_seen(reader: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search finds a row of before beside one of after."""
    monkeypatch.setattr(read, "new_token", lambda: "t")
    monkeypatch.setattr(read, "new_epoch", lambda: b"?")
    cached = (ONE,) if reader is without_a_second_look else (ONE, TWO)
    assert (0, 1) in read_by(reader, cached)

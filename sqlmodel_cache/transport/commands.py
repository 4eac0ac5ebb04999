"""Operations as Redis commands, and replies as what the protocol understands.

Shared by the sync and the async transport, which only send. A plan is a list of pipelines; each
command in it touches one slot, so the same plan serves a Redis Cluster. Scripts are called by
digest; a server that lost them (restart, SCRIPT FLUSH, failover) gets the same commands once more
with their source, which is harmless: every operation may be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final, TypeAlias, TypeVar

from sqlmodel_cache.keys import Entry, Shard
from sqlmodel_cache.protocol.ops import (
    Abandon,
    Fence,
    Fenced,
    Fill,
    Get,
    GetMany,
    Granted,
    Inspect,
    Lease,
    Leased,
    LeaseReply,
    Op,
    Release,
    Reply,
    Sight,
    Switches,
    Turn,
)

T = TypeVar("T")
Command: TypeAlias = tuple[Any, ...]

EPOCH_LIFE: Final = 30 * 24 * 3600 * 1000  # milliseconds; every lease renews it
PER_PIPELINE: Final = 500  # rows: one round trip
PER_SCRIPT: Final = 100  # rows: well below a millisecond of the server's only thread

_GLOB: Final = re.compile(r"([*?\[\]\\^])")
_LUA: Final = files("sqlmodel_cache.transport") / "lua"
_PRELUDE: Final = (_LUA / "prelude.lua").read_text("ascii")


class Script:
    """One atomic step in Lua. `source` is what the server gets: the prelude, then the file."""

    def __init__(self, name: str) -> None:
        self.source = _PRELUDE + (_LUA / f"{name}.lua").read_text("ascii")
        self.digest = sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        _SOURCES[self.digest] = self.source

    def __call__(self, keys: Sequence[str], *args: object) -> Command:
        """Return the command that runs it; all keys must lie in one slot."""
        return ("EVALSHA", self.digest, len(keys), *keys, *args)


_SOURCES: Final[dict[str, str]] = {}
INSPECT: Final = Script("inspect")
LEASE: Final = Script("lease")
FILL: Final = Script("fill")
ABANDON: Final = Script("abandon")
FENCE: Final = Script("fence")
RELEASE: Final = Script("release")
MODEL_FENCE: Final = Script("model_fence")
MODEL_RELEASE: Final = Script("model_release")
GUARD: Final = Script("guard")


@dataclass(slots=True)
class Plan:
    """What to send, pipeline by pipeline, and how to read all the replies in a row."""

    pipelines: list[list[Command]]
    read: Callable[[list[Any]], Any]


def plan(op: Op, *, cluster: bool) -> Plan:
    """Return how to carry out `op`; on a `cluster` no command spans two slots.

    A `Get` needs no plan: it is one MGET, which transports send without coming here.
    """
    return _PLANNERS[type(op)](op, cluster)


def plan_together(ops: Sequence[Op], *, cluster: bool) -> Plan:
    """Return how to carry out single-command operations in one pipeline.

    Its `read` takes replies of which some may be exceptions, and returns an answer, or the
    exception, for each operation.
    """
    gets = {number: op.entry for number, op in enumerate(ops) if type(op) is Get}
    lookups = plan(GetMany(tuple(gets.values())), cluster=cluster)
    others = [
        (number, plan(op, cluster=cluster)) for number, op in enumerate(ops) if type(op) is not Get
    ]
    commands = [command for pipeline in lookups.pipelines for command in pipeline]
    split = len(commands)
    commands += [what.pipelines[0][0] for _, what in others]

    def read(replies: list[Any]) -> list[Any]:
        answers: list[Any] = [None] * len(ops)
        failed = next((reply for reply in replies[:split] if isinstance(reply, Exception)), None)
        found = [failed] * len(gets) if failed else lookups.read(replies[:split])
        for number, answer in zip(gets, found, strict=True):
            answers[number] = answer
        for (number, what), reply in zip(others, replies[split:], strict=True):
            answers[number] = reply if isinstance(reply, Exception) else what.read([reply])
        return answers

    return Plan([commands], read)


def key_by_key(op: Fence | Release) -> Iterator[Command]:
    """Yield commands that do the same, one after another, each with one key.

    The lock comes first, and again once the value is gone: so nobody fills in between, and no
    process copies the old value after it has been told.
    """
    duration = op.duration if type(op) is Fence else 0
    pairs = [(entry.value, entry.lock, entry.shard) for entry in op.entries]
    pairs += [(shard.epoch, shard.epoch_lock, shard) for shard in op.shards]
    for key, lock, shard in pairs:
        guard = GUARD([lock], op.writer, duration, _told(shard), key)
        yield from (guard, ("DEL", key), guard)


def with_source(commands: Iterable[Command]) -> list[Command]:
    """Return the same commands for a server that does not know our scripts."""
    return [
        ("EVAL", _SOURCES[command[1]], *command[2:]) if command[0] == "EVALSHA" else command
        for command in commands
    ]


def matching(begin: str, end: str) -> str:
    """Return the pattern of SCAN for keys that begin and end so."""
    begin, end = (_GLOB.sub(r"\\\1", part) for part in (begin, end))
    return f"{begin}*{end}"


def unlinking(keys: Sequence[str]) -> Iterator[Command]:
    """Yield commands that remove keys, each within one slot."""
    slots: dict[str, list[str]] = {}
    for key in keys:
        slots.setdefault(key.partition("}")[0], []).append(key)
    return (("UNLINK", *part) for group in slots.values() for part in _chunks(group, PER_SCRIPT))


def is_unknown_script(error: object) -> bool:
    """Tell whether what a client raised, or returned, is the server's NOSCRIPT."""
    return type(error).__name__ == "NoScriptError"


def _single(command: Command, read: Callable[[Any], Any]) -> Plan:
    return Plan([[command]], lambda replies: read(replies[0]))


def _get_many(op: GetMany, cluster: bool) -> Plan:
    if cluster:
        groups = [part for entries in _by_shard(op.entries) for part in _chunks(entries)]
    else:
        groups = list(_chunks(list({entry.value: entry for entry in op.entries}.values())))
    commands: list[Command] = []
    for group in groups:
        epochs = dict.fromkeys([entry.shard.epoch for entry in group])
        commands.append(("MGET", *[entry.value for entry in group], *epochs))

    # The MGETs of a Cluster may share a pipeline; elsewhere each is one round trip already.
    per_pipeline = len(commands) if cluster else 1
    pipelines = [list(part) for part in _chunks(commands, per_pipeline or 1)]
    twice = op.together and len(commands) > 1
    if twice:
        pipelines *= 2

    def read(replies: list[list[bytes | None]]) -> list[Reply]:
        if twice:
            replies = _agreed(replies)
        seen: dict[str, bytes | None] = {}  # an epoch of several commands as the last one has it
        for command, values in zip(commands, replies, strict=True):
            seen.update(zip(command[1:], values, strict=True))
        return [Reply(seen[entry.value], seen[entry.shard.epoch]) for entry in op.entries]

    return Plan(pipelines, read)


def _agreed(replies: list[list[bytes | None]]) -> list[list[bytes | None]]:
    """Return what was the same in both rounds, and so was there when the first one ended."""
    half = len(replies) // 2
    return [
        [one if one == again else None for one, again in zip(*pair, strict=True)]
        for pair in zip(replies[:half], replies[half:], strict=True)
    ]


def _inspect(op: Inspect, _cluster: bool) -> Plan:
    return _single(INSPECT(_four(op.entry)), _read_sight)


def _read_sight(answer: list[Any]) -> Sight:
    value, epoch, *times, at = answer
    left, fenced, leased = (None if time < 0 else time for time in times)
    return Sight(value, epoch, left, fenced, leased, int(at))


def _lease(op: Lease, _cluster: bool) -> Plan:
    rejected = op.rejected or ""
    args = (op.token, op.epoch, rejected, op.duration, EPOCH_LIFE)
    return _single(LEASE(_four(op.entry), *args), _read_lease)


def _read_lease(answer: list[Any]) -> LeaseReply:
    code = answer[0]
    if code == 0:
        grant = answer[2].decode()
        return Granted(answer[1], grant, int(grant.rpartition(":")[2]))
    if code == 1:
        return Leased()
    if code == 2:
        return Fenced()
    return Reply(answer[1], answer[2])


def _fill(op: Fill, _cluster: bool) -> Plan:
    return _single(FILL(_four(op.entry), op.token, op.epoch, op.value, op.ttl), bool)


def _abandon(op: Abandon, _cluster: bool) -> Plan:
    return _single(ABANDON([op.entry.lock], op.token), _nothing)


def _fence(op: Fence, _cluster: bool) -> Plan:
    return _writes(op, (op.writer, op.duration), FENCE, MODEL_FENCE)


def _release(op: Release, _cluster: bool) -> Plan:
    return _writes(op, (op.writer,), RELEASE, MODEL_RELEASE)


def _switches(op: Switches, _cluster: bool) -> Plan:
    # Some clients make a dict of the reply. HKEYS would ask for one more right of an account.
    return _single(
        ("HGETALL", op.board),
        lambda found: frozenset(
            name.decode() for name in (found if isinstance(found, dict) else found[::2])
        ),
    )


def _turn(op: Turn, _cluster: bool) -> Plan:
    if op.off:
        return _single(("HSET", op.board, op.name, 1), _nothing)
    return _single(("HDEL", op.board, op.name), _nothing)


def _writes(op: Fence | Release, args: tuple[object, ...], rows: Script, model: Script) -> Plan:
    if len(op.entries) == 1 and not op.shards:  # the usual commit: nothing to group
        (entry,) = op.entries
        return Plan([[rows([entry.value, entry.lock], *args, _told(entry.shard))]], _nothing)
    calls = [
        (len(part), rows([k for e in part for k in (e.value, e.lock)], *args, _told(part[0].shard)))
        for entries in _by_shard(op.entries)
        for part in _chunks(entries, PER_SCRIPT)
    ]
    calls += [
        (1, model([shard.epoch, shard.epoch_lock], *args, _told(shard)))
        for shard in dict.fromkeys(op.shards)
    ]
    pipelines: list[list[Command]] = []
    room = 0
    for size, command in calls:
        if size > room:
            pipelines.append([])
            room = PER_PIPELINE
        pipelines[-1].append(command)
        room -= size
    return Plan(pipelines, _nothing)


def _told(shard: Shard) -> str:
    return shard.channel if shard.local_ttl else ""


def _nothing(_: object) -> None:
    return None


def _four(entry: Entry) -> list[str]:
    return [entry.value, entry.lock, entry.shard.epoch, entry.shard.epoch_lock]


def _by_shard(entries: Iterable[Entry]) -> list[list[Entry]]:
    groups: dict[Shard, dict[Entry, None]] = {}
    for entry in entries:
        groups.setdefault(entry.shard, {})[entry] = None
    return [list(group) for group in groups.values()]


def _chunks(items: Sequence[T], size: int = PER_PIPELINE) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


_PLANNERS: Final[dict[type, Callable[[Any, bool], Plan]]] = {
    GetMany: _get_many,
    Inspect: _inspect,
    Lease: _lease,
    Fill: _fill,
    Abandon: _abandon,
    Fence: _fence,
    Release: _release,
    Switches: _switches,
    Turn: _turn,
}

"""CANARIES. Each breaks the library in a worker process, so that the harness must see it.

Nothing here is ever part of the library. A flaw replaces one of the atomic steps (the Lua that both
Redis transports send) or one function of the ORM floor. The right protocol, run with the very same
delays, must show nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.orm import Session

from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.connections import isolation, publish
from sqlmodel_cache.orm.connections.ledger import ledger_of
from sqlmodel_cache.orm.queries import results
from sqlmodel_cache.transport import commands

_NOTHING: Final = "return 1\n"
_FORGET_VALUES: Final = "for i = 1, #KEYS, 2 do redis.call('DEL', KEYS[i]) end return #KEYS / 2\n"
_FORGET_EPOCH: Final = "redis.call('DEL', KEYS[1]) return 1\n"
_SET_ANYHOW: Final = "redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) return 1\n"
_GRANT_ALWAYS: Final = """
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[5], 'NX')
return { 0, redis.call('GET', KEYS[3]), ARGV[1] .. ':0' }
"""
_GRANT_UNLESS_FENCED: Final = """
local busy = fenced(KEYS[2])
busy = fenced(KEYS[4]) or busy
if busy then return { 2 } end
""" + _GRANT_ALWAYS.lstrip("\n")
_SET_UNLESS_FENCED: Final = (
    """
local busy = fenced(KEYS[2])
busy = fenced(KEYS[4]) or busy
if busy then return 0 end
"""
    + _SET_ANYHOW
)
_RELEASE_MINE: Final = """
for i = 1, #KEYS, 2 do
  local lock = KEYS[i + 1]
  if redis.call('HEXISTS', lock, 'w:' .. ARGV[1]) == 1 then
    redis.call('DEL', KEYS[i])
    redis.call('HDEL', lock, 'lease', 'w:' .. ARGV[1])
  end
end
return #KEYS / 2
"""
_MODEL_FENCE_WITHOUT_EPOCH: Final = """
local duration = tonumber(ARGV[2])
redis.call('HSET', KEYS[2], 'w:' .. ARGV[1], deadline(duration))
outlive(KEYS[2], math.max(duration, 1))
return 1
"""


@dataclass(frozen=True, slots=True)
class Flaw:
    """One canary: `promise` is the first of S1, S2 that must be seen broken.

    `run` are the settings that it needs to show, by name; the control run gets them too.
    """

    apply: Callable[[], None]
    promise: str = "stale_s1"
    run: Mapping[str, Any] = field(default_factory=dict)


def apply(name: str) -> None:
    """Break this process in the way called `name`."""
    FLAWS[name].apply()


def _script(name: str, body: str) -> None:
    """Put another body in the place of one step."""
    script = object.__new__(commands.Script)
    script.source = commands._PRELUDE + body
    script.digest = sha1(script.source.encode(), usedforsecurity=False).hexdigest()
    commands._SOURCES[script.digest] = script.source
    setattr(commands, name, script)


def _naive() -> None:
    """Read, SELECT, SET; COMMIT, DEL. What most recipes do."""
    _script("LEASE", _GRANT_ALWAYS)
    _script("FILL", _SET_ANYHOW)
    _script("FENCE", _NOTHING)
    _script("RELEASE", _FORGET_VALUES)
    _script("MODEL_FENCE", _NOTHING)
    _script("MODEL_RELEASE", _FORGET_EPOCH)


def _no_lease() -> None:
    """Fences stand, but whoever missed may fill as long as none stands at that moment."""
    _script("LEASE", _GRANT_UNLESS_FENCED)
    _script("FILL", _SET_UNLESS_FENCED)


def _conditional_release() -> None:
    """Forget the row at release only if the fence is still there."""
    _script("RELEASE", _RELEASE_MINE)


def _epoch_only_after() -> None:
    """Forget a whole model after its COMMIT only."""
    _script("MODEL_FENCE", _MODEL_FENCE_WITHOUT_EPOCH)


def _fence_before_flush() -> None:
    """Fence what was written before the last flush; then flush and COMMIT."""

    def fence_now(session: Session) -> None:
        if session.in_nested_transaction():
            return
        connection = _sqlalchemy.connection_of(session, session.get_bind())
        ledger = None if connection is None else ledger_of(connection)
        if connection is not None and ledger is not None:
            for one in publish.publishings(ledger, connection.dialect):
                fence(one)
                ledger.early.append(one)  # to be released with the transaction

    def fenced_already(one: Any) -> bool:
        return True

    def never_ahead(one: Any) -> bool:
        return False

    fence = publish.Publishing.fence
    setattr(publish.Publishing, "fence", fenced_already)  # noqa: B010
    setattr(publish.Publishing, "send", never_ahead)  # noqa: B010
    event.listen(Session, "before_commit", fence_now)


def _ahead_for_all() -> None:
    """Take a fence that was sent ahead of one statement for one of all that follow."""
    take_over = publish.Publishing.take_over

    def covering(one: Any, ahead: Any) -> None:
        take_over(one, ahead)
        one.enough_till = ahead.enough_till

    setattr(publish.Publishing, "take_over", covering)  # noqa: B010


def _old_snapshot() -> None:
    """Take a snapshot for the newest state: it reads from the cache and fills it."""
    level_of = isolation.level_of

    def pretended(bind: Any, connection: Any) -> str | None:
        level = level_of(bind, connection)
        return "READ COMMITTED" if level == "REPEATABLE READ" else level

    isolation.level_of = pretended


def _no_stamps() -> None:
    """Take every result of a query for one that depends on nothing."""

    def same(*_: object) -> bytes:
        return bytes(16)

    vars(results)["_content"] = same


FLAWS: Final[dict[str, Flaw]] = {
    "naive delete": Flaw(_naive),
    "no lease": Flaw(_no_lease),
    "conditional release": Flaw(_conditional_release, "stale_s2", {"fence": 1}),
    "fence before the last flush": Flaw(_fence_before_flush),
    "fence ahead taken for all": Flaw(_ahead_for_all, run={"pairs": 0.7, "tasks": (), "rows": 6}),
    "fill from an old snapshot": Flaw(_old_snapshot),
    "epoch bumped once": Flaw(_epoch_only_after, run={"whole": 0.5}),
    "results without stamps": Flaw(_no_stamps, run={"queries": True}),
}

"""Which run of the server an epoch belongs to.

A Redis that starts from an old dump, or a replica promoted while it lagged, brings old values
back together with the epochs that made them good. Both are another process, and every process
has a `run_id` of its own (`INFO server`). So the last 4 bytes of an epoch name the run it was
minted in. A connection learns at each connect whom it talks to, and whatever it then reads under
an epoch of another run is no value; `lease.lua` mints a new epoch over such a one.

`ANY` stands for an unknown run: a client that was handed to us, `trust_failover`, an account that
may not ask. It matches every epoch. What no name can help with: a process that still talks to a
partitioned old primary reads what that one has; and one that is promoted again, without having
been restarted, finds its own name in what it copied meanwhile from a replica that had lagged.
"""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from sqlmodel_cache.protocol.ops import Granted, Lease, Op, Reply, Sight

if TYPE_CHECKING:
    from collections.abc import Iterable

ANY: Final = bytes(4)
ASK: Final = ("INFO", "server")
_RUN_ID: Final = re.compile(rb"^run_id:(\w+)", re.MULTILINE)


def run_in(info: object) -> bytes:
    """Return the 4 bytes that name the run in a reply to `ASK`, `ANY` if it names none."""
    found = _RUN_ID.search(info) if isinstance(info, bytes) else None
    return blake2b(found[1], digest_size=4).digest() if found else ANY


def marked(op: Op, run: bytes) -> Op:
    """Return `op`; a lease asks for an epoch of `run`.

    `run` may be a guess, as the connection is chosen later: an epoch under a wrong name is
    nobody's, and is replaced by the next lease.
    """
    if type(op) is Lease and run != ANY:
        return Lease(op.entry, op.token, op.epoch[:8] + run, op.rejected, op.duration)
    return op


def judged(answer: Any, runs: Iterable[bytes]) -> Any:
    """Return an answer without the epochs of other runs than those it came from.

    And without the clock of a server that is not known to be the one that the epoch names.
    """
    known = [run for run in runs if run != ANY]
    only = known[0] if len(known) == 1 else None
    if isinstance(answer, list):
        return [_judged(one, only, bool(known)) for one in answer]
    return _judged(answer, only, bool(known))


def _judged(answer: Any, only: bytes | None, known: bool) -> Any:
    kind = type(answer)
    if kind is not Reply and kind is not Sight and kind is not Granted:
        return answer
    if answer.epoch is not None and answer.epoch[8:] == only:
        return answer
    if kind is Granted:
        return replace(answer, at=None)
    epoch = None if known else answer.epoch
    if kind is Reply:
        return Reply(answer.value, epoch, answer.kept)
    return replace(answer, epoch=epoch, at=None)

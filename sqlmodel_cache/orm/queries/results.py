"""Results as the store has them: rows of columns, or primary keys, under their stamps' digest.

The payload is a msgpack array: the digest, the rows as `RowCodec` encodes each, their flags (or
an empty list where all are 0). Looked up together with the stamps; whoever may not store one just
reads. A stamp that is missing is made first, so that its content is known before the SELECT.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from hashlib import blake2b
from os import urandom
from typing import Any, Final

import msgspec

from sqlmodel_cache import clock
from sqlmodel_cache.codec import ABSENT, RowCodec, Undecodable, Unstorable, seal, unseal
from sqlmodel_cache.codec.envelope import Envelope
from sqlmodel_cache.keys import Entry
from sqlmodel_cache.orm.model.capture import Row
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.ops import GetMany, Reply

ROWS_AT_MOST: Final = 1_000
BYTES_AT_MOST: Final = 256 * 1024
STAMP_LIFE: Final = 24 * 3600  # seconds; what depends on one that ended is read again
_MARK: Final = b"~stamp~1"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, list[bytes], list[int]]).decode


class Asked:
    """One lookup: the result's entry, its stamps' entries, and how its rows are written."""

    def __init__(self, entry: Entry, stamps: Sequence[Entry], codec: RowCodec, life: int) -> None:
        self.entry = entry
        self.stamps = tuple(stamps)
        self.codec = codec
        self.life = min(life, STAMP_LIFE)  # of a stamp, in seconds
        self.digest = b""  # of the stamps, as they were read last

    def encode(self, rows: Iterable[Sequence[Any]]) -> Row | None:
        """Return what is to be stored of a result; None: too large, or not exactly storable."""
        payloads: list[bytes] = []
        flags: list[int] = []
        size = 0
        try:
            for values in rows:
                payload, flag = self.codec.encode(values)
                if flag and any(each is ABSENT for each in self.codec.decode(payload, flag)):
                    return None
                payloads.append(payload)
                flags.append(flag)
                size += len(payload)
                if len(payloads) > ROWS_AT_MOST or size > BYTES_AT_MOST:
                    return None
        except Unstorable:
            return None
        whole = _encode((self.digest, payloads, flags if any(flags) else []))
        return Row(whole, 0, self.codec.fingerprint)

    def verify(self, value: bytes, epoch: bytes | None) -> object:
        """Return the rows as a list of lists of values, MISS if they are not usable now."""
        envelope = unseal(self.entry.value, value, epoch)
        if type(envelope) is not Envelope or envelope.fingerprint != self.codec.fingerprint:
            return read.MISS
        try:
            digest, payloads, flags = _decode(envelope.payload)
            if digest != self.digest or len(flags) not in (0, len(payloads)):
                return read.MISS
            decode = self.codec.decode
            if flags:
                return [decode(*pair) for pair in zip(payloads, flags, strict=True)]
            return [decode(payload, 0) for payload in payloads]
        except (msgspec.MsgspecError, Undecodable):
            return read.MISS

    def agrees(self, replies: Sequence[Reply]) -> bool:
        """Tell whether the stamps are now what they were."""
        contents = [_content(*pair) for pair in zip(self.stamps, replies, strict=True)]
        return None not in contents and _digest(contents) == self.digest


def look_up(
    asked: Asked, patience: read.Patience, *, fills: bool
) -> read.Steps[read.Hit | read.Miss]:
    """Read a result, or obtain the right to store it; then its stamps are known."""
    first, *replies = yield GetMany((asked.entry, *asked.stamps))
    contents = [_content(*pair) for pair in zip(asked.stamps, replies, strict=True)]
    if None not in contents:
        asked.digest = _digest(contents)
        found, rejected = read.judge(first, asked.verify)
        if found is not read.MISS:
            return read.Hit(found)
    else:
        rejected = read.rejection(first)
    if not fills:
        return read.Miss(None)
    for position, stamp in enumerate(asked.stamps):
        if contents[position] is None:
            made = yield from _make(stamp, replies[position], asked.life, patience)
            if made is None:
                return read.Miss(None)
            contents[position] = made
    asked.digest = _digest(contents)
    return (yield from read.after_miss(asked.entry, asked.verify, rejected, patience))


def is_there(asked: Asked) -> read.Steps[bool]:
    """Tell whether a result is stored that can be used, and change nothing."""
    first, *replies = yield GetMany((asked.entry, *asked.stamps))
    contents = [_content(*pair) for pair in zip(asked.stamps, replies, strict=True)]
    asked.digest = _digest(contents)
    return None not in contents and read.judge(first, asked.verify)[0] is not read.MISS


def _make(
    stamp: Entry, seen: Reply, life: int, patience: read.Patience
) -> read.Steps[bytes | None]:
    """Return the content of a stamp that was absent, None if a writer is about."""
    verify = partial(_verify, stamp)
    outcome = yield from read.after_miss(stamp, verify, read.rejection(seen), patience)
    if isinstance(outcome, read.Hit):
        content: bytes = outcome.found  # type: ignore[assignment]
        return content
    held = outcome.held
    if held is None:
        return None
    content = urandom(16)
    sealed = seal(stamp.value, held.epoch, _MARK, content, stored_at=clock.now(), ttl=life)
    stored = yield from read.fill(held, sealed, life * 1000)
    return content if stored else None


def _content(stamp: Entry, reply: Reply) -> bytes | None:
    if reply.value is None or reply.epoch is None:
        return None
    found = _verify(stamp, reply.value, reply.epoch)
    return found if isinstance(found, bytes) else None


def _verify(stamp: Entry, value: bytes, epoch: bytes | None) -> object:
    envelope = unseal(stamp.value, value, epoch)
    if type(envelope) is Envelope and envelope.fingerprint == _MARK and len(envelope.payload) == 16:
        return envelope.payload
    return read.MISS


def _digest(contents: Sequence[bytes | None]) -> bytes:
    return blake2b(b"".join(filter(None, contents)), digest_size=16).digest()

"""The envelope around every payload, fixed offsets, big-endian, 41 bytes and 4 of checksum.

    0       format version
    1       flags
    2..13   epoch: the scripts in the store read exactly these 12 bytes
    14..21  fingerprint of the row's shape
    22..28  stored at, microseconds since 1970, signed: until the year 3111; if `DATED`, of the
            store's clock, and the row had been read by then
    29..32  time to live, seconds
    33..40  who filled it: process id (3), host (3), release (2)
    41..    payload; if `SOFT`, after 4 bytes: seconds for which it may be served past its time
    last 4  CRC-32 of everything before, seeded with the CRC-32 of the full key, little-endian

A CRC followed by its own bytes has a constant CRC ("Numerical Recipes", section 22.4), so the
check is one pass without a slice. The seed binds a value to its key: moved to another one, or
met in a crossed reply, it fails. This guards against accidents; against forgery, sign.
"""

from __future__ import annotations

import enum
import os
import re
import socket
import struct
from importlib.metadata import PackageNotFoundError, version
from typing import Final
from zlib import crc32

import msgspec

from sqlmodel_cache import clock
from sqlmodel_cache.codec.packing import LZ4, ZLIB, ZSTD, unpack
from sqlmodel_cache.codec.wire import MAX_SIZE, Unstorable

FORMAT: Final = 2  # 1 had four bytes more, before the first release
EPOCH: Final = slice(2, 14)  # in Lua: string.sub(value, 3, 14)
NEGATIVE: Final = 1  # there is no such row; the payload is empty
ANNOTATED: Final = 2  # the payload is in `RowCodec`'s annotated form
DATED: Final = 4  # "stored at" is by the store's clock (`protocol.dating`)
SOFT: Final = 64  # stays in the store past its time, for those who have it loaded again
_FLAGS: Final = NEGATIVE | ANNOTATED | DATED

_HEADER = struct.Struct(">BB12s8s7sI3s3s2s")
_SIZE = _HEADER.size
_STALE = struct.Struct(">I")
_CHECKSUM = struct.Struct("<I")
_RESIDUE = 0x2144DF1C
_MICROSECONDS = 1_000_000


class Miss(enum.Enum):
    """Why a value is not an envelope that may be used now."""

    FOREIGN = "foreign"  # not bytes, another format, or flags of a later release
    OVERSIZED = "oversized"
    STALE = "stale"  # filled under another epoch
    EXPIRED = "expired"  # only while time is frozen, or if it is `SOFT`
    CORRUPT = "corrupt"  # truncated, altered, or stored under another key


class Origin(msgspec.Struct, frozen=True):
    """Who filled a value: process id (its low 24 bits), `number_of(host)`, release."""

    pid: int
    host: int
    release: tuple[int, ...]

    def __str__(self) -> str:
        host = socket.gethostname()
        where = host if number_of(host) == self.host else f"host {self.host:06x}"
        return f"process {self.pid} on {where}, release {'.'.join(map(str, self.release))}"


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A value that passed every check; a Struct, as a dataclass takes five times as long.

    The payload is unpacked if it was packed, and `flags` say no more about it.
    """

    flags: int
    fingerprint: bytes
    payload: bytes
    value: bytes

    @property
    def stored_at(self) -> float:
        """Seconds since 1970, of the store's clock if `DATED`, else of the filler's."""
        return _stored_at(self.value) / _MICROSECONDS

    @property
    def ttl(self) -> int:
        """Seconds."""
        return int(_HEADER.unpack_from(self.value)[5])

    @property
    def is_over(self) -> bool:
        """Tell whether only `SOFT` keeps it in use."""
        return bool(self.value[1] & SOFT) and _expired(self.value, 0)

    @property
    def filled_by(self) -> Origin:
        """The process that filled it."""
        pid, host, packed = _HEADER.unpack_from(self.value)[6:]
        release = int.from_bytes(packed)
        numbers = (release >> 12, release >> 6 & 63, release & 63)
        return Origin(int.from_bytes(pid), int.from_bytes(host), numbers)


def number_of(host: str) -> int:
    """Return the 24 bits that stand for a host's name: enough to tell those of one fleet apart."""
    return crc32(host.encode()) & 0xFFFFFF


def _release() -> bytes:
    """Return the version in 16 bits: 4 for the major number, 6 for each of the others."""
    try:
        numbers = re.findall(r"\d+", version("sqlmodel-cache"))
    except PackageNotFoundError:  # running from a source tree
        numbers = []
    major, minor, patch = (int(number) for number in (*numbers, 0, 0, 0)[:3])
    return (min(major, 15) << 12 | min(minor, 63) << 6 | min(patch, 63)).to_bytes(2)


_HOST = number_of(socket.gethostname()).to_bytes(3)
_RELEASE = _release()


def seal(
    key: str,
    epoch: bytes,
    fingerprint: bytes,
    payload: bytes,
    *,
    flags: int = 0,
    stored_at: float,
    ttl: int,
    stale: int = 0,
    max_size: int = MAX_SIZE,
) -> bytes:
    """Return the bytes to store under `key`; `stored_at`, `ttl` and `stale` in seconds.

    Transports without epochs give 12 zero bytes. Raises `Unstorable` if the result were larger
    than `max_size` bytes.
    """
    if len(epoch) != 12 or len(fingerprint) != 8:
        raise ValueError("an epoch has 12 bytes and a fingerprint 8")
    if stale:
        flags, payload = flags | SOFT, _STALE.pack(stale) + payload
    moment = round(stored_at * _MICROSECONDS).to_bytes(7, signed=True)
    life = min(ttl, 0xFFFFFFFF)
    pid = (os.getpid() & 0xFFFFFF).to_bytes(3)
    body = (
        _HEADER.pack(FORMAT, flags, epoch, fingerprint, moment, life, pid, _HOST, _RELEASE)
        + payload
    )
    if len(body) + 4 > max_size:
        raise Unstorable(f"a row takes more than {max_size} bytes")
    return body + _CHECKSUM.pack(crc32(body, crc32(key.encode())))


def unseal(
    key: str,
    value: bytes,
    epoch: bytes | None,
    *,
    soft: bool = False,
    max_size: int = MAX_SIZE,
) -> Envelope | Miss:
    """Return the envelope stored under `key`, or why it cannot be used. Never raises.

    `epoch` is the current one, None where the transport has none. A real clock is not asked: the
    store's own expiry decides then. Of a `SOFT` one it is, unless the caller is `soft` too.
    """
    if type(value) is not bytes:
        return Miss.FOREIGN
    size = len(value)
    if size < _SIZE + 4:
        return Miss.CORRUPT
    if size > max_size:
        return Miss.OVERSIZED
    if value[0] != FORMAT:
        return Miss.FOREIGN
    if epoch is not None and value[2:14] != epoch:
        return Miss.STALE
    if crc32(value, crc32(key.encode())) != _RESIDUE:
        return Miss.CORRUPT
    flags = value[1]
    payload = value[_SIZE:-4]
    if flags & ~_FLAGS:
        unwrapped = _unwrapped(value, soft=soft)
        if isinstance(unwrapped, Miss):
            return unwrapped
        payload, flags = unwrapped, flags & _FLAGS
    envelope = Envelope(flags, value[14:22], payload, value)
    if clock.frozen() and _expired(value, _stale(value)):
        return Miss.EXPIRED
    return envelope


def _unwrapped(value: bytes, *, soft: bool) -> bytes | Miss:
    """Return the bare payload of what is `SOFT`, or packed, or both."""
    flags, payload = value[1] & ~_FLAGS, value[_SIZE:-4]
    if flags & SOFT:
        if len(payload) < _STALE.size:
            return Miss.CORRUPT
        if not soft and _expired(value, 0):
            return Miss.EXPIRED
        flags, payload = flags & ~SOFT, payload[_STALE.size :]
    if flags == 0:
        return payload
    if flags not in (ZLIB, ZSTD, LZ4):
        return Miss.FOREIGN
    unpacked = unpack(payload, flags)
    return Miss.CORRUPT if unpacked is None else unpacked


def ends_at(value: bytes) -> float | None:
    """Return when a value's time is over, in seconds since 1970 by the clock that dated it.

    None for what is no envelope. A `SOFT` one may be served after that.
    """
    if len(value) < _SIZE + 4 or value[0] != FORMAT:
        return None
    return _stored_at(value) / _MICROSECONDS + float(_HEADER.unpack_from(value)[5])


def dated(value: bytes) -> int | None:
    """Return by when the row in a sound envelope had been read, in microseconds of the store's.

    None if its filler could not tell.
    """
    return _stored_at(value) if value[1] & DATED else None


def _stale(value: bytes) -> int:
    return int(_STALE.unpack_from(value, _SIZE)[0]) if value[1] & SOFT else 0


def _expired(value: bytes, stale: int) -> bool:
    """Tell whether a value's time is over, to the microsecond, as freezegun counts."""
    ttl = _HEADER.unpack_from(value)[5] + stale
    return bool(round(clock.now() * _MICROSECONDS) >= _stored_at(value) + ttl * _MICROSECONDS)


def _stored_at(value: bytes) -> int:
    return int.from_bytes(_HEADER.unpack_from(value)[4], signed=True)

"""Payloads made smaller, and made whole again without trusting them.

What comes out is bounded by `MAX_SIZE`. zlib and CPython's zstd stop there; `zstandard` and lz4
take a payload's own word for its size, so that word is read first, and one that does not say it
is not ours, nor one whose content is longer than it says. The flags tell how a payload was
packed; a reader that lacks the package, or knows the flag from no release, has a miss.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from sqlmodel_cache.codec.wire import MAX_SIZE
from sqlmodel_cache.errors import ConfigurationError

ZLIB: Final = 8  # flags of an envelope
ZSTD: Final = 16
LZ4: Final = 32
PACKED: Final = ZLIB | ZSTD | LZ4

SMALLEST: Final = 512  # bytes of a payload that is worth the time
_WORTH_IT: Final = 0.9  # of the size at most
_ZLIB_LEVEL: Final = 1
_ZSTD_LEVEL: Final = 3
_MAX_WINDOW: Final = 23  # bits: what a frame may have us allocate


def packer(name: str, where: str) -> Callable[[bytes], tuple[bytes, int]]:
    """Return what packs payloads: (payload, flag), the flag 0 where it is not worth it.

    Raises `ConfigurationError`, saying `where`, if the package is not installed.
    """
    compress, flag, installed = _WAYS[name]
    if installed() is None:
        built_in = " (CPython 3.14 has it built in)" if name == "zstd" else ""
        raise ConfigurationError(
            f"{where}: compress={name!r} needs the extra: pip install 'sqlmodel-cache[{name}]'"
            f"{built_in}; or use compress='zlib'"
        )

    def pack(payload: bytes) -> tuple[bytes, int]:
        if not SMALLEST <= len(payload) <= MAX_SIZE:  # nor is anything larger taken back
            return payload, 0
        packed = compress(payload)
        return (packed, flag) if len(packed) <= len(payload) * _WORTH_IT else (payload, 0)

    return pack


def unpack(payload: bytes, flags: int) -> bytes | None:
    """Return a packed payload as it was; None if it is damaged, too large, or not for us."""
    try:
        made = _UNPACKERS[flags & PACKED](payload)
    except Exception:  # each package's own error, whatever hostile bytes bring about
        return None
    return made if made is not None and len(made) <= MAX_SIZE else None


def _by_zlib(payload: bytes) -> bytes:
    return zlib.compress(payload, _ZLIB_LEVEL)


def _from_zlib(payload: bytes) -> bytes | None:
    reading = zlib.decompressobj()
    made = reading.decompress(payload, MAX_SIZE + 1)
    return made if reading.eof and not reading.unused_data else None


class _Tools(threading.local):
    """One thread's own compressor and decompressor: they take 0.1 ms to make."""

    def __init__(self) -> None:
        package = _zstd()
        self.compress = package.ZstdCompressor(level=_ZSTD_LEVEL).compress
        self.decompress = package.ZstdDecompressor(max_window_size=1 << _MAX_WINDOW).decompress
        self.size_in = package.frame_content_size


@cache
def _zstd() -> Any:
    """Return CPython's own module, else the package `zstandard`, else None."""
    return _first_of("compression.zstd", "zstandard")


@cache
def _lz4() -> Any:
    """Return the blocks of the package `lz4`, None if it is not installed."""
    return _first_of("lz4.block")


def _first_of(*names: str) -> ModuleType | None:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


@cache
def _tools() -> _Tools | None:
    """Return what the package `zstandard` needs, None where CPython's own module is used."""
    return _Tools() if _zstd().__name__ == "zstandard" else None


def _by_zstd(payload: bytes) -> bytes:
    tools = _tools()
    packed: bytes
    if tools is not None:
        packed = tools.compress(payload)
    else:
        packed = _zstd().compress(payload, _ZSTD_LEVEL)
    return packed


def _from_zstd(payload: bytes) -> bytes | None:
    zstd = _zstd()
    if zstd is None:
        return None
    made: bytes
    if (tools := _tools()) is not None:
        # A frame of ours says how large its content is; just so much memory is taken.
        if not 0 <= tools.size_in(payload) <= MAX_SIZE:
            return None
        made = tools.decompress(payload, max_output_size=MAX_SIZE)
        return made
    options = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW}
    reading = zstd.ZstdDecompressor(options=options)
    made = reading.decompress(payload, MAX_SIZE + 1)
    return made if reading.eof else None


def _by_lz4(payload: bytes) -> bytes:
    packed: bytes = _lz4().compress(payload)
    return packed


def _from_lz4(payload: bytes) -> bytes | None:
    # A block of ours begins with the size of its content; just so much memory is taken.
    if _lz4() is None or int.from_bytes(payload[:4], "little") > MAX_SIZE:
        return None
    made: bytes = _lz4().decompress(payload)
    return made


# By name: what packs, its flag, and what is None where the package is missing.
_WAYS: Final[dict[str, tuple[Callable[[bytes], bytes], int, Callable[[], Any]]]] = {
    "lz4": (_by_lz4, LZ4, lambda: _lz4()),
    "zstd": (_by_zstd, ZSTD, lambda: _zstd()),
    "zlib": (_by_zlib, ZLIB, lambda: zlib),
}
_UNPACKERS: Final[dict[int, Callable[[bytes], bytes | None]]] = {
    ZLIB: _from_zlib,
    ZSTD: _from_zstd,
    LZ4: _from_lz4,
}

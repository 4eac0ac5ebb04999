"""Packed payloads: whole again, bounded, and a miss for whoever cannot read them."""

from __future__ import annotations

import tracemalloc
import zlib
from typing import Any, cast

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sqlmodel_cache import CacheConfig, ConfigurationError, SQLModelCache, cached
from sqlmodel_cache.codec import packing
from sqlmodel_cache.codec.envelope import ANNOTATED, Envelope, Miss, seal, unseal
from sqlmodel_cache.codec.packing import LZ4, PACKED, SMALLEST, ZLIB, ZSTD, packer, unpack
from sqlmodel_cache.codec.wire import MAX_SIZE

EPOCH = b"abcdefghijkl"
FLAGS = {"zlib": ZLIB, "zstd": ZSTD, "lz4": LZ4}
NAMES = pytest.mark.parametrize("name", FLAGS)
BOMB = 64 * MAX_SIZE


def sealed(payload: bytes, flags: int) -> bytes:
    """Return an envelope."""
    return seal("key", EPOCH, bytes(8), payload, flags=flags, stored_at=1.7e9, ttl=300)


def bombs() -> dict[str, bytes]:
    """Return few bytes that say they are many."""
    return {
        "zlib": zlib.compress(bytes(BOMB), 9),
        "zstd": zstandard.ZstdCompressor(level=19).compress(bytes(BOMB)),
        "zstd, size not said": zstandard.ZstdCompressor(write_content_size=False).compress(
            bytes(BOMB)
        ),
        "lz4": lz4.block.compress(bytes(BOMB)),
        "lz4, size belied": b"\x00\x00\x01\x00" + lz4.block.compress(bytes(BOMB), store_size=False),
    }


@NAMES
@given(payload=st.binary(max_size=50) | st.binary(max_size=20).map(lambda part: part * 200))
def test_what_was_packed_comes_back(name: str, payload: bytes) -> None:
    """Byte for byte; what would not be smaller is left as it is."""
    packed, flag = packer(name, "here")(payload)
    assert flag in (0, FLAGS[name])
    assert (flag == 0) == (packed is payload)
    assert len(packed) <= len(payload)
    envelope = unseal("key", sealed(packed, flag | ANNOTATED), EPOCH)
    assert type(envelope) is Envelope
    assert envelope.payload == payload
    assert envelope.flags == ANNOTATED


@NAMES
def test_small_and_dense_payloads_are_left(name: str) -> None:
    """Packing is for what it makes smaller."""
    pack = packer(name, "here")
    assert pack(bytes(SMALLEST - 1)) == (bytes(SMALLEST - 1), 0)
    noise = b"".join(zlib.crc32(bytes([a, b])).to_bytes(4) for a in range(16) for b in range(32))
    assert pack(noise) == (noise, 0)
    assert pack(bytes(SMALLEST))[1] == FLAGS[name]


@NAMES
def test_no_more_is_packed_than_is_unpacked(name: str) -> None:
    """A row that is too large stays so, however well it packs."""
    assert packer(name, "here")(bytes(MAX_SIZE))[1] == FLAGS[name]
    assert packer(name, "here")(bytes(MAX_SIZE + 1))[1] == 0
    whole = packer(name, "here")(bytes(MAX_SIZE))
    assert unpack(*whole) == bytes(MAX_SIZE)


@pytest.mark.parametrize("which", bombs())
def test_a_bomb_does_not_go_off(which: str) -> None:
    """Memory is bounded by what a payload may be, not by what the bytes say."""
    value = sealed(bombs()[which], FLAGS[which.partition(",")[0]])
    tracemalloc.start()
    try:
        assert unseal("key", value, EPOCH) is Miss.CORRUPT
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_SIZE
    finally:
        tracemalloc.stop()


@NAMES
@given(data=st.data())
def test_hostile_bytes_are_a_miss(name: str, data: Any) -> None:
    """Cut off, altered, or anything at all."""
    packed, flag = packer(name, "here")(b"some words " * 100)
    cut = packed[: data.draw(st.integers(0, len(packed) - 1))]
    anything = data.draw(st.binary(max_size=100))
    for payload in (cut, anything):
        found = unpack(payload, flag)
        assert found is None or len(found) <= MAX_SIZE


def test_both_flags_at_once_are_foreign() -> None:
    """No release of ours packs twice."""
    for flags in (PACKED, ZLIB | ZSTD, ZSTD | LZ4):
        assert unseal("key", sealed(b"x", flags), EPOCH) is Miss.FOREIGN


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_without_the_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask for it is an error that names the extra; to meet it is a miss."""
    packed, flag = packer(name, "here")(bytes(SMALLEST))
    value = sealed(packed, flag)

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(packing, "import_module", missing)
    monkeypatch.setattr(packing, f"_{name}", getattr(packing, f"_{name}").__wrapped__)
    assert unseal("key", value, EPOCH) is Miss.CORRUPT
    with pytest.raises(ConfigurationError, match=rf"Hero.*sqlmodel-cache\[{name}\]"):

        @cached(compress=cast("Any", name))
        class Hero:
            pass

    with pytest.raises(ConfigurationError, match=rf"configure\(\).*sqlmodel-cache\[{name}\]"):
        SQLModelCache.configure("memory://", compress=cast("Any", name))
    assert CacheConfig(compress="zlib").compress == "zlib"
    packer("zlib", "here")

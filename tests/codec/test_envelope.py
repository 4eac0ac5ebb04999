"""The envelope: bound to its key, its epoch and its bytes."""

from __future__ import annotations

import datetime as dt
import os
import socket
import struct
import zlib

import pytest
from freezegun import freeze_time
from hypothesis import example, given
from hypothesis import strategies as st

from sqlmodel_cache import clock
from sqlmodel_cache.codec import EPOCH, NEGATIVE, Envelope, Miss, Unstorable, seal, unseal
from sqlmodel_cache.codec import envelope as codec
from sqlmodel_cache.codec.envelope import ANNOTATED, number_of
from sqlmodel_cache.codec.packing import LZ4, ZLIB, ZSTD, packer

KEY = "sqlmodelcache:v1:{main:hero:3}:i1"
EPOCH_NOW = bytes(range(12))
SHAPE = b"shape567"


def sealed(key: str = KEY, payload: bytes = b"payload", flags: int = 0) -> bytes:
    """Return an envelope filled long ago."""
    return seal(
        key, EPOCH_NOW, SHAPE, payload, flags=flags, stored_at=1_700_000_000.123, ttl=300
    )  # fmt: skip


def test_opened() -> None:
    """What was sealed comes out, with who filled it and when."""
    envelope = unseal(KEY, sealed(flags=ANNOTATED), EPOCH_NOW)
    assert isinstance(envelope, Envelope)
    assert (envelope.flags, envelope.fingerprint, envelope.payload) == (2, SHAPE, b"payload")
    assert (envelope.stored_at, envelope.ttl) == (1_700_000_000.123, 300)
    assert envelope.filled_by.pid == os.getpid() & 0xFFFFFF
    assert envelope.filled_by.host == number_of(socket.gethostname())
    assert len(envelope.filled_by.release) == 3


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("0.1.0", (0, 1, 0)),
        ("15.63.63rc1", (15, 63, 63)),
        ("99.99.99", (15, 63, 63)),
        ("2", (2, 0, 0)),
    ],
)
def test_a_release(monkeypatch: pytest.MonkeyPatch, said: str, read: tuple[int, ...]) -> None:
    """Its three numbers come out, as large as there is room for."""
    monkeypatch.setattr(codec, "version", lambda name: said)
    monkeypatch.setattr(codec, "_RELEASE", codec._release())
    envelope = unseal(KEY, sealed(), EPOCH_NOW)
    assert isinstance(envelope, Envelope)
    assert envelope.filled_by.release == read


@pytest.mark.parametrize("moment", [0.0, -1.5, -2e9, 3e10, 1_700_000_000.000_001])
def test_moments(moment: float) -> None:
    """To the microsecond, also before 1970."""
    envelope = unseal(KEY, seal(KEY, EPOCH_NOW, SHAPE, b"", stored_at=moment, ttl=2**32), None)
    assert isinstance(envelope, Envelope)
    assert (envelope.stored_at, envelope.ttl) == (moment, 2**32 - 1)


def test_layout() -> None:
    """Scripts in the store read the epoch at fixed places, and the overhead stays small."""
    value = sealed()
    assert value[EPOCH] == EPOCH_NOW
    assert (EPOCH.start, EPOCH.stop) == (2, 14)
    assert len(value) - len(b"payload") == 45


@given(payload=st.binary(max_size=100), epoch=st.binary(min_size=12, max_size=12), key=st.text())
def test_any_payload(payload: bytes, epoch: bytes, key: str) -> None:
    """Payload, epoch and key may be any."""
    value = seal(key, epoch, SHAPE, payload, stored_at=0, ttl=1)
    envelope = unseal(key, value, epoch)
    assert isinstance(envelope, Envelope)
    assert envelope.payload == payload


@given(one=st.text(), other=st.text())
@example("a", "a\0")
def test_under_another_key(one: str, other: str) -> None:
    """A value moved to another key, or met in a crossed reply, is corrupt."""
    moved = unseal(other, sealed(one), EPOCH_NOW)
    assert (moved is Miss.CORRUPT) == (one != other)


@given(bit=st.integers(0, 8 * len(sealed()) - 1))
def test_any_flipped_bit(bit: int) -> None:
    """No flipped bit goes unseen, in any place."""
    value = bytearray(sealed())
    value[bit // 8] ^= 1 << bit % 8
    assert isinstance(unseal(KEY, bytes(value), EPOCH_NOW), Miss)
    assert isinstance(unseal(KEY, bytes(value), None), Miss)


@given(size=st.integers(0, len(sealed()) - 1), tail=st.binary(min_size=1, max_size=8))
def test_truncated_or_longer(size: int, tail: bytes) -> None:
    """Neither a part of a value nor more than one is accepted."""
    assert unseal(KEY, sealed()[:size], None) is Miss.CORRUPT
    assert unseal(KEY, sealed() + tail, None) is Miss.CORRUPT


@given(value=st.binary(max_size=200))
def test_random_bytes(value: bytes) -> None:
    """Random bytes are a miss and never an exception."""
    assert isinstance(unseal(KEY, value, None), Miss)


@pytest.mark.parametrize("value", ["text", None, 5, bytearray(sealed()), memoryview(sealed())])
def test_no_bytes(value: object) -> None:
    """A transport that answers something else, such as decoded text, gives misses."""
    assert unseal(KEY, value, EPOCH_NOW) is Miss.FOREIGN  # type: ignore[arg-type]


def test_another_format_or_unknown_flags() -> None:
    """What a later release writes is foreign, not corrupt."""
    assert unseal(KEY, b"\x03" + sealed()[1:], EPOCH_NOW) is Miss.FOREIGN
    assert unseal(KEY, sealed(flags=128), EPOCH_NOW) is Miss.FOREIGN


def test_another_epoch() -> None:
    """A value of another epoch is stale; without epochs nothing is compared."""
    assert unseal(KEY, sealed(), bytes(12)) is Miss.STALE
    assert unseal(KEY, sealed(), b"") is Miss.STALE
    assert unseal(KEY, sealed(), EPOCH_NOW[:5]) is Miss.STALE
    assert isinstance(unseal(KEY, sealed(), None), Envelope)


def test_size_is_bounded_both_ways() -> None:
    """What is larger than the limit is neither stored nor looked into."""
    value = sealed(payload=bytes(1000))
    assert unseal(KEY, value, EPOCH_NOW, max_size=len(value) - 1) is Miss.OVERSIZED
    assert isinstance(unseal(KEY, value, EPOCH_NOW, max_size=len(value)), Envelope)
    seal(KEY, EPOCH_NOW, SHAPE, b"x", stored_at=0, ttl=1, max_size=46)
    with pytest.raises(Unstorable, match="more than 45 bytes"):
        seal(KEY, EPOCH_NOW, SHAPE, b"x", stored_at=0, ttl=1, max_size=45)
    with pytest.raises(Unstorable):
        seal(KEY, EPOCH_NOW, SHAPE, bytes(1 << 20), stored_at=0, ttl=1)


def test_negative() -> None:
    """The envelope of "no such row" has an empty payload and says so."""
    envelope = unseal(KEY, sealed(payload=b"", flags=NEGATIVE), EPOCH_NOW)
    assert isinstance(envelope, Envelope)
    assert envelope.flags & NEGATIVE
    assert envelope.payload == b""


@pytest.mark.parametrize("start", ["2024-01-01", "2024-01-01 00:00:00.123567", "1960-05-05"])
def test_expiry_under_frozen_time_is_exact(start: str) -> None:
    """While time is frozen, a value lives until the very microsecond its TTL ends."""
    with freeze_time(start) as time:
        value = seal(KEY, EPOCH_NOW, SHAPE, b"", stored_at=clock.now(), ttl=300)
        time.tick(dt.timedelta(seconds=299, microseconds=999_999))
        assert isinstance(unseal(KEY, value, EPOCH_NOW), Envelope)
        time.tick(dt.timedelta(microseconds=1))
        assert unseal(KEY, value, EPOCH_NOW) is Miss.EXPIRED


def test_expiry_is_the_stores_with_a_real_clock() -> None:
    """Hosts' clocks differ, so an envelope's own times count for nothing otherwise."""
    value = seal(KEY, EPOCH_NOW, SHAPE, b"", stored_at=1.0, ttl=1)
    assert isinstance(unseal(KEY, value, EPOCH_NOW), Envelope)


def test_past_its_time() -> None:
    """Of use to whom says so, for as long as it says; to nobody else."""
    value = seal(KEY, EPOCH_NOW, SHAPE, b"row", flags=1 << 1, stored_at=1e9, ttl=300, stale=60)
    with freeze_time(dt.datetime.fromtimestamp(1e9, dt.UTC)) as time:
        for seconds, exact, soft in [(299, True, True), (301, False, True), (361, False, False)]:
            time.move_to(dt.datetime.fromtimestamp(1e9 + seconds, dt.UTC))
            for found, wanted in [
                (unseal(KEY, value, EPOCH_NOW), exact),
                (unseal(KEY, value, EPOCH_NOW, soft=True), soft),
            ]:
                assert isinstance(found, Envelope) if wanted else found is Miss.EXPIRED
                if isinstance(found, Envelope):
                    assert (found.flags, found.payload, found.ttl) == (2, b"row", 300)
                    assert found.is_over == (seconds > 300)


def test_past_its_time_with_a_real_clock() -> None:
    """The store keeps it for those who may have it, so that the others look at the clock."""
    value = seal(KEY, EPOCH_NOW, SHAPE, b"", stored_at=clock.now() - 301, ttl=300, stale=60)
    assert unseal(KEY, value, EPOCH_NOW) is Miss.EXPIRED
    assert isinstance(unseal(KEY, value, EPOCH_NOW, soft=True), Envelope)


def test_cut_off_before_its_time() -> None:
    """Too short for what its flag says: corrupt."""
    value = seal(KEY, EPOCH_NOW, SHAPE, b"abc", flags=codec.SOFT, stored_at=clock.now(), ttl=300)
    assert unseal(KEY, value, EPOCH_NOW, soft=True) is Miss.CORRUPT


@pytest.mark.parametrize("flag", [ZLIB, ZSTD, LZ4])
def test_packed_and_past_its_time(flag: int) -> None:
    """Both at once."""
    name = {ZLIB: "zlib", ZSTD: "zstd", LZ4: "lz4"}[flag]
    packed, flags = packer(name, "here")(bytes(1000))
    value = seal(KEY, EPOCH_NOW, SHAPE, packed, flags=flags, stored_at=0, ttl=300, stale=60)
    found = unseal(KEY, value, EPOCH_NOW, soft=True)
    assert isinstance(found, Envelope)
    assert (found.flags, found.payload) == (0, bytes(1000))


def test_a_correct_checksum_is_needed() -> None:
    """The checksum is seeded with the key: recomputed without it, it fails."""
    body = sealed()[:-4]
    assert unseal(KEY, body + struct.pack("<I", zlib.crc32(body)), None) is Miss.CORRUPT


@pytest.mark.parametrize(("epoch", "shape"), [(b"short", SHAPE), (EPOCH_NOW, b"short")])
def test_fields_of_a_wrong_length(epoch: bytes, shape: bytes) -> None:
    """Fixed offsets need fixed lengths; anything else is the caller's mistake."""
    with pytest.raises(ValueError, match="12 bytes"):
        seal(KEY, epoch, shape, b"", stored_at=0, ttl=1)

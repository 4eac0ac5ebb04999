"""P9: what an entry takes in Redis."""

from __future__ import annotations

from collections.abc import Iterator

from sqlmodel import Session

from benchmarks.hooks import configured
from benchmarks.place import Place
from benchmarks.report import Measured, Skipped
from benchmarks.rows import CachedRow
from benchmarks.timing import Spread
from sqlmodel_cache.codec.envelope import Envelope, unseal


def measure(place: Place) -> Iterator[Measured | Skipped]:
    """Yield P9. Bytes have no noise."""
    if place.redis_url is None:
        yield Skipped("P9", "no Redis")
        return
    with place.client() as raw, configured(place.redis_url):
        raw.flushdb()
        with Session(place.sqlite) as session:
            session.get(CachedRow, 1)
        (key,) = raw.keys("*:i1")
        value = raw.get(key)
        envelope = unseal(key.decode(), value, None)
        assert isinstance(envelope, Envelope)
        entry = raw.memory_usage(key)
        bare = key[:-2] + b"x1"  # as long a name
        raw.set(bare, envelope.payload, ex=300)
        least = raw.memory_usage(bare)
    shown = f"{entry} / {least} bytes, {len(value)} of them value, {len(envelope.payload)} msgpack"
    what = "memory of an entry / of its msgpack bytes alone under the same key"
    yield Measured("P9", what, Spread(entry / least, 0.0), shown, 1.2)

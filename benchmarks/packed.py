"""What packed rows take in Redis, by its own account, and how long packing takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from statistics import median

from sqlmodel import Field, Session, SQLModel, create_engine

from benchmarks.place import Place
from benchmarks.report import Measured, Skipped
from benchmarks.timing import ON_CPU, Case, Spread, compare
from sqlmodel_cache import CachedModel, SQLModelCache
from sqlmodel_cache.codec.packing import packer, unpack
from sqlmodel_cache.config import PACKINGS, Packing

_TEXT = """able above across after again almost already always answer around because before began
behind being below between both bring build business carry certain change children city close
colour common company complete could country course cover develop different direct early earth
enough every example family father feature figure follow friend general government great ground
house however hundred important industry inside interest island keep language large later learn
letter listen little machine matter measure minute mountain moment morning money mother music
nature never nothing notice number often order other paper particular pattern people perhaps
picture place plain point possible present problem produce question quick reason remember river
room rule science second sentence several should simple since sister society sometimes special
stand state still story street strong study sudden surface system table teach thousand through
together toward travel under until usual voice water weather where whether window without wonder
world would write year young"""
_WORDS = _TEXT.split()


class LongRow(CachedModel, table=True):
    """A row with a long text."""

    id: int | None = Field(default=None, primary_key=True)
    body: str


def measure(place: Place) -> Iterator[Measured | Skipped]:
    """Yield one line for each kind of row and way to pack it. Bytes have no noise."""
    if place.redis_url is None:
        yield Skipped("", "packed rows: no Redis")
        return
    # The time is for orientation.
    pace = replace(place.pace, repeats=9, slice_=0.01)
    for name, body in _bodies().items():
        plain = _in_redis(place, body, None)
        for way in PACKINGS:
            pack = packer(way, "benchmarks")
            raw = body.encode()
            packed, flag = pack(raw)
            there, back = compare(
                pace,
                Case("pack", lambda pack=pack, raw=raw: pack(raw)),
                Case("unpack", lambda packed=packed, flag=flag: unpack(packed, flag)),
                clock=ON_CPU,
            )
            took = _in_redis(place, body, way)
            shown = (
                f"{took} / {plain} bytes; {median(there) * 1e6:.0f} us to pack,"
                f" {median(back) * 1e6:.0f} us to unpack"
            )
            what = f"memory of a row with {name}, compress={way!r} / not packed"
            yield Measured("", what, Spread(took / plain, 0.0), shown, None)


def _in_redis(place: Place, body: str, way: Packing | None) -> int:
    """Return the bytes of an entry by `MEMORY USAGE`, key and all."""
    engine = create_engine("sqlite://")
    SQLModel.metadata.create_all(engine, [SQLModel.metadata.tables["longrow"]])
    assert place.redis_url is not None
    SQLModelCache.configure(place.redis_url, compress=way)
    try:
        with place.client() as raw, Session(engine) as session:
            raw.flushdb()
            session.add(LongRow(id=1, body=body))
            session.commit()
            session.expunge_all()
            session.get(LongRow, 1)
            (key,) = raw.keys("*:i1")
            used: int = raw.memory_usage(key)
            return used
    finally:
        SQLModelCache.reset()
        engine.dispose()


def _bodies() -> dict[str, str]:
    """Return texts by what they are; the same ones each time."""
    chance = Random(1)

    def words(size: int) -> str:
        return " ".join(chance.choices(_WORDS, k=size))[:size]

    things = [
        {"id": 1000 + n, "name": words(20), "active": n % 3 == 0, "tags": chance.sample(_WORDS, 3)}
        for n in range(32)
    ]
    return {
        "1 KB of words": words(1000),
        "10 KB of words": words(10_000),
        "3.5 KB of JSON": json.dumps(things),
    }

"""Packed rows: hits like any other, and fewer bytes in the store."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tests.scenarios.harness import World, on_sqlite
from tests.scenarios.models import LongHero, Packed, PackedByLz4, PackedByZlib, Unpacked

TEXT = "It is a truth universally acknowledged, that a single man in possession. " * 40


@pytest.mark.parametrize("model", [Packed, PackedByZlib, PackedByLz4])
@on_sqlite
def test_a_packed_row_is_a_hit(world: World, model: Any) -> None:
    """With the very value, whether it was long enough to be packed or not."""
    for text in (TEXT, "short", ""):
        pk = world.store(model(name=text))
        world.miss(model, pk)
        assert world.hit(model, pk).name == text
    sizes = sorted(len(value) for value in world.backing.values().values())
    assert sizes[-1] < len(TEXT) / 2


@pytest.mark.parametrize("compress", ["lz4", "zstd", "zlib"])
@pytest.mark.parametrize("where", [("sync", "memory"), ("async", "redis")], ids="-".join)
def test_all_models_can_be_packed(make_world: Any, where: tuple[str, str], compress: str) -> None:
    """By `configure()`; what a model says itself comes first, also that it is not to be."""
    world: World = make_world(*where, "sqlite", compress=compress)
    sizes = {}
    for model in (LongHero, Unpacked):
        pk = world.store(model(name=TEXT))
        world.miss(model, pk)
        assert world.hit(model, pk).name == TEXT
        values = world.backing.values()
        (sizes[model],) = (len(values[key]) for key in values if model.__tablename__ in key)
    assert sizes[LongHero] < len(TEXT) / 2
    assert sizes[Unpacked] > len(TEXT)


def test_a_packed_row_takes_less_of_redis(make_world: Any, redis_url: str) -> None:
    """By Redis's own account."""
    world: Any = make_world("sync", "redis", "sqlite")
    pk = world.store(Packed(name=TEXT))
    world.miss(Packed, pk)
    (key,) = [key for key in world.backing.values() if "scenario_packed" in key]
    with redis.Redis.from_url(redis_url) as client:
        used: Any = client.memory_usage(key)
    assert used < len(TEXT) / 2

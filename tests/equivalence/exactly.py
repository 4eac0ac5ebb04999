"""Whether two values are one value, judged by nothing of the library under test.

Exact Python types, the sign of zero, the payload of a nan, the exponent of a Decimal, time zones,
the order of a dict. Objects that say nothing of themselves are compared by their state.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import struct
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy.ext.mutable import Mutable


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Yield a line for each place where `one` (from a load) and `other` (from a hit) differ."""
    cls = type(one)
    if one is other:
        return
    if isinstance(one, UUID) and isinstance(other, UUID):
        # asyncpg has a subclass of its own; entries are shared with drivers that have none.
        if one != other:
            yield f"{path}: {one!r} became {other!r}"
        return
    if cls is not type(other):
        yield f"{path}: {one!r} ({cls.__name__}) became {other!r} ({type(other).__name__})"
    elif isinstance(one, Mutable):
        bare = next(base for base in (dict, list, set) if isinstance(one, base))
        yield from differences(bare(one), bare(other), path)
    elif isinstance(one, dict):
        yield from differences(list(one), list(other), f"{path}: keys")
        for key in one.keys() & other.keys():
            yield from differences(one[key], other[key], f"{path}[{key!r}]")
    elif isinstance(one, list | tuple):
        yield from differences(len(one), len(other), f"{path}: length")
        for place, (left, right) in enumerate(zip(one, other, strict=False)):
            yield from differences(left, right, f"{path}[{place}]")
    elif not _is_one(one, other):
        yield f"{path}: {one!r} became {other!r}"


def _is_one(one: Any, other: Any) -> bool:
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, dt.datetime | dt.time):
        return (
            one.replace(tzinfo=None) == other.replace(tzinfo=None)
            and one.fold == other.fold
            and type(one.tzinfo) is type(other.tzinfo)
            and str(one.tzinfo) == str(other.tzinfo)
            and one.utcoffset() == other.utcoffset()
        )
    if isinstance(one, Enum | type):
        return one is other
    if dataclasses.is_dataclass(one):
        return all(
            not list(differences(getattr(one, field.name), getattr(other, field.name)))
            for field in dataclasses.fields(one)
        )
    if type(one).__eq__ is object.__eq__ and hasattr(one, "__dict__"):
        return not list(differences(vars(one), vars(other)))
    return bool(one == other)

"""Whether two values are one value: Python type, content and all that `==` forgives.

`1 == True == 1.0`, `nan != nan`, `Decimal("1.0") == Decimal("1.00")`, one instant in two zones:
none of that is a round trip. Values of unknown classes count as the same if they say so by an
`__eq__` of their own, or if their state is the same; whoever is opaque is not.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import struct
from decimal import Decimal
from enum import Enum
from typing import Any
from zoneinfo import ZoneInfo

from sqlmodel_cache.codec.genuine import genuine, real

_BY_EQUALITY = frozenset({type(None), bool, int, str, bytes})


def same(one: object, other: object) -> bool:
    """Tell whether nobody could tell `one` from `other`. Never raises but RecursionError."""
    if one is other:
        return True
    one, other = genuine(one), genuine(other)
    cls = type(one)
    if cls is not type(other):
        return False
    if cls in _BY_EQUALITY:
        return one == other
    left: Any = one
    right: Any = other
    if cls is float:
        return struct.pack("d", left) == struct.pack("d", right)
    if cls is Decimal:
        return bool(left.as_tuple() == right.as_tuple())
    if cls is real.datetime or cls is dt.time:
        naive = left.replace(tzinfo=None), right.replace(tzinfo=None)
        return (
            naive[0] == naive[1]
            and left.fold == right.fold
            and _same_zone(left.tzinfo, right.tzinfo)
        )
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right)) and _same_state(left, right)
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items())) and _same_state(left, right)
    if isinstance(left, set | frozenset):
        types = sorted(str(type(item)) for item in left), sorted(str(type(item)) for item in right)
        return bool(left == right) and types[0] == types[1]
    if isinstance(left, Enum):
        return False  # members are identical or different
    return _same_object(left, right)


def _same_zone(one: dt.tzinfo | None, other: dt.tzinfo | None) -> bool:
    if one is None or other is None or type(one) is not type(other):
        return one is other
    if isinstance(one, ZoneInfo):
        return isinstance(other, ZoneInfo) and one.key == other.key
    return str(one) == str(other) and one == other


def _same_object(one: Any, other: Any) -> bool:
    if dataclasses.is_dataclass(one):  # `==` may look at less than the fields, as Range's does
        return all(
            same(getattr(one, field.name, None), getattr(other, field.name, None))
            for field in dataclasses.fields(one)
        )
    equality: object = type(one).__eq__
    if equality is object.__eq__:
        return _same_state(one, other, opaque=False)
    try:
        if hasattr(one, "tobytes") and hasattr(one, "dtype"):  # numpy: `==` gives an array
            return bool(
                (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
            )
        return bool(one == other)
    except Exception:  # a stranger's __eq__ may raise anything, and then proves nothing
        return False


def _same_state(one: Any, other: Any, *, opaque: bool = True) -> bool:
    """Compare `__dict__` and `__slots__`; `opaque` is the answer where there is neither."""
    names = {
        name
        for cls in type(one).__mro__
        for name in _slots(cls)
        if name not in ("__dict__", "__weakref__")
    }
    state = getattr(one, "__dict__", None)
    if state is None and not names:
        return opaque
    if not same(state, getattr(other, "__dict__", None)):
        return False
    missing = object()
    return all(same(getattr(one, name, missing), getattr(other, name, missing)) for name in names)


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)

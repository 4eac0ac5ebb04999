"""What the codecs of one column have in common: markers, errors, and `ColumnCodec`.

Every column is written in its *compact* form when its value is what the column's type promises:
a msgpack scalar that a typed decoder turns straight back. Any other value leaves `None` in its
place and *escapes* into the tagged form of `generic`, at a price only that value pays.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from sqlmodel_cache.errors import CacheError

CODEC_VERSION: Final = 1  # part of every fingerprint: raise it when the same bytes mean more
MAX_SIZE: Final = 1 << 20  # bytes of one envelope, and of one payload


class Marker(enum.Enum):
    """Stands where a value would, and is never one."""

    ABSENT = "absent"
    ESCAPE = "escape"


ABSENT: Final = Marker.ABSENT  # not loaded, or not storable: the attribute loads on access
ESCAPE: Final = Marker.ESCAPE  # from `to_wire`: the compact form cannot carry this value


class Unstorable(CacheError):
    """A row that cannot be written so that it comes back as it was; fill nothing."""


class Undecodable(CacheError):
    """Bytes that are not a row of this codec; a miss. The message never quotes them."""


# What decoding hostile bytes may raise before it becomes `Undecodable`.
HOSTILE: Final = (
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)

ENCODER: Final = msgspec.msgpack.Encoder(uuid_format="bytes", decimal_format="string")

ToWire: TypeAlias = Callable[[Any], object]
FromWire: TypeAlias = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class ColumnCodec:
    """One column, compiled. Both directions accept None, which need not mean SQL NULL.

    `kind` goes into the fingerprint; `wire` is the type the compact form decodes to (None is
    always allowed besides); `to_wire` may answer `ESCAPE` or `ABSENT`; `from_wire` is None where
    the typed decoder's result is the value. `to_generic` raises `Unstorable`, or answers `ABSENT`.
    """

    kind: str
    wire: Any
    to_wire: ToWire
    from_wire: FromWire | None
    to_generic: ToWire
    from_generic: FromWire


def nullable(wire: Any) -> Any:
    """Return the annotation of `wire` or None."""
    return wire if wire is Any else wire | None

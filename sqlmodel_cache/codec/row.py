"""One row of one mapper as bytes, compiled once.

Plain form: a msgpack array of exactly the columns, typed. Annotated form (flag `ANNOTATED`): that
array; the time zone all its aware datetimes are in, or None; the positions that are ABSENT; and
the escaped values. Positions of absent and escaped values hold None in the array.
"""

from __future__ import annotations

import builtins
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from sqlmodel_cache.codec import moments, scalars
from sqlmodel_cache.codec.columns import column_codec
from sqlmodel_cache.codec.envelope import ANNOTATED
from sqlmodel_cache.codec.wire import (
    ABSENT,
    CODEC_VERSION,
    ENCODER,
    ESCAPE,
    HOSTILE,
    MAX_SIZE,
    Undecodable,
    Unstorable,
    nullable,
)

if TYPE_CHECKING:
    import cattrs
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

# What changes the values of a column without changing the codec.
_PARAMETERS = ("length", "precision", "scale", "timezone", "asdecimal", "as_uuid", "collation")


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """A column to store: attribute name, type, and optionally its name in the table.

    `python_type` hands the values to the converter's hooks for that class.
    """

    key: str
    type: TypeEngine[Any]
    column: str | None = None
    python_type: builtins.type | None = None


class RowCodec:
    """Encodes and decodes the values of `columns`, in that order.

    `identity` (table and class, say) is part of the fingerprint. `fingerprint` is 8 bytes, equal
    in every process that would read a payload as this one does. `unstorable` names the attributes
    that are never stored and always come back as `ABSENT`.
    """

    def __init__(
        self,
        columns: Sequence[ColumnSpec],
        dialect: Dialect,
        converter: cattrs.Converter | None = None,
        *,
        identity: str = "",
    ) -> None:
        self.keys = tuple(column.key for column in columns)
        self._columns = tuple(
            column_codec(column.type, dialect, converter, column.python_type) for column in columns
        )
        self.unstorable = frozenset(
            key
            for key, codec in zip(self.keys, self._columns, strict=True)
            if codec is scalars.UNSTORABLE
        )
        self.fingerprint = self._fingerprint(columns, identity)
        self._writers = tuple(codec.to_wire for codec in self._columns)
        self._readers = tuple(
            (position, codec.from_wire)
            for position, codec in enumerate(self._columns)
            if codec.from_wire is not None
        )
        self._instants = tuple(
            position for position, codec in enumerate(self._columns) if codec is scalars.DATETIME
        )
        values: Any = tuple[tuple(nullable(codec.wire) for codec in self._columns)]  # type: ignore[misc]
        self._plain = msgspec.msgpack.Decoder(values).decode
        self._annotated = msgspec.msgpack.Decoder(
            tuple[values, str | None, list[int], list[tuple[int, Any]]]
        ).decode

    def _fingerprint(self, columns: Sequence[ColumnSpec], identity: str) -> bytes:
        described = [
            (
                str(spec.key),  # a quoted_name is a str that msgspec refuses
                str(spec.column or spec.key),
                codec.kind,
                f"{type(spec.type).__module__}.{type(spec.type).__qualname__}",
                [str(getattr(spec.type, name, None)) for name in _PARAMETERS],
            )
            for spec, codec in zip(columns, self._columns, strict=True)
        ]
        text = ENCODER.encode((CODEC_VERSION, identity, described))
        return blake2b(text, digest_size=8).digest()

    def encode(self, values: Sequence[object]) -> tuple[bytes, int]:
        """Return (payload, flags) of one row as the database returned it.

        Any value may be `ABSENT`. Raises `Unstorable` where a value could not come back as it is.
        """
        wire: list[object] = []
        absent: list[int] = []
        escaped: list[int] = []
        for write, value in zip(self._writers, values, strict=True):
            written = ABSENT if value is ABSENT else write(value)
            if written is ESCAPE or written is ABSENT:
                (escaped if written is ESCAPE else absent).append(len(wire))
                written = None
            wire.append(written)
        try:
            if not absent and not escaped:
                payload, flags = ENCODER.encode(wire), 0
            else:
                payload = self._encode_annotated(values, wire, absent, escaped)
                flags = ANNOTATED
        except (*HOSTILE, Undecodable) as error:
            raise Unstorable(f"a row cannot be encoded ({type(error).__name__})") from None
        if len(payload) > MAX_SIZE:
            raise Unstorable(f"a row takes more than {MAX_SIZE} bytes")
        return payload, flags

    def _encode_annotated(
        self, values: Sequence[object], wire: list[object], absent: list[int], escaped: list[int]
    ) -> bytes:
        zone = self._to_one_zone(values, wire) if escaped else None
        tagged: list[tuple[int, object]] = []
        for position in escaped:
            if wire[position] is not None:  # the zone took it
                continue
            try:
                generic = self._columns[position].to_generic(values[position])
            except Unstorable as error:
                raise Unstorable(f"column {self.keys[position]!r}: {error}") from None
            if generic is ABSENT:
                absent.append(position)
            else:
                tagged.append((position, generic))
        return ENCODER.encode((wire, zone, absent, tagged))

    def _to_one_zone(self, values: Sequence[object], wire: list[object]) -> str | None:
        """Put instants into `wire` where all aware datetimes share one zone, and return it."""
        aware = [
            position
            for position in self._instants
            if isinstance(values[position], dt.datetime) and values[position].tzinfo is not None  # type: ignore[attr-defined]
        ]
        instants: dict[int, dt.datetime] = {}
        zones = set()
        for position in aware:
            pair = moments.in_zone(values[position])
            if not isinstance(pair, tuple):
                return None
            zones.add(pair[0])
            instants[position] = pair[1]
        if len(zones) != 1:
            return None
        for position, instant in instants.items():
            wire[position] = instant
        return str(zones.pop())

    def decode(self, payload: bytes, flags: int) -> list[object]:
        """Return the row's values in column order, `ABSENT` where there is none.

        Raises `Undecodable` for bytes that `encode` did not write.
        """
        if len(payload) > MAX_SIZE:
            raise Undecodable("a payload is too large")
        try:
            if flags & ANNOTATED:
                return self._decode_annotated(payload)
            row = list(self._plain(payload))
            for position, read in self._readers:
                row[position] = read(row[position])
            return row
        except HOSTILE:
            raise Undecodable("a payload does not fit its columns") from None

    def _decode_annotated(self, payload: bytes) -> list[object]:
        wire, zone, absent, escaped = self._annotated(payload)
        row: list[Any] = list(wire)
        replaced: dict[int, object] = dict.fromkeys(absent, ABSENT)
        for position, generic in escaped:
            replaced[position] = self._columns[position].from_generic(generic)
        if replaced and any(not 0 <= position < len(row) for position in replaced):
            raise Undecodable("a payload does not fit its columns")
        if zone is not None:
            tz = moments.zone(zone)
            for position in self._instants:
                if row[position] is not None and row[position].tzinfo is not None:
                    row[position] = row[position].astimezone(tz)
        for position, read in self._readers:
            if position not in replaced:
                row[position] = read(row[position])
        for position, value in replaced.items():
            row[position] = value
        return row

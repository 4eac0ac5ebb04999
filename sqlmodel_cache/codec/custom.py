"""Columns with code of the user's: TypeDecorators, processors, classes that cattrs knows.

A cached value takes the way a stored one takes: through `process_bind_param` into the cache and
through `process_result_value` out of it, so what the decorator encrypts stays encrypted. Whether
that way is sound for a value is tried when it is stored. If it is not (a bind side that hashes
or lower-cases), the attribute is ABSENT for this row, and loads on access.
"""

from __future__ import annotations

import dataclasses
import dis
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from sqlmodel_cache.codec import generic
from sqlmodel_cache.codec.containers import Trip, plain
from sqlmodel_cache.codec.sameness import same
from sqlmodel_cache.codec.wire import (
    ABSENT,
    ESCAPE,
    ColumnCodec,
    Marker,
    Undecodable,
    Unstorable,
)

if TYPE_CHECKING:
    import cattrs

_PICKLERS = ("pickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")


def through(
    kind: str, bind: Callable[[Any], object], result: Callable[[Any], object], inner: ColumnCodec
) -> ColumnCodec:
    """Return the codec that stores `bind(value)` by `inner` and answers `result` of it."""

    def from_wire(wire: Any) -> object:
        stored = wire if inner.from_wire is None else inner.from_wire(wire)
        return _called(result, stored)

    trip = Trip(inner.wire, from_wire)

    def to_wire(value: object) -> object:
        value = plain(value)
        try:
            wire = inner.to_wire(bind(value))
        except Exception:  # the user's code may raise anything for a value it did not expect
            return ABSENT
        if isinstance(wire, Marker):
            return wire
        raw = trip(wire, value)
        return ABSENT if raw is None else raw

    def to_generic(value: object) -> object:
        value = plain(value)
        try:
            wire = inner.to_generic(bind(value))
            return wire if same(from_generic(wire), value) else ABSENT
        except Exception:  # as above; Unstorable and Undecodable among them
            return ABSENT

    def from_generic(wire: Any) -> object:
        return _called(result, inner.from_generic(wire))

    return ColumnCodec(
        f"through({kind},{inner.kind})", inner.wire, to_wire, from_wire, to_generic, from_generic
    )


def _called(result: Callable[[Any], object], stored: object) -> object:
    try:
        return result(stored)
    except Exception:  # a rotated key, a changed class: whatever it is, the database answers
        raise Undecodable("a type's result processor refused a cached value") from None


def converted(cls: type, converter: cattrs.Converter) -> ColumnCodec:
    """Return the codec of a class by its cattrs hooks: unstructured, then tagged.

    `cls` comes from the column or its `ColumnSpec`, never from data.
    """

    def unstructured(value: object) -> object:
        if value is None:
            return None
        if type(value) is not cls:
            raise Unstorable(f"a value is no {cls.__qualname__}")
        try:
            wire = generic.dump(converter.unstructure(value, unstructure_as=cls))
            back = structured(wire)
        except Unstorable:
            raise
        except Exception:  # a hook of the user's
            raise Unstorable(f"no hook takes a {cls.__qualname__} apart and together") from None
        if not same(back, value):
            raise Unstorable(f"the hooks of {cls.__qualname__} do not give a value back")
        return wire

    def structured(wire: Any) -> object:
        if wire is None:
            return None
        stored = generic.load(wire)
        return _called(lambda value: converter.structure(value, cls), stored)

    def to_wire(value: object) -> object:
        try:
            return unstructured(value)
        except Unstorable:
            return ESCAPE  # and say why there, with the column's name

    fields = ",".join(_field_names(cls))
    kind = f"converted({cls.__module__}.{cls.__qualname__}:{fields})"
    return ColumnCodec(kind, Any, to_wire, structured, unstructured, structured)


def _field_names(cls: type) -> list[str]:
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    return [field.name for field in getattr(cls, "__attrs_attrs__", ())]


def unpickles(function: Callable[..., object]) -> bool:
    """Tell whether a processor uses a pickling module: cached bytes would run as code there.

    A search of the code's globals and imports, so a safety net and not a proof: it does not see
    what the functions do that this one calls.
    """
    code = getattr(function, "__code__", None)
    namespace = getattr(function, "__globals__", {})
    pending = [code] if isinstance(code, CodeType) else []
    while pending:
        code = pending.pop()
        pending += [part for part in code.co_consts if isinstance(part, CodeType)]
        for instruction in dis.get_instructions(code):
            if instruction.opname == "IMPORT_NAME":
                origin = str(instruction.argval)
            elif instruction.opname == "LOAD_GLOBAL":
                used = namespace.get(instruction.argval)
                origin = used.__name__ if isinstance(used, ModuleType) else _module_of(used)
            else:
                continue
            if origin.split(".")[0] in _PICKLERS:
                return True
    return False


def _module_of(value: object) -> str:
    return str(getattr(value, "__module__", None))

"""From a SQLAlchemy type to the codec of its column: the one place where that is decided.

The dialect's own implementation is what is looked at, so variants are resolved. What the driver
really returns may still be anything (SQLite types values, not columns): then the value escapes.
Only types and dialects are used here, no mapper and no session. Private names of SQLAlchemy: none
(checked on 2.0.58 and 2.1.9).
"""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from sqlalchemy import types as sqltypes

from sqlmodel_cache.codec import containers, custom, scalars

if TYPE_CHECKING:
    import cattrs
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeDecorator, TypeEngine

    from sqlmodel_cache.codec.wire import ColumnCodec

_RANGE_ITEMS = {
    "INT4RANGE": scalars.INT,
    "INT8RANGE": scalars.INT,
    "NUMRANGE": scalars.DECIMAL,
    "DATERANGE": scalars.DATE,
    "TSRANGE": scalars.DATETIME,
    "TSTZRANGE": scalars.DATETIME,
}
_NOT_USERS = ("builtins", "datetime", "decimal", "uuid", "ipaddress", "sqlalchemy", "freezegun")


def column_codec(
    type_: TypeEngine[Any],
    dialect: Dialect,
    converter: cattrs.Converter | None = None,
    python_type: type | None = None,
) -> ColumnCodec:
    """Compile the codec of one column.

    `python_type` says that values are of a class of the user's, which `converter` takes apart
    and puts together; otherwise only a type's own `python_type` can say so.
    """
    impl = type_.dialect_impl(dialect)
    if isinstance(impl, sqltypes.PickleType):
        return scalars.UNSTORABLE
    if python_type is not None:
        return custom.converted(python_type, converter or _default_converter())
    # Interval is a TypeDecorator where the database has none: its values are timedeltas anyway.
    if python_type_of(impl) is dt.timedelta and type(impl).__module__.startswith("sqlalchemy."):
        return scalars.TIMEDELTA
    if isinstance(impl, sqltypes.TypeDecorator):
        return _decorated(impl, dialect, converter)
    if has_own_processors(type_):
        return _processed(type_, dialect)
    return _builtin(impl, dialect, converter) or _unknown(impl, converter)


def _builtin(
    impl: TypeEngine[Any], dialect: Dialect, converter: cattrs.Converter | None
) -> ColumnCodec | None:
    match impl:
        case sqltypes.Enum():
            return _enumerated(impl)
        case sqltypes.JSON():
            return containers.json()
        case sqltypes.ARRAY():
            item = column_codec(impl.item_type, dialect, converter)
            if item is scalars.UNSTORABLE:
                return item
            return containers.array(item, impl.dimensions or 1, as_tuple=bool(impl.as_tuple))
        case sqltypes.Uuid():
            return scalars.UUID_ if impl.as_uuid else scalars.STR
        case sqltypes.Boolean():
            return scalars.BOOL
        case sqltypes.Integer():
            return scalars.INT
        case sqltypes.Numeric() | sqltypes.Float():
            return scalars.DECIMAL if impl.asdecimal else scalars.FLOAT
        case sqltypes.DateTime():
            return scalars.DATETIME
        case sqltypes.Date():
            return scalars.DATE
        case sqltypes.Time():
            return scalars.TIME
        case sqltypes.String():
            return scalars.STR
    if python_type_of(impl) is bytes:
        return scalars.BYTES
    return _postgresql(impl)


def _postgresql(impl: TypeEngine[Any]) -> ColumnCodec | None:
    if is_postgresql(impl, "HSTORE"):
        return containers.hstore()
    name = str(impl.__visit_name__)  # the drivers' own classes keep it
    if name.endswith("MULTIRANGE"):
        return scalars.unknown("multirange")
    item = _RANGE_ITEMS.get(name)
    return None if item is None else containers.ranged(item)


def _enumerated(impl: sqltypes.Enum) -> ColumnCodec:
    if impl.enum_class is None:
        return scalars.STR
    return scalars.enumeration(impl.enum_class, impl.enums)


def _decorated(
    impl: TypeDecorator[Any], dialect: Dialect, converter: cattrs.Converter | None
) -> ColumnCodec:
    cls = type(impl)
    inner = column_codec(impl.impl_instance, dialect, converter)
    if inner is scalars.UNSTORABLE:
        return inner
    if overrides(cls, "result_processor") or overrides(cls, "bind_processor"):
        return _processed(impl, dialect)
    if not overrides(cls, "process_result_value"):
        return inner  # what it loads is what its implementation loads
    if custom.unpickles(cls.process_result_value):
        return scalars.UNSTORABLE
    binds = overrides(cls, "process_bind_param")  # TypeDecorator's own only raises

    def bind(value: object) -> object:
        return impl.process_bind_param(value, dialect) if binds else value

    def result(stored: object) -> object:
        return impl.process_result_value(stored, dialect)

    return custom.through(_name(cls), bind, result, inner)


def _processed(type_: TypeEngine[Any], dialect: Dialect) -> ColumnCodec:
    """Go through the processors that a class outside SQLAlchemy wrote for its driver.

    What it encrypts there must not lie in the cache as plain text.
    """
    impl = type_.dialect_impl(dialect)
    bind = impl.bind_processor(dialect)
    result = impl.result_processor(dialect, None)
    for function in (type(impl).result_processor, result):
        if function is not None and custom.unpickles(function):
            return scalars.UNSTORABLE
    return custom.through(_name(type(type_)), bind or _unchanged, result or _unchanged, scalars.ANY)


def _unknown(impl: TypeEngine[Any], converter: cattrs.Converter | None) -> ColumnCodec:
    cls = python_type_of(impl)
    if converter is not None and _of_the_user(cls):
        return custom.converted(cls, converter)
    # Drivers differ in what they make of such types (INET: text or ipaddress), so they do not
    # share payloads.
    return scalars.unknown(f"any({_name(type(impl))})")


def _default_converter() -> cattrs.Converter:
    from sqlmodel_cache.codec.converter import make_converter

    return make_converter()


def python_type_of(type_: TypeEngine[Any]) -> type | None:
    """Return the class that `type_` says its values have, None if it does not say."""
    try:
        return cast("type", type_.python_type)
    except NotImplementedError:
        return None


def _of_the_user(cls: type | None) -> TypeGuard[type]:
    return cls is not None and cls.__module__.split(".")[0] not in _NOT_USERS


def overrides(cls: type, method: str) -> bool:
    """Tell whether a TypeDecorator has its own `method`."""
    return getattr(cls, method) is not getattr(sqltypes.TypeDecorator, method)


def has_own_processors(type_: TypeEngine[Any]) -> bool:
    """Tell whether a class outside SQLAlchemy decides what is sent to or read from the driver."""
    methods = type(type_).bind_processor, type(type_).result_processor
    return any(not method.__module__.startswith("sqlalchemy.") for method in methods)


def is_postgresql(impl: TypeEngine[Any], *names: str) -> bool:
    """Tell whether `impl` is one of these types of SQLAlchemy's PostgreSQL dialects."""
    # A column of such a type has imported the package; others need not pay for it.
    package = sys.modules.get("sqlalchemy.dialects.postgresql")
    return package is not None and any(isinstance(impl, getattr(package, name)) for name in names)


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _unchanged(value: object) -> object:
    return value

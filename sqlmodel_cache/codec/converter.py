"""The cattrs converter for columns whose Python class is the user's own.

Users register hooks on a converter of their own making or on this one; leaves of the classes
that the tagged form carries by itself pass through unchanged, checked on the way back.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from decimal import Decimal
from typing import Any
from uuid import UUID

import cattrs

from sqlmodel_cache.codec.genuine import genuine, real

LEAVES: tuple[type, ...] = (
    bytes, Decimal, UUID, real.datetime, real.date, dt.time, dt.timedelta,
    ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
    ipaddress.IPv4Interface, ipaddress.IPv6Interface,
)  # fmt: skip


def make_converter() -> cattrs.Converter:
    """Return a converter that leaves what msgpack or the tagged form can carry as it is."""
    converter = cattrs.Converter()
    for leaf in LEAVES:
        converter.register_unstructure_hook(leaf, genuine)
        converter.register_structure_hook(leaf, _passed)
    return converter


def _passed(value: Any, cls: type) -> Any:
    if not isinstance(value, cls):
        raise TypeError(f"expected {cls.__qualname__}")
    return value

"""Classes that stand in for others, and the genuine ones.

While time is frozen, freezegun swaps every *module attribute* that is `datetime` or `date`, in
all modules, for its fakes. `real` keeps the genuine classes where it does not look: on a class.
asyncpg has a UUID of its own, written in C. Values of both are stored as what they stand for:
the same row may be read by another driver, or when time runs again.
"""

from __future__ import annotations

import datetime as dt
from uuid import UUID


class real:  # noqa: N801  reads as the module it stands for
    """The genuine classes, also when this module is first imported under `freeze_time`."""

    datetime: type[dt.datetime] = next(
        cls for cls in dt.datetime.__mro__ if cls.__module__ == "datetime"
    )
    date: type[dt.date] = next(cls for cls in dt.date.__mro__ if cls.__module__ == "datetime")


def genuine(value: object) -> object:
    """Return the genuine value behind a stand-in; anything else as it is."""
    module = type(value).__module__
    if module.startswith("freezegun"):
        if isinstance(value, real.datetime):
            return real.datetime(
                value.year, value.month, value.day, value.hour, value.minute, value.second,
                value.microsecond, value.tzinfo, fold=value.fold,
            )  # fmt: skip
        if isinstance(value, real.date):
            return real.date(value.year, value.month, value.day)
    elif module.startswith("asyncpg.") and isinstance(value, UUID):
        return UUID(int=value.int)
    return value

"""Values kept in their owner's own `__dict__`, so that they live as long as it does.

A weak dictionary would not do: each of these values refers to its owner (a plan to its class, a
site to its dialect), and what a value of a weak dictionary refers to is never let go.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from threading import Lock
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

V = TypeVar("V")

_numbers = count()


class Owned(Generic[V]):
    """A mapping from owners (classes, dialects) to one value each, gone with its owner.

    `name` is the value's in its owner's `__dict__`, for those who cannot afford one more call.
    """

    def __init__(self, name: str) -> None:
        self.name: Final = f"_sqlmodel_cache_{name}_{next(_numbers)}"
        self._owners: WeakSet[Any] = WeakSet()
        self._lock = Lock()

    def __getitem__(self, owner: Any) -> V:
        value: V = owner.__dict__[self.name]
        return value

    def __contains__(self, owner: Any) -> bool:
        return self.name in owner.__dict__

    def setdefault(self, owner: Any, value: V) -> V:
        """Give `owner` this value unless it has one; return what it has."""
        with self._lock:
            if self.name in owner.__dict__:
                return self[owner]
            self._owners.add(owner)
            if isinstance(owner, type):
                type.__setattr__(owner, self.name, value)  # past a declarative base's own
            else:
                owner.__dict__[self.name] = value
            return value

    def __iter__(self) -> Iterator[V]:
        with self._lock:
            return iter([self[owner] for owner in self._owners])

    def clear(self) -> None:
        """Take every value from its owner."""
        with self._lock:
            for owner in list(self._owners):
                if isinstance(owner, type):
                    type.__delattr__(owner, self.name)
                else:
                    del owner.__dict__[self.name]
            self._owners.clear()

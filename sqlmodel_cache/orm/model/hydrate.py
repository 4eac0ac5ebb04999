"""A decoded row -> a persistent instance, exactly as a load would leave it.

Values go straight into the instance's `__dict__`, past descriptors and validators, as SQLAlchemy's
own loading does; then `load` and `loaded_as_persistent` fire, because mutable extensions,
composites and `@reconstructor` live on them. What the row should have but the payload does not
is marked expired: without that mark it would silently read None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from sqlmodel_cache.codec import ABSENT
from sqlmodel_cache.orm import _sqlalchemy

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapper

    from sqlmodel_cache.orm.model.plan import View


class Hydrator:
    """Makes instances of one view. Compiled once; `make` is the hot path of every hit.

    `positions` are those of the view's columns in the payload's value list; None: all, in order.
    `along` names the relationships that a load loads with the row.
    """

    __slots__ = (
        "__weakref__",
        "_along",
        "_dispatch",
        "_expired",
        "_fill",
        "_keys",
        "_new",
        "_path",
        "identity_class",
        "mapper",
        "positions",
    )

    def __init__(
        self,
        asked: Mapper[Any],
        view: View,
        positions: tuple[int, ...] | None,
        along: tuple[str, ...] = (),
    ) -> None:
        self._new = view.mapper.class_manager.new_instance
        self._dispatch = view.mapper.class_manager.dispatch
        self._keys = tuple(prop.key for prop in view.columns)
        self._fill = _filler(self._keys)
        self._expired = view.expired
        self._path = _sqlalchemy.mapper_path(asked)
        self.positions = positions
        self._along = along
        self.mapper = view.mapper
        self.identity_class = _sqlalchemy.identity_class(view.mapper)

    def make(
        self,
        session: Session,
        key: tuple[Any, ...],
        values: Sequence[Any],
        *,
        partial_row: bool = False,
        announce: bool = True,
    ) -> Any:
        """Return a new persistent instance; `key` must not be in the session's identity map.

        `partial_row`: some values may be ABSENT, and load on access. Not to `announce` leaves that
        to the caller, or is for a load that nobody would hear of.
        """
        instance = self._new()
        state = instance_state(instance)
        _sqlalchemy.attach(session, state, key)
        state.load_path = self._path
        if self.positions is not None:
            values = [values[position] for position in self.positions]
        loaded = instance.__dict__
        self._fill(loaded, values)
        if self._expired:
            state.expired_attributes.update(self._expired)
        if partial_row:
            for name, value in zip(self._keys, values, strict=True):
                if value is ABSENT:
                    del loaded[name]
                    state.expired_attributes.add(name)
        if announce:
            self.announce(session, instance)
        return instance

    def announce(self, session: Session, instance: Any) -> None:
        """Fire the events of a load."""
        state = instance_state(instance)
        if self._dispatch.load:
            self._dispatch.load(state, None)
        if session.dispatch.loaded_as_persistent:
            session.dispatch.loaded_as_persistent(session, state)
        if state.modified:
            _sqlalchemy.commit_state(session, state)

    def named(self, values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        """Yield (attribute, value) as `make` would set them."""
        if self.positions is not None:
            values = [values[position] for position in self.positions]
        pairs = zip(self._keys, values, strict=True)
        return ((name, value) for name, value in pairs if value is not ABSENT)

    def completes(self, instance: Any) -> bool:
        """Tell whether a load that met this instance in its session would change something."""
        state = instance_state(instance)
        if state.mapper.class_manager.dispatch is not self._dispatch:
            return True  # the row has become another class's
        unloaded = state.unloaded
        return bool(unloaded) and bool(
            self._dispatch.refresh or not unloaded.isdisjoint((*self._keys, *self._along))
        )


def _filler(keys: tuple[str, ...]) -> Callable[[dict[str, Any], Sequence[Any]], None]:
    """Compile `row[key], row[key], ... = values`: a fifth of the time of `row.update(zip(...))`."""
    made: dict[str, Any] = {}
    targets = "".join(f"row[{key!r}], " for key in keys)
    exec(f"def fill(row, values):\n    {targets}= values", made)
    filler: Callable[[dict[str, Any], Sequence[Any]], None] = made["fill"]
    return filler

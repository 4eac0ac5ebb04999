"""Names that the store makes, epochs and grants, and how to exchange them.

Only their equality matters, so states that differ in names alone are one state. A new name is
one that nothing in the state mentions.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.protocol.model import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

EPOCHS: Final = tuple(bytes([code]) for code in b"abcdefghijkl")  # as many as can be in use
GRANTS: Final = {token: tuple(f"{token}.{n}" for n in range(9)) for token in ("r0", "r1", "r2")}
_MADE: Final = frozenset((*EPOCHS, *(grant for grants in GRANTS.values() for grant in grants)))

_DIGESTS: Final = {
    sha1(encode(epoch, version)).hexdigest(): (epoch, version)
    for epoch in EPOCHS
    for version in range(8)
}


def names(thing: object) -> Iterator[Any]:
    """Yield the epochs and grants that `thing` mentions, in a fixed order."""
    if isinstance(thing, bytes):
        if thing[:1] in _MADE:
            yield thing[:1]  # an epoch, or a value that begins with one
    elif isinstance(thing, str):
        if thing in _MADE:
            yield thing
        elif thing in _DIGESTS:
            yield _DIGESTS[thing][0]
    elif isinstance(thing, tuple):
        for part in thing:
            yield from names(part)
    elif isinstance(thing, msgspec.Struct):
        for name in thing.__struct_fields__:
            yield from names(getattr(thing, name))
    elif is_dataclass(thing):
        for part in fields(thing):
            yield from names(getattr(thing, part.name))


def renamed(thing: Any, new: Mapping[Any, Any]) -> Any:
    """Return `thing` with epochs, grants and tokens exchanged."""
    if isinstance(thing, bytes):
        return new.get(thing[:1], thing[:1]) + thing[1:]
    if isinstance(thing, str):
        if thing in _DIGESTS:
            epoch, version = _DIGESTS[thing]
            return sha1(encode(new.get(epoch, epoch), version)).hexdigest()
        return new.get(thing, thing)
    if isinstance(thing, tuple):
        parts = [renamed(part, new) for part in thing]
        return type(thing)(*parts) if hasattr(thing, "_fields") else tuple(parts)
    if isinstance(thing, frozenset):
        return frozenset(renamed(part, new) for part in thing)
    if isinstance(thing, msgspec.Struct):
        parts = [renamed(getattr(thing, name), new) for name in thing.__struct_fields__]
        return type(thing)(*parts)
    if is_dataclass(thing) and not isinstance(thing, type):
        mine = {part.name: getattr(thing, part.name) for part in fields(thing) if part.init}
        return replace(thing, **{name: renamed(part, new) for name, part in mine.items()})
    return thing


def permutation(new: Mapping[Any, Any]) -> dict[Any, Any]:
    """Complete an exchange of live names and one token, so that dead ones stay distinct too."""
    whole = dict(new)
    families: list[tuple[Sequence[Any], Sequence[Any]]] = [(EPOCHS, EPOCHS)]
    families += [(GRANTS[old], GRANTS[new[old]]) for old in GRANTS if old in new]
    for old, to in families:
        taken = {new[name] for name in old if name in new}
        free = iter([name for name in to if name not in taken])
        whole |= {name: next(free) for name in old if name not in new}
    return whole

"""Primary keys that may not stand in the store: a keyed hash in their place.

BLAKE2b's own keyed mode (RFC 7693), 144 bits: nobody without the secret can tell which row a key
is of, or try out addresses. What a key is of (a schema, a unique key) stays in front of it, so
that keys can still be told apart by it.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

MARK: Final = "#"  # begins no encoded primary key
_DIGEST: Final = 18  # bytes, which are 24 characters


class KeySecret:
    """What a `key_secret` is used for. It cannot be read back, nor shown.

    `fingerprint` tells whether two processes have the same one, and nothing else.
    """

    __slots__ = ("_key", "fingerprint")

    def __init__(self, secret: str | bytes) -> None:
        given = secret.encode() if isinstance(secret, str) else secret
        self._key = blake2b(given, digest_size=32, person=b"sqlmodel_cache").digest()
        named = blake2b(b"", digest_size=8, key=self._key, person=b"fingerprint")
        self.fingerprint = named.hexdigest()

    def __repr__(self) -> str:
        return f"<KeySecret {self.fingerprint}>"

    def hider(self, context: str) -> Callable[[str], str]:
        """Return what hides the encoded keys of one table; other tables' come out differently."""
        begun = blake2b(f"{context}\0".encode(), digest_size=_DIGEST, key=self._key)

        def hide(text: str) -> str:
            made = begun.copy()
            made.update(text.encode())
            return f"{_front(text)}{MARK}{urlsafe_b64encode(made.digest()).decode()}"

        return hide


def _front(text: str) -> str:
    """Return the schema (`@...:`) and the unique key's name (`~...:`) that `text` begins with."""
    end = 0
    for sign in "@~":
        if text.startswith(sign, end):
            end = text.index(":", end) + 1
    return text[:end]

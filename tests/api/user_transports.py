"""Transports as users write them: three methods over a dict, plain and async, and broken ones."""

from __future__ import annotations

import threading


class DictTransport:
    """Three plain methods; remembers who called them, and with what."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.threads: set[int] = set()

    def note(self, call: str) -> None:
        """Remember a call and its thread."""
        self.calls.append(call)
        self.threads.add(threading.get_ident())

    def get(self, key: str) -> bytes | None:
        """Return what is stored."""
        self.note("get")
        return self.data.get(key)

    def set(self, key: str, value: bytes, ttl: int) -> None:
        """Store; the TTL is noted."""
        self.note(f"set {ttl}")
        self.data[key] = value

    def delete(self, *keys: str) -> None:
        """Remove."""
        self.note(f"delete {len(keys)}")
        for key in keys:
            self.data.pop(key, None)


class AsyncDictTransport(DictTransport):
    """The same with coroutines."""

    async def get(self, key: str) -> bytes | None:  # type: ignore[override]
        """Return what is stored."""
        return super().get(key)

    async def set(self, key: str, value: bytes, ttl: int) -> None:  # type: ignore[override]
        """Store."""
        super().set(key, value, ttl)

    async def delete(self, *keys: str) -> None:  # type: ignore[override]
        """Remove."""
        super().delete(*keys)


class Failing:
    """Raises whatever it was given, at every call, with a secret in the message."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def get(self, key: str) -> bytes | None:
        """Raise."""
        raise self.error("secret-of-the-store")

    def set(self, key: str, value: bytes, ttl: int) -> None:
        """Raise."""
        raise self.error("secret-of-the-store")

    def delete(self, *keys: str) -> None:
        """Raise."""
        raise self.error("secret-of-the-store")

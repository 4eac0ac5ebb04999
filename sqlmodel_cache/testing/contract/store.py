"""A transport under test, asked from plain tests whether it is sync or async."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sqlmodel_cache.keys import KeySpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlmodel_cache.protocol.ops import Op


class Store:
    """One synchronous face; `run` turns what an async method returns into its result."""

    def __init__(self, transport: Any, run: Callable[[Any], Any] | None = None) -> None:
        self.transport = transport
        self._run = run

    @property
    def is_small(self) -> bool:
        """Tell whether it has `get`, `set` and `delete`."""
        return all(hasattr(self.transport, name) for name in ("get", "set", "delete"))

    def perform(self, op: Op) -> Any:
        """Carry out one operation."""
        return self._result(self.transport.perform(op))

    def get(self, key: str) -> bytes | None:
        """Ask the small contract."""
        found: bytes | None = self._result(self.transport.get(key))
        return found

    def set(self, key: str, value: bytes, ttl: int) -> None:
        """Ask the small contract."""
        self._result(self.transport.set(key, value, ttl))

    def delete(self, *keys: str) -> None:
        """Ask the small contract."""
        self._result(self.transport.delete(*keys))

    def _result(self, given: Any) -> Any:
        if not inspect.isawaitable(given):
            return given
        assert self._run is not None, "an async transport needs a runner"
        return self._run(given)


class StoreFixtures:
    """What both contracts stand on. A subclass provides `transport`."""

    @pytest.fixture
    def transport(self) -> Any:
        """Yield an empty transport; an async one may use `runner` to connect and to close."""
        pytest.fail(f"{type(self).__name__} needs a fixture `transport` that yields an empty one")

    @pytest.fixture
    def runner(self) -> Iterator[asyncio.Runner]:
        """Yield what runs the coroutines of an async transport, all in one event loop."""
        with asyncio.Runner() as runner:
            yield runner

    @pytest.fixture
    def store(self, transport: Any, runner: asyncio.Runner) -> Store:
        """Return the transport behind a synchronous face."""
        return Store(transport, runner.run)

    @pytest.fixture
    def space(self) -> KeySpace:
        """Return keys that no other test uses."""
        return KeySpace(f"contract-{uuid4().hex[:12]}", "test", "hero")

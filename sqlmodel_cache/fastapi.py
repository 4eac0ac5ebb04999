"""For FastAPI and Starlette: a lifespan that configures and closes, and a middleware that tells.

The middleware is plain ASGI. What belongs to one request is found by a context variable, which
tasks, threads of the pool and SQLAlchemy's greenlets all inherit from the request that they serve;
the counts come from the cache's own events. Without the middleware nobody listens to those.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlmodel_cache import SQLModelCache, _state
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.events import Lookup, Outcome
from sqlmodel_cache.orm import activation

try:
    from starlette.requests import HTTPConnection
except ImportError as error:  # pragma: no cover - the tests have it
    raise ImportError(
        "sqlmodel_cache.fastapi needs FastAPI: pip install sqlmodel-cache[fastapi]"
    ) from error

if TYPE_CHECKING:
    from sqlmodel_cache.events import Event

App: TypeAlias = Any
Lifespan: TypeAlias = Callable[[App], AbstractAsyncContextManager[Any]]
MayBypass: TypeAlias = Callable[[HTTPConnection], bool | Awaitable[bool]]

# In the header's order; the last two are named only where there were any.
_SHOWN: Final = (Outcome.HIT, Outcome.MISS, Outcome.BYPASS, Outcome.FAILURE)
_ALWAYS: Final = (Outcome.HIT, Outcome.MISS)


def cache_lifespan(
    transport: Any, *, lifespan: Lifespan | None = None, **settings: Any
) -> Lifespan:
    """Return a lifespan for `FastAPI(lifespan=...)` around the one that there may be already.

    Configures before anything else starts. At the end, when `lifespan` has ended, publishes what
    still waits for the store, closes connections and makes the former configuration active again,
    if there was one (in tests). Does not block the event loop meanwhile.

    Args:
        transport: as `SQLModelCache.configure()` takes it.
        lifespan: the application's own; what it yields is passed on.
        settings: further arguments of `configure()`, which raises for those that cannot work
            when the application starts.
    """

    @asynccontextmanager
    async def around(app: App) -> AsyncIterator[Any]:
        former = None if _state.active is None else _state.active.config
        SQLModelCache.configure(transport, **settings)
        cache = _state.active
        try:
            async with nullcontext() if lifespan is None else lifespan(app) as state:
                yield state
        finally:
            await cache.aclose()
            activation.reinstate(former)

    return around


class _Request:
    """What one request did so far. Several threads may serve it at once."""

    __slots__ = ("_counts", "_lock")

    def __init__(self) -> None:
        self._counts: Counter[Outcome] = Counter()
        self._lock = Lock()

    def add(self, outcome: Outcome) -> None:
        with self._lock:
            self._counts[outcome] += 1

    def header(self) -> bytes:
        shown = [one for one in _SHOWN if one in _ALWAYS or self._counts[one]]
        return ";".join(f"{one.value}={self._counts[one]}" for one in shown).encode()


_request: ContextVar[_Request | None] = ContextVar("sqlmodel_cache_request", default=None)


def _count(event: Event) -> None:
    """Observe every cache: put a lookup down to the request that it was made for."""
    if type(event) is Lookup and (request := _request.get()) is not None:
        request.add(event.outcome)


def nobody(connection: HTTPConnection) -> bool:
    """Authorise nobody to go past the cache: the default."""
    return False


class CacheMiddleware:
    """ASGI middleware: `app.add_middleware(CacheMiddleware, may_bypass=...)`.

    Answers `X-Cache: hit=3;miss=1` with the lookups made until the response starts; lookups that
    did not ask the store are added as `bypass=2`, those that it did not answer as `failure=1`.

    A request with `bypass_header` is served past the cache (its writes still invalidate) if
    `may_bypass` says so. Anybody could keep the database busy with it otherwise.

    Args:
        app: the application.
        may_bypass: is given the `HTTPConnection` of a request that has the header; plain or
            async. A plain one runs in the event loop and must not wait.
        bypass_header: the name of the request's header, in any case of letters.
        counts_header: the name of the response's header; None: there is none.

    Raises ConfigurationError for a name that no header can have.
    """

    def __init__(
        self,
        app: App,
        *,
        may_bypass: MayBypass = nobody,
        bypass_header: str = "X-Cache-Bypass",
        counts_header: str | None = "X-Cache",
    ) -> None:
        self._app = app
        self._may_bypass = may_bypass
        self._asked = _name("bypass_header", bypass_header)
        self._told = None if counts_header is None else _name("counts_header", counts_header)
        if not callable(may_bypass):
            raise ConfigurationError(
                "CacheMiddleware: may_bypass must be a callable of the connection, which says who"
                " is authorised"
            )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection; others than HTTP requests are passed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        past = any(name == self._asked for name, _ in scope["headers"])
        if past:
            answer = self._may_bypass(HTTPConnection(scope))
            past = (await answer if inspect.isawaitable(answer) else answer) is True
        with SQLModelCache.bypass() if past else nullcontext():
            if self._told is None:
                await self._app(scope, receive, send)
            else:
                await self._counted(self._told, scope, receive, send)

    async def _counted(self, told: bytes, scope: Any, receive: Any, send: Any) -> None:
        for cache in _state.live():
            cache.tally.observe(_count)
        request = _Request()

        async def tell(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (told, request.header())]
                message = {**message, "headers": headers}
            await send(message)

        before = _request.set(request)
        try:
            await self._app(scope, receive, tell)
        finally:
            _request.reset(before)


def _name(where: str, header: object) -> bytes:
    if not isinstance(header, str) or not header.replace("-", "").isalnum() or not header.isascii():
        raise ConfigurationError(f"CacheMiddleware: {where}={header!r} is no name of a header")
    return header.lower().encode()

"""The dashboard as an application of its own, to be mounted: one page, and its counts as JSON.

Every route asks `may_see` first. The page's own script and style carry a nonce, and its policy
allows nothing else: no other origin, no frame, no form. What changes something is a POST that
carries a token twice, in a cookie and in a header; another origin can send neither knowingly.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.dashboard.history import History
from sqlmodel_cache.dashboard.picture import take
from sqlmodel_cache.errors import CacheError, ConfigurationError, UnavailableError
from sqlmodel_cache.events import logger
from sqlmodel_cache.orm.model.plan import plans

try:
    from fastapi import Depends, FastAPI, HTTPException, Request
    from fastapi.responses import HTMLResponse, JSONResponse
except ImportError as error:  # pragma: no cover - the tests have it
    raise ImportError(
        "sqlmodel_cache.dashboard needs FastAPI: pip install sqlmodel-cache[fastapi]"
    ) from error

COOKIE: Final = "sqlmodel_cache_csrf"
HEADER: Final = "X-CSRF-Token"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # as token_urlsafe(32) makes it
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def nobody() -> bool:
    """Let nobody see the dashboard: the default."""
    return False


def cache_dashboard(*, may_see: Callable[..., Any] = nobody, actions: bool = False) -> FastAPI:
    """Make an application that shows the active cache, to be mounted into yours.

    `app.mount("/cache", cache_dashboard(may_see=is_admin))`.
    Shows model names, host names and counts, and never a key or a value of a row. Costs nothing
    while nobody looks.

    Args:
        may_see: a FastAPI dependency (plain or async, with parameters and dependencies of its
            own) that is asked for each request. It lets in by returning something true, and
            refuses by raising `HTTPException`, or by returning anything else, None included.
            By default nobody is let in.
        actions: True adds buttons that forget a model, or everything.

    Raises ConfigurationError for a `may_see` that cannot be called.
    """
    if not callable(may_see):
        raise ConfigurationError(
            f"cache_dashboard: may_see={type(may_see).__name__} is not valid; use a function that"
            " FastAPI can call as a dependency, not Depends(...) of it"
        )

    # As a default, since postponed annotations cannot name what is local.
    def let_in(answer: Any = Depends(may_see)) -> None:  # noqa: B008
        if not answer:
            raise HTTPException(403, "may_see of this cache_dashboard() did not return True")

    app = FastAPI(openapi_url=None, dependencies=[Depends(let_in)])
    app.add_middleware(_Headers)
    history = History()
    page = files("sqlmodel_cache.dashboard").joinpath("page.html").read_text("utf-8")

    @app.get("/")
    async def show(request: Request) -> HTMLResponse:
        return _page(page, request, actions)

    @app.get("/stats.json")
    def stats() -> JSONResponse:  # in a thread: the store may be asked
        return JSONResponse(take(history))

    if actions:
        _add_actions(app)
    return app


def _page(template: str, request: Request, actions: bool) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    token = ""
    if actions:
        token = request.cookies.get(COOKIE, "")  # another tab's, which must go on working
        if not _TOKEN.fullmatch(token):
            token = secrets.token_urlsafe(32)
    body = template.replace("%NONCE%", nonce).replace("%TOKEN%", token)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}';"
        " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )
    response = HTMLResponse(body, headers={"Content-Security-Policy": policy})
    if actions:
        response.set_cookie(
            COOKIE,
            token,
            path=f"{request.scope.get('root_path', '')}/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
    return response


def _add_actions(app: FastAPI) -> None:
    @app.post("/invalidate", dependencies=[Depends(_meant)])
    async def invalidate(model: str) -> JSONResponse:
        found = [plan.mapper.class_ for plan in plans() if plan.name == model]
        if not found:
            raise HTTPException(404, "this process knows no cached model of this name")
        for each in found:
            await _explain(SQLModelCache.ainvalidate(each))
        logger.info("forgotten by way of the dashboard: %s", model, extra={"cache_model": model})
        return JSONResponse({"done": f"Every {model} is forgotten."})

    @app.post("/clear", dependencies=[Depends(_meant)])
    async def clear() -> JSONResponse:
        await _explain(SQLModelCache.aclear())
        logger.info("forgotten by way of the dashboard: every cached model")
        return JSONResponse({"done": "Everything is forgotten."})


def _meant(request: Request) -> None:
    """Refuse a request that the page did not send."""
    here = request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
    token = request.cookies.get(COOKIE, "")
    sent = request.headers.get(HEADER, "")
    alike = secrets.compare_digest(sent.encode(), token.encode())
    if not (here and alike and _TOKEN.fullmatch(token)):
        raise HTTPException(403, "the CSRF token is missing or wrong: load the page again")


async def _explain(call: Any) -> None:
    try:
        await call
    except UnavailableError as error:
        raise HTTPException(503, str(error)) from None
    except CacheError as error:
        raise HTTPException(409, str(error)) from None


class _Headers:
    """ASGI middleware: what every answer carries, refusals too."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def tell(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                there = {name for name, _ in headers}
                for name, value in _HEADERS.items():
                    if name.lower().encode() not in there:
                        headers.append((name.lower().encode(), value.encode()))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, tell)

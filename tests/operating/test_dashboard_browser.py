"""The dashboard in a real browser: what somebody sees, at two widths and in two colours."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from fastapi import FastAPI

from sqlmodel_cache import SQLModelCache, _state
from sqlmodel_cache.dashboard import cache_dashboard
from sqlmodel_cache.events import Bypass
from tests.operating.models import Hero, read
from tests.servers.process import HOST, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.servers.browser import Browser


@contextmanager
def served(**arguments: Any) -> Iterator[str]:
    """Serve an application with the dashboard, and yield its URL."""
    app = FastAPI()
    app.mount("/cache", cache_dashboard(**arguments))
    port = free_port()
    config = uvicorn.Config(app, host=HOST, port=port, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < until
        time.sleep(0.01)
    try:
        yield f"http://{HOST}:{port}/cache"  # without the slash: the mount redirects
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def used(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a cache: two models, bypasses, an interval of history."""
    from sqlmodel_cache.dashboard import history

    monkeypatch.setattr(history, "SPACING", 0.05)
    SQLModelCache.configure("memory://")
    read(engine, Hero, 1, times=40)
    read(engine, Hero, 1, times=3, with_for_update=True)
    counters = _state.active.tally.for_model("<img src=x onerror=alert(1)>" + "Long" * 12)
    counters.bypass(Bypass.SETTINGS)
    counters.verified, counters.inconsistent, counters.differing = 9, 2, {"power": 2}


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.usefixtures("used")
def test_what_somebody_sees(browser: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    """All parts are there, nothing sticks out, and the page's own policy refuses nothing."""
    with served(may_see=lambda: True) as url:
        browser.open(url, width=width, dark=dark)
        browser.wait("!document.getElementById('all').hidden")
        seen = browser.text()
        assert "97.5 %" in seen  # 39 of 40
        assert "1 of 20 misses were timed" in seen
        assert "with_for_update" in seen
        assert "it takes a lock" in seen
        assert "Remedy: set it in the engine's URL" in seen
        assert f"process {os.getpid()}" in seen
        assert "power 2" in seen
        assert "Forget" not in seen
        browser.evaluate("look().then(() => new Promise(done => setTimeout(done, 100))).then(look)")
        assert browser.evaluate("document.querySelectorAll('#rate .curve').length") == 1
        page = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (page == "rgb(16, 21, 27)") is dark
        assert browser.too_wide() == []
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        browser.screenshot(tmp_path / "dashboard.png")
        assert (tmp_path / "dashboard.png").stat().st_size > 20_000
    assert browser.complaints == []


@pytest.mark.usefixtures("used")
def test_names_are_text(browser: Browser) -> None:
    """A name that looks like markup is shown as it is."""
    with served(may_see=lambda: True) as url:
        browser.open(url)
        browser.wait("!document.getElementById('all').hidden")
        assert "<img src=x" in browser.text("#models")
        assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert browser.complaints == []


@pytest.mark.usefixtures("used")
def test_a_button(browser: Browser, engine: Engine) -> None:
    """Asks, forgets, and says so: the next read goes to the database."""
    with served(may_see=lambda: True, actions=True) as url:
        browser.open(url)
        browser.wait("document.querySelectorAll('#models button').length")
        browser.evaluate("confirm = question => { window.asked = question; return true; }")
        browser.evaluate("document.querySelector('[aria-label=\"Forget every Hero\"]').click()")
        browser.wait("!document.getElementById('said').hidden")
        assert browser.text("#said") == "Every Hero is forgotten."
        assert "Hero" in browser.evaluate("asked")
    misses = SQLModelCache.stats().misses
    read(engine, Hero, 1)
    assert SQLModelCache.stats().misses == misses + 1
    assert browser.complaints == []


@pytest.mark.usefixtures("used")
def test_what_went_wrong_is_said(browser: Browser) -> None:
    """When the counts cannot be had any more, the last ones stay and a line says why."""
    allowed = [True]
    with served(may_see=lambda: allowed[0]) as url:
        browser.open(url)
        browser.wait("!document.getElementById('all').hidden")
        allowed[0] = False
        browser.evaluate("look()")
        assert "403" in browser.text("#failed")
        assert "97.5 %" in browser.text()

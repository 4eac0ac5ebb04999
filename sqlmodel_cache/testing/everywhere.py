"""Run a project's own tests with every mapped class cached: to see what a cache changes.

    pytest -p sqlmodel_cache.testing.everywhere

Each test gets a fresh cache before any of its fixtures is set up, so that rows which a fixture
deletes behind SQLAlchemy's back (a file removed, a server restarted) are no false alarm. The store
is `memory://`, or that of SQLMODEL_CACHE_URL under key prefixes of its own. A summary at the end
tells how much was really answered from it. Needs pytest; xdist's workers are added up.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sqlmodel_cache import CacheConfig, SQLModelCache, _state
from sqlmodel_cache.events import logger
from sqlmodel_cache.orm import activation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlmodel_cache import Stats

_COUNTS = ("hits", "misses", "fills", "invalidations", "errors", "lost")


class Everywhere:
    """The plug-in's hooks, and its counts over all tests."""

    def __init__(self) -> None:
        self._url = _state.environment("URL") or "memory://"
        self._prefix = f"everywhere-{uuid4().hex[:12]}"
        self._tests = 0
        self._counts: Counter[str] = Counter()
        self._models: set[str] = set()

    def start(self) -> None:
        """Opt every class in, those too that were mapped before."""
        _state.everywhere = CacheConfig()
        # A test that reads the log must not find ours in it, whatever level it asks for.
        logger.disabled = True
        self._configure()

    def stop(self) -> None:
        """Leave nothing behind."""
        _state.everywhere = None
        logger.disabled = False
        SQLModelCache.reset()

    def _configure(self) -> Any:
        # Never reset in between: a connection of a wider fixture may be in a transaction.
        self._tests += 1
        activation.guard()  # a test may have removed every listener there is
        SQLModelCache.configure(self._url, key_prefix=f"{self._prefix}-{self._tests}")
        return _state.active

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """Give one test, with all its fixtures, a cache of its own."""
        cache = self._configure()
        try:
            return (yield)
        finally:
            self._add(cache.stats())

    def _add(self, stats: Stats) -> None:
        self._counts.update({name: getattr(stats, name) for name in _COUNTS})
        self._counts.update({f"bypass {name}": n for name, n in stats.bypasses.items()})
        self._models |= stats.models.keys()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand the counts of an xdist worker to its controller."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["sqlmodel_cache_everywhere"] = (dict(self._counts), sorted(self._models))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the counts of an xdist worker."""
        counts, models = getattr(node, "workeroutput", {}).get(
            "sqlmodel_cache_everywhere", ({}, ())
        )
        self._counts.update(counts)
        self._models |= set(models)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell how much was answered from the cache, and why the rest was not."""
        terminalreporter.section("sqlmodel_cache everywhere")
        shown = " ".join(f"{name}={self._counts[name]}" for name in _COUNTS)
        terminalreporter.line(f"{len(self._models)} models: {shown}")
        for name, number in self._counts.most_common():
            if name.startswith("bypass "):
                terminalreporter.line(f"{number:>8} {name}")


def pytest_configure(config: pytest.Config) -> None:
    """Begin before the project's modules are imported."""
    plugin = Everywhere()
    plugin.start()
    config.add_cleanup(plugin.stop)
    config.pluginmanager.register(plugin, "sqlmodel_cache_everywhere")

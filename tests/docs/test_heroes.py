"""The example application's own tests pass, in small and on real servers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT
from tests.servers.databases import async_url


@pytest.mark.parametrize("servers", [False, True], ids=["sqlite+memory", "postgresql+redis"])
def test_the_example_application(servers: bool, request: pytest.FixtureRequest) -> None:
    """Its folder is a project of its own: pytest runs it as a user would."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if servers:
        environment["HEROES_TEST_DATABASE_URL"] = async_url(request.getfixturevalue("postgres_url"))
        environment["HEROES_TEST_CACHE_URL"] = request.getfixturevalue("redis_url")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "examples/heroes"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

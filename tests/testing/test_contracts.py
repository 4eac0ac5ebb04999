"""The shipped contracts find what is wrong with a transport, and nothing wrong with a right one."""

from __future__ import annotations

import pytest

RIGHT = """
import asyncio
import threading
import time

import pytest
from sqlmodel_cache.testing.contract import CacheTransportContract


class Transport:
    def __init__(self):
        self.data = {}
        self.now = time.monotonic()

    def get(self, key):
        value, till = self.data.get(key, (None, 0))
        return value if till > self.now else None

    def set(self, key, value, ttl):
        self.data[key] = (value, self.now + ttl)

    def delete(self, *keys):
        for key in keys:
            self.data.pop(key, None)


class AsyncTransport:
    def __init__(self):
        self.inner = Transport()
        self.loop = None

    async def check(self):
        assert self.loop in (None, asyncio.get_running_loop()), "one loop for all"
        self.loop = asyncio.get_running_loop()

    async def get(self, key):
        await self.check()
        return self.inner.get(key)

    async def set(self, key, value, ttl):
        self.inner.set(key, value, ttl)

    async def delete(self, *keys):
        self.inner.delete(*keys)


class Contract(CacheTransportContract):
    def let_pass(self, seconds):
        self.made.now += seconds

"""

USE = """
class TestMine(Contract):
    @pytest.fixture
    def transport(self):
        transport = Flawed()
        self.made = getattr(transport, "inner", transport)
        return transport
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return an empty project."""
    pytester.makeini("[pytest]\naddopts = --strict-markers -p no:cacheprovider -p no:asyncio\n")
    return pytester


@pytest.mark.parametrize("kind", ["Transport", "AsyncTransport"])
def test_a_right_transport_passes(project: pytest.Pytester, kind: str) -> None:
    """Sync and async, every test of the contract, without waiting."""
    project.makepyfile(RIGHT + USE.replace("Flawed", kind))
    outcomes = project.runpytest_inprocess().parseoutcomes()
    assert set(outcomes) == {"passed"}
    assert outcomes["passed"] == 12


@pytest.mark.parametrize(
    ("flaw", "found_by"),
    [
        ("def get(self, key): return self.data[key][0]", "what_was_never_stored"),
        ("def get(self, key): return self.data.get(key, (b'', 0))[0]", "what_was_never_stored"),
        ("def get(self, key): return str(super().get(key))", "bytes_come_back"),
        ("def get(self, key): return memoryview(super().get(key) or b'')", "bytes_come_back"),
        ("def get(self, key): return (super().get(key) or b'').strip()", "binary"),
        ("def get(self, key): return super().get(key.lower())", "told_apart"),
        ("def set(self, key, value, ttl): self.data.setdefault(key, (value, 9e99))", "last_value"),
        ("def set(self, key, value, ttl): super().set(key, value, 9999)", "ends_with_its_ttl"),
        (
            "def set(self, key, value, ttl): super().set(key, value, ttl / 1000)",
            "ends_with_its_ttl",
        ),
        ("def delete(self, *keys): [self.data.pop(key) for key in keys]", "any_number_of_keys"),
        ("def delete(self, key): self.data.pop(key, None)", "any_number_of_keys"),
        ("def delete(self, *keys): self.data.clear()", "any_number_of_keys"),
        ("async def get(self, key): return None", "is_a_transport"),
        ("delete = None", "is_a_transport"),
    ],
)
def test_a_flaw_is_found(project: pytest.Pytester, flaw: str, found_by: str) -> None:
    """Each by the test that names it."""
    project.makepyfile(f"{RIGHT}\nclass Flawed(Transport):\n    {flaw}\n{USE}")
    result = project.runpytest_inprocess("-v", "--tb=no")
    assert result.parseoutcomes().get("failed", 0) > 0
    result.stdout.fnmatch_lines_random([f"*{found_by}*FAILED*"])


def test_threads_are_found(project: pytest.Pytester) -> None:
    """A transport that keeps its last key on itself mixes up its callers."""
    project.makepyfile(
        RIGHT
        + """
class Flawed(Transport):
    def get(self, key):
        self.key = key
        time.sleep(0.0001)
        return super().get(self.key)
"""
        + USE
    )
    result = project.runpytest_inprocess("-v", "--tb=no")
    result.stdout.fnmatch_lines_random(["*threads_and_tasks*FAILED*"])


def test_a_missing_fixture_is_named(project: pytest.Pytester) -> None:
    """Whoever forgets the fixture is told which."""
    project.makepyfile(RIGHT + "class TestMine(Contract): pass")
    project.runpytest_inprocess().stdout.fnmatch_lines_random(
        ["*TestMine needs a fixture `transport` that yields an empty one*"]
    )


def test_failures_show_both_sides(project: pytest.Pytester) -> None:
    """The contract's assertions are rewritten by pytest like those of a test file."""
    flaw = "def get(self, key): return (super().get(key) or b'')[:2]"
    project.makepyfile(f"{RIGHT}\nclass Flawed(Transport):\n    {flaw}\n{USE}")
    project.runpytest_subprocess("-k", "last_value").stdout.fnmatch_lines_random(
        ["*assert b'ne' == b'new'*"]
    )

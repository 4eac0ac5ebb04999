"""S1 and S2 under load, in the short form of `make coherence`, and the canaries that must sing.

Runs end when they have shown what they are for, not after a time: a slow machine takes longer.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.coherence.flaws import FLAWS
from tests.coherence.run import run

pytestmark = pytest.mark.timeout(300)

CAUGHT = 25  # stale reads after which a canary counts as caught


def test_no_stale_read(settings):
    """Threads and tasks of four processes read and write 16 rows; nobody sees anything old."""
    result = run(replace(settings, seconds=150, enough=("near", 1_000)))
    assert (result.stale_s1, result.stale_s2, result.errors) == (0, 0, 0), result.evidence
    assert result.stale_database == 0
    assert result.exit_codes == (0,) * 4
    assert result.near >= 1_000
    assert result.ahead >= 10
    assert result.hits > result.operations / 2


@pytest.mark.parametrize("name", FLAWS)
def test_canary(settings, name):
    """A protocol with this flaw is caught; otherwise the harness is blind."""
    promise = FLAWS[name].promise
    result = run(replace(settings.canary(name), seconds=90, enough=(promise, CAUGHT)))
    assert getattr(result, promise) >= CAUGHT
    assert result.stale_database == 0
    assert result.errors == 0, result.evidence


def test_naive_rate(settings):
    """Of a naive cache's hits at least 0.1 % are stale."""
    result = run(replace(settings.canary("naive delete"), seconds=90, enough=("hits", 10_000)))
    assert result.stale_s1 >= result.hits / 1000


def test_fences_that_run_out(settings):
    """S2 survives fences shorter than a commit, where the conditional release does not.

    S1 does not: `docs/consistency.md` says so of a writer that outlives its fence.
    """
    control = settings.canary("conditional release", broken=False)
    result = run(replace(control, seconds=90, enough=("near", 100)))
    assert result.stale_s2 == 0, result.evidence
    assert (result.stale_database, result.errors) == (0, 0)

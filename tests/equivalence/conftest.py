"""The tally of every test here, and their sum in the terminal's summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.equivalence.tally import PROPERTY, Tally, lines


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Return counts that the test asks for its share of hits, and the summary shows."""
    counts = Tally()
    yield counts
    kinds = {kind: dict(found) for kind, found in counts.kinds.items()}
    request.node.user_properties.append((PROPERTY, (kinds, dict(counts.reasons))))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show hits, values not stored and bypasses per column type."""
    kinds: dict[str, Counter[str]] = {}
    reasons: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "teardown":
                continue
            for name, value in report.user_properties:
                if name == PROPERTY:
                    for kind, counts in value[0].items():
                        kinds.setdefault(kind, Counter()).update(counts)
                    reasons.update(value[1])
    if kinds:
        terminalreporter.section("second get, per column type")
        for line in lines(kinds, reasons):
            terminalreporter.write_line(line)

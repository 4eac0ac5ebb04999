"""Measured ratios against their targets, and the table that is printed."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from statistics import median

from benchmarks.timing import Spread

_PACKAGES = (
    "sqlmodel-cache", "sqlalchemy", "sqlmodel", "redis", "hiredis", "msgspec", "psycopg",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measured:
    """One line: what was compared, how it came out, and the most it may be.

    `sides` are the two medians in words. `target` None: printed for orientation.
    """

    number: str
    what: str
    found: Spread
    sides: str
    target: float | None
    unit: str = "x"
    at_least: bool = False  # the target is a minimum

    @property
    def missed(self) -> bool:
        """Tell whether the target is missed by more than the noise."""
        return self.target is not None and self._short_of(self.target) > self.found.noise

    @property
    def verdict(self) -> str:
        """One word for the table."""
        if self.target is None:
            return ""
        if self.missed:
            return "MISSED"
        return "ok" if self._short_of(self.target) <= 0 else "within noise"

    def line(self) -> str:
        """Return the row of the table."""
        sign = ">=" if self.at_least else "<="
        target = "" if self.target is None else f"{sign} {self.target:g}{_suffix(self.unit)}"
        value = f"{self.found.median:.3f} +- {self.found.noise:.3f}{_suffix(self.unit)}"
        return (
            f"{self.number:4} {value:21} {target:10} {self.verdict:12} {self.what} ({self.sides})"
        )

    def _short_of(self, target: float) -> float:
        return target - self.found.median if self.at_least else self.found.median - target


@dataclass(frozen=True, slots=True)
class Skipped:
    """One line for what could not be measured here."""

    number: str
    why: str

    missed = False

    def line(self) -> str:
        """Return the row of the table."""
        return f"{self.number:4} not measured: {self.why}"


def sides(above: list[float], below: list[float], unit: str = "us") -> str:
    """Return the medians of two cases in words; `above` and `below` in seconds."""
    scale = 1e6 if unit == "us" else 1
    return f"{median(above) * scale:.1f} / {median(below) * scale:.1f} {unit}"


def header(command: str, servers: Iterable[str]) -> str:
    """Return date, command and versions."""
    packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    return "\n".join(
        (
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {command}",
            f"{platform.python_implementation()} {platform.python_version()}, {packages}",
            *servers,
            "ratio: median over pairs of neighbouring slices +- half its 95 % confidence interval;",
            "P2, P4 and P7a, which wait for nobody, in time on the processor",
        )
    )


def _suffix(unit: str) -> str:
    return "" if unit == "x" else f" {unit}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(source tree)" if package == "sqlmodel-cache" else "-"

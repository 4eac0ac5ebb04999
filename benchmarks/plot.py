"""Lines in a coordinate system, as SVG: what the growth pictures need and no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 40, 44
_COLOURS = ("#1f6feb", "#d1690e", "#2e8540")


@dataclass(frozen=True, slots=True)
class Line:
    """A named series of points (x, y), in ascending x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A diagram. The y axis begins at 0; the x axis is logarithmic if `log` says so."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log: bool = True

    def svg(self) -> str:
        """Return the whole file."""
        xs = [x for line in self.lines for x, _ in line.points]
        top = _round_up(max(y for line in self.lines for _, y in line.points))
        low, high = self._on_axis(min(xs)), self._on_axis(max(xs))

        def place(x: float, y: float) -> tuple[float, float]:
            share = (self._on_axis(x) - low) / (high - low or 1)
            return (
                _LEFT + share * (WIDTH - _LEFT - _RIGHT),
                HEIGHT - _BOTTOM - y / top * (HEIGHT - _TOP - _BOTTOM),
            )

        parts = [_text(WIDTH / 2, 16, self.title, anchor="middle", weight="bold")]
        for step in range(6):
            value = top * step / 5
            left, at = place(min(xs), value)
            parts.append(_rule(left, at, WIDTH - _RIGHT, at))
            parts.append(_text(_LEFT - 6, at + 4, f"{value:g}", anchor="end"))
        for x in sorted(set(xs)):
            across, base = place(x, 0)
            parts.append(_text(across, base + 16, _short(x), anchor="middle"))
        parts.append(_text(WIDTH / 2, HEIGHT - 8, self.x, anchor="middle"))
        parts.append(_text(_LEFT, _TOP - 8, self.y))
        for number, line in enumerate(self.lines):
            parts.extend(_drawn(line, [place(*point) for point in line.points], number))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
            f' font-family="sans-serif" font-size="11" role="img">'
            f"<title>{escape(self.title)}</title>"
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>{"".join(parts)}</svg>\n'
        )

    def _on_axis(self, x: float) -> float:
        return log10(x) if self.log else x


def _drawn(line: Line, placed: list[tuple[float, float]], number: int) -> Iterable[str]:
    colour = _COLOURS[number]
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    yield f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, y in placed:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
    across = WIDTH - _RIGHT
    yield _text(across, _TOP - 8 + 13 * number, line.name, anchor="end", fill=colour)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    weight: str = "normal",
    fill: str = "#333",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
        f' fill="{fill}">{escape(text)}</text>'
    )


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, ... times a power of ten."""
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def _short(value: float) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{ceil(value)}"

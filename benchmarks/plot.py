"""Lines in a coordinate system, as SVG: what the growth pictures need and no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from xml.sax.saxutils import escape

# Small enough that text of 13 can still be read where a telephone shows it at three quarters.
WIDTH, HEIGHT = 460, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 78, 50
_COLOURS = ("#0f766e", "#b45309", "#1d4ed8")  # readable on white, and told apart by most eyes
_SOFT, _INK = "#5b6673", "#17202a"


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
        xs = sorted({x for line in self.lines for x, _ in line.points})
        values = _ticks(max(y for line in self.lines for _, y in line.points))
        low, high = self._on_axis(xs[0]), self._on_axis(xs[-1])

        def place(x: float, y: float) -> tuple[float, float]:
            share = (self._on_axis(x) - low) / (high - low or 1)
            return (
                _LEFT + share * (WIDTH - _LEFT - _RIGHT),
                HEIGHT - _BOTTOM - y / values[-1] * (HEIGHT - _TOP - _BOTTOM),
            )

        parts = [_text(16, 26, self.title, weight="600", size=15)]
        parts.extend(_legend([line.name for line in self.lines]))
        parts.append(_text(16, _TOP - 12, self.y, fill=_SOFT))
        for value in values:
            left, at = place(xs[0], value)
            parts.append(_rule(left, at, WIDTH - _RIGHT, at, "#e3e8ee" if value else _SOFT))
            parts.append(_text(_LEFT - 8, at + 4.5, _short(value), anchor="end", fill=_SOFT))
        taken = 0.0
        for x in xs:
            across, base = place(x, 0)
            parts.append(_rule(across, base, across, base + 4, _SOFT))
            if across - taken > 24:  # no number into its neighbour
                parts.append(_text(across, base + 18, _short(x), anchor="middle", fill=_SOFT))
                taken = across
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        parts.append(_text(middle, HEIGHT - 10, self.x, anchor="middle", fill=_SOFT))
        for colour, line in zip(_COLOURS, self.lines, strict=False):
            parts.extend(_drawn([place(*point) for point in line.points], colour))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
            f' width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, sans-serif" role="img">\n'
            f"<title>{escape(self.title)}</title>\n"
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#fff"/>\n'
            + "\n".join(parts)
            + "\n</svg>\n"
        )

    def _on_axis(self, x: float) -> float:
        return log10(x) if self.log else x


def _legend(names: Sequence[str]) -> Iterator[str]:
    across = 16.0
    for colour, name in zip(_COLOURS, names, strict=False):
        yield f'<rect x="{across:.1f}" y="40" width="14" height="4" rx="2" fill="{colour}"/>'
        yield _text(across + 20, 46.5, name)
        across += 40 + 7.2 * len(name)


def _drawn(placed: Sequence[tuple[float, float]], colour: str) -> Iterable[str]:
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    yield (
        f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="2.5"'
        ' stroke-linejoin="round"/>'
    )
    for x, y in placed:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    weight: str = "normal",
    fill: str = _INK,
    size: int = 13,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
        f' font-size="{size}" fill="{fill}">{escape(text)}</text>'
    )


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _ticks(top: float) -> list[float]:
    """Return 0 and up to six round steps, of which the last is not below `top`."""
    power = 10.0 ** floor(log10(top))
    step = next(part * power for part in (0.2, 0.25, 0.5, 1, 2) if top <= 6 * part * power)
    return [step * number for number in range(ceil(top / step) + 1)]


def _short(value: float) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"

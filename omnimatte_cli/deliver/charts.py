"""Line charts over time as inline SVG, in the colours of the page around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 480, 190  # of a chart in its own units
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 28  # margins
TICKS = 4  # about so many on the vertical axis
FLAT = 1e-9  # a range smaller than this is widened to be drawn


@dataclass(frozen=True)
class Series:
    """One line. values: one for each of the chart's frames; None leaves a gap."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Chart:
    """frames: numbers on the horizontal axis. unit: of the values. marks: frames to point out."""

    title: str
    unit: str
    frames: tuple[int, ...]
    series: tuple[Series, ...]
    note: str = ""
    marks: tuple[int, ...] = ()

    @property
    def empty(self) -> bool:
        return not any(v is not None for s in self.series for v in s.values)


def ticks_of(low: float, high: float) -> list[float]:
    """Round numbers that span low to high, about TICKS of them."""
    span = max(high - low, FLAT)
    raw = span / TICKS
    size = 10 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= raw)
    first, last = math.floor(low / step + FLAT), math.ceil(high / step - FLAT)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def draw(chart: Chart) -> str:
    """The chart as an <svg> element; every text in it is escaped."""
    known = [v for s in chart.series for v in s.values if v is not None]
    ticks = ticks_of(min(known), max(known))
    low, high = ticks[0], ticks[-1]
    first, last = chart.frames[0], chart.frames[-1]

    def x(frame: float) -> float:
        return LEFT + (frame - first) / max(last - first, 1) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (high - value) / max(high - low, FLAT) * (HEIGHT - TOP - BOTTOM)

    label = escape(f"{chart.title}, {chart.unit}, frames {first} to {last}")
    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">']
    for tick in ticks:
        line = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"'
        out.append(f'<line class="grid" {line}/>')
        out.append(
            f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
        )
    for mark in chart.marks:
        out.append(f'<line class="mark" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{TOP}" ')
        out.append(f'y2="{HEIGHT - BOTTOM}"/>')
    for frame in dict.fromkeys((first, (first + last) // 2, last)):
        anchor = "start" if frame == first else "end" if frame == last else "middle"
        text = f"frame {frame}" if frame == first else str(frame)
        out.append(
            f'<text x="{x(frame):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{text}</text>'
        )
    for number, series in enumerate(chart.series):
        path = path_of([x(f) for f in chart.frames], series.values, y)
        out.append(f'<path class="line c{number % 6}" d="{path}"/>')
    return "".join([*out, "</svg>"])


def path_of(xs: Sequence[float], values: Sequence[float | None], y) -> str:
    """An SVG path through the values; a new piece after every gap, a dot for a lone value."""
    pieces: list[str] = []
    pen_down = False
    for x, value in zip(xs, values, strict=True):
        if value is None:
            pen_down = False
            continue
        pieces.append(f"{'L' if pen_down else 'M'}{x:.1f} {y(value):.1f}")
        if not pen_down:
            pieces.append("h.01")
        pen_down = True
    return "".join(pieces)

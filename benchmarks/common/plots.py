"""Bars as an SVG: a panel for each quantity, a bar for each client, a whisker from quartile to quartile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.common.figures import Figures, Key
from benchmarks.common.statistics import number
from tools.drawing import label, nice, picture

__all__ = ["Bar", "Panel", "Plot", "drawing", "ratios"]

WIDTH, MARGIN, NAMES, ROW, HEAD, FOOT = 460, 12, 150, 20, 30, 26
"""Of a panel, in pixels: its width, what is left free, the names' column, a bar with its gap, the title, the scale."""
OURS, OTHERS, FLOOR, INK, PALE, GROUND, TARGET = (
    *("#2f6fde", "#b9c0cb", "#59636f"),
    *("#1f2328", "#667080", "#ffffff", "#c4332b"),
)


@dataclass(frozen=True)
class Bar:
    """A client's figure.

    Args:
        low, high: its quartiles.
    """

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Panel:
    """Bars of one quantity.

    Args:
        title: above them.
        bars: from top to bottom.
        unit: behind the figures.
        target: where a line is drawn.
        logarithmic: for figures that differ by more than two powers of ten.
    """

    title: str
    bars: Sequence[Bar]
    unit: str = ""
    target: float | None = None
    logarithmic: bool = False


@dataclass(frozen=True)
class Plot:
    """A picture of the page.

    Args:
        name: its file's, without the ending.
        title: for readers who cannot see it.
        panels: two in a row.
    """

    name: str
    title: str
    panels: Sequence[Panel]


def ratios(figures: Figures, clients: Sequence[str], quantity: str, below: Key) -> list[Bar]:
    """A bar for each client that was measured, as multiples of one of them."""
    found = [(client, figures.quotient((client, quantity), below)) for client in clients]
    return [Bar(client, one.median, one.low, one.high) for client, one in found if one is not None]


def drawing(plot: Plot) -> str:
    """The SVG."""
    columns = min(2, len(plot.panels))
    lines: list[str] = []
    top = 0
    for first in range(0, len(plot.panels), columns):
        row = plot.panels[first : first + columns]
        for column, panel in enumerate(row):
            lines += _panel(panel, column * WIDTH, top)
        top += max(_height(panel) for panel in row)
    return picture(columns * WIDTH, top, plot.title, GROUND, lines)


def _height(panel: Panel) -> int:
    return HEAD + ROW * len(panel.bars) + FOOT + MARGIN


def _panel(panel: Panel, left: float, top: float) -> Iterator[str]:
    scale = _Scale(panel, left + NAMES, WIDTH - NAMES - 90)
    bottom = top + HEAD + ROW * len(panel.bars)
    yield label(left + MARGIN, top + 18, panel.title, INK, size=13)
    for mark in scale.marks():
        x = scale.at(mark)
        yield f'<path d="M{x:.1f} {top + HEAD:.0f}V{bottom:.0f}" stroke="#e4e7eb"/>'
        yield label(x, bottom + 14, f"{mark:g}{panel.unit}", PALE, anchor="middle")
    for row, bar in enumerate(panel.bars):
        yield from _bar(bar, panel.unit, scale, left + NAMES, top + HEAD + ROW * row)
    if panel.target is not None:
        x = scale.at(panel.target)
        yield f'<path d="M{x:.1f} {top + HEAD - 4:.0f}V{bottom:.0f}" stroke="{TARGET}" stroke-dasharray="4 3"/>'


def _bar(bar: Bar, unit: str, scale: _Scale, left: float, top: float) -> Iterator[str]:
    colour = OURS if bar.name.startswith("ours") else FLOOR if bar.name.startswith("raw") else OTHERS
    middle, end = top + ROW / 2, scale.at(bar.value)
    yield label(left - 6, middle + 4, bar.name, INK, anchor="end")
    length = max(1.0, end - left)
    yield f'<rect x="{left:.1f}" y="{top + 3:.1f}" width="{length:.1f}" height="{ROW - 6}" fill="{colour}"/>'
    if bar.high > bar.low:
        low, high = scale.at(bar.low), scale.at(bar.high)
        yield f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}" stroke="{INK}" stroke-width="1.2"/>'
    yield label(max(end, scale.at(bar.high)) + 5, middle + 4, f"{number(bar.value)}{unit}", INK)


class _Scale:
    """From figures to pixels."""

    def __init__(self, panel: Panel, left: float, width: float) -> None:
        figures = [value for bar in panel.bars for value in (bar.value, bar.high)]
        figures += [] if panel.target is None else [panel.target]
        self._left, self._width = left, width
        self._top = nice(max(figures, default=1.0))
        self._powers: tuple[int, int] | None = None
        smallest = min((value for value in figures if value > 0), default=1.0)
        if panel.logarithmic:
            self._powers = math.floor(math.log10(smallest) - 1e-9), math.ceil(math.log10(self._top) - 1e-9)

    def marks(self) -> list[float]:
        """Where the scale has a line."""
        if self._powers is None:
            return [self._top * part / 4 for part in range(5)]
        low, high = self._powers
        return [10.0**power for power in range(low, high + 1)]

    def at(self, value: float) -> float:
        """Where a figure is."""
        if self._powers is None:
            return self._left + self._width * value / self._top
        low, high = self._powers
        part = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return self._left + self._width * part

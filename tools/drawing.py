"""Draws the panels of a Grafana dashboard as one SVG, from what Prometheus answers. It is not Grafana's own drawing.

`picture`, `label` and `nice` are also what other pictures of the documentation are made with.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

__all__ = ["Drawn", "Series", "drawing", "label", "nice", "picture"]

COLUMN: Final = 50
ROW: Final = 26
GAP: Final = 8
COLOURS: Final = (
    *("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9"),
    *("#37872d", "#e0b400", "#1f60c4", "#fa6400", "#c4162a", "#8f3bb8", "#6ed0e0"),
)
INK, PALE, GROUND, PANEL = "#ccccdc", "#7b7f8a", "#111217", "#181b1f"


@dataclass(frozen=True)
class Series:
    """One line of a panel.

    Args:
        name: what the legend says.
        points: pairs of seconds and value; the seconds begin at 0.
    """

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Drawn:
    """A panel, and what is to be seen in it.

    Args:
        panel: as the dashboard has it.
        series: what its expressions amount to.
    """

    panel: Mapping[str, Any]
    series: Sequence[Series]


def drawing(panels: Sequence[Drawn], length: float, title: str) -> str:
    """The dashboard as an SVG.

    Args:
        panels: rows included, which have no series.
        length: seconds that the data covers.
        title: for readers who cannot see it.
    """
    height = max(one.panel["gridPos"]["y"] + one.panel["gridPos"]["h"] for one in panels) * ROW + GAP
    width = 24 * COLUMN + GAP
    return picture(width, height, title, GROUND, [line for one in panels for line in _panel(one, length)])


def picture(width: float, height: float, title: str, ground: str, lines: Sequence[str]) -> str:
    """An SVG of these lines.

    Args:
        title: for readers who cannot see it.
        ground: the colour behind everything.
    """
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="11">\n<title>{escape(title)}</title>\n'
        f'<rect width="{width}" height="{height}" fill="{ground}"/>\n{body}\n</svg>\n'
    )


def _panel(drawn: Drawn, length: float) -> Iterator[str]:
    place = drawn.panel["gridPos"]
    x, y = place["x"] * COLUMN + GAP, place["y"] * ROW + GAP
    if drawn.panel["type"] == "row":
        yield label(x + 4, y + 14, drawn.panel["title"], INK, size=13)
        return
    width, height = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
    yield f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="2" fill="{PANEL}"/>'
    yield label(x + 10, y + 17, drawn.panel["title"], INK, size=12)
    legend = list(_legend(drawn.series, x + 10, y + height, width - 20))
    rows = 1 + max((row for row, _ in legend), default=0)
    yield from (line for _, line in legend)
    plot = _Plot(x + 58, y + 28, width - 76, height - 56 - 14 * rows, length)
    yield from plot.lines(drawn)


class _Plot:
    """Where lines are drawn, and at which scale."""

    def __init__(self, x: float, y: float, width: float, height: float, length: float) -> None:
        self._x, self._y, self._width, self._height, self._length = x, y, width, height, length
        self._top = 1.0

    def lines(self, drawn: Drawn) -> Iterator[str]:
        """The axes, and every series."""
        defaults = drawn.panel["fieldConfig"]["defaults"]
        is_stacked = defaults["custom"]["stacking"]["mode"] == "normal"
        series = _stacked(drawn.series) if is_stacked else drawn.series
        self._top = nice(max((value for one in series for _, value in one.points), default=1.0))
        for part in range(5):
            yield from self._grid(part / 4, defaults["unit"])
        for part in range(5):
            seconds = self._length * part / 4
            yield label(self._across(seconds), self._y + self._height + 14, f"{seconds:.0f} s", PALE, anchor="middle")
        # Of stacked series the highest is drawn first, and each covers what it stands on.
        for number, one in reversed(list(enumerate(series))):
            yield from self._series(one, COLOURS[number % len(COLOURS)], is_stacked)

    def _grid(self, part: float, unit: str) -> Iterator[str]:
        y = self._up(self._top * part)
        yield f'<path d="M{self._x:.0f} {y:.1f}h{self._width:.0f}" stroke="#2c3235"/>'
        yield label(self._x - 6, y + 4, _with_unit(self._top * part, unit), PALE, anchor="end")

    def _series(self, series: Series, colour: str, is_stacked: bool) -> Iterator[str]:
        for run in _runs(series.points):
            path = "L".join(f"{self._across(when):.1f} {self._up(value):.1f}" for when, value in run)
            if is_stacked:
                first, last, floor = self._across(run[0][0]), self._across(run[-1][0]), self._up(0)
                yield f'<path d="M{first:.1f} {floor:.1f}L{path}L{last:.1f} {floor:.1f}Z" fill="{colour}"/>'
            yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'

    def _across(self, when: float) -> float:
        return self._x + self._width * when / self._length

    def _up(self, value: float) -> float:
        return self._y + self._height * (1 - value / self._top)


def _legend(series: Sequence[Series], x: float, bottom: float, width: float) -> Iterator[tuple[int, str]]:
    """Each entry with its row, counted from the bottom row upwards once all are known."""
    placed, row, across = [], 0, 0.0
    for number, one in enumerate(series):
        needed = 22 + 6.2 * len(one.name)
        if across and across + needed > width:
            row, across = row + 1, 0.0
        placed.append((row, x + across, number, one.name))
        across += needed
    for at, left, number, name in placed:
        y = bottom - 10 - 14 * (row - at)
        mark = f'<path d="M{left:.0f} {y - 4:.0f}h10" stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="3"/>'
        yield row, mark + label(left + 14, y, name, INK)


def _stacked(series: Sequence[Series]) -> list[Series]:
    """Each on top of those before it."""
    below: dict[float, float] = {}
    found = []
    for one in series:
        points = []
        for when, value in one.points:
            below[when] = below.get(when, 0.0) + value
            points.append((when, below[when]))
        found.append(Series(one.name, points))
    return found


def _runs(points: Sequence[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """Pieces without a gap: where Prometheus has no value, there is no line."""
    if not points:
        return
    step = min((after[0] - before[0] for before, after in itertools.pairwise(points)), default=1.0)
    run = [points[0]]
    for before, after in itertools.pairwise(points):
        if after[0] - before[0] > 1.5 * step:
            yield run
            run = []
        run.append(after)
    yield run


def nice(value: float) -> float:
    """A round number that is not less."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value * 0.999)


def _with_unit(value: float, unit: str) -> str:
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g}{ {'s': ' s', 'reqps': ' req/s', 'ops': ' /s'}.get(unit, '') }"


def label(x: float, y: float, text: str, colour: str, *, size: int = 11, anchor: str = "start") -> str:
    """A line of text."""
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
    )

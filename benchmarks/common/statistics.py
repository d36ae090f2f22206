"""Medians and their spread: of figures that were taken in turns, a round after the other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Spread", "number", "quotients", "spread"]

UNKNOWN_SPREAD = 0.25
"""What a figure is taken to vary by, as a part of it, when there were too few rounds to see."""


@dataclass(frozen=True)
class Spread:
    """A median, and the quartiles beside it.

    Args:
        rounds: how many figures it stands for.
    """

    median: float
    low: float
    high: float
    rounds: int

    @property
    def uncertainty(self) -> float:
        """How far off the median may be: half a notch of a box plot (McGill, Tukey and Larsen, 1978)."""
        if self.rounds < 3:
            return UNKNOWN_SPREAD * abs(self.median)
        return 1.57 * (self.high - self.low) / math.sqrt(self.rounds)


def spread(figures: Sequence[float]) -> Spread:
    """The median of at least one figure, with its quartiles."""
    if len(figures) == 1:
        return Spread(figures[0], figures[0], figures[0], 1)
    low, median, high = statistics.quantiles(figures, n=4, method="inclusive")
    return Spread(median, low, high, len(figures))


def quotients(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Within each round: what a busy machine does to one, it did to the other."""
    return [one / other for one, other in zip(above, below, strict=True)]


def number(value: float) -> str:
    """With three digits, which is more than most of them are good for."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

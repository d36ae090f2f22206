"""What a case is: how it is measured, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.common.figures import Claim, Figures
from benchmarks.common.plots import Plot
from benchmarks.common.session import Session

__all__ = ["Case", "no_plots"]


def no_plots(_figures: Figures) -> Sequence[Plot]:
    """For a case that a table says all about."""
    return ()


@dataclass(frozen=True)
class Case:
    """One file of benchmarks/cases.

    Args:
        name: for `--only`.
        title: of its section.
        introduction: what is measured and how to read it.
        measure: takes the figures.
        tables: the section's lines, of the figures.
        claims: what is compared from run to run, targets among it.
        plots: the section's pictures.
    """

    name: str
    title: str
    introduction: str
    measure: Callable[[Session], Figures]
    tables: Callable[[Figures], list[str]]
    claims: tuple[Claim, ...]
    plots: Callable[[Figures], Sequence[Plot]] = no_plots

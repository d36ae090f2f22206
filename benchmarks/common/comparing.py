"""Whether a figure got worse: a rule with no clock and no server in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from benchmarks.common.figures import Claim, Results
from benchmarks.common.statistics import Spread

__all__ = ["Incomparable", "Regression", "is_worse", "regressions"]

ALWAYS_ALLOWED = 0.1
"""Two runs of the same code differ by so much, as a part of the figure, on a machine that others use too."""
SAFETY = 1.5
"""Runs differ more from each other than the rounds of one of them."""


class Incomparable(Exception):
    """These two results are not of the same kind; the text says how they differ."""


@dataclass(frozen=True)
class Regression:
    """A figure that got worse by more than noise."""

    case: str
    claim: Claim
    old: Spread
    new: Spread

    def __str__(self) -> str:
        return (
            f"{self.case}: {self.claim.what} was {self.old.median:.3g} and is {self.new.median:.3g} "
            f"(quartiles {self.old.low:.3g} to {self.old.high:.3g}, now {self.new.low:.3g} to {self.new.high:.3g})"
        )


def is_worse(old: Spread, new: Spread, better: Literal["lower", "higher"]) -> bool:
    """Whether the new median is worse than the old one by more than both of them may be off."""
    lost = new.median - old.median if better == "lower" else old.median - new.median
    noise = SAFETY * math.hypot(old.uncertainty, new.uncertainty)
    return lost > max(ALWAYS_ALLOWED * abs(old.median), noise)


def regressions(claims: Iterable[tuple[str, Claim]], old: Results, new: Results) -> Iterator[Regression]:
    """What got worse, of all that both have measured.

    Args:
        claims: each with the name of its case.

    Raises:
        Incomparable: one of them was quick and the other was not.
    """
    if old.mode != new.mode:
        raise Incomparable(f"the older results are those of a {old.mode} run, these of a {new.mode} one")
    for case, claim in claims:
        if case not in old.cases or case not in new.cases:
            continue
        before, after = claim.of(old.cases[case].figures), claim.of(new.cases[case].figures)
        if before is not None and after is not None and is_worse(before, after, claim.better):
            yield Regression(case, claim, before, after)

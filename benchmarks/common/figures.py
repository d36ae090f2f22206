"""What was measured: for each client and quantity one figure a round, and what is claimed of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from benchmarks.common.statistics import Spread, quotients, spread

__all__ = ["Claim", "Figures", "Key", "Measured", "Results"]

FORMAT = 1
Key = tuple[str, str]
"""A client and a quantity."""


@dataclass
class Figures:
    """The figures of a case, by client and quantity; lists of the same case go through the same rounds."""

    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def note(self, client: str, quantities: Mapping[str, float], suffix: str = "") -> None:
        """Adds a round's figures, each under its name and this suffix."""
        known = self.rounds.setdefault(client, {})
        for name, value in quantities.items():
            known.setdefault(f"{name}{suffix}", []).append(float(f"{value:.5g}"))  # more digits say nothing

    def get(self, client: str, quantity: str) -> list[float]:
        """One figure a round; none when the client was not there or does not do this."""
        return self.rounds.get(client, {}).get(quantity, [])

    def middle(self, client: str, quantity: str) -> float:
        """The median."""
        return spread(self.get(client, quantity)).median

    def quotient(self, above: Key, below: Key) -> Spread | None:
        """How many times as much the one is as the other, if both were measured."""
        one, other = self.get(*above), self.get(*below)
        return spread(quotients(one, other)) if one and other else None


@dataclass(frozen=True)
class Claim:
    """A figure that is compared from run to run, and that may have a target.

    Args:
        what: the figure, for a reader.
        above: the client and quantity that it is about.
        below: what it is divided by, within each round; None for a figure that means the same on every machine.
        better: which is better.
        target: what is to be reached.
        row: where it stands in the table of targets; those without are only compared.
        why: what keeps it from being reached, shown when it is not.
        unit: behind the figure.
        scale: what a figure without a divisor is multiplied with to have that unit.
    """

    what: str
    above: Key
    below: Key | None = None
    better: Literal["lower", "higher"] = "lower"
    target: float | None = None
    row: int | None = None
    why: str = ""
    unit: str = ""
    scale: float = 1.0

    def of(self, figures: Figures) -> Spread | None:
        """The figure, if it was measured."""
        if self.below is not None:
            return figures.quotient(self.above, self.below)
        values = figures.get(*self.above)
        return spread([value * self.scale for value in values]) if values else None

    def is_met_by(self, median: float) -> bool:
        """Whether the target is reached, at the precision that is shown."""
        assert self.target is not None
        shown = float(f"{median:.3g}")
        return shown <= self.target if self.better == "lower" else shown >= self.target


@dataclass(frozen=True)
class Measured:
    """A case's figures, and where they were taken."""

    place: str
    figures: Figures


@dataclass
class Results:
    """All figures of a run.

    Args:
        mode: `full` or `quick`; the two are not compared, since they measure different amounts.
        cases: by name.
    """

    mode: str
    cases: dict[str, Measured] = field(default_factory=dict)

    def text(self) -> str:
        """As JSON, a client a line, so that a change is seen where it is."""
        cases = [
            f'    {json.dumps(name)}: {{\n      "place": {json.dumps(case.place)},\n      "figures": {{\n'
            + ",\n".join(
                f"        {json.dumps(client)}: {json.dumps(quantities)}"
                for client, quantities in case.figures.rounds.items()
            )
            + "\n      }\n    }"
            for name, case in self.cases.items()
        ]
        head = f'{{\n  "format": {FORMAT},\n  "mode": {json.dumps(self.mode)},\n  "cases": {{\n'
        return head + ",\n".join(cases) + "\n  }\n}\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Of a file.

        Raises:
            ValueError: it is in another format.
        """
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if found.get("format") != FORMAT:
            raise ValueError(f"{path} is in format {found.get('format')!r}, not in {FORMAT}: measure again")
        cases = {
            name: Measured(case["place"], Figures({client: dict(all_) for client, all_ in case["figures"].items()}))
            for name, case in found["cases"].items()
        }
        return cls(found["mode"], cases)

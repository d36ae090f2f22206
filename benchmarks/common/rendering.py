"""The page docs/benchmarks.md: made of results alone, so that it can be made again without measuring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.common.cases import Case
from benchmarks.common.figures import Claim, Figures, Results
from benchmarks.common.plots import Plot
from benchmarks.common.statistics import number

__all__ = ["page", "plots", "table", "targets"]

INTRODUCTION = """\
# Benchmarks

What this library costs, beside other clients and beside the floor. Clients ask the same real server, each in a process
and an environment of its own, taking turns in an order that moves on each round. What counts are the ratios: each is
taken within a round, and the median over the rounds is given. Absolute times say something about this machine only.

<!-- not run: it takes half an hour -->
```sh
make bench
```

`.venv/bin/python -m benchmarks --help` tells the rest: `--quick` measures less of everything, in under two minutes once
the other clients' environments are there; `--only lookup` a single case; `--compare OLD.json` ends with code 1 when a
ratio got worse by more than the rounds of both runs vary. `docs/benchmarks.json` has every round's figures.
"""


def page(cases: Sequence[Case], results: Results) -> str:
    """All of it; a case that was not measured says so."""
    parts = [INTRODUCTION, targets(cases, results)]
    for case in cases:
        measured = results.cases.get(case.name)
        lines = [f"## {case.title}", "", case.introduction, ""]
        if measured is None:
            lines += ["Not measured yet.", ""]
        else:
            lines += [f"![{plot.title}](benchmarks/{plot.name}.svg)\n" for plot in case.plots(measured.figures)]
            lines += [*case.tables(measured.figures), f"*{measured.place}*", ""]
        parts.append("\n".join(lines))
    return "\n".join(parts)


def plots(cases: Iterable[Case], results: Results) -> list[Plot]:
    """The pictures that the page shows."""
    return [
        plot for case in cases if case.name in results.cases for plot in case.plots(results.cases[case.name].figures)
    ]


def targets(cases: Iterable[Case], results: Results) -> str:
    """Every target in one table, in the order of their rows."""
    found = [(claim, results.cases.get(case.name)) for case in cases for claim in case.claims if claim.row is not None]
    found.sort(key=lambda pair: pair[0].row or 0)
    rows = [_target(claim, measured.figures if measured else Figures()) for claim, measured in found]
    explanation = "Quartiles are in brackets. Below the table stands why a target is not met."
    reasons: dict[str, list[str]] = {}
    for claim, measured in found:
        if measured and claim.why and not _is_met(claim, measured.figures):
            reasons.setdefault(claim.why, []).append(f"{claim.row}, {claim.what}")
    notes = [f"- **{'; '.join(which)}**: {why}" for why, which in reasons.items()]
    head = ("#", "what", "measured", "target", "")
    return "\n".join(["## Targets", "", explanation, "", *table(head, rows), *notes, *([""] if notes else [])])


def _is_met(claim: Claim, figures: Figures) -> bool:
    found = claim.of(figures)
    return found is not None and claim.is_met_by(found.median)


def _target(claim: Claim, figures: Figures) -> tuple[str, ...]:
    assert claim.target is not None
    found = claim.of(figures)
    bound = f"{'≤' if claim.better == 'lower' else '≥'} {claim.target:g}{claim.unit}"
    if found is None:
        return (str(claim.row), claim.what, "not measured", bound, "")
    range_ = f" ({number(found.low)} to {number(found.high)})" if found.rounds > 1 else ""
    verdict = "met" if claim.is_met_by(found.median) else "not met"
    return (str(claim.row), claim.what, f"{number(found.median)}{claim.unit}{range_}", bound, verdict)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table, and an empty one."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]

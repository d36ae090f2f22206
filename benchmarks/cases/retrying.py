"""What the retry layer costs a call that succeeds at once."""

from __future__ import annotations

from benchmarks.common.cases import Case
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.rendering import table
from benchmarks.common.session import Session

INTRODUCTION = (
    "What being ready to repeat a call adds to one that succeeds at once, without a network. The first attempt is made "
    "outside of tenacity, which only drives the repeats; beside it what tenacity's own loop around the attempt would "
    "add."
)
FACES = {"threads": "", "tasks": ", tasks"}


def measure(session: Session) -> Figures:
    figures = Figures()
    with session.local() as worker:
        for _ in session.rounds(9):
            figures.note("ours", worker.ask(do="retrying", calls=session.amount(20_000, 5000)))
    return figures


def tables(figures: Figures) -> list[str]:
    rows = [
        [face, *(f"{figures.middle('ours', kind + suffix) * 1e6:.2f} µs" for kind in ("layer", "tenacity"))]
        for face, suffix in FACES.items()
    ]
    return table(["face", "the retry layer", "tenacity around it"], rows)


CLAIMS = tuple(
    Claim(
        f"retry layer of a successful call, {face}",
        ("ours", f"layer{FACES[face]}"),
        target=target,
        row=24,
        unit=" µs",
        scale=1e6,
    )
    for face, target in (("threads", 1.0), ("tasks", 2.0))
)
CASE = Case("retrying", "The retry layer", INTRODUCTION, measure, tables, CLAIMS)

"""One change among 10,000 instances."""

from __future__ import annotations

from benchmarks.common.cases import Case
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.session import Session

SIZE = 10_000
INTRODUCTION = (
    "An agent always sends the whole list. What is unchanged is known by its bytes and kept, in steps between which an "
    "event loop can do other things."
)


def measure(session: Session) -> Figures:
    figures = Figures()
    for number in session.rounds(7):
        with session.local() as worker:
            figures.note("ours", worker.ask(do="rereading", size=SIZE, number=number))
    return figures


def tables(figures: Figures) -> list[str]:
    factor = figures.quotient(("ours", "whole"), ("ours", "change"))
    assert factor is not None
    change, stall, first = (figures.middle("ours", kind) * 1000 for kind in ("change", "stall", "first stall"))
    told = (
        f"One change among {SIZE} instances is read {factor.median:.0f} times faster than the whole answer into whole "
        f"entries, in {change:.1f} ms. Meanwhile nothing else waits longer than {stall:.1f} ms, nor than "
        f"{first:.1f} ms at the first answer."
    )
    return [told, ""]


CLAIMS = (
    Claim(
        f"all of {SIZE} whole entries / one change",
        ("ours", "whole"),
        ("ours", "change"),
        better="higher",
        target=10,
        row=10,
    ),
    *(
        Claim(f"longest stall of the event loop, {what}", ("ours", kind), target=5, row=10, unit=" ms", scale=1000)
        for kind, what in (("stall", "one change"), ("first stall", "first answer"))
    ),
)
CASE = Case("rereading", "Reading an answer again", INTRODUCTION, measure, tables, CLAIMS)

"""What a kept instance weighs."""

from __future__ import annotations

from benchmarks.common.cases import Case
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.rendering import table
from benchmarks.common.session import Session

SIZES = (1_000, 10_000, 100_000)
INTRODUCTION = (
    "Bytes that an instance takes in a resolver's list, tags and meta kept, beside a whole health entry as a Pydantic "
    "model."
)


def measure(session: Session) -> Figures:
    figures = Figures()
    for _ in session.rounds(3):
        for size in session.amount(SIZES, SIZES[:1]):
            with session.local() as worker:  # a new process: what others left behind is not weighed
                whole = size <= 10_000  # more whole ones would take 700 MB
                figures.note("ours", worker.ask(do="memory", size=size, whole=whole), f":{size}")
    return figures


def tables(figures: Figures) -> list[str]:
    rows = []
    for size in SIZES:
        if figures.get("ours", f"kept:{size}"):
            factor = figures.quotient(("ours", f"whole:{size}"), ("ours", f"kept:{size}"))
            rows.append(
                [str(size), f"{figures.middle('ours', f'kept:{size}'):.0f}", f"{factor.median:.0f}" if factor else ""]
            )
    return table(["instances", "bytes each", "whole entries / ours"], rows)


CLAIMS = (
    *(
        Claim(
            f"whole entries / kept instances, {size}",
            *(("ours", f"whole:{size}"), ("ours", f"kept:{size}")),
            better="higher",
            target=12,
            row=14,
        )
        for size in SIZES[:2]
    ),
    *(
        Claim(f"bytes of a kept instance, of {size}", ("ours", f"kept:{size}"), target=550, row=14, unit=" B")
        for size in SIZES
    ),
)
CASE = Case("memory", "Memory of a kept instance", INTRODUCTION, measure, tables, CLAIMS)

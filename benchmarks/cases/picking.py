"""A pick from memory."""

from __future__ import annotations

from benchmarks.common.cases import Case
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.rendering import table
from benchmarks.common.session import Session

WAYS = {
    "round robin": "a dict look-up and a plain round robin",
    "pick, forever": "`pick()`, kept for ever",
    "pick, a while": "`pick()`, kept for a while: the age of the list is looked at",
    "pick, tasks": "`pick()` of the face for tasks, kept for a while",
    "instances": "`instances()`",
}
INTRODUCTION = (
    "A resolver's `pick()` beside a dict look-up, and beside what it takes the place of: asking the agent each time."
)


def measure(session: Session) -> Figures:
    figures = Figures()
    agent = session.server()
    with session.local() as local, session.workers(["py-consul"], agent.host, agent.port) as workers:
        for _ in session.rounds(7):
            figures.note("ours", local.ask(do="picks"))
            figures.note("ours", local.ask(do="following_pick", port=agent.port))
            for worker in workers:
                order = {"operation": "resolve", "argument": "bench-1", "calls": 200}
                figures.note(worker.name, worker.ask(do="latency", **order))
    return figures


def tables(figures: Figures) -> list[str]:
    found = {what: figures.quotient(("ours", way), ("ours", "dict")) for way, what in WAYS.items()}
    rows = [[what, f"{one.median:.1f}"] for what, one in found.items() if one is not None]
    lines = table(["what", "multiples of a dict look-up"], rows)
    lines += [f"A dict look-up takes {figures.middle('ours', 'dict') * 1e9:.0f} ns.", ""]
    asked = figures.quotient(("py-consul", "p50"), ("ours", "pick"))
    return [
        *lines,
        *([f"Asking the agent with py-consul takes {asked.median:.0f} times as long.", ""] if asked else []),
    ]


CLAIMS = (
    *(
        Claim(f"{what} / dict look-up", ("ours", way), ("ours", "dict"), target=target, row=7)
        for way, what, target in (
            ("pick, forever", "pick(), kept for ever", 7),
            ("pick, a while", "pick() with a look at the age", 7),
            ("pick, tasks", "pick() of the face for tasks, with a look at the age", 9),
        )
    ),
    Claim("py-consul's look-up / pick()", ("py-consul", "p50"), ("ours", "pick"), better="higher", target=5000, row=8),
)
CASE = Case("picking", "A pick from memory", INTRODUCTION, measure, tables, CLAIMS)

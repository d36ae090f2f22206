"""How soon a change is seen."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from benchmarks.common.cases import Case
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.following import followed
from benchmarks.common.plots import Panel, Plot, ratios
from benchmarks.common.rendering import table
from benchmarks.common.session import Session, turn
from benchmarks.common.statistics import number
from benchmarks.common.writing import Writer

CLIENTS = (
    "raw",
    "raw-async",
    "ours",
    "ours-async",
    "ours, a watch's reader",
    "ours-async, a watch's reader",
    "py-consul",
)
INTRODUCTION = """\
From the server's acknowledgement of a change until the client has it, one instance, four changes a second. Seen means
that `pick()` gives it; the rows of readers add how long it takes to wake whoever iterates over a watch.

After an idle quarter of a second every line of code runs from cold memory and costs ten times as much as in a loop, in
the bare socket's client too. So an answer that is plainly good news is taken over in the very callback that finds it on
the socket, before any task has its turn; whatever else there is to it comes after. Traced: 60 µs of the event loop
beyond the bare socket's wake, 40 for HTTP, 100 for the instance (`json.loads` alone takes 77), and 50 to hand it to the
resolver.

The floor for tasks is a bare connection of asyncio's, as for look-ups; the table has both beside the bare socket."""
COLD = "where the time goes is told in its section; `json.loads` alone would take 77 of the 200 µs that the floor has."


def measure(session: Session) -> Figures:
    figures = Figures()
    with session.agent() as agent:
        writer = Writer(agent)
        port = 10_000
        for number_ in session.rounds(7):
            for name in turn(CLIENTS, number_):
                writer.change("followed", port)
                with followed(name, agent.port) as following:
                    following.seen(port)
                    delays = []
                    for _ in range(session.amount(30, 3)):
                        time.sleep(0.25)  # it waits at the server again: we follow ten changes a second, no more
                        port += 1
                        acknowledged = writer.change("followed", port)
                        delays.append(following.seen(port) - acknowledged)
                figures.note(name, {"p50": statistics.median(delays)})
                port += 1
        writer.close()
    return figures


def tables(figures: Figures) -> list[str]:
    found = [(name, figures.quotient((name, "p50"), ("raw", "p50"))) for name in CLIENTS]
    rows = [[name, number(one.median)] for name, one in found if one is not None]
    lines = table(["client", "p50 after the acknowledgement, as a multiple of the raw socket's"], rows)
    return [*lines, f"The raw socket's own median: {figures.middle('raw', 'p50') * 1e6:.0f} µs.", ""]


def plots(figures: Figures) -> Sequence[Plot]:
    title = "From the acknowledgement of a change until it is seen, as a multiple of the raw socket's"
    return [
        Plot(
            "propagation",
            title,
            [Panel("a change is seen", ratios(figures, CLIENTS, "p50", ("raw", "p50")), target=1.8)],
        )
    ]


CLAIMS = tuple(
    Claim(
        f"a change is in the list, {client} / {other}", (client, "p50"), (other, "p50"), target=target, row=9, why=why
    )
    for client, floor in (("ours", "raw"), ("ours-async", "raw-async"))
    for other, target, why in ((floor, 1.8, COLD), ("py-consul", 0.7, ""))
)
CASE = Case("propagation", "How soon a change is seen", INTRODUCTION, measure, tables, CLAIMS, plots)

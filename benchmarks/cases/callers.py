"""Look-ups by 16 callers at once."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.cases.lookup import CLIENTS
from benchmarks.common.cases import Case
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.plots import Panel, Plot, ratios
from benchmarks.common.rendering import table
from benchmarks.common.session import Session, turn
from benchmarks.common.statistics import number

CALLERS = 16
INTRODUCTION = (
    f"Look-ups of 10 instances a second, by {CALLERS} threads or tasks that share one client, as multiples of "
    "py-consul's. Client and server have the same cores."
)


def measure(session: Session) -> Figures:
    figures = Figures()
    agent = session.server()
    calls = session.amount(40, 15)
    with session.workers(CLIENTS, agent.host, agent.port) as workers:
        for number_ in session.rounds(9):
            for worker in turn(workers, number_):
                order = {"operation": "resolve", "argument": "bench-10", "calls": calls, "callers": CALLERS}
                figures.note(worker.name, worker.ask(do="callers", **order))
    return figures


def tables(figures: Figures) -> list[str]:
    rows = []
    for client in CLIENTS:
        rate, cpu = (figures.quotient((client, kind), ("py-consul", kind)) for kind in ("rate", "cpu"))
        if rate is not None and cpu is not None:
            rows.append([client, number(rate.median), number(cpu.median)])
    return table(["client", "look-ups a second", "CPU of one"], rows)


def plots(figures: Figures) -> Sequence[Plot]:
    bars = ratios(figures, CLIENTS, "rate", ("py-consul", "rate"))
    title = f"Look-ups a second with {CALLERS} callers, as multiples of py-consul's"
    return [Plot("callers", title, [Panel("look-ups a second", bars)])]


SHARED = (
    "client and server have the same two cores. The quicker a client, the larger the server's own share of a call, "
    "which is the same for all clients."
)


def _target(what: str, mine: str, theirs: str, target: float) -> Claim:
    return Claim(what, (mine, "rate"), (theirs, "rate"), better="higher", target=target, row=6, why=SHARED)


CLAIMS = (
    _target("16 callers: ours-async / py-consul", "ours-async", "py-consul", 5),
    _target("16 callers: ours / py-consul", "ours", "py-consul", 5),
    _target("16 callers: ours-async / py-consul's async client", "ours-async", "py-consul-async", 1.4),
    _target("16 callers: ours-async / httpx.AsyncClient", "ours-async", "httpx-async", 7),
    Claim("16 callers: CPU, ours / raw", ("ours", "cpu"), ("raw", "cpu")),
    Claim("16 callers: CPU, ours-async / raw", ("ours-async", "cpu"), ("raw", "cpu")),
)
CASE = Case("callers", "Many callers at once", INTRODUCTION, measure, tables, CLAIMS, plots)

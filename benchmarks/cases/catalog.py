"""The names of all services, of a catalog that has many."""

from __future__ import annotations

from benchmarks.common.cases import Case
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.rendering import table
from benchmarks.common.session import Session, turn
from benchmarks.common.statistics import number
from benchmarks.common.writing import Writer

CLIENTS = (
    "raw",
    "raw-async",
    "ours",
    "ours-async",
    "go",
    "node",
    "py-consul",
    "py-consul-async",
    "discovery-client",
    "httpx",
)
SERVICES = 1000
INTRODUCTION = f"The names and tags of a catalog with {SERVICES} services, as multiples of the raw socket's."


def measure(session: Session) -> Figures:
    figures = Figures()
    with session.agent() as agent:
        writer = Writer(agent)
        for which in range(SERVICES):
            writer.change(f"service-{which:04}", 8080)
        with session.workers(CLIENTS, agent.host, agent.port) as workers:
            for number_ in session.rounds(9):
                for worker in turn(workers, number_):
                    calls = session.amount(60, 20)
                    figures.note(worker.name, worker.ask(do="latency", operation="services", calls=calls))
        writer.close()
    return figures


def tables(figures: Figures) -> list[str]:
    rows = []
    for client in CLIENTS:
        p50, cpu = (figures.quotient((client, kind), ("raw", kind)) for kind in ("p50", "cpu"))
        if p50 is not None and cpu is not None:
            rows.append([client, number(p50.median), number(cpu.median)])
    scale = f"The raw socket's own median, for the scale: {figures.middle('raw', 'p50') * 1e6:.0f} µs."
    return [*table(["client", "median", "CPU"], rows), scale, ""]


CLAIMS = tuple(
    Claim(f"names of {SERVICES} services, {kind}, {client} / raw", (client, kind), ("raw", kind))
    for client in ("ours", "ours-async")
    for kind in ("p50", "cpu")
)
CASE = Case("catalog", f"A catalog of {SERVICES} services", INTRODUCTION, measure, tables, CLAIMS)

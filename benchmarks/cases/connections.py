"""How many connections a client opens, and how often it writes to them."""

from __future__ import annotations

from benchmarks.common.cases import Case
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.passing import Passing
from benchmarks.common.rendering import table
from benchmarks.common.session import Session
from benchmarks.common.statistics import number

CLIENTS = (
    *("raw", "ours", "ours-async", "go", "node", "py-consul", "py-consul-async", "python-consul2", "discovery-client"),
    *("httpx", "httpx-async"),
)
CALLS = 1000
INTRODUCTION = (
    f"For {CALLS} look-ups, one after the other, through a proxy that counts: connections, pieces in which a request "
    "arrived, and bytes of a request."
)


def measure(session: Session) -> Figures:
    figures = Figures()
    agent, calls = session.server(), session.amount(CALLS, 100)
    for client in CLIENTS:
        with (
            Passing((agent.host, agent.port)) as passing,
            session.workers([client], passing.host, passing.port) as workers,
        ):
            for worker in workers:
                worker.ask(
                    do="latency", operation="resolve", argument="bench-1", calls=calls - 1
                )  # it warms up with one
                sent = {"writes": passing.pieces / calls, "bytes": passing.bytes / calls}
                figures.note(client, {"connections": passing.connections, **sent})
    return figures


def tables(figures: Figures) -> list[str]:
    rows = [
        [client, *(number(figures.middle(client, kind)) for kind in ("connections", "writes", "bytes"))]
        for client in CLIENTS
        if figures.get(client, "connections")
    ]
    return table(["client", "connections", "writes a request", "bytes sent a request"], rows)


CLAIMS = tuple(
    Claim(f"{what}, {client}", (client, kind), target=1, row=17)
    for kind, what in (("connections", f"connections for {CALLS} look-ups"), ("writes", "writes a request"))
    for client in ("ours", "ours-async")
)
CASE = Case("connections", "Connections", INTRODUCTION, measure, tables, CLAIMS)

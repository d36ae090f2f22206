"""Many registrations at one agent, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.common.cases import Case
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.plots import Panel, Plot, ratios
from benchmarks.common.rendering import table
from benchmarks.common.session import Session, turn
from benchmarks.common.statistics import number
from tests.support.agents import ConsulAgent

CLIENTS = ("raw", "raw-async", "ours", "ours-async", "go", "py-consul", "discovery-client", "httpx")
SERVICES = 1000
AGENTS = {"disk": "a server with its data on disk", "dev": "an agent in dev mode"}
INTRODUCTION = f"""\
{SERVICES} services with a TTL check each, registered and then deregistered one after the other, as a share of what the
raw socket reaches. The agent itself is the limit: it walks through all services that it holds for each new one."""


def measure(session: Session) -> Figures:
    figures = Figures()
    services = session.amount(SERVICES, 40)
    for kind in AGENTS:
        with (
            ConsulAgent(server=kind == "disk") as agent,
            session.workers(CLIENTS, agent.host, agent.port) as workers,
        ):
            for number_ in session.rounds(3):
                for worker in turn(workers, number_):
                    for operation in ("register", "deregister"):
                        order = {"operation": operation, "argument": "stormy-", "calls": services, "numbered": True}
                        found = worker.ask(do="latency", **order)
                        figures.note(worker.name, {"rate": found["rate"], "cpu": found["cpu"]}, f":{kind}:{operation}")
    return figures


COLUMNS = tuple((kind, operation) for kind in AGENTS for operation in ("register", "deregister"))


def tables(figures: Figures) -> list[str]:
    rows = []
    for client in CLIENTS:
        found = [_share(figures, client, kind, operation) for kind, operation in COLUMNS]
        if any(found):
            rows.append([client, *found])
    scale = ", ".join(f"{figures.middle('raw', f'rate:{kind}:{what}'):.0f}" for kind, what in COLUMNS)
    head = ["client", *(f"{operation}, {kind}" for kind, operation in COLUMNS)]
    return [*table(head, rows), f"The raw socket's own, a second: {scale}.", ""]


def _share(figures: Figures, client: str, kind: str, operation: str) -> str:
    rate, cpu = (
        figures.quotient((client, f"{what}:{kind}:{operation}"), ("raw", f"{what}:{kind}:{operation}"))
        for what in ("rate", "cpu")
    )
    return "" if rate is None or cpu is None else f"{number(rate.median)} (CPU {cpu.median:.1f})"


def plots(figures: Figures) -> Sequence[Plot]:
    panels = [
        Panel(
            f"registrations a second, {AGENTS[kind]}",
            ratios(figures, CLIENTS, f"rate:{kind}:register", ("raw", f"rate:{kind}:register")),
        )
        for kind in AGENTS
    ]
    return [Plot("storm", "Registrations a second, as a share of what the raw socket reaches", panels)]


TURN = (
    "each call takes a turn of asyncio's event loop: also a bare connection of asyncio's takes up to twice as long for "
    "a short answer as a bare socket, as the section on look-ups shows."
)
CLAIMS = tuple(
    Claim(
        f"registrations a second at {AGENTS[kind]}, {client} / raw",
        *((client, f"rate:{kind}:register"), ("raw", f"rate:{kind}:register")),
        better="higher",
        target=target,
        row=22,
        why=TURN if client == "ours-async" else "",
    )
    for kind, target in (("disk", 0.9), ("dev", 0.85))
    for client in ("ours", "ours-async")
)
CASE = Case("storm", "A storm of registrations", INTRODUCTION, measure, tables, CLAIMS, plots)

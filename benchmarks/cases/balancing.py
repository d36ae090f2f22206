"""What choosing costs: a pick of each balancer, and requests by a service's name beside requests to a fixed address."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.common.cases import Case
from benchmarks.common.environments import OURS
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.rendering import table
from benchmarks.common.session import Session
from benchmarks.common.workers import Worker
from tests.support.agents import ConsulAgent

NAMES = ("random", "round_robin", "weighted", "least_outstanding", "power_of_two", "sticky", "nearest")
CALLERS = 16
INTRODUCTION = (
    "A pick among ten by each balancer, alone and with ejection of what keeps failing around it; and what "
    "`DiscoveryTransport` adds to a request of httpx."
)
SERVER = """
import asyncio

ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: 14\\r\\n\\r\\n" + b'{"items": [1]}'

async def serve(reader, writer):
    try:
        while True:
            await reader.readuntil(b"\\r\\n\\r\\n")
            writer.write(ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for _ in range(3)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def measure(session: Session) -> Figures:
    figures = Figures()
    times = session.amount(480, 160)
    with session.local() as local, ConsulAgent() as agent, _served() as ports:
        for number, port in enumerate(ports):
            agent.register("shop", id=f"shop-{number}", address="127.0.0.1", port=port)
        with _choosing(agent, f"http://127.0.0.1:{ports[0]}/v1/items") as worker:
            for number in session.rounds(9):
                figures.note("ours", local.ask(do="balancers", names=NAMES))
                turned = {"times": times, "ours_first": number % 2 == 0}
                figures.note("threads", worker.ask(do="threads", **turned))
                figures.note("tasks", worker.ask(do="tasks", callers=CALLERS, **turned))
    return figures


@contextlib.contextmanager
def _choosing(agent: ConsulAgent, fixed: str) -> Iterator[Worker]:
    command = OURS.command("-m", "benchmarks.clients.choosing", agent.url, fixed, "http://shop/v1/items")
    worker = Worker("ours", command)
    try:
        yield worker
    finally:
        worker.close()


@contextlib.contextmanager
def _served() -> Iterator[list[int]]:
    """Three small servers, and their ports."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield [int(port) for port in process.stdout.readline().split()]
        finally:
            process.kill()


def tables(figures: Figures) -> list[str]:
    found = {
        name: [figures.quotient(("ours", f"{kind}:{name}"), ("ours", "dict")) for kind in ("plain", "ejecting")]
        for name in NAMES
    }
    picks = [[f"`{name}`", *(f"{one.median:.1f}" for one in pair if one)] for name, pair in found.items()]
    lines = table(["balancer", "multiples of a dict look-up", "with ejection"], picks)
    lines += [f"A dict look-up takes {figures.middle('ours', 'dict') * 1e9:.0f} ns.", ""]
    rows = []
    for face, what in (("threads", "one caller"), ("tasks", f"{CALLERS} callers")):
        ratio = figures.quotient((face, "named"), (face, "plain"))
        if ratio is not None:
            rows.append([f"{face}, {what}", f"{ratio.median:.2f}", f"{1 / figures.middle(face, 'named'):.0f}"])
    head = ["face", "a request by name, as a multiple of one to a fixed address", "requests a second by name"]
    return [*lines, *table(head, rows)]


CLAIMS = (
    *(
        Claim(f"a pick by {name}, {kind} / dict look-up", ("ours", f"{kind}:{name}"), ("ours", "dict"))
        for kind in ("plain", "ejecting")
        for name in NAMES
    ),
    *(
        Claim(f"a request by name, {face} / fixed address", (face, "named"), (face, "plain"))
        for face in ("threads", "tasks")
    ),
)
CASE = Case("balancing", "Choosing an instance", INTRODUCTION, measure, tables, CLAIMS)

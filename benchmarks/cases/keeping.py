"""What it costs to keep services registered, beside a hand-written loop over py-consul.

Each client keeps 1, 100 and 1000 services in a process of its own, and takes turns with the others; with a single
service they are all so idle that they do so at the same time.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Sequence

from benchmarks.common.cases import Case
from benchmarks.common.environments import ENVIRONMENTS, ROOT, Python, environment
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.rendering import table
from benchmarks.common.session import Session, turn
from tests.support.agents import ConsulAgent

CLIENTS = ("ours", "ours-async", "py-consul")
TTLS = {1: 4.5, 100: 9.0, 1000: 9.0}
"""Seconds, by the number of services; a heartbeat is due at a third of it."""
SECONDS = {1: 4.5, 100: 3.0, 1000: 3.0}
"""How long is measured: a heartbeat of each of many services, three of a single one."""
LEAVING = ("ours", "py-consul")
INTRODUCTION = """\
CPU a heartbeat and memory a service, as multiples of a hand-written loop over py-consul that only reports its TTL
checks. In the first rows ours does the same and nothing else. In the others it does what it is for: it also compares
each registration with the agent's copy every 5 seconds, and 16 of them wait for changes of it."""


def measure(session: Session) -> Figures:
    figures = Figures()
    with session.agent() as agent:
        for number in session.rounds(5):
            for size in session.amount(tuple(TTLS), (100,)):
                for name, found in _kept(session, turn(CLIENTS, number), size).items():
                    figures.note(name, found, f":{size}")
            for name in LEAVING:
                figures.note(name, {"gone": _gone_after(name, agent)})
    return figures


def _kept(session: Session, clients: Sequence[str], services: int) -> dict[str, dict[str, float]]:
    """What each client needs; of many services none are left for the next one, since agents slow down with them.

    In a quick run all clients do it at the same time.
    """
    if services > 1 and not session.quick:
        return {client: _measured(session, [client], services)[client] for client in clients}
    return _measured(session, clients, services)


def _measured(session: Session, clients: Sequence[str], services: int) -> dict[str, dict[str, float]]:
    with contextlib.ExitStack() as stack:
        agents = [stack.enter_context(session.agent()) for _ in clients]
        processes = [
            stack.enter_context(_begun(client, agent, services, SECONDS[services]))
            for client, agent in zip(clients, agents, strict=True)
        ]
        return {client: _figures(process) for client, process in zip(clients, processes, strict=True)}


def _begun(client: str, agent: ConsulAgent, services: int, seconds: float) -> subprocess.Popen[str]:
    place = ENVIRONMENTS[client]
    assert isinstance(place, Python)
    arguments = [client, "127.0.0.1", str(agent.port), str(services), str(TTLS[services]), str(seconds)]
    command = place.command("-m", "benchmarks.clients.keeping", *arguments)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT)


def _figures(process: subprocess.Popen[str]) -> dict[str, float]:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, f"{process.args!r} ended with {process.returncode}"
    found: dict[str, float] = json.loads(output)
    return found


def _gone_after(client: str, agent: ConsulAgent) -> float:
    """Seconds from SIGTERM until no caller is sent to the service any more."""
    with _begun(client, agent, 1, 0) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while not agent.read("/v1/health/service/kept?passing"):
            time.sleep(0.001)
        started = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        while agent.read("/v1/health/service/kept?passing"):
            pass
        return time.perf_counter() - started


def tables(figures: Figures) -> list[str]:
    sizes = [size for size in TTLS if figures.get("ours", f"beats:{size}")]
    rows = []
    for kind, title in (("beats", "heartbeats alone"), ("compared", "comparing, too")):
        rows += [[f"{name}, {title}", *(_cpu(figures, name, size, kind) for size in sizes)] for name in CLIENTS[:2]]
    rows.append(["py-consul, one loop for all", *("CPU 1" for _ in sizes)])
    for name in CLIENTS:
        rows.append([f"{name}, memory", *(f"{figures.middle(name, f'memory:{size}') / 1024:.0f} kB" for size in sizes)])
    most = sizes[-1]
    beat = figures.middle("py-consul", f"beats:{most}") * 1e6
    leaving = figures.quotient(("ours", "gone"), ("py-consul", "gone"))
    assert leaving is not None
    gone = (
        "From SIGTERM until no caller is sent to the service any more, without a drain: "
        f"{leaving.median:.2f} of the time of a py-consul program with a handler of its own "
        f"({figures.middle('ours', 'gone') * 1000:.0f} ms)."
    )
    return [
        *table(["client", *(f"{size} kept" for size in sizes)], rows),
        f"A heartbeat of py-consul's, with {most} kept, takes {beat:.0f} µs of CPU.",
        "",
        gone,
        "",
    ]


def _cpu(figures: Figures, name: str, size: int, kind: str) -> str:
    found = figures.quotient((name, f"{kind}:{size}"), ("py-consul", f"beats:{size}"))
    return "" if found is None else f"CPU {found.median:.2f}"


CLAIMS = (
    Claim(
        "CPU of keeping 1000 TTL checks alive, ours / py-consul",
        *(("ours", "beats:1000"), ("py-consul", "beats:1000")),
        target=0.17,
        row=23,
        why="of what is left of a heartbeat, two thirds are the system calls that send it and take the answer.",
    ),
    *(
        Claim(
            f"CPU of a heartbeat, {name}, {kind}, {size} kept / py-consul",
            (name, f"{kind}:{size}"),
            ("py-consul", f"beats:{size}"),
        )
        for name in CLIENTS[:2]
        for kind in ("beats", "compared")
        for size in TTLS
    ),
)
CASE = Case("keeping", "Keeping services registered", INTRODUCTION, measure, tables, CLAIMS)

"""A thousand services followed by one process."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import trustme

from benchmarks.common.cases import Case
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.following import Following, followed
from benchmarks.common.rendering import table
from benchmarks.common.session import Session, turn
from benchmarks.common.statistics import number
from benchmarks.common.writing import Writer
from tests.support.agents import ConsulAgent

CLIENTS = ("raw", "ours-async", "httpx-async")
WATCHES, FEW = 1000, 100
INTRODUCTION = f"""\
One process that follows {WATCHES} services, the agent's limit of connections raised. "One" is the same client with a
single service; CPU is the client's, for each change that it saw. Then the limits as they are everywhere: an agent takes
200 connections from one host, this library opens 64 for watches, and its questions take turns on them. Over TLS with
HTTP/2 (the extra `http2`) nobody has to take turns."""


def measure(session: Session) -> Figures:
    figures = Figures()
    watches = session.amount(WATCHES, FEW)
    with session.agent(config={"limits": {"http_max_conns_per_client": 3 * watches}}) as agent:
        writer = _filled(agent, watches)
        port = 10_000
        for number_ in session.rounds(3):
            for name in turn(CLIENTS, number_):
                for many in (watches, 1):
                    with followed(name, agent.port, many) as following:
                        found = following.began()
                        changes, pause = (session.amount(100, 20), 0.02) if many > 1 else (session.amount(20, 5), 0.25)
                        found |= _changes(following, writer, many, port=port, changes=changes, pause=pause)
                    figures.note(name, found if many > 1 else {"p50, one": found["p50"]})
                    port += 1000
        writer.close()
    with session.agent() as agent:
        figures.note("ours-async", _modest(agent, watches))
    with session.agent(authority=trustme.CA()) as agent:
        figures.note("ours-async", _secured(agent, watches, changes=session.amount(100, 20)))
    return figures


def _filled(agent: ConsulAgent, watches: int) -> Writer:
    writer = Writer(agent)
    for which in range(watches):
        writer.change(f"s{which}", 1)
    return writer


def _changes(
    following: Following, writer: Writer, watches: int, *, port: int, changes: int, pause: float
) -> dict[str, float]:
    """Changes that one of many sees, one after the other; of a single service we follow ten a second, no more."""
    delays, begun, missed = [], 0.0, 0
    for number_ in range(changes):
        port += 1
        acknowledged = writer.change(f"s{number_ * 7 % watches}", port)
        try:
            delays.append(following.seen(port) - acknowledged)
        except TimeoutError:
            missed += 1
        begun = begun or following.cpu
        time.sleep(pause)
    used = (following.cpu - begun) / max(1, len(delays) - 1)
    return {"p50": statistics.median(delays), "missed": float(missed), "cpu": used}


def _modest(agent: ConsulAgent, watches: int) -> dict[str, float]:
    """With nobody's limits raised: the connections, and how many of other callers' requests the agent refuses."""
    _filled(agent, watches).close()
    with followed("ours-async", agent.port, watches, modest=True) as following:
        following.began()
        most = refused = 0
        for _ in range(100):
            most = max(most, _connections(following.process.pid, agent.port))
            status, _ = agent.request("GET", "/v1/status/leader")
            refused += status == 429
            time.sleep(0.02)
    return {"connections": most, "refused": refused}


def _secured(agent: ConsulAgent, watches: int, *, changes: int) -> dict[str, float]:
    """Over TLS, with nobody's limits raised: the connections, and how late a change is."""
    writer = _filled(agent, watches)
    trust = agent.home / "authority.pem"
    with followed("ours-async", agent.https_port, watches, modest=True, trust=trust) as following:
        following.began()
        found = _changes(following, writer, watches, port=10_000, changes=changes, pause=0.02)
        most = _connections(following.process.pid, agent.https_port)
    writer.close()
    return {"connections, TLS": most, "p50, TLS": found["p50"], "missed, TLS": found["missed"]}


def _connections(pid: int, port: int) -> int:
    """Established connections of a process to an agent, as the kernel knows them."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    to_agent = {f"socket:[{one[9]}]" for one in lines if one[2].endswith(f":{port:04X}") and one[3] == "01"}
    return sum(str(path.readlink()) in to_agent for path in Path(f"/proc/{pid}/fd").iterdir())


def tables(figures: Figures) -> list[str]:
    rows = []
    for name in CLIENTS:
        if not figures.get(name, "up"):
            continue
        up, weight, late, alone, cpu = (
            figures.middle(name, kind) for kind in ("up", "kilobytes", "p50", "p50, one", "cpu")
        )
        cells = [
            f"{number(up)} s",
            f"{weight:.1f}",
            f"{late * 1000:.2f} ms",
            f"{alone * 1000:.2f} ms",
            f"{cpu * 1e6:.0f} µs",
        ]
        rows.append([name, *cells])
    head = ["client", "brought up in", "kB each", "p50 of a change", "the same of one", "CPU of a change"]
    modest = ", ".join(f"{figures.middle('ours-async', kind):.0f}" for kind in ("connections", "refused"))
    said = (
        f"With nobody's limits raised: connections that ours opens, and requests of others that were refused: {modest}."
    )
    return [*table(head, rows), said, "", *_told_of_tls(figures)]


def _told_of_tls(figures: Figures) -> list[str]:
    if not figures.get("ours-async", "connections, TLS"):
        return []
    most, late = (figures.middle("ours-async", kind) for kind in ("connections, TLS", "p50, TLS"))
    return [f"Over TLS with HTTP/2: {most:.0f} connections, and {late * 1000:.2f} ms (p50) until a change is seen.", ""]


CLAIMS = (
    Claim(
        "1000 watches brought up, ours-async / httpx.AsyncClient",
        ("ours-async", "up"),
        ("httpx-async", "up"),
        target=0.02,
        row=11,
    ),
    Claim("memory of a watch", ("ours-async", "kilobytes"), target=20, row=11, unit=" kB"),
    Claim("connections for 1000 watches over TLS", ("ours-async", "connections, TLS"), target=6, row=11),
    Claim(
        "a change among 1000 / of a single watch", ("ours-async", "p50"), ("ours-async", "p50, one"), target=2, row=12
    ),
    Claim(
        "CPU of a change, ours-async / httpx.AsyncClient",
        ("ours-async", "cpu"),
        ("httpx-async", "cpu"),
        target=0.25,
        row=12,
    ),
    Claim("changes missed", ("ours-async", "missed"), target=0, row=12),
    Claim("changes missed over TLS", ("ours-async", "missed, TLS"), target=0, row=12),
    Claim("connections for 1000 watches, limits as they are", ("ours-async", "connections"), target=150, row=13),
    Claim("requests of others refused meanwhile", ("ours-async", "refused"), target=0, row=13),
)
CASE = Case("watches", "1000 watches in one process", INTRODUCTION, measure, tables, CLAIMS)

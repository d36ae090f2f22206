"""Our look-ups beside others', on one real Consul server that is not in dev mode: `make bench`.

Each client lives in a process of its own. They take turns, in an order that moves on each round; a ratio is taken
within a round, and its median over the rounds is what counts. The tables go into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from benchmarks.peer import PEERS
from tests.support.agents import ConsulAgent

SIZES = {1: 300, 10: 200, 100: 60, 1000: 10}
"""Instances of a service, and calls a turn."""
CALLERS = 16
SECOND_CONSUL = ROOT / ".venv" / "python-consul2"
"""python-consul2 has the module name of py-consul, so it lives beside the environment."""


class Peer:
    """A client's process."""

    def __init__(self, name: str, address: tuple[str, int]) -> None:
        self.name = name
        paths = [str(ROOT)] if name != "python-consul2" else [str(SECOND_CONSUL), str(ROOT)]
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "peer.py"), name, address[0], str(address[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def ask(self, **order: Any) -> dict[str, float]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} stopped")
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    chosen = options.parse_args()
    with ConsulAgent(server=True) as agent:
        fill(agent)
        host, _, port = agent.address.rpartition(":")
        peers = [Peer(name, (host, int(port))) for name in PEERS]
        try:
            report = measured(peers, chosen.rounds) + start(chosen.rounds, host, int(port))
        finally:
            for peer in peers:
                peer.close()
    print(report)
    if chosen.write:
        put(report)


def fill(agent: ConsulAgent) -> None:
    """Registers the services: three tags, four meta pairs and a TTL check (besides the node's own) an instance."""
    print(f"filling the server with {sum(SIZES)} instances", file=sys.stderr)
    for size in SIZES:
        for number in range(size):
            body = {
                "ID": f"bench-{size}-{number}",
                "Name": f"bench-{size}",
                "Address": f"10.0.{number // 250}.{number % 250 + 1}",
                "Port": 8080,
                "Tags": ["http", "v2", "blue"],
                "Meta": {"version": "2.1.0", "zone": "eu-1a", "team": "core", "build": str(number)},
                "Check": {"TTL": "24h", "Status": "passing"},
            }
            status, text = agent.request("PUT", "/v1/agent/service/register", json.dumps(body).encode())
            if status != 200:
                sys.exit(f"the agent refused a registration: {status} {text}")
    for size in SIZES:
        while True:
            _, text = agent.request("GET", f"/v1/health/service/bench-{size}?passing=1")
            if len(json.loads(text)) == size:
                break
            time.sleep(0.1)


def measured(peers: list[Peer], rounds: int) -> str:
    figures: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    rates: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        turn = peers[number % len(peers) :] + peers[: number % len(peers)]
        for size, calls in SIZES.items():
            for peer in turn:
                for name, value in peer.ask(do="latency", service=f"bench-{size}", calls=calls).items():
                    figures[size_key(peer.name, size)][name].append(value)
        for peer in turn:
            rates[peer.name].append(peer.ask(do="callers", service="bench-10", calls=40, callers=CALLERS)["rate"])
    return latency_table(figures) + factor_table(figures) + rate_table(rates)


def size_key(name: str, size: int) -> tuple[str, int]:
    return name, size


def ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def latency_table(figures: Any) -> str:
    lines = [
        "\n## Latency and CPU of one look-up, as multiples of the raw socket's\n",
        "| client | " + " | ".join(f"{size} inst." for size in SIZES) + " |",
        "|---|" + "---|" * len(SIZES),
    ]
    for name in PEERS:
        cells = []
        for size in SIZES:
            mine, floor = figures[name, size], figures["raw", size]
            p50, p99, cpu = (ratio(mine[kind], floor[kind]) for kind in ("p50", "p99", "cpu"))
            cells.append(f"{p50:.2f} (p99 {p99:.2f}, CPU {cpu:.1f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    floor = ", ".join(f"{statistics.median(figures['raw', size]['p50']) * 1e6:.0f} µs" for size in SIZES)
    return "\n".join([*lines, f"\nThe raw socket's own median, for the scale: {floor}.\n"])


def factor_table(figures: Any) -> str:
    pairs = [
        ("sync: median, py-consul / ours", "py-consul", "ours", "p50", (3.0, 2.4, 1.6, 1.2)),
        ("sync: CPU, py-consul / ours", "py-consul", "ours", "cpu", (6, 4.5, 2.5, 1.4)),
        ("sync: median, python-consul2 / ours", "python-consul2", "ours", "p50", None),
        ("async: median, httpx.AsyncClient / ours", "httpx-async", "ours-async", "p50", (3.5, None, None, None)),
        ("async: CPU, httpx.AsyncClient / ours", "httpx-async", "ours-async", "cpu", None),
    ]
    lines = [
        "\n## How many times faster\n",
        "| what | " + " | ".join(f"{size} inst." for size in SIZES) + " |",
        "|---|" + "---|" * len(SIZES),
    ]
    for title, theirs, mine, kind, targets in pairs:
        cells = []
        for position, size in enumerate(SIZES):
            factor = ratio(figures[theirs, size][kind], figures[mine, size][kind])
            target = targets[position] if targets else None
            cells.append(f"{factor:.2f}" + (f" (target {target})" if target else ""))
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def rate_table(rates: dict[str, list[float]]) -> str:
    lines = [
        f"\n## Look-ups a second with {CALLERS} callers, 10 instances, as multiples of py-consul's\n",
        "| client | multiple |",
        "|---|---|",
    ]
    lines += [f"| {name} | {ratio(rates[name], rates['py-consul']):.2f} |" for name in PEERS]
    return "\n".join([*lines, ""])


def start(rounds: int, host: str, port: int) -> str:
    """What a fresh interpreter needs for the import alone, and up to the first look-up."""
    codes = {
        "import": "import consul_access",
        "their import": "import consul",
        "look-up": f"import consul_access; consul_access.ConsulAccess({host!r}, {port}).instances('bench-10')",
        "their look-up": f"import consul; consul.Consul({host!r}, {port}).health.service('bench-10', passing=True)",
    }
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(max(rounds, 9) + 1):
        for name, code in codes.items():
            took = run_time(code)
            if number:  # the first round writes the byte code
                found[name].append(took)
    return (
        "\n## From nothing\n\n"
        f"`import consul_access` takes {ratio(found['import'], found['their import']):.3f} of the time of py-consul's "
        f"import (target 0.15). Import and first look-up together take "
        f"{ratio(found['look-up'], found['their look-up']):.2f} of py-consul's (target 1.4); most of it is Pydantic.\n"
    )


def run_time(code: str) -> float:
    """Seconds, as a fresh interpreter measures them itself."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    timed = f"import time; begun = time.perf_counter(); {code}; print(time.perf_counter() - begun)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", timed],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def put(report: str) -> None:
    page = ROOT / "docs" / "benchmarks.md"
    text = page.read_text()
    before, mark, _ = text.partition("<!-- measured -->")
    place = f"Python {platform.python_version()}, {os.cpu_count()} cores, Consul 1.8.7 as a single server.\n"
    page.write_text(f"{before}{mark}\n\n{place}{report}")


if __name__ == "__main__":
    main()

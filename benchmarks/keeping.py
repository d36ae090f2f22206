"""What it costs to keep services registered, beside a hand-written loop over py-consul: a part of `make bench`.

Each client keeps 1, 100 and 1000 services in a process of its own, and takes turns with the others; with a single
service they are all so idle that they do so at the same time. About a minute a round.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from benchmarks.keeper_peer import CLIENTS
from tests.support.agents import ConsulAgent

INTRODUCTION = (
    "CPU a heartbeat and memory a service, as multiples of a hand-written loop over py-consul that only reports its "
    "TTL checks. In the first rows ours does the same and nothing else. In the others it does what it is for: it also "
    "compares each registration with the agent's copy every 5 seconds, and 16 of them wait for changes of it.\n"
)
SIZES = {1: 4.5, 100: 9.0, 1000: 9.0}
"""How many services, and the TTL of each in seconds; a heartbeat is due at a third of it."""
SECONDS = {1: 4.5, 100: 3.0, 1000: 3.0}
"""How long is measured: a heartbeat of each of many services, three of a single one."""
LEAVING = ("ours", "py-consul")
TARGET = " (target 0.17)"
MARK = "<!-- keeping -->"


def command(client: str, agent: ConsulAgent, services: int, seconds: float) -> list[str]:
    arguments = [client, "127.0.0.1", str(agent.port), str(services), str(SIZES[services]), str(seconds)]
    return [sys.executable, str(HERE / "keeper_peer.py"), *arguments]


def begun(client: str, agent: ConsulAgent, services: int, seconds: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command(client, agent, services, seconds), stdout=subprocess.PIPE, text=True, env=environment
    )


def figures(process: subprocess.Popen[str]) -> dict[str, float]:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, f"{process.args} ended with {process.returncode}"
    found: dict[str, float] = json.loads(output)
    return found


def kept(clients: list[str], services: int) -> dict[str, dict[str, float]]:
    """What each client needs; of many services none are left for the next one, since agents slow down with them."""
    if services > 1:
        return {client: measured([client], services)[client] for client in clients}
    return measured(clients, services)


def measured(clients: list[str], services: int) -> dict[str, dict[str, float]]:
    agents = [ConsulAgent(server=True) for _ in clients]
    try:
        for agent in agents:
            agent.start()
        processes = [
            begun(client, agent, services, SECONDS[services]) for client, agent in zip(clients, agents, strict=True)
        ]
        return {client: figures(process) for client, process in zip(clients, processes, strict=True)}
    finally:
        for agent in agents:
            agent.__exit__(None, None, None)


def gone_after(client: str, agent: ConsulAgent) -> float:
    """Seconds from SIGTERM until no caller is sent to the service any more."""
    with begun(client, agent, 1, 0) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while not agent.read("/v1/health/service/kept?passing"):
            time.sleep(0.001)
        started = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        while agent.read("/v1/health/service/kept?passing"):
            pass
        return time.perf_counter() - started


def ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def report(rounds: int) -> str:
    found: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    leaving: dict[str, list[float]] = defaultdict(list)
    names = list(CLIENTS)
    with ConsulAgent(server=True) as agent:
        for number in range(rounds):
            print(f"keeping, round {number + 1} of {rounds}", file=sys.stderr)
            for size in SIZES:
                for name, values in kept(names[number % 3 :] + names[: number % 3], size).items():
                    for what, value in values.items():
                        found[name, size, what].append(value)
            for name in LEAVING:
                leaving[name].append(gone_after(name, agent))
    lines = [
        "\n## Keeping services registered\n",
        INTRODUCTION,
        "| client | " + " | ".join(f"{size} kept" for size in SIZES) + " |",
        "|---|" + "---|" * len(SIZES),
    ]
    for what, title in (("beats", "heartbeats alone"), ("compared", "comparing, too")):
        for name in ("ours", "ours-async"):
            cells = [cpu(found, name, size, what) for size in SIZES]
            lines.append(f"| {name}, {title} | " + " | ".join(cells) + " |")
    lines.append("| py-consul, one loop for all | " + " | ".join("CPU 1" for _ in SIZES) + " |")
    for name in CLIENTS:
        cells = [f"{statistics.median(found[name, size, 'memory']) / 1024:.0f} kB" for size in SIZES]
        lines.append(f"| {name}, memory | " + " | ".join(cells) + " |")
    beat = statistics.median(found["py-consul", 1000, "beats"]) * 1e6
    lines.append(f"\nA heartbeat of py-consul's, with 1000 kept, takes {beat:.0f} µs of CPU.")
    lines.append(
        f"\nFrom SIGTERM until no caller is sent to the service any more, without a drain: "
        f"{ratio(leaving['ours'], leaving['py-consul']):.2f} of the time of a py-consul program with a handler of its "
        f"own ({statistics.median(leaving['ours']) * 1000:.0f} ms).\n"
    )
    return "\n".join(lines)


def cpu(found: dict[tuple[str, int, str], list[float]], name: str, size: int, what: str) -> str:
    times = ratio(found[name, size, what], found["py-consul", size, "beats"])
    return f"CPU {times:.2f}{TARGET if (name, size, what) == ('ours', 1000, 'beats') else ''}"


def written(page: str, text: str) -> str:
    """The page with this section in place of the former one; what follows the next mark stays as it is."""
    before, mark, after = page.partition(MARK)
    rest = after[after.find("\n<!-- ") :] if "\n<!-- " in after else ""
    return f"{before}{mark or MARK}\n{text}{rest}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    chosen = options.parse_args()
    text = report(chosen.rounds)
    print(text)
    if chosen.write:
        path = ROOT / "docs" / "benchmarks.md"
        path.write_text(written(path.read_text(), text))


if __name__ == "__main__":
    main()

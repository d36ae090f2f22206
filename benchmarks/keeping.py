"""What it costs to keep services registered, beside a hand-written loop over py-consul: a part of `make bench`.

Each client keeps 1, 100 and 1000 services with a TTL of 9 s, a report every 3 s, in a process of its own. They take
turns.
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
    "CPU and memory a service, as multiples of a hand-written loop over py-consul that only reports its TTL checks. "
    "Ours also compares each registration with the agent's copy every 5 seconds (two reads), and 16 of them wait for "
    "changes of it.\n"
)
SIZES = (1, 100, 1000)
LEAVING = ("ours", "py-consul")


def command(client: str, agent: ConsulAgent, services: int, seconds: float) -> list[str]:
    return [
        sys.executable,
        str(HERE / "keeper_peer.py"),
        client,
        "127.0.0.1",
        str(agent.port),
        str(services),
        str(seconds),
    ]


def kept(client: str, agent: ConsulAgent, services: int, seconds: float) -> dict[str, float]:
    done = subprocess.run(
        command(client, agent, services, seconds), check=True, capture_output=True, text=True, env=environment()
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def gone_after(client: str, agent: ConsulAgent) -> float:
    """Seconds from SIGTERM until no caller is sent to the service any more."""
    process = subprocess.Popen(command(client, agent, 1, 0), stdout=subprocess.PIPE, text=True, env=environment())
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        while not agent.read("/v1/health/service/kept?passing"):
            time.sleep(0.001)
        begun = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        while agent.read("/v1/health/service/kept?passing"):
            pass
        return time.perf_counter() - begun


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def report(rounds: int, seconds: float) -> str:
    found: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    leaving: dict[str, list[float]] = defaultdict(list)
    names = list(CLIENTS)
    with ConsulAgent(server=True) as agent:
        for number in range(rounds):
            print(f"keeping, round {number + 1} of {rounds}", file=sys.stderr)
            for size in SIZES:
                for name in names[number % 3 :] + names[: number % 3]:
                    for what, value in kept(name, agent, size, seconds).items():
                        found[name, size, what].append(value)
                    agent.clear()
            for _ in range(3):
                for name in LEAVING:
                    leaving[name].append(gone_after(name, agent))
    lines = [
        "\n## Keeping services registered\n",
        INTRODUCTION,
        "| client | " + " | ".join(f"{size} kept" for size in SIZES) + " |",
        "|---|" + "---|" * len(SIZES),
    ]
    for name in ("ours", "ours-async"):
        cells = []
        for size in SIZES:
            cpu = ratio(found[name, size, "cpu"], found["py-consul", size, "cpu"])
            grown = statistics.median(found[name, size, "memory"]) / 1024
            cells.append(f"CPU {cpu:.2f}, {grown:.0f} kB")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    theirs = " | ".join(
        f"CPU 1, {statistics.median(found['py-consul', size, 'memory']) / 1024:.0f} kB" for size in SIZES
    )
    lines.append(f"| py-consul, one loop for all | {theirs} |")
    lines.append(
        f"\nFrom SIGTERM until no caller is sent to the service any more, without a drain: "
        f"{ratio(leaving['ours'], leaving['py-consul']):.2f} of the time of a py-consul program with a handler of its "
        f"own ({statistics.median(leaving['ours']) * 1000:.0f} ms).\n"
    )
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=9.0)
    options.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    chosen = options.parse_args()
    text = report(chosen.rounds, chosen.seconds)
    print(text)
    if chosen.write:
        page = ROOT / "docs" / "benchmarks.md"
        before, _, rest = page.read_text().partition("<!-- keeping -->")
        after = rest.partition("<!-- measured -->")[2] if rest else page.read_text().partition("<!-- measured -->")[2]
        head = before if rest else page.read_text().partition("<!-- measured -->")[0]
        page.write_text(f"{head}<!-- keeping -->\n{text}\n<!-- measured -->{after}")


if __name__ == "__main__":
    main()

"""What choosing costs: a pick of each balancer, and requests by a service's name beside requests to a fixed address.

A part of `make bench`. The server is a process of its own; the ways to call take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from timeit import timeit
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

import httpx

from consul_access import (
    AsyncConsulAccess,
    AsyncDiscoveryTransport,
    ConsulAccess,
    DiscoveryTransport,
    EjectingBalancer,
    ServiceInstance,
)
from consul_access.rules.balancing import balancer_named
from tests.support.agents import ConsulAgent

MARK = "<!-- balancing -->"
NAMES = ("random", "round_robin", "weighted", "least_outstanding", "power_of_two", "sticky", "nearest")
CALLERS = 16
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


def picks(rounds: int) -> list[str]:
    """Each balancer's pick among 10 instances, as multiples of a dict look-up."""
    instances = tuple(
        ServiceInstance(
            id=f"i{n}", service="shop", service_address=f"10.0.0.{n + 1}", service_port=80, passing_weight=n + 1
        )
        for n in range(10)
    )
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    floors = []
    number = 100_000
    for _ in range(rounds):
        floors.append(timeit("table['shop']", globals={"table": {"shop": instances}}, number=number))
        for name in NAMES:
            plain = balancer_named(name, random.Random(1)).prepare(instances)
            careful = EjectingBalancer(balancer_named(name, random.Random(1)), time.monotonic).prepare(instances)
            call = "pick(key='user-7')" if name == "sticky" else "pick()"
            one, other = (timeit(call, globals={"pick": pick}, number=number) for pick in (plain, careful))
            found[name].append((one / floors[-1], other / floors[-1]))
    rows = ["| balancer | multiples of a dict look-up | with ejection |", "|---|---|---|"]
    for name, ratios in found.items():
        plain_ratio, careful_ratio = (statistics.median(column) for column in zip(*ratios, strict=True))
        rows.append(f"| `{name}` | {plain_ratio:.1f} | {careful_ratio:.1f} |")
    return [*rows, "", f"A dict look-up takes {statistics.median(floors) / number * 1e9:.0f} ns.", ""]


@contextlib.contextmanager
def served() -> Iterator[list[int]]:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield [int(port) for port in process.stdout.readline().split()]
        finally:
            process.kill()


def seconds(function: Callable[[], object], times: int) -> float:
    function()
    begun = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - begun) / times


async def async_seconds(function: Callable[[], Awaitable[Any]], times: int) -> float:
    """One caller's time for a request; and `CALLERS` of them together are asked for the same number."""
    await function()
    begun = time.perf_counter()

    async def caller() -> None:
        for _ in range(times // CALLERS):
            await function()

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())
    return (time.perf_counter() - begun) / (times // CALLERS * CALLERS)


def requests(rounds: int, times: int) -> list[str]:
    found: dict[str, list[float]] = defaultdict(list)
    with ConsulAgent() as agent, served() as ports:
        for number, port in enumerate(ports):
            agent.register("shop", id=f"shop-{number}", address="127.0.0.1", port=port)
        fixed, named = f"http://127.0.0.1:{ports[0]}/v1/items", "http://shop/v1/items"
        with ConsulAccess(url=agent.url) as access:
            transport = DiscoveryTransport(access)
            with httpx.Client() as plain, httpx.Client(transport=transport) as ours:
                for number in range(rounds):
                    ways = {"plain": lambda: plain.get(fixed), "ours": lambda: ours.get(named)}
                    for name in list(ways)[:: 1 if number % 2 else -1]:
                        found[f"threads, {name}"].append(seconds(ways[name], times))
        asyncio.run(async_requests(agent.url, (fixed, named), rounds, times, found))
    rows = [
        "| face | a request by name, as a multiple of one to a fixed address | requests a second by name |",
        "|---|---|---|",
    ]
    for face, what in (("threads", "one caller"), ("tasks", f"{CALLERS} callers")):
        mine, theirs = found[f"{face}, ours"], found[f"{face}, plain"]
        ratio = statistics.median(one / other for one, other in zip(mine, theirs, strict=True))
        rows.append(f"| {face}, {what} | {ratio:.2f} | {1 / statistics.median(mine):.0f} |")
    return [*rows, ""]


async def async_requests(
    agent: str, urls: tuple[str, str], rounds: int, times: int, found: dict[str, list[float]]
) -> None:
    fixed, named = urls
    async with AsyncConsulAccess(url=agent) as access:
        transport = AsyncDiscoveryTransport(access)
        async with httpx.AsyncClient() as plain, httpx.AsyncClient(transport=transport) as ours:
            for number in range(rounds):
                ways = {"plain": lambda: plain.get(fixed), "ours": lambda: ours.get(named)}
                for name in list(ways)[:: 1 if number % 2 else -1]:
                    found[f"tasks, {name}"].append(await async_seconds(ways[name], times))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    given = parser.parse_args()
    rounds, times = (1, 160) if given.quick else (given.rounds, 480)
    lines = ["## Choosing an instance", "", "### A pick among ten", "", *picks(rounds)]
    lines += ["### Requests by a service's name, with httpx", "", *requests(rounds, times)]
    text = "\n".join(lines)
    print(text)
    if given.write:
        page = ROOT / "docs" / "benchmarks.md"
        before, mark, after = page.read_text().partition(MARK)
        kept = after[after.find("\n<!-- ") :] if "\n<!-- " in after else ""
        page.write_text(f"{before}{mark or MARK}\n\n{text}{kept}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measures a client's operations, in the client's own process; nothing but the standard library is needed.

{"do": "latency", "operation": "resolve", "argument": "bench-10", "calls": 200}
    -> {"p50": s, "p99": s, "cpu": s a call, "rate": calls a second}
{"do": "latency", "operation": "register", "argument": "stormy-", "calls": 200, "numbered": true}
    the same; the argument is stormy-0, stormy-1...
{"do": "callers", "operation": "resolve", "argument": "bench-10", "calls": 50, "callers": 16}
    -> {"rate": calls a second, "cpu": s a call}
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

__all__ = ["Tasks", "Threads", "serve"]


def arguments(argument: str, calls: int, numbered: bool) -> list[str]:
    return [f"{argument}{number}" for number in range(calls)] if numbered else [argument] * calls


def summary(times: list[float], cpu: float) -> dict[str, float]:
    return {
        "p50": statistics.median(times),
        "p99": statistics.quantiles(times, n=100)[98] if len(times) > 1 else times[0],
        "cpu": cpu / len(times),
        "rate": len(times) / sum(times),
    }


class Threads:
    """Measures functions that block.

    Args:
        operations: by name; each takes a text and gives something that is not looked at.
    """

    def __init__(self, operations: Mapping[str, Callable[[str], object]]) -> None:
        self.operations = operations

    def latency(self, operation: str, calls: int, argument: str = "", *, numbered: bool = False) -> dict[str, float]:
        call = self.operations[operation]
        if not numbered:
            call(argument)  # opens the connection, and imports what is imported late
        times, wanted, cpu = [], arguments(argument, calls, numbered), time.process_time()
        for one in wanted:
            begun = time.perf_counter()
            call(one)
            times.append(time.perf_counter() - begun)
        return summary(times, time.process_time() - cpu)

    def callers(self, operation: str, calls: int, callers: int, argument: str = "") -> dict[str, float]:
        call = self.operations[operation]
        ready = threading.Barrier(callers + 1)

        def work() -> None:
            call(argument)
            ready.wait()
            for _ in range(calls):
                call(argument)

        threads = [threading.Thread(target=work) for _ in range(callers)]
        for thread in threads:
            thread.start()
        ready.wait()
        begun, cpu = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.join()
        total = calls * callers
        return {"rate": total / (time.perf_counter() - begun), "cpu": (time.process_time() - cpu) / total}


class Tasks:
    """Measures functions that are awaited.

    Args:
        operations: by name; each takes a text and gives something that is not looked at.
        loop: where the client was made.
    """

    def __init__(
        self,
        operations: Mapping[str, Callable[[str], Awaitable[object]]],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.operations = operations
        self.loop = loop or asyncio.new_event_loop()

    def latency(self, operation: str, calls: int, argument: str = "", *, numbered: bool = False) -> dict[str, float]:
        async def work() -> dict[str, float]:
            call = self.operations[operation]
            if not numbered:
                await call(argument)
            times, wanted, cpu = [], arguments(argument, calls, numbered), time.process_time()
            for one in wanted:
                begun = time.perf_counter()
                await call(one)
                times.append(time.perf_counter() - begun)
            return summary(times, time.process_time() - cpu)

        return self.loop.run_until_complete(work())

    def callers(self, operation: str, calls: int, callers: int, argument: str = "") -> dict[str, float]:
        call = self.operations[operation]

        async def work() -> None:
            for _ in range(calls):
                await call(argument)

        async def together() -> dict[str, float]:
            await asyncio.gather(*(call(argument) for _ in range(callers)))
            begun, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(work() for _ in range(callers)))
            total = calls * callers
            return {"rate": total / (time.perf_counter() - begun), "cpu": (time.process_time() - cpu) / total}

        return self.loop.run_until_complete(together())


def serve(client: Any) -> None:
    """Does what it is told on standard input, until that ends."""
    for line in sys.stdin:
        order = json.loads(line)
        result = getattr(client, order.pop("do"))(**order)
        print(json.dumps(result), flush=True)

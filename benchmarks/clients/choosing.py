"""Requests by a service's name with httpx, beside requests to a fixed address, in turns within one process.

`python -m benchmarks.clients.choosing AGENT FIXED NAMED`, then orders on standard input.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from benchmarks.clients.measuring import serve
from consul_access import AsyncConsulAccess, AsyncDiscoveryTransport, ConsulAccess, DiscoveryTransport


def seconds(function: Callable[[], object], times: int) -> float:
    function()
    begun = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - begun) / times


async def async_seconds(function: Callable[[], Awaitable[Any]], times: int, callers: int) -> float:
    """Seconds a request, of so many callers together."""
    await function()
    begun = time.perf_counter()

    async def caller() -> None:
        for _ in range(times // callers):
            await function()

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return (time.perf_counter() - begun) / (times // callers * callers)


class Choosing:
    """The orders; each gives a round's seconds by name and to the fixed address.

    Args:
        agent: the agent's URL.
        fixed: a URL with an address.
        named: the same with the service's name.
    """

    def __init__(self, agent: str, fixed: str, named: str) -> None:
        self._agent, self._fixed, self._named = agent, fixed, named
        self._loop = asyncio.new_event_loop()
        self._plain = httpx.Client()
        self._ours = httpx.Client(transport=DiscoveryTransport(ConsulAccess(url=agent)))
        self._async_plain = httpx.AsyncClient()
        self._async_ours = httpx.AsyncClient(transport=AsyncDiscoveryTransport(AsyncConsulAccess(url=agent)))

    def threads(self, times: int, ours_first: bool) -> dict[str, float]:
        ways = {"plain": lambda: self._plain.get(self._fixed), "named": lambda: self._ours.get(self._named)}
        return {name: seconds(ways[name], times) for name in _ordered(list(ways), ours_first)}

    def tasks(self, times: int, callers: int, ours_first: bool) -> dict[str, float]:
        ways = {"plain": lambda: self._async_plain.get(self._fixed), "named": lambda: self._async_ours.get(self._named)}
        return {
            name: self._loop.run_until_complete(async_seconds(ways[name], times, callers))
            for name in _ordered(list(ways), ours_first)
        }


def _ordered(names: list[str], backwards: bool) -> list[str]:
    return names[::-1] if backwards else names


if __name__ == "__main__":
    serve(Choosing(*sys.argv[1:4]))

"""A run of the suite: how much is measured, which clients are there, and the server that several cases share."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from benchmarks.common.environments import ENVIRONMENTS, OURS, Missing
from benchmarks.common.workers import Worker
from tests.support.agents import ConsulAgent
from tests.support.waiting import eventually

__all__ = ["SIZES", "Session", "turn"]

T = TypeVar("T")
SIZES = (1, 10, 100, 1000)
"""How many instances the shared server's services have; they are called bench-1, bench-10... Each registration takes
longer than the one before, so the largest is left out of a quick run."""


def turn(names: Sequence[T], number: int) -> list[T]:
    """The order of a round: each moves up by one from round to round, so that nobody always follows the same one."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


class Session:
    """What cases are measured with.

    Args:
        quick: a little of everything.
        rounds: how many, in place of a case's own number.
        limit: seconds after which no further round of a case begins, once there was one.
    """

    def __init__(self, *, quick: bool, rounds: int | None = None, limit: float | None = None) -> None:
        self.quick = quick
        self._rounds = rounds
        self._limit = limit
        self._open = contextlib.ExitStack()
        self._server: ConsulAgent | None = None
        self.missing: dict[str, str] = {}
        """Clients that are not on this machine, and why."""

    def rounds(self, full: int) -> Iterator[int]:
        """The numbers of the rounds, of which a quick run has one; says which one it is."""
        wanted = 1 if self.quick else self._rounds or full
        begun = time.monotonic()
        for number in range(wanted):
            if number and self._limit is not None and time.monotonic() - begun > self._limit:
                self.say(f"no further round after {self._limit:g} s")
                return
            self.say(f"round {number + 1} of {wanted}")
            yield number

    def amount(self, full: T, quick: T) -> T:
        """The one or the other."""
        return quick if self.quick else full

    def say(self, what: str) -> None:
        """To whoever waits."""
        print(what, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def workers(self, names: Sequence[str], host: str, port: int) -> Iterator[list[Worker]]:
        """Processes of these clients of Consul, as far as they can be had here."""
        with self.started({name: partial(ENVIRONMENTS[name].client, name, host, port) for name in names}) as workers:
            yield workers

    @contextlib.contextmanager
    def started(self, commands: Mapping[str, Callable[[], list[str]]]) -> Iterator[list[Worker]]:
        """Processes of these commands, by the clients' names. All environments are made before the first one starts."""
        found = {name: command for name, making in commands.items() if (command := self._made(name, making))}
        with contextlib.ExitStack() as stack:
            workers = [Worker(name, command) for name, command in found.items()]
            for worker in workers:
                stack.callback(worker.close)
            yield workers

    def _made(self, name: str, making: Callable[[], list[str]]) -> list[str] | None:
        try:
            return making()
        except Missing as missing:
            self.missing[name] = str(missing)
            return None

    @contextlib.contextmanager
    def local(self) -> Iterator[Worker]:
        """A process of ours that needs no server: benchmarks/clients/local.py."""
        worker = Worker("ours", OURS.command("-m", "benchmarks.clients.local"))
        try:
            yield worker
        finally:
            worker.close()

    def agent(self, **options: Any) -> ConsulAgent:
        """A single server, not in dev mode, to be started; a quick run takes one in dev mode, which is there at once.

        Args:
            options: further ones of the agent's.
        """
        return ConsulAgent(server=not self.quick, **options)

    def server(self) -> ConsulAgent:
        """The `agent` that holds the services of `SIZES`; it is started and filled once."""
        if self._server is None:
            self._server = self._open.enter_context(self.agent())
            sizes = self.amount(SIZES, SIZES[:-1])
            self.say(f"filling a server with {sum(sizes)} instances")
            _fill(self._server, sizes)
        return self._server

    def close(self) -> None:
        self._open.close()


def _fill(agent: ConsulAgent, sizes: Sequence[int]) -> None:
    """Three tags, four meta pairs and a TTL check (besides the node's own) an instance."""
    for size in sizes:
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
            assert status == 200, f"the agent refused a registration: {status} {text}"
    for size in sizes:
        eventually(
            lambda size=size: len(agent.read(f"/v1/health/service/bench-{size}?passing=1")) == size,  # type: ignore[misc]
            within=60,
            what=f"the catalog holds all {size} instances",
        )

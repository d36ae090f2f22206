"""What became of a client in a meeting, in words and as numbers."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.laboratory.process import Hung, Unmade
from tests.faults.comparing import Met
from tests.support.agents import ConsulAgent
from tests.support.scripted import Connection, Step

MEBIBYTE = 1024 * 1024
TOKEN = "canary-of-the-peers-1"
PROMISED = 12.0
"""Seconds within which a call has ended, whatever happens."""
CONSUL, ETCD = ("ours", "py-consul"), ("ours-etcd", "etcd3")
ENTRY: dict[str, Any] = {
    "Node": {"Node": "n1", "Address": "10.0.0.1"},
    "Service": {"ID": "web-1", "Service": "web", "Address": "10.0.0.5", "Port": 8080},
    "Checks": [],
}
ONE = json.dumps([ENTRY]).encode()
GOOD = ["10.0.0.5:8080"]
Meeting = Callable[[Sequence[str]], dict[str, Met]]
Meetings = dict[str, tuple[tuple[str, str], Meeting]]
"""By the scenario's name: who goes through it, and what it is."""


def alone(meet: Callable[[str], Met]) -> Meeting:
    """Each client goes through it by itself."""

    def meeting(clients: Sequence[str]) -> dict[str, Met]:
        found = {}
        for client in clients:
            try:
                found[client] = meet(client)
            except Hung as error:
                found[client] = Met(str(error), bad=1)
            except Unmade as error:
                found[client] = Met(f"cannot be made: {error}", bad=1)
        return found

    return meeting


Read = tuple[float, float, Any]
"""When it began and ended, and what it brought: a list, or the error's name."""


def is_foreign(found: object) -> bool:
    """Whether it is an error of somebody else's."""
    return isinstance(found, str) and "." in found


def raised(reads: Sequence[Read]) -> list[str]:
    return [found for _, _, found in reads if isinstance(found, str)]


def longest(reads: Sequence[Read]) -> float:
    return max(ended - begun for begun, ended, _ in reads)


def late(reads: Sequence[Read]) -> int:
    return sum(ended - begun > PROMISED for begun, ended, _ in reads)


def wrong(reads: Sequence[Read], *right: object) -> list[Any]:
    return [found for _, _, found in reads if not isinstance(found, str) and found not in right]


def in_words(reads: Sequence[Read], *right: object) -> str:
    errors, odd = Counter(raised(reads)), wrong(reads, *right)
    parts = [f"{sum(errors.values())} of {len(reads)} raised ({', '.join(sorted(errors))})"] if errors else []
    parts += [f"{len(odd)} of {len(reads)} wrong: {json.dumps(odd[0])}"] if odd else []
    return f"{'; '.join(parts or [f'{len(reads)} of {len(reads)} right'])}; {longest(reads):.1f} s at most"


def should_be_right(reads: Sequence[Read], right: object) -> Met:
    """A good answer was to be had."""
    return Met(in_words(reads, right), bad=len(wrong(reads, right)), failed=len(raised(reads)))


def should_be_refused(reads: Sequence[Read]) -> Met:
    """Nothing good was to be had: an error of the client's own, in time, is right. Sooner is not better."""
    foreign = sum(is_foreign(found) for _, _, found in reads)
    return Met(in_words(reads), bad=len(reads) - len(raised(reads)) + late(reads), failed=foreign)


def back_again(agent: ConsulAgent, within: float = 30.0) -> Met:
    """How soon a registration that was lost is there again."""
    begun = time.monotonic()
    while (took := time.monotonic() - begun) < within:
        if agent.read("/v1/agent/services"):
            return Met(f"registered again after {took:.1f} s", seconds={"back": took})
        time.sleep(0.02)
    return Met(f"lost ({within:g} s)", bad=1)


# --- what servers of our own say -------------------------------------------------------------------------------


class Indexed(Connection):
    """Adds the index that every answer of an agent's has; without it py-consul reads none."""

    def send(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 "):
            data = data.replace(b"\r\n", b"\r\nX-Consul-Index: 7\r\n", 1)
        super().send(data)


def indexed(step: Step) -> Step:
    return lambda connection: step(Indexed(connection.sock, connection.ended))

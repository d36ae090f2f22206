"""Many services at once, and how many connections it takes to follow them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

from consul_access import ServiceSnapshot
from tests.support.asking import Asking


def written(consul: Asking, names: Sequence[str], port: int) -> None:
    """Registers services in the catalog, 60 at a time, at a node that no agent looks after."""
    node = {"Node": {"Verb": "set", "Node": {"Node": "external", "Address": "10.9.0.1"}}}
    for begin in range(0, len(names), 60):
        services = [
            {"Node": "external", "Service": {"ID": f"x-{name}", "Service": name, "Address": "10.9.0.1", "Port": port}}
            for name in names[begin : begin + 60]
        ]
        operations = [node, *({"Service": {"Verb": "set", **service}} for service in services)]
        status, text = consul.request("PUT", "/v1/txn", operations)
        assert status == 200, text


def forgotten(consul: Asking) -> None:
    """Takes them all out again."""
    consul.request("PUT", "/v1/catalog/deregister", {"Node": "external"})


async def all_told(watch: AsyncIterator[ServiceSnapshot], names: Collection[str]) -> None:
    """Reads a watch until it has told of each of these services.

    It may tell of one again before it has told of all, such as when a busy machine has a list doubted for a moment.
    """
    missing = set(names)
    while missing:
        missing.discard((await anext(watch)).service)


def connections(port: int) -> int:
    """How many connections to that port this machine has.

    The kernel's table is not read in one moment: what ends and what takes its place meanwhile are both found in it. So
    the smaller of two counts is the number that there was.
    """
    return min(_listed(port), _listed(port))


def _listed(port: int) -> int:
    found = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, *_ = line.split()
        found += state == "01" and int(remote.rpartition(":")[2], 16) == port
    return found

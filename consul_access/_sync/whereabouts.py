# Written by tools/faces.py from consul_access/_async/whereabouts.py; edit that one.
"""Where a service is shown, and which agent answers where: questions that its place asks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from consul_access import consul
from consul_access._pairs.threads import Later
from consul_access._sync.place import HANGING
from consul_access.errors import ConsulAccessError, PermissionDenied
from consul_access.models.address import Target
from consul_access.models.filters import quoted
from consul_access.rules.addressing import servers_with

if TYPE_CHECKING:
    from consul_access._sync.announcing import Announcing
    from consul_access.models.definition import ServiceDefinition

__all__ = ["GLANCE", "Whereabouts"]

GLANCE = 0.5
"""Seconds for a question to an agent that has not answered lately: heartbeats elsewhere wait for it."""


class Whereabouts:
    """Asks about one registration.

    Args:
        access: the client.
        places: gives all servers that the client knows, each at one IP address.
    """

    definition: ServiceDefinition
    """What is registered; set by the place."""

    def __init__(self, access: Announcing, places: Callable[[], Later[list[Target]]]) -> None:
        self.access = access
        self._places = places

    def shown_at(self, place: Target, *, within: float | None = None) -> set[str]:
        """The nodes at which the catalog shows this id."""
        call = consul.catalog.service(self.definition.name, filter=f"ServiceID == {quoted(self.definition.id)}")
        entries = self.access.send(call, target=place, within=within)
        return {entry.node for entry in entries if entry.service_id == self.definition.id}

    def node_at(self, place: Target, *, within: float = HANGING) -> str:
        """The name of the node whose agent answers there; empty when the token may not know."""
        with contextlib.suppress(PermissionDenied):
            call = consul.agent.checks(service_id=self.definition.id)
            for check in (self.access.send(call, target=place, within=within)).values():
                return check.node
        with contextlib.suppress(PermissionDenied):  # a longer answer, for which a service's token is not enough
            return (self.access.send(consul.agent.about(), target=place, within=within)).node_name
        return ""

    def place_of(self, node: str, *, besides: Target) -> Target | None:
        """Where among the client's other addresses that node's agent answers."""
        for place in self._places():
            if place == besides:
                continue
            with contextlib.suppress(ConsulAccessError):
                if self.node_at(place, within=GLANCE) == node:
                    return place
        return None

    def fellow_servers(self, agent: Target, within: float) -> int:
        """How many servers there are, when the agent is one of several; else 0."""
        if agent.unix_path is not None:
            return 0
        peers = self.access.send(consul.status.peers(), target=agent, within=within)
        return servers_with({agent.ip or agent.address.host}, peers) if len(peers) > 1 else 0

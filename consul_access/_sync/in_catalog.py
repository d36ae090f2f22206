# Written by tools/faces.py from consul_access/_async/in_catalog.py; edit that one.
"""A service that is written into the catalog itself, on a node that is no machine, where there are no local agents.

No agent runs its check: the owner states the status, with a time stamp, and so tells readers how fresh that is.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from consul_access import consul
from consul_access._pairs.threads import Later, sleep
from consul_access._sync.place import HANGING
from consul_access.errors import (
    ConnectFailed,
    ConsulAccessError,
    InvalidInput,
    OutcomeUnknown,
    PermissionDenied,
    Unavailable,
    UnknownService,
)
from consul_access.models.address import Address, Target
from consul_access.models.external import SYNTHETIC_META, CatalogCheck, CatalogRegistration
from consul_access.models.filters import quoted
from consul_access.models.status import CheckStatus
from consul_access.rules.heartbeats import stamped
from consul_access.rules.keeping import beat_interval, drift

if TYPE_CHECKING:
    from consul_access._sync.announcing import Announcing
    from consul_access.models.catalog import HealthEntry
    from consul_access.models.definition import ServiceDefinition

__all__ = ["InCatalog", "refuse_agents_node"]

log = logging.getLogger("consul_access")

ELECTION_PAUSE = 0.1
"""Seconds between two tries at the end."""


def refuse_agents_node(access: Announcing, node: str, *, otherwise: str = "") -> set[str]:
    """The ids of the checks on the node; an agent would remove what it does not know from its own node."""
    checks = {check.id for check in access.send(consul.health.node(node))}
    members: list[str] = []
    with contextlib.suppress(PermissionDenied):
        members = access.send(consul.agent.members())
    if "serfHealth" in checks or node in members:
        raise InvalidInput(
            f"node={node!r} is the node of an agent, which removes services that were not registered at it: "
            f"name a node that no agent has{otherwise}"
        )
    return checks


class InCatalog:
    """A registration in the catalog.

    Args:
        access: the client; any of its servers is asked.
        define: makes the definition, for the server that is asked.
        pin: gives a server that takes connections.
        node: the node to register on.
    """

    definition: ServiceDefinition
    may_move = False
    owes = False

    def __init__(
        self,
        access: Announcing,
        define: Callable[[Target], ServiceDefinition],
        *,
        pin: Callable[[], Later[Target]],
        node: str,
    ) -> None:
        self._access = access
        self._define = define
        self._pin = pin
        self.node = node

    @property
    def address(self) -> Address:
        """The first of the servers."""
        return self._access.settings.targets[0].address

    def settle(self, *, fail_fast: bool) -> None:
        """Completes the definition: the way to the servers tells the service's own address."""
        try:
            server = self._pin()
        except Unavailable:
            if fail_fast:
                raise
            server = self._access.settings.targets[0]
        self.definition = self._define(server)

    # --- registering --------------------------------------------------------------------------------------

    def register(self, *, again: bool) -> None:
        """Writes service and check, critical until the first heartbeat, unless the node belongs to an agent."""
        checks = refuse_agents_node(self._access, self.node, otherwise=', or use mode="agent" at that agent')
        if not again and self._maintenance_id in checks:
            self._access.send(consul.catalog.deregister(self.node, check_id=self._maintenance_id))
        check = self._check(CheckStatus.CRITICAL, "registered, and not heard of yet")
        written = CatalogRegistration(node=self.node, service=self.definition, checks=(check,))
        try:
            self._access.send(consul.catalog.register(written))
        except PermissionDenied as error:
            self._explain(error)
            raise

    def _explain(self, error: PermissionDenied) -> None:
        """Adds what an operator has to do when the node is missing; making one takes more than a service's token."""
        with contextlib.suppress(ConsulAccessError):
            if self._access.send(consul.catalog.node(self.node)) is None:
                meta = ", ".join(f'"{key}": "{value}"' for key, value in SYNTHETIC_META.items())
                error.message += (
                    f"; the catalog has no node {self.node!r} (or the token may not see it), and making one needs "
                    "node:write. Let an operator make it once: PUT /v1/catalog/register "
                    f'{{"Node": "{self.node}", "Address": "127.0.0.1", "NodeMeta": {{{meta}}}}}. After that '
                    f"service:write for {self.definition.name!r} is enough"
                )

    # --- keeping ------------------------------------------------------------------------------------------

    def beat(self, status: CheckStatus, output: str) -> None:
        """States the status, with the time."""
        written = CatalogRegistration(node=self.node, checks=(self._check(status, output),))
        self._access.send(consul.catalog.register(written))

    def _check(self, status: CheckStatus, output: str) -> CatalogCheck:
        (check_id,) = self.definition.check_ids()
        (check,) = self.definition.checks
        return CatalogCheck(
            id=check_id,
            name=check.name or f"Heartbeat of {self.definition.name}",
            status=status,
            service_id=self.definition.id,
            notes=check.notes or "stated by the service itself",
            output=stamped(time.time(), beat_interval(self.definition) or 0.0, output),
        )

    def look(self) -> str | None:
        """Compares the catalog's entry with what was registered."""
        entry = self._entry()
        if entry is None:
            raise UnknownService(f"the catalog has no {self.definition.id!r} on node {self.node!r}")
        return drift(self.definition, entry.service, {check.id: check for check in entry.checks})

    def _entry(self, *, within: float | None = None) -> HealthEntry | None:
        expression = f"Service.ID == {quoted(self.definition.id)} and Node.Node == {quoted(self.node)}"
        call = consul.health.service(self.definition.name, filter=expression)
        found = self._access.send(call, within=within)
        return found[0] if found else None

    def can_watch(self) -> bool:
        """Never: waiting for changes of the catalog wakes at every heartbeat."""
        return False

    def watch(self, seconds: float) -> str | None:  # noqa: ARG002
        """Not here."""
        return None

    def confirm(self, within: float | None = None) -> bool:
        """Whether it is there."""
        return self._entry(within=within) is not None

    def elsewhere(self, away: float) -> str | None:  # noqa: ARG002
        """Any of the servers will do, so there is nowhere to go."""
        return None

    def clean(self) -> float | None:
        """Nothing was left anywhere."""
        return None

    # --- the end ------------------------------------------------------------------------------------------

    @property
    def _maintenance_id(self) -> str:
        """The id by which every reader knows maintenance, as agents write it."""
        return f"_service_maintenance:{self.definition.id}"

    def drain(self, reason: str) -> None:
        """Puts the service into maintenance, as an agent would."""
        check = CatalogCheck(
            id=self._maintenance_id,
            name="Service Maintenance Mode",
            status=CheckStatus.CRITICAL,
            service_id=self.definition.id,
            notes=reason,
        )
        written = CatalogRegistration(node=self.node, checks=(check,))
        self._access.send(consul.catalog.register(written), within=HANGING)

    def take_back(self) -> None:
        """Removes it; the reason to do so is the one to hear about."""
        with contextlib.suppress(ConsulAccessError):
            self._access.send(consul.catalog.deregister(self.node, self.definition.id), within=HANGING)

    def end(self, deadline: float) -> bool:
        """Removes it, and looks whether it is gone; during an election that takes several tries."""
        was_there = True  # as long as nobody says otherwise
        while True:
            left = max(0.1, min(HANGING, deadline - time.monotonic()))
            try:
                was_there = was_there and self._entry(within=left) is not None
                self._access.send(consul.catalog.deregister(self.node, self.definition.id), within=left)
                if self._entry(within=left) is None:
                    return was_there
            except ConnectFailed:
                raise
            except (Unavailable, OutcomeUnknown):
                if time.monotonic() + ELECTION_PAUSE >= deadline:
                    raise
            if time.monotonic() >= deadline:
                return was_there
            sleep(ELECTION_PAUSE)

    def farewell(self, send: Callable[..., Any], within: float, *, certain: bool) -> None:
        """Removes it; twice when its registration may still be on its way."""
        deadline = time.monotonic() + within
        call = consul.catalog.deregister(self.node, self.definition.id)
        send(call, within=within)
        if not certain:
            send(call, within=max(0.1, deadline - time.monotonic()))

    def consequence(self) -> str:
        """Who notices."""
        return "its heartbeat has ended: look-ups with max_heartbeat_age= leave it out, and reap() removes it"

    def leave(self) -> None:
        """Nothing is held."""

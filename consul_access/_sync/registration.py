# Written by tools/faces.py from consul_access/_async/registration.py; edit that one.
"""What `register_service` gives back: a handle on one registration, at the agent it lives on."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING, Self

from consul_access import consul
from consul_access._pairs.threads import shielded
from consul_access.errors import ConsulAccessError
from consul_access.models.address import Address, Target
from consul_access.models.status import CheckStatus

if TYPE_CHECKING:
    from consul_access._sync.announcing import Announcing
    from consul_access.models.catalog import AgentService
    from consul_access.models.definition import ServiceDefinition

__all__ = ["Registration"]

log = logging.getLogger("consul_access")


class Registration:
    """One registered service: knows its id, the agent it lives on, and how to end.

    Args:
        access: the client that registered it.
        definition: what was registered.
        agent: the agent, at one IP address: registrations are invisible to every other agent's `deregister`.

    As a context manager it deregisters at the end of the block. It does not watch over the registration in between.
    """

    def __init__(self, access: Announcing, definition: ServiceDefinition, agent: Target) -> None:
        self._access = access
        self._definition = definition
        self._agent = agent

    @property
    def definition(self) -> ServiceDefinition:
        """What was registered."""
        return self._definition

    @property
    def id(self) -> str:
        """The service's id at its agent."""
        return self._definition.id

    @property
    def name(self) -> str:
        """The service's name."""
        return self._definition.name

    @property
    def agent(self) -> Address:
        """The agent that the service is registered at; for a Unix socket the host is empty."""
        return Address(self._agent.ip or self._agent.address.host, self._agent.address.port)

    def read(self) -> AgentService:
        """What the agent knows of this service now.

        Raises:
            UnknownService: the agent has lost it, or it was deregistered.
        """
        return self._access.send(consul.agent.service(self.id), target=self._agent)

    def deregister(self) -> bool:
        """Ends the registration.

        Returns:
            True when it was removed, False when the agent had no such service any more.

        Raises:
            ConsulAccessError: the outcome is unknown, or the agent refused.
        """
        return self._access.deregister_service(self.id, target=self._agent)

    def pass_check(self, check_id: str | None = None, output: str = "") -> None:
        """Reports a TTL check as passing; see `ConsulAccess.pass_check`.

        Args:
            check_id: the check; by default the only one this registration has.
            output: a text for people, at most 4 KB.
        """
        self._update_check(check_id, CheckStatus.PASSING, output)

    def warn_check(self, check_id: str | None = None, output: str = "") -> None:
        """Reports a TTL check as warning."""
        self._update_check(check_id, CheckStatus.WARNING, output)

    def fail_check(self, check_id: str | None = None, output: str = "") -> None:
        """Reports a TTL check as critical."""
        self._update_check(check_id, CheckStatus.CRITICAL, output)

    def _update_check(self, check_id: str | None, status: CheckStatus, output: str) -> None:
        known = check_id if check_id is not None else self._definition.only_ttl_check_id()
        self._access.send(consul.agent.update_check(known, status, output), target=self._agent)

    def maintenance(self, enabled: bool, reason: str = "") -> None:
        """Takes the service out of every look-up, or brings it back, without touching its registration."""
        self._access.send(consul.agent.maintenance(self.id, enabled, reason), target=self._agent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with shielded():
                self.deregister()
        except ConsulAccessError as failure:
            if error is None:
                raise
            # The error that ended the block is the one to hear about.
            log.warning("%s could not be deregistered: %s", self.id, failure)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} at {self._agent}>"

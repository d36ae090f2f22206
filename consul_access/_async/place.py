"""Where a kept service is registered, as its keeper sees it: at one agent, or in the catalog itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from consul_access._pairs.tasks import Later
from consul_access.models.status import CheckStatus

if TYPE_CHECKING:
    from consul_access.models.address import Address
    from consul_access.models.definition import ServiceDefinition

__all__ = ["HANGING", "AsyncPlace", "StillThere", "Teller"]

HANGING = 2.0
"""Seconds after which an agent that answers nothing is not waited for any longer when a service ends."""

Teller: TypeAlias = "Callable[[str, str], Later[object]]"
"""Told the kind and the cause of an event that changes nothing in the keeper's state."""


class StillThere(Exception):
    """For the keeper alone: it has been deregistered as well as could be done, and something of it is still there."""


class AsyncPlace(Protocol):
    """What a keeper asks of the place where its service is registered.

    Unless said otherwise, a method raises `UnknownService` or `UnknownCheck` when the place has forgotten the service,
    and another `ConsulAccessError` when that cannot be told.
    """

    definition: ServiceDefinition
    """What is registered; known after `settle`."""

    @property
    def address(self) -> Address:
        """The agent or server that is asked."""
        ...

    @property
    def node(self) -> str:
        """The name of the node that the service is shown at; empty until that is known."""
        ...

    @property
    def may_move(self) -> bool:
        """Whether there may be another agent to go to."""
        ...

    @property
    def owes(self) -> bool:
        """Whether copies may be left at former agents."""
        ...

    async def settle(self, *, fail_fast: bool) -> None:
        """Chooses whom to ask, and completes the definition."""
        ...

    async def register(self, *, again: bool) -> None:
        """Registers; for the first time that ends an earlier maintenance, `again` it keeps one."""
        ...

    async def beat(self, status: CheckStatus, output: str) -> None:
        """Makes a heartbeat."""
        ...

    async def look(self) -> str | None:
        """What is held otherwise than it was registered, or None."""
        ...

    def can_watch(self) -> bool:
        """Whether `watch` works here and now."""
        ...

    async def watch(self, seconds: float) -> str | None:
        """Waits for a change, at most so long; what is held otherwise then, or None."""
        ...

    async def confirm(self, within: float | None = None) -> bool:
        """Whether others can find it; within so many seconds, when that is less than the settings allow."""
        ...

    async def elsewhere(self, away: float) -> str | None:
        """Goes to another agent when this one is gone for good, and says why; else None.

        Args:
            away: seconds for which it has not answered.
        """
        ...

    async def clean(self) -> float | None:
        """Sees to copies at former agents; when it should do so again, in seconds, or None for never."""
        ...

    async def drain(self, reason: str) -> None:
        """Takes the service out of every look-up."""
        ...

    async def take_back(self) -> None:
        """Removes what may have been registered although that failed; errors are swallowed."""
        ...

    async def end(self, deadline: float) -> bool:
        """Deregisters everywhere and sees that it is gone.

        Args:
            deadline: in monotonic time.

        Returns:
            Whether it was there.
        """
        ...

    def farewell(self, send: Callable[..., Any], within: float, *, certain: bool) -> None:
        """Deregisters when the process ends, by the face for threads.

        Args:
            send: of a client for threads.
            within: seconds.
            certain: the place has taken the registration; else it may still be on its way.
        """
        ...

    def consequence(self) -> str:
        """What becomes of a registration that could not be removed."""
        ...

    def leave(self) -> None:
        """The keeper has ended."""
        ...

"""Which instances a health policy keeps, and how much of that the agent can be asked to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consul_access.models.status import CheckStatus, HealthPolicy

if TYPE_CHECKING:
    from consul_access.models.instance import Standing

__all__ = ["admits", "asked_of_agent"]


def asked_of_agent(policy: HealthPolicy) -> HealthPolicy:
    """The policy that the agent itself applies; what it cannot tell apart is sorted out here, from all entries."""
    return HealthPolicy.ANY if policy is HealthPolicy.SERVICE_CHECKS_ONLY else policy


def admits(policy: HealthPolicy, standing: Standing) -> bool:
    """Whether an instance with this standing is good enough."""
    match policy:
        case HealthPolicy.PASSING:
            return standing.overall is CheckStatus.PASSING
        case HealthPolicy.PASSING_OR_WARNING:
            return standing.overall in {CheckStatus.PASSING, CheckStatus.WARNING}
        case HealthPolicy.SERVICE_CHECKS_ONLY:
            return standing.own is CheckStatus.PASSING
        case HealthPolicy.ANY:
            return True

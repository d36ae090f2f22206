"""How a check stands, how an instance stands over all its checks, and which instances are good enough."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from consul_access.errors import InvalidInput

__all__ = ["CheckStatus", "HealthPolicy", "aggregate", "health_policy"]


class CheckStatus(StrEnum):
    """How one check, or an instance over all its checks, stands."""

    PASSING = "passing"
    WARNING = "warning"
    CRITICAL = "critical"
    MAINTENANCE = "maintenance"
    """Taken out on purpose. Agents report it as a critical check of a reserved id."""


_SEVERITY = {CheckStatus.PASSING: 0, CheckStatus.WARNING: 1, CheckStatus.CRITICAL: 2, CheckStatus.MAINTENANCE: 3}


def aggregate(statuses: Iterable[CheckStatus]) -> CheckStatus:
    """The worst of them: maintenance, then critical, warning, passing; passing when there is none.

    This is the order of `AggregatedStatus` in Consul's own client (hashicorp/consul api/health.go).
    """
    return max(statuses, key=_SEVERITY.__getitem__, default=CheckStatus.PASSING)


class HealthPolicy(StrEnum):
    """Which instances are good enough to be found. The same policy gives the same list from every method."""

    PASSING = "passing"
    """All checks of the instance and of its node pass. The default."""
    PASSING_OR_WARNING = "passing_or_warning"
    """None is critical, which is what Consul's DNS answers."""
    SERVICE_CHECKS_ONLY = "service_checks_only"
    """All checks of the instance itself pass; its node's do not count, unless the node is under maintenance."""
    ANY = "any"
    """Everything that is registered."""


def health_policy(value: HealthPolicy | str) -> HealthPolicy:
    """The policy of that name.

    Raises:
        InvalidInput: there is none.
    """
    try:
        return HealthPolicy(value)
    except ValueError:
        names = ", ".join(repr(policy.value) for policy in HealthPolicy)
        raise InvalidInput(f"policy={value!r} is unknown: write one of {names}") from None

"""What a wait for a service has seen so far, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from consul_access.models.status import HealthPolicy

__all__ = ["Progress", "ProgressKind"]


class ProgressKind(StrEnum):
    """How far a service is from being ready, or what keeps that from being known."""

    ASKING = "asking"
    """No answer yet."""
    READY = "ready"
    """Enough instances are good enough."""
    TOO_FEW = "too_few"
    """Registered, but too few instances are good enough; `reasons` names the checks."""
    NO_MATCH = "no_match"
    """Registered, but no instance fits the tags, meta or filter asked for."""
    UNKNOWN_SERVICE = "unknown_service"
    """Nobody has registered it, or nobody does any longer."""
    HIDDEN = "hidden"
    """Access rules hide it from the token in use."""
    MAYBE_HIDDEN = "maybe_hidden"
    """Either nobody has registered it or access rules hide it; what the token sees does not tell."""
    AGENT_UNREACHABLE = "agent_unreachable"
    """The agent does not answer."""
    NO_LEADER = "no_leader"
    """The agent answers, and the servers behind it have no leader or cannot be reached."""
    TOKEN_UNKNOWN = "token_unknown"  # noqa: S105 - a kind of progress
    """The servers do not know the token (yet)."""
    PERMISSION_DENIED = "permission_denied"
    """The token may not ask this (yet)."""
    BUSY = "busy"
    """The agent, or this client's own connections, are at their limit."""
    FAILED = "failed"
    """Another failure; `reasons` holds it."""


_ADMITTED = {
    HealthPolicy.PASSING: "passing",
    HealthPolicy.PASSING_OR_WARNING: "passing or warning",
    HealthPolicy.SERVICE_CHECKS_ONLY: "passing their own checks",
    HealthPolicy.ANY: "registered",
}
_TEXTS = {
    ProgressKind.ASKING: "no answer yet",
    ProgressKind.UNKNOWN_SERVICE: "unknown service",
    ProgressKind.HIDDEN: "hidden by ACL",
    ProgressKind.MAYBE_HIDDEN: "unknown service, or hidden by ACL",
    ProgressKind.AGENT_UNREACHABLE: "agent unreachable",
    ProgressKind.NO_LEADER: "no leader",
    ProgressKind.TOKEN_UNKNOWN: "token unknown",
    ProgressKind.PERMISSION_DENIED: "permission denied",
    ProgressKind.BUSY: "too busy",
    ProgressKind.FAILED: "no usable answer",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """What was seen of one service. `str()` is a line for people; equal ones have the same to say.

    Args:
        service: the service's name.
        kind: what it amounts to.
        wanted: how many instances are waited for.
        found: how many are good enough.
        registered: how many there are in any state; None when that is not known.
        policy: what good enough means.
        reasons: why it is not ready yet, the most important one first.
    """

    service: str
    kind: ProgressKind = ProgressKind.ASKING
    wanted: int = 1
    found: int = 0
    registered: int | None = None
    policy: HealthPolicy = HealthPolicy.PASSING
    reasons: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Whether there are enough."""
        return self.kind is ProgressKind.READY

    @property
    def text(self) -> str:
        """The line without the service's name."""
        said = _TEXTS.get(self.kind) or self._counted()
        return f"{said}: {'; '.join(self.reasons)}" if self.reasons else said

    def _counted(self) -> str:
        if self.kind is ProgressKind.NO_MATCH:
            return f"registered, 0 of {self.registered} as asked for"
        counted = f"{self.found} of {self.registered} {_ADMITTED[self.policy]}"
        if self.kind is ProgressKind.READY:
            return f"ready, {counted}"
        wanted = f", {self.wanted} wanted" if self.wanted != self.registered else ""
        return f"registered, {counted}{wanted}"

    def __str__(self) -> str:
        return f"{self.service}: {self.text}"

"""`/v1/agent`: one agent and what is registered at it. https://developer.hashicorp.com/consul/api-docs/agent

What is said to one agent is said to that one only: another one knows nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, cast

from pydantic import BaseModel, Field

from consul_access.call import Call, Repeat, Reply, json_body, path
from consul_access.consul.texts import meaning
from consul_access.decoding import decode, decode_list
from consul_access.errors import InvalidInput
from consul_access.models import inputs
from consul_access.models.catalog import AgentInfo, AgentService, Check
from consul_access.models.durations import Duration, go_duration, seconds
from consul_access.models.filters import quoted
from consul_access.models.nullable import NullAs
from consul_access.models.status import CheckStatus

if TYPE_CHECKING:
    from consul_access.models.definition import ServiceDefinition

__all__ = [
    "AgentHealth",
    "about",
    "checks",
    "deregister",
    "maintenance",
    "members",
    "node_maintenance",
    "register",
    "service",
    "service_health",
    "service_health_by_name",
    "services",
    "update_check",
]

OUTPUT_LIMIT: Final = 4096
_SERVICES: Final = cast("type[dict[str, AgentService]]", Annotated[dict[str, AgentService], NullAs(dict)])
_CHECKS: Final = cast("type[dict[str, Check]]", Annotated[dict[str, Check], NullAs(dict)])
_HEALTH_STATUSES: Final = frozenset({200, 404, 429, 503})


class _Self(BaseModel, defer_build=True):
    config: AgentInfo = Field(alias="Config")


class _Member(BaseModel, defer_build=True):
    name: str = Field(alias="Name")


class _Outcome(BaseModel, defer_build=True):
    status: CheckStatus = Field(alias="AggregatedStatus")
    service: AgentService | None = Field(None, alias="Service")
    checks: Annotated[tuple[Check, ...], NullAs(tuple)] = Field((), alias="Checks")


class AgentHealth(BaseModel, frozen=True, defer_build=True):
    """How one service stands, as its own agent sees it.

    Args:
        status: over all its checks; critical when the agent does not know it.
        service: what is registered, or None; without its `content_hash`.
        checks: its checks and its node's.
    """

    status: CheckStatus
    service: AgentService | None
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class _Blocking:
    pairs: tuple[tuple[str, str | None], ...] = ()
    patience: float = 0.0


def about() -> Call[AgentInfo]:
    """Who the agent is: version, node, datacenter."""
    return Call(name="agent.self", method="GET", path="/v1/agent/self", read=lambda reply: decode(_Self, reply).config)


def members() -> Call[list[str]]:
    """The names of the nodes whose agents form the cluster, as this agent knows them."""
    return Call(
        name="agent.members",
        method="GET",
        path="/v1/agent/members",
        read=lambda reply: [member.name for member in decode_list(_Member, reply)],
    )


def register(definition: ServiceDefinition, *, replace_existing_checks: bool = True) -> Call[None]:
    """Registers a service, or replaces its registration.

    Args:
        definition: what the service says about itself.
        replace_existing_checks: removes checks of an earlier registration that are not in this one. The agent
            understands no other spelling than `true` (`=1` is ignored; agent/agent_endpoint.go).
    """
    return Call(
        name="agent.service.register",
        method="PUT",
        path="/v1/agent/service/register",
        query=(("replace-existing-checks", "true"),) if replace_existing_checks else (),
        body=json_body(definition.payload()),
        repeat=Repeat.IDEMPOTENT,
        read=_nothing,
        subject=definition.id,
    )


def deregister(service_id: str) -> Call[None]:
    """Removes a service. Agents before 1.11.2 answer 200 for one they do not know."""
    return Call(
        name="agent.service.deregister",
        method="PUT",
        path=path("v1", "agent", "service", "deregister", service_id),
        repeat=Repeat.IDEMPOTENT,
        read=_nothing,
        subject=service_id,
    )


def service(service_id: str, *, wait: Duration | None = None, content_hash: str | None = None) -> Call[AgentService]:
    """One service, as registered.

    Args:
        service_id: its id.
        wait: with `content_hash`, how long to wait for a change; at most 10 minutes.
        content_hash: of the registration that is known already.
    """
    blocking = _blocking(wait, content_hash)
    return Call(
        name="agent.service",
        method="GET",
        path=path("v1", "agent", "service", service_id),
        query=blocking.pairs,
        read=partial(decode, AgentService),
        subject=service_id,
        patience=blocking.patience,
    )


def services() -> Call[dict[str, AgentService]]:
    """All services registered at this agent, by id."""
    return Call(name="agent.services", method="GET", path="/v1/agent/services", read=partial(decode, _SERVICES))


def checks(*, service_id: str | None = None, service_name: str | None = None) -> Call[dict[str, Check]]:
    """The checks at this agent, by id. Their output is the newest there is.

    Args:
        service_id: only those of the service with this id.
        service_name: only those of the services with this name.
    """
    wanted = (("ServiceID", service_id), ("ServiceName", service_name))
    conditions = [f"{field} == {quoted(value)}" for field, value in wanted if value is not None]
    return Call(
        name="agent.checks",
        method="GET",
        path="/v1/agent/checks",
        query=(("filter", " and ".join(conditions)),) if conditions else (),
        read=partial(decode, _CHECKS),
    )


def update_check(check_id: str, status: CheckStatus | str, output: str = "") -> Call[None]:
    """Reports a TTL check.

    Args:
        check_id: its id.
        status: passing, warning or critical.
        output: for people; cut at 4 KB, as the agent would.
    """
    if status not in {"passing", "warning", "critical"}:
        raise InvalidInput(f"status={str(status)!r} cannot be reported: write 'passing', 'warning' or 'critical'")
    kept = output.encode("utf-8", "replace")[:OUTPUT_LIMIT].decode("utf-8", "ignore")
    return Call(
        name="agent.check.update",
        method="PUT",
        path=path("v1", "agent", "check", "update", check_id),
        body=json_body({"Status": str(status), "Output": kept}),
        repeat=Repeat.IDEMPOTENT,
        read=_nothing,
        subject=check_id,
    )


def maintenance(service_id: str, enabled: bool, reason: str = "") -> Call[None]:
    """Takes a service out of every look-up, or brings it back."""
    return Call(
        name="agent.service.maintenance",
        method="PUT",
        path=path("v1", "agent", "service", "maintenance", service_id),
        query=_maintenance(enabled, reason),
        repeat=Repeat.IDEMPOTENT,
        read=_nothing,
        subject=service_id,
    )


def node_maintenance(enabled: bool, reason: str = "") -> Call[None]:
    """Takes everything on this agent's node out of every look-up, or brings it back."""
    return Call(
        name="agent.maintenance",
        method="PUT",
        path="/v1/agent/maintenance",
        query=_maintenance(enabled, reason),
        repeat=Repeat.IDEMPOTENT,
        read=_nothing,
    )


def service_health(service_id: str) -> Call[AgentHealth]:
    """How one service at this agent stands. The status code is data here: 429 is warning, 503 critical."""
    return Call(
        name="agent.health.service.id",
        method="GET",
        path=path("v1", "agent", "health", "service", "id", service_id),
        statuses=_HEALTH_STATUSES,
        read=lambda reply: _health(decode(_Outcome, _as_data(reply))),
        subject=service_id,
    )


def service_health_by_name(name: str) -> Call[list[AgentHealth]]:
    """How all services of this name at this agent stand; none when it knows none."""
    return Call(
        name="agent.health.service.name",
        method="GET",
        path=path("v1", "agent", "health", "service", "name", name),
        statuses=_HEALTH_STATUSES,
        read=lambda reply: [_health(outcome) for outcome in decode_list(_Outcome, _as_data(reply))],
        subject=name,
    )


def _as_data(reply: Reply) -> Reply:
    """The reply, unless its status is not about the service: a full agent says 429 too, in plain text."""
    if reply.status != 200 and reply.body[:1] not in {b"{", b"["}:
        meant = meaning(reply.status, reply.text)
        raise meant.error(meant.message, status=reply.status, address=reply.address, excerpt=reply.excerpt())
    return reply


def _health(outcome: _Outcome) -> AgentHealth:
    return AgentHealth(status=outcome.status, service=outcome.service, checks=outcome.checks)


def _nothing(_: Reply) -> None:
    """Writes answer with nothing worth reading."""


def _maintenance(enabled: bool, reason: str) -> tuple[tuple[str, str | None], ...]:
    flag = ("enable", "true" if enabled else "false")
    return (flag, ("reason", inputs.text(reason, "reason"))) if reason else (flag,)


def _blocking(wait: Duration | None, content_hash: str | None) -> _Blocking:
    if content_hash is None:
        if wait is not None:
            raise InvalidInput("wait= needs content_hash=: the agent waits for a change of what is known already")
        return _Blocking()
    length = seconds(55.0 if wait is None else wait, what="wait")
    if not 0 < length <= 600:
        raise InvalidInput(f"wait={wait!r} cannot be waited for: more than 0 s, at most 10 minutes")
    pairs = (("hash", inputs.text(content_hash, "content_hash")), ("wait", go_duration(length, what="wait")))
    return _Blocking(pairs, length * 17 / 16 + 5.0)

"""`/v1/agent/service`: what is registered at the agent."""

from __future__ import annotations

from typing import Any, Final

from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.catalog import Check
from consul_access.testing.consul.definitions import Invalid, ServiceDefinition, read_service, wrong_family
from consul_access.testing.consul.endpoints.common import DENIED, DONE, authorized, kept
from consul_access.testing.consul.endpoints.member import enabled_or_not
from consul_access.testing.consul.exchange import Ask, Options, Refused, Told, refuse_namespace
from consul_access.testing.consul.filtering import SERVICES
from consul_access.testing.consul.local import LocalService, content_hash
from consul_access.testing.consul.rendering import agent_health_check, agent_service

__all__ = ["deregister", "everything", "health_of_id", "health_of_name", "maintenance", "one", "register"]

NO_SCRIPTS: Final = (
    "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"
)
NOT_JSON: Final = "text/plain"
_CODES: Final = {"passing": 200, "warning": 429, "critical": 503, "maintenance": 503}
_WORST_FIRST: Final = ("maintenance", "critical", "warning", "passing")


def everything(agent: Agent, ask: Ask) -> Told:
    """`agent/services`: all services, by id."""
    allowed = authorized(agent, ask)
    keeps = kept(ask, SERVICES, meta=False)
    shown = {service_id: _shown(agent, held) for service_id, held in sorted(agent.local.services.items())}
    return Told({key: made for key, made in shown.items() if allowed.reads("service", made["Service"]) and keeps(made)})


def one(agent: Agent, ask: Ask) -> Told:
    """`agent/service/ID`: one service, to be waited for by the hash of what is known."""
    ask.options = Options.parse({name: ask.query[name] for name in ("wait", "index") if name in ask.query})
    refuse_namespace(ask)  # later than elsewhere
    allowed = authorized(agent, ask)
    held = agent.local.services.get(ask.rest)
    if held is None:
        raise Refused(404, f"unknown service ID: {ask.rest}")
    if not allowed.reads("service", held.service.name):
        raise Refused(403, DENIED)
    made = _shown(agent, held)
    hashed = content_hash(made)
    return Told(made | {"ContentHash": hashed}, headers=(("X-Consul-Contenthash", hashed),))


def register(agent: Agent, ask: Ask) -> Told:
    """`agent/service/register`: registers a service, or replaces its registration."""
    try:
        wanted = read_service(ask.request.body, agent.cluster.dialect)
    except Invalid as invalid:
        raise Refused(400, str(invalid)) from None
    _vet_registration(agent, ask, wanted)
    if wrong := wrong_family(wanted.tagged):
        raise Refused(500, wrong)
    if not agent.scripts and any(check.is_script for check in wanted.checks):
        raise Refused(500, NO_SCRIPTS)
    replace = ask.first("replace-existing-checks") == "true" or ask.query.get("replace-existing-checks") == [""]
    agent.local.add_service(wanted, token=wanted.token or ask.token, replace_checks=replace, now=agent.cluster.now)
    agent.prepare([held for held in agent.local.checks.values() if held.check.service_id == wanted.id])
    agent.sync()
    return DONE


def deregister(agent: Agent, ask: Ask) -> Told:
    """`agent/service/deregister/ID`: removes a service and its checks."""
    _vet_service(agent, ask, ask.rest)
    if not ask.rest:
        raise Refused(500, "ServiceID missing")
    if not agent.local.remove_service(ask.rest) and agent.cluster.dialect.unknown_is_404:
        raise _unknown_service(agent, ask.rest)
    agent.sync()
    return DONE


def maintenance(agent: Agent, ask: Ask) -> Told:
    """`agent/service/maintenance/ID`: takes a service out of every look-up, or brings it back."""
    if not ask.rest:
        raise Refused(400, "Missing service ID")
    enabled = enabled_or_not(ask)
    _vet_service(agent, ask, ask.rest)
    if ask.rest not in agent.local.services:
        if agent.cluster.dialect.unknown_is_404:
            raise _unknown_service(agent, ask.rest)
        raise Refused(404, f'No service registered with ID "{ask.rest}"')
    agent.local.maintain_service(ask.rest, enabled, ask.first("reason"), ask.token)
    agent.sync()
    return DONE


def _vet_service(agent: Agent, ask: Ask, service_id: str) -> None:
    """Refuses whoever may not change a service; with ACLs also what is not registered."""
    allowed = authorized(agent, ask)
    if not agent.cluster.access.enabled:
        return
    held = agent.local.services.get(service_id)
    if held is None:
        raise _unknown_service(agent, service_id)
    if not allowed.writes("service", held.service.name):
        raise Refused(403, f"Permission denied: Missing service:write on {held.service.name}")


def _unknown_service(agent: Agent, service_id: str) -> Refused:
    """How a service is called unknown."""
    dialect = agent.cluster.dialect
    if dialect.unknown_is_404:
        text = f'Unknown service ID "{service_id}". Ensure that the service ID is passed, not the service name.'
        return Refused(404, text)
    text = f'Unknown service "{service_id}"' if dialect.since(1, 9) else f'Unknown service {{"{service_id}" {{}}}}'
    return Refused(500, text)


def _vet_registration(agent: Agent, ask: Ask, wanted: ServiceDefinition) -> None:
    allowed = agent.authorizer(wanted.token or ask.token)
    if allowed is None:
        raise Refused(403, "ACL not found")
    held = agent.local.services.get(wanted.id)
    names = [wanted.name] + ([held.service.name] if held else [])
    if not all(allowed.writes("service", name) for name in names):
        raise Refused(403, f"Permission denied: Missing service:write on {wanted.name}")


# --- health ---------------------------------------------------------------------------------------------------


def health_of_id(agent: Agent, ask: Ask) -> Told:
    """`agent/health/service/id/ID`: how one service stands. The status code is the answer."""
    if not ask.rest:
        raise Refused(500, "Bad request: Missing serviceID")
    allowed = authorized(agent, ask)
    held = agent.local.services.get(ask.rest)
    if held is None:
        missing = f"ServiceId {ask.rest} not found"
        reason = (("X-Consul-Reason", missing),)
        nothing = {"AggregatedStatus": "critical", "Service": None, "Checks": None}
        return Told(missing if _wants_text(ask) else nothing, 404, reason)
    if not allowed.reads("service", held.service.name):
        raise Refused(403, DENIED)
    status, told = _health(agent, held)
    return _standing(ask, status, told)


def health_of_name(agent: Agent, ask: Ask) -> Told:
    """`agent/health/service/name/NAME`: how all services of this name stand."""
    if not ask.rest:
        raise Refused(500, "Bad request: Missing service Name")
    if not authorized(agent, ask).reads("service", ask.rest):
        raise Refused(403, DENIED)
    services = [held for _, held in sorted(agent.local.services.items()) if held.service.name == ask.rest]
    if not services:
        missing = f"ServiceName {ask.rest} Not Found"
        reason = (("X-Consul-Reason", missing),)
        text = missing.encode() if _wants_text(ask) else None
        return Told([], 404, reason, text, NOT_JSON)
    found = [_health(agent, held) for held in services]
    worst = min((status for status, _ in found), key=_WORST_FIRST.index)
    return _standing(ask, worst, [told for _, told in found])


def _health(agent: Agent, held: LocalService) -> tuple[str, dict[str, Any]]:
    checks = agent.local.health_of(held.service.id)
    status = _aggregated(checks)
    shown = [agent_health_check(agent.cluster.dialect, agent.node.name, check) for check in checks]
    return status, {"AggregatedStatus": status, "Service": _shown(agent, held), "Checks": shown}


def _aggregated(checks: list[Check]) -> str:
    states = {"maintenance" if check.type == "maintenance" else check.status for check in checks}
    return next((status for status in _WORST_FIRST if status in states), "passing")


def _standing(ask: Ask, status: str, told: Any) -> Told:
    reason = (("X-Consul-Reason", status),)
    if _wants_text(ask):
        return Told(None, _CODES[status], reason, status.encode(), NOT_JSON)
    return Told(told, _CODES[status], reason)


def _wants_text(ask: Ask) -> bool:
    return ask.first("format") == "text" or ask.request.headers.get("accept", "") == NOT_JSON


def _shown(agent: Agent, held: LocalService) -> dict[str, Any]:
    return agent_service(agent.cluster.dialect, agent.cluster.catalog.datacenter, held.service)

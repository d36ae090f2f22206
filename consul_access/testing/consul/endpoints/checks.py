"""`/v1/agent/check`: the checks at the agent, and reports of TTL checks."""

from __future__ import annotations

from typing import Final

from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.definitions import STATUSES, Invalid, read_check
from consul_access.testing.consul.endpoints.common import DONE, authorized
from consul_access.testing.consul.endpoints.services import NO_SCRIPTS
from consul_access.testing.consul.exchange import Ask, Refused, Told
from consul_access.testing.consul.filtering import CHECKS, FilterFault, compiled
from consul_access.testing.consul.local import LocalCheck
from consul_access.testing.consul.rendering import agent_check
from consul_access.testing.consul.strict import STRING, Malformed, Struct, decode

__all__ = ["deregister", "everything", "failing", "passing", "register", "update", "warning"]

_UPDATE: Final = Struct("checkUpdate", {"Status": STRING, "Output": STRING}, "agent.checkUpdate")


def everything(agent: Agent, ask: Ask) -> Told:
    """`agent/checks`: all checks, by id."""
    allowed = authorized(agent, ask)
    try:
        keeps = compiled(ask.first("filter"), CHECKS)
    except FilterFault as fault:
        if not fault.is_syntax and not agent.local.checks:
            return Told({})  # it is looked at closely only when there is something to be filtered
        beginning = "Failed to create boolean expression evaluator: " if fault.is_syntax else ""
        raise Refused(500, f"{beginning}{fault}") from None
    shown = {}
    for check_id, held in sorted(agent.local.checks.items()):
        made = agent_check(agent.cluster.dialect, agent.node.name, held.check)
        name = held.check.service_name
        visible = allowed.reads("service", name) if name else allowed.reads("node", agent.node.name)
        if visible and keeps(made):
            shown[check_id] = made
    return Told(shown)


def register(agent: Agent, ask: Ask) -> Told:
    """`agent/check/register`: registers a check by itself, of a service or of the node."""
    try:
        definition, check_id, token = read_check(ask.request.body, agent.cluster.dialect)
    except Invalid as invalid:
        raise Refused(400, str(invalid)) from None
    held = agent.local.lone_check(definition, check_id, token or ask.token)
    _vet(agent, token or ask.token, held)
    if check_id in agent.local.checks:
        _vet(agent, token or ask.token, agent.local.checks[check_id])
    owner = definition.text("ServiceID")
    if owner and owner not in agent.local.services:
        raise Refused(500, f'ServiceID "{owner}" does not exist')
    if not agent.scripts and definition.is_script:
        raise Refused(500, NO_SCRIPTS)
    if check_id in agent.local.checks:
        known = agent.local.checks[check_id].check
        held.check.status, held.check.output = known.status, known.output
        held.is_new = False
    agent.local.add_check(held, now=agent.cluster.now)
    agent.prepare([held])
    agent.sync()
    return DONE


def deregister(agent: Agent, ask: Ask) -> Told:
    """`agent/check/deregister/ID`: removes a check."""
    _vet_id(agent, ask, ask.rest)
    if not ask.rest:
        raise Refused(500, "CheckID missing")
    if not agent.local.remove_check(ask.rest) and agent.cluster.dialect.unknown_is_404:
        raise _unknown(agent, ask.rest)
    agent.sync()
    return DONE


def passing(agent: Agent, ask: Ask) -> Told:
    """`agent/check/pass/ID`."""
    return _reported(agent, ask, "passing", ask.first("note"))


def warning(agent: Agent, ask: Ask) -> Told:
    """`agent/check/warn/ID`."""
    return _reported(agent, ask, "warning", ask.first("note"))


def failing(agent: Agent, ask: Ask) -> Told:
    """`agent/check/fail/ID`."""
    return _reported(agent, ask, "critical", ask.first("note"))


def update(agent: Agent, ask: Ask) -> Told:
    """`agent/check/update/ID`: status and output in the body."""
    try:
        body = decode(ask.request.body, _UPDATE) or {}
    except Malformed as mistake:
        raise Refused(400, f"Request decode failed: {mistake}") from None
    status = body.get("Status", "")
    if status not in STATUSES:
        raise Refused(400, f"Invalid check status: '{status}'")
    return _reported(agent, ask, status, body.get("Output", ""))


def _reported(agent: Agent, ask: Ask, status: str, output: str) -> Told:
    _vet_id(agent, ask, ask.rest)
    held = agent.local.checks.get(ask.rest)
    if held is None and agent.cluster.dialect.unknown_is_404:
        raise _unknown(agent, ask.rest)
    if held is None or held.ttl is None:
        raise Refused(500, f'CheckID "{ask.rest}" does not have associated TTL')
    agent.local.beat(held, status, output, now=agent.cluster.now, defer=agent.deferral())
    agent.sync()
    return DONE


def _vet_id(agent: Agent, ask: Ask, check_id: str) -> None:
    authorized(agent, ask)
    if not agent.cluster.access.enabled:
        return
    held = agent.local.checks.get(check_id)
    if held is None:
        raise _unknown(agent, check_id)
    _vet(agent, ask.token, held)


def _vet(agent: Agent, token: str, held: LocalCheck) -> None:
    allowed = agent.authorizer(token)
    if allowed is None:
        raise Refused(403, "ACL not found")
    resource, name = ("service", held.check.service_name) if held.check.service_name else ("node", agent.node.name)
    if not allowed.writes(resource, name):
        raise Refused(403, f"Permission denied: Missing {resource}:write on {name}")


def _unknown(agent: Agent, check_id: str) -> Refused:
    if agent.cluster.dialect.unknown_is_404:
        return Refused(404, f'Unknown check ID "{check_id}". Ensure that the check ID is passed, not the check name.')
    return Refused(500, f'Unknown check "{check_id}"')

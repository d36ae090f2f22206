"""`/v1/agent`: the agent itself."""

from __future__ import annotations

from typing import Any

from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.endpoints.common import DENIED, DONE, authorized, flag
from consul_access.testing.consul.exchange import Ask, Refused, Told

__all__ = ["about", "enabled_or_not", "maintenance", "members", "version"]


def about(agent: Agent, ask: Ask) -> Told:
    """`agent/self`: who the agent is."""
    if not authorized(agent, ask).reads("agent", agent.node.name):
        raise Refused(403, DENIED)
    dialect = agent.cluster.dialect
    config: dict[str, Any] = {
        "Datacenter": agent.cluster.catalog.datacenter,
        "NodeName": agent.node.name,
        "NodeID": agent.node.id,
        "Revision": "",
        "Server": agent.is_server,
        "Version": dialect.text,
    }
    if dialect.since(1, 10):
        config["PrimaryDatacenter"] = agent.cluster.catalog.datacenter
    debug = {
        "ACLDefaultPolicy": "deny" if agent.cluster.access.enabled else "allow",
        "ACLsEnabled": agent.cluster.access.enabled,
        "EnableRemoteScriptChecks": agent.scripts,
    }
    return Told(
        {"Config": config, "DebugConfig": debug, "Member": _member(agent, agent), "Meta": agent.node.meta or {}}
    )


def version(agent: Agent, ask: Ask) -> Told:
    """`agent/version`, which younger agents have."""
    del ask
    text = agent.cluster.dialect.text
    return Told({"SHA": "", "BuildDate": "1970-01-01T00:00:01Z", "HumanVersion": text, "FIPS": ""})


def members(agent: Agent, ask: Ask) -> Told:
    """`agent/members`: all agents of the cluster."""
    allowed = authorized(agent, ask)
    if ask.first("segment"):
        raise Refused(500, "Network segments are not supported in this version of Consul")
    return Told([_member(agent, one) for one in agent.cluster.agents if allowed.reads("node", one.node.name)])


def maintenance(agent: Agent, ask: Ask) -> Told:
    """`agent/maintenance`: takes the node out of every look-up, or brings it back."""
    enabled = enabled_or_not(ask)
    if not authorized(agent, ask).writes("node", agent.node.name):
        raise Refused(403, DENIED)
    agent.local.maintain_node(enabled, ask.first("reason"), ask.token)
    agent.sync()
    return DONE


def enabled_or_not(ask: Ask) -> bool:
    """The `enable` parameter.

    Raises:
        Refused: it is missing or says neither.
    """
    if "enable" not in ask.query:
        raise Refused(400, "Missing value for enable")
    enabled = flag(ask.first("enable"))
    if enabled is None:
        raise Refused(400, f'Invalid value for enable: "{ask.first("enable")}"')
    return enabled


def _member(agent: Agent, one: Agent) -> dict[str, Any]:
    cluster = agent.cluster
    tags = {
        "acls": "1" if cluster.access.enabled else "0",
        "build": f"{cluster.dialect.text}:",
        "dc": cluster.catalog.datacenter,
        "id": one.node.id,
        "role": "consul" if one.is_server else "node",
        "segment": "",
        "vsn": "2",
        "vsn_max": "3",
        "vsn_min": "2",
    }
    made: dict[str, Any] = {"Name": one.node.name, "Addr": one.node.address, "Port": 8301, "Tags": tags}
    made |= {"Status": 1 if one.is_up else 4, "ProtocolMin": 1, "ProtocolMax": 5, "ProtocolCur": 2}
    return made | {"DelegateMin": 2, "DelegateMax": 5, "DelegateCur": 4}

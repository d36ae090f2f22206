"""`/v1/status`: who leads; open to everybody."""

from __future__ import annotations

from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.exchange import Ask, Told

__all__ = ["leader", "peers"]


def leader(agent: Agent, ask: Ask) -> Told:
    """`status/leader`: the leader's address; empty while there is none."""
    del ask
    return Told("" if agent.cluster.away is not None else _servers(agent)[0])


def peers(agent: Agent, ask: Ask) -> Told:
    """`status/peers`: the servers' addresses."""
    del ask
    return Told(_servers(agent))


def _servers(agent: Agent) -> list[str]:
    return [f"{one.node.address}:8300" for one in agent.cluster.agents if one.is_server]

"""What is out of scope here and still asked for: keys and coordinates, as an agent answers that has none."""

from __future__ import annotations

from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.endpoints.common import DENIED, authorized
from consul_access.testing.consul.exchange import Ask, Refused, Told

__all__ = ["coordinate", "key"]


def key(agent: Agent, ask: Ask) -> Told:
    """`kv/KEY`: there is none."""
    if not authorized(agent, ask).reads("key", ask.rest):
        raise Refused(403, DENIED)
    headers = (("X-Consul-Index", "1"), ("X-Consul-Knownleader", "true"), ("X-Consul-Lastcontact", "0"))
    return Told(None, 404, headers, b"")


def coordinate(agent: Agent, ask: Ask) -> Told:
    """`coordinate/node/NAME`: there is none."""
    authorized(agent, ask)
    return Told(None, 404, (), b"")

"""What several endpoints need: who asks, what may be seen, and what is kept by a filter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from consul_access.testing.consul.access import Authorizer
from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.catalog import Check, Node
from consul_access.testing.consul.exchange import Ask, Refused, Told
from consul_access.testing.consul.filtering import FilterFault, Record, compiled

__all__ = [
    "DENIED",
    "DONE",
    "authorized",
    "compiled_for",
    "contents",
    "flag",
    "kept",
    "node_meta",
    "reader",
    "sees_check",
    "wanted_node",
]

DONE = Told(raw=b"")
DENIED = "Permission denied"


def authorized(agent: Agent, ask: Ask, *, meta: bool = False) -> Authorizer:
    """What the asker may do.

    Raises:
        Refused: nobody knows the token.
    """
    allowed = agent.authorizer(ask.token)
    if allowed is None:
        raise Refused(403, "ACL not found", meta=meta)
    return allowed


def reader(agent: Agent, ask: Ask) -> Authorizer:
    """What the asker may read of the servers."""
    return authorized(agent, ask, meta=True)


def kept(ask: Ask, shape: Record, *, meta: bool = True) -> Callable[[Mapping[str, Any]], bool]:
    """What the `filter` parameter keeps.

    Raises:
        Refused: it is none.
    """
    return compiled_for(ask, ask.first("filter"), shape, meta=meta)


def compiled_for(ask: Ask, text: str, shape: Record, *, meta: bool = True) -> Callable[[Mapping[str, Any]], bool]:
    """What an expression keeps.

    Raises:
        Refused: it is none; a view says no more than why.
    """
    try:
        return compiled(text, shape)
    except FilterFault as fault:
        beginning = "" if ask.is_streamed else "Failed to create boolean expression evaluator: "
        raise Refused(500, f"{beginning}{fault}", meta=meta) from None


def node_meta(ask: Ask) -> dict[str, str]:
    """What the `node-meta` parameters want of a node."""
    pairs = (given.partition(":") for given in ask.query.get("node-meta", ()))
    return {key: value for key, _, value in pairs}


def wanted_node(node: Node, wanted: Mapping[str, str]) -> bool:
    """Whether a node's metadata is what was wanted."""
    return all((node.meta or {}).get(key) == value for key, value in wanted.items())


def sees_check(allowed: Authorizer, node: Node, check: Check) -> bool:
    """Whether the asker may see a check."""
    return allowed.reads("node", node.name) and (not check.service_name or allowed.reads("service", check.service_name))


def contents(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What entries say, without the indexes, which also move when something else about a node does."""
    return [{key: value for key, value in one.items() if not key.endswith("Index")} for one in entries]


def flag(text: str) -> bool | None:
    """What a parameter says that is true or false; None if it says neither."""
    from consul_access.testing.consul.golang import truth

    try:
        return truth(text)
    except ValueError:
        return None

"""`/v1/health`: what the servers know of how nodes and services stand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.catalog import Check, Node, Service
from consul_access.testing.consul.endpoints import common
from consul_access.testing.consul.exchange import Ask, Found, Refused
from consul_access.testing.consul.filtering import CHECKS, HEALTH
from consul_access.testing.consul.rendering import catalog_check, node_service
from consul_access.testing.consul.rendering import node as shown_node

__all__ = ["checks", "connect", "fitting", "node", "service", "state"]


def service(agent: Agent, ask: Ask) -> Found:
    """`health/service/NAME`: its instances, each with its node and checks."""
    catalog = agent.cluster.catalog
    return _entries(agent, ask, list(catalog.instances(_named(ask, "service name"))))


def connect(agent: Agent, ask: Ask) -> Found:
    """`health/connect/NAME`: those of them that speak Connect themselves."""
    catalog = agent.cluster.catalog
    return _entries(agent, ask, [pair for pair in catalog.instances(_named(ask, "service name")) if pair[1].native])


def _entries(agent: Agent, ask: Ask, found: list[tuple[Node, Service]]) -> Found:
    catalog = agent.cluster.catalog
    if ask.is_streamed:
        index = catalog.view_index(ask.rest, bool(found))
    else:
        index = catalog.service_index(ask.rest, bool(found), checks=True)
    allowed = common.reader(agent, ask)
    keeps = common.kept(ask, HEALTH)
    seen = [
        (node, one)
        for node, one in fitting(ask, found)
        if allowed.reads("node", node.name) and allowed.reads("service", one.name)
    ]
    shown = [_entry(agent, node, one) for node, one in seen]
    shown = [entry for entry in shown if keeps(entry)]
    told = Found(shown, index, cacheable=True, filtered=len(seen) < len(found), wakes=None if found else ())
    if _only_passing(ask, told):
        told.data = [entry for entry in shown if all(check["Status"] == "passing" for check in entry["Checks"])]
    return told


def fitting(ask: Ask, found: list[tuple[Node, Service]]) -> list[tuple[Node, Service]]:
    """The instances that have all wanted tags, on nodes with the wanted metadata."""
    tags = [tag.lower() for tag in ask.query.get("tag", ())]
    wanted = _contained(ask) if ask.is_streamed else partial(common.wanted_node, wanted=common.node_meta(ask))
    return [(node, one) for node, one in found if set(tags) <= {tag.lower() for tag in one.tags or ()} and wanted(node)]


def _contained(ask: Ask) -> Callable[[Node], bool]:
    """What a streamed view takes for the wanted metadata: an expression that texts contain what they should equal.

    What cannot stand in it, such as a name with a hyphen, is an error (agent/rpcclient/health/view.go, 1.10 to 1.16).
    """
    wanted = [
        common.compiled_for(ask, f'"{value}" in Node.Meta.{key}', HEALTH)
        for key, value in common.node_meta(ask).items()
    ]
    return lambda node: all(keeps({"Node": {"Meta": node.meta or {}}}) for keeps in wanted)


def _entry(agent: Agent, node: Node, one: Service) -> dict[str, Any]:
    dialect, catalog = agent.cluster.dialect, agent.cluster.catalog
    checks = [catalog_check(dialect, node, check) for check in catalog.checks_of(node, one)]
    return {"Node": shown_node(catalog, node), "Service": node_service(dialect, one), "Checks": checks}


def _only_passing(ask: Ask, told: Found) -> bool:
    if "passing" not in ask.query:
        return False
    given = ask.first("passing")
    passing = common.flag(given) if given else True
    if passing is None:
        raise Refused(400, "Invalid value for ?passing", found=told)
    return passing


def checks(agent: Agent, ask: Ask) -> Found:
    """`health/checks/NAME`: the checks of a service's instances, and those of nodes that name it."""
    name = _named(ask, "service name").lower()
    return _checks(agent, ask, lambda _, check: check.service_name.lower() == name)


def node(agent: Agent, ask: Ask) -> Found:
    """`health/node/NAME`: the checks on a node."""
    name = _named(ask, "node name").lower()
    return _checks(agent, ask, lambda node, _: node.name.lower() == name, meta={})


def state(agent: Agent, ask: Ask) -> Found:
    """`health/state/STATE`: the checks in a state, or in any."""
    wanted = _named(ask, "check state")
    return _checks(agent, ask, lambda _, check: wanted in {"any", check.status})


def _checks(agent: Agent, ask: Ask, fits: Any, *, meta: dict[str, str] | None = None) -> Found:
    catalog = agent.cluster.catalog
    allowed = common.reader(agent, ask)
    keeps = common.kept(ask, CHECKS)
    meta = common.node_meta(ask) if meta is None else meta
    found = [
        (node, check) for node, check in catalog.all_checks() if fits(node, check) and common.wanted_node(node, meta)
    ]
    seen = [(node, check) for node, check in found if common.sees_check(allowed, node, check)]
    shown = [_shown_check(agent, node, check) for node, check in seen]
    index = catalog.highest("nodes", "checks") if meta else catalog.highest("checks")
    kept, hidden = [made for made in shown if keeps(made)], len(seen) < len(found)
    # A check that is told once more and says the same moves no ModifyIndex, and wakes all the same.
    told = [(node.name.lower(), check.id.lower(), check.written) for node, check in found]
    return Found(kept, index, filtered=hidden, wakes=told)


def _shown_check(agent: Agent, node: Node, check: Check) -> dict[str, Any]:
    return catalog_check(agent.cluster.dialect, node, check)


def _named(ask: Ask, what: str) -> str:
    if not ask.rest:
        raise Refused(400, f"Missing {what}")
    return ask.rest

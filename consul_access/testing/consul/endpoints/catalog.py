"""`/v1/catalog`: what is registered, without health; and registering past the agents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.catalog import CatalogFault, Check, Node, Service
from consul_access.testing.consul.definitions import PORTED, STRINGS, TEXTS, WEIGHTS, is_any_address
from consul_access.testing.consul.endpoints import common
from consul_access.testing.consul.endpoints.health import fitting
from consul_access.testing.consul.exchange import Ask, Found, Refused, Told
from consul_access.testing.consul.filtering import CATALOG, NODES, SERVICES
from consul_access.testing.consul.golang import duration, shown
from consul_access.testing.consul.rendering import catalog_entry, node_service
from consul_access.testing.consul.rendering import node as shown_node
from consul_access.testing.consul.strict import ANYTHING, BOOL, INT, STRING, Items, Malformed, Mapped, Struct, decode

__all__ = ["connect", "datacenters", "deregister", "node", "node_services", "nodes", "register", "service", "services"]


def datacenters(agent: Agent, ask: Ask) -> Told:
    """`catalog/datacenters`, open to everybody."""
    del ask
    return Told([agent.cluster.catalog.datacenter])


def nodes(agent: Agent, ask: Ask) -> Found:
    """`catalog/nodes`."""
    catalog, allowed = agent.cluster.catalog, common.reader(agent, ask)
    keeps, meta = common.kept(ask, NODES), common.node_meta(ask)
    found = [node for node in catalog.all_nodes() if common.wanted_node(node, meta)]
    seen = [node for node in found if allowed.reads("node", node.name)]
    made = [shown_node(catalog, node) for node in seen]
    return Found([one for one in made if keeps(one)], catalog.highest("nodes"), filtered=len(seen) < len(found))


def services(agent: Agent, ask: Ask) -> Found:
    """`catalog/services`: names, each with the tags in use. A filter is passed over on 1.8 and 1.10."""
    catalog, allowed, meta = agent.cluster.catalog, common.reader(agent, ask), common.node_meta(ask)
    found: dict[str, list[str]] = {}
    hidden = False
    every = [
        (node.name.lower(), replace(one, created=0, modified=0))
        for node in catalog.all_nodes()
        for one in node.services.values()
    ]
    for node in catalog.all_nodes():
        if not common.wanted_node(node, meta):
            continue
        for one in node.services.values():
            if not allowed.reads("service", one.name):
                hidden = True
                continue
            tags = found.setdefault(one.name, [])
            tags += [tag for tag in dict.fromkeys(one.tags or ()) if tag not in tags]
    index = catalog.highest("services", "nodes") if meta else catalog.highest("services")
    return Found(dict(sorted(found.items())), index, cacheable=True, filtered=hidden, wakes=every)


def service(agent: Agent, ask: Ask) -> Found:
    """`catalog/service/NAME`: its instances, healthy or not."""
    return _entries(agent, ask, list(agent.cluster.catalog.instances(_named(ask, "service name"))))


def connect(agent: Agent, ask: Ask) -> Found:
    """`catalog/connect/NAME`: those of them that speak Connect themselves."""
    found = agent.cluster.catalog.instances(_named(ask, "service name"))
    return _entries(agent, ask, [pair for pair in found if pair[1].native])


def _entries(agent: Agent, ask: Ask, found: list[tuple[Node, Service]]) -> Found:
    catalog, allowed = agent.cluster.catalog, common.reader(agent, ask)
    keeps = common.kept(ask, CATALOG)
    seen = [
        (node, one)
        for node, one in fitting(ask, found)
        if allowed.reads("service", one.name) and allowed.reads("node", node.name)
    ]
    made = [catalog_entry(catalog, agent.cluster.dialect, node, one) for node, one in seen]
    index = catalog.service_index(ask.rest, bool(found), checks=False)
    kept, hidden = [one for one in made if keeps(one)], len(seen) < len(found)
    return Found(kept, index, cacheable=True, filtered=hidden, wakes=common.contents(made))


def node(agent: Agent, ask: Ask) -> Found:
    """`catalog/node/NAME`: a node and its services by id; null for one that is not there."""
    found, made, index = _of_node(agent, ask)
    if found is None:
        return Found(None, index, wakes=())
    return Found(
        {"Node": found, "Services": {one["ID"]: one for one in made or ()}},
        index,
        wakes=common.contents((found or {}, *(made or ()))),
    )


def node_services(agent: Agent, ask: Ask) -> Found:
    """`catalog/node-services/NAME`: the same, as a list."""
    found, made, index = _of_node(agent, ask)
    return Found({"Node": found, "Services": made}, index, wakes=common.contents((found or {}, *(made or ()))))


def _of_node(agent: Agent, ask: Ask) -> tuple[dict[str, Any] | None, list[dict[str, Any]] | None, int]:
    catalog, dialect = agent.cluster.catalog, agent.cluster.dialect
    name = _named(ask, "node name")
    allowed = common.reader(agent, ask)
    keeps = common.kept(ask, SERVICES)
    found = catalog.nodes.get(name.lower())
    if found is None:
        return None, None, 0
    index = catalog.highest("nodes", "services")
    if not allowed.reads("node", found.name):
        return None, None, index
    seen = [one for _, one in sorted(found.services.items()) if allowed.reads("service", one.name)]
    made = [node_service(dialect, one) for one in seen]
    # Nothing at all is null, nothing that was kept is [].
    kept = [one for one in made if keeps(one)] if made or ask.first("filter") else None
    return shown_node(catalog, found), kept, index


def _named(ask: Ask, what: str) -> str:
    if not ask.rest:
        raise Refused(400, f"Missing {what}")
    return ask.rest


# --- writing --------------------------------------------------------------------------------------------------

_DEFINITION: Final = Struct(
    "HealthCheckDefinition",
    {
        **dict.fromkeys(("HTTP", "Method", "Body", "TCP", "TLSServerName", "UDP", "OSService", "GRPC"), STRING),
        **dict.fromkeys(("TLSSkipVerify", "GRPCUseTLS", "TCPUseTLS", "DisableRedirects"), BOOL),
        **dict.fromkeys(("Interval", "Timeout", "DeregisterCriticalServiceAfter", "TTL"), ANYTHING),
        **dict.fromkeys(("IntervalDuration", "TimeoutDuration", "DeregisterCriticalServiceAfterDuration"), ANYTHING),
        "ScriptArgs": STRINGS,
        "Header": Mapped(STRINGS, "map[string][]string"),
        "OutputMaxSize": INT,
    },
    "structs.HealthCheckDefinition",
    closed=True,
)
CHECK: Final = Struct(
    "HealthCheck",
    {
        **dict.fromkeys(("Node", "CheckID", "Name", "Status", "Notes", "Output", "ServiceID", "ServiceName"), STRING),
        **dict.fromkeys(("Type", "Namespace", "Partition"), STRING),
        "ServiceTags": STRINGS,
        "Definition": _DEFINITION,
        "CreateIndex": INT,
        "ModifyIndex": INT,
    },
    "structs.HealthCheck",
)
_SERVICE: Final = Struct(
    "NodeService",
    {
        **dict.fromkeys(("Kind", "ID", "Service", "Address", "SocketPath"), STRING),
        "Tags": STRINGS,
        "TaggedAddresses": Mapped(PORTED, "map[string]structs.ServiceAddress"),
        "Meta": TEXTS,
        "Port": INT,
        "Weights": WEIGHTS,
        "EnableTagOverride": BOOL,
        **dict.fromkeys(("Proxy", "Connect", "Locality", "Ports"), ANYTHING),
        "CreateIndex": INT,
        "ModifyIndex": INT,
    },
    "structs.NodeService",
)
_REGISTRATION: Final = Struct(
    "RegisterRequest",
    {
        **dict.fromkeys(("Datacenter", "ID", "Node", "Address"), STRING),
        "TaggedAddresses": TEXTS,
        "NodeMeta": TEXTS,
        "Service": _SERVICE,
        "Check": CHECK,
        "Checks": Items(CHECK, "structs.HealthChecks"),
        "SkipNodeUpdate": BOOL,
    },
    "structs.RegisterRequest",
)
_DEREGISTRATION: Final = Struct(
    "DeregisterRequest",
    dict.fromkeys(("Datacenter", "Node", "ServiceID", "CheckID"), STRING),
    "structs.DeregisterRequest",
)


def knows(agent: Agent, name: str) -> bool:
    """Whether this version knows a field of a registration past the agents."""
    dialect = agent.cluster.dialect
    if name in {"Namespace", "Partition"}:
        return False
    return dialect.knows_service_field(name) and dialect.knows_check_field(name)


def register(agent: Agent, ask: Ask) -> Told:
    """`catalog/register`: a node, a service on it, checks: said to the servers, past every agent."""
    body = _body(agent, ask, _REGISTRATION)
    if not body.get("Node"):
        raise Refused(500, "Must provide node")
    if not body.get("Address") and not body.get("SkipNodeUpdate"):
        raise Refused(500, "Must provide address if SkipNodeUpdate is not set")
    _vet_node_id(body.get("ID", ""))
    service = _service(body.get("Service"), body["Node"])
    checks = [
        _check(given, body["Node"])
        for given in body.get("Checks", []) + ([body["Check"]] if "Check" in body else [])
        if given
    ]
    _vet(agent, ask, body["Node"], service, checks)
    known = agent.cluster.catalog.nodes.get(body["Node"].lower())
    node = Node(body["Node"], body.get("Address", ""), body.get("ID", "") or (known.id if known else ""))
    node.tagged, node.meta = body.get("TaggedAddresses"), body.get("NodeMeta")
    try:
        agent.write().register(node, service, checks, skip_node=body.get("SkipNodeUpdate", False))
    except CatalogFault as fault:
        text = str(fault)
        if text == "Missing service registration":
            text = f'failed inserting check: {text} on node "{node.name}"'
        raise Refused(500, text) from None
    agent.cluster.changed()
    return Told(True)


def deregister(agent: Agent, ask: Ask) -> Told:
    """`catalog/deregister`: what an agent holds comes back with its next full comparison."""
    body = _body(agent, ask, _DEREGISTRATION)
    if not body.get("Node"):
        raise Refused(500, "Must provide node")
    allowed = common.authorized(agent, ask)
    service_id, check_id = body.get("ServiceID", ""), body.get("CheckID", "")
    if not _may_forget(agent, allowed, body["Node"], service_id):
        raise Refused(403, common.DENIED)
    try:
        agent.write().deregister(body["Node"], service_id=service_id, check_id=check_id)
    except CatalogFault as fault:
        raise Refused(500, str(fault)) from None
    agent.cluster.changed()
    return Told(True)


def _may_forget(agent: Agent, allowed: Any, node_name: str, service_id: str) -> bool:
    node = agent.cluster.catalog.nodes.get(node_name.lower())
    service = node.services.get(service_id.lower()) if node and service_id else None
    if service is not None:
        return bool(allowed.writes("service", service.name))
    return bool(allowed.writes("node", node_name))


def _body(agent: Agent, ask: Ask, kind: Struct) -> dict[str, Any]:
    try:
        body: dict[str, Any] = decode(ask.request.body, kind, knows=lambda name: knows(agent, name)) or {}
    except Malformed as mistake:
        raise Refused(400, f"Request decode failed: {mistake}") from None
    if body.get("Datacenter", "") not in {"", agent.cluster.catalog.datacenter}:
        raise Refused(500, "No path to datacenter")
    return body


def _vet_node_id(node_id: str) -> None:
    if node_id and len(node_id) != 36:
        raise Refused(500, "Bad node ID: uuid string is wrong length")


def _vet(agent: Agent, ask: Ask, node: str, service: Service | None, checks: list[Check]) -> None:
    allowed = common.authorized(agent, ask)
    names = [service.name] if service else []
    needs_node = service is None or any(not check.service_id for check in checks)
    if (needs_node and not allowed.writes("node", node)) or not all(allowed.writes("service", name) for name in names):
        raise Refused(403, common.DENIED)


def _service(given: dict[str, Any] | None, node: str) -> Service | None:
    if given is None:
        return None
    name, service_id = given.get("Service", ""), given.get("ID", "")
    if service_id and not name:
        raise Refused(500, "Must provide service name with ID")
    if not name:
        raise Refused(500, "failed inserting service: failed inserting service: object missing primary index")
    if is_any_address(given.get("Address", "")):
        raise Refused(500, "Invalid service address")
    weights = {"Passing": 0, "Warning": 0} | given.get("Weights", {})
    return Service(
        service_id or name,
        name,
        given.get("Address", ""),
        given.get("Port", 0),
        given.get("Tags"),
        given.get("Meta"),
        weights if any(weights.values()) else {"Passing": 1, "Warning": 1},
        _tagged(given.get("TaggedAddresses")),
        given.get("EnableTagOverride", False),
        given.get("Kind", ""),
        socket=given.get("SocketPath", ""),
        node=node,
    )


def _tagged(given: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if given is None else {name: {"Address": "", "Port": 0} | one for name, one in given.items()}


def _check(given: dict[str, Any], node: str) -> Check:
    return read_check(given, check_id=given.get("CheckID") or given.get("Name", ""), node=given.get("Node") or node)


def read_check(given: dict[str, Any], *, check_id: str, node: str) -> Check:
    """A check as it is written past the agents."""
    definition = {name: value for name, value in given.get("Definition", {}).items() if not name.endswith("Duration")}
    definition = {name: _length(value) if name in _LENGTHS else value for name, value in definition.items() if value}
    return Check(
        check_id,
        given.get("Name", ""),
        node,
        given.get("Status") or "critical",
        given.get("Notes", ""),
        given.get("Output", ""),
        given.get("ServiceID", ""),
        given.get("ServiceName", ""),
        given.get("ServiceTags"),
        type=given.get("Type") or ("http" if definition.get("HTTP") and "Interval" in definition else ""),
        definition=definition,
    )


_LENGTHS: Final = frozenset({"Interval", "Timeout", "DeregisterCriticalServiceAfter"})


def _length(value: Any) -> str:
    return shown(duration(value) if isinstance(value, str) else int(value))

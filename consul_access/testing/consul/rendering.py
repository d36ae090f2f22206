"""How nodes, services and checks are written in answers: not quite the same in any two places."""

from __future__ import annotations

from typing import Any

from consul_access.testing.consul.catalog import Catalog, Check, Node, Service
from consul_access.testing.consul.dialect import Dialect

__all__ = [
    "agent_check",
    "agent_health_check",
    "agent_service",
    "catalog_check",
    "catalog_entry",
    "node",
    "node_service",
]


def node(catalog: Catalog, found: Node) -> dict[str, Any]:
    """A node, as the catalog tells it."""
    return {
        "ID": found.id,
        "Node": found.name,
        "Address": found.address,
        "Datacenter": catalog.datacenter,
        "TaggedAddresses": found.tagged,
        "Meta": found.meta,
        "CreateIndex": found.created,
        "ModifyIndex": found.modified,
    }


def node_service(dialect: Dialect, service: Service) -> dict[str, Any]:
    """A service, as the catalog tells it below its node or beside its health."""
    made: dict[str, Any] = {"Kind": service.kind} if service.kind else {}
    made |= {"ID": service.id, "Service": service.name, "Tags": service.tags or [], "Address": service.address}
    if service.tagged:
        made["TaggedAddresses"] = service.tagged
    made |= {"Meta": service.meta, **_port(dialect, "Port", service.port), "Weights": service.weights}
    if service.socket:
        made["SocketPath"] = service.socket
    made |= {"EnableTagOverride": service.override, "Proxy": _proxy(dialect), "Connect": _connect(service)}
    return made | {"CreateIndex": service.created, "ModifyIndex": service.modified}


def catalog_entry(catalog: Catalog, dialect: Dialect, found: Node, service: Service) -> dict[str, Any]:
    """A service and its node, flat."""
    made: dict[str, Any] = {
        "ID": found.id,
        "Node": found.name,
        "Address": found.address,
        "Datacenter": catalog.datacenter,
        "TaggedAddresses": found.tagged,
        "NodeMeta": found.meta,
        "ServiceKind": service.kind,
        "ServiceID": service.id,
        "ServiceName": service.name,
        "ServiceTags": service.tags or [],
        "ServiceAddress": service.address,
    }
    if service.tagged:
        made["ServiceTaggedAddresses"] = service.tagged
    made |= {
        "ServiceWeights": service.weights,
        "ServiceMeta": service.meta or {},
        "ServicePort": service.port,
        **({"ServiceSocketPath": service.socket} if dialect.knows_service_field("SocketPath") else {}),
        "ServiceEnableTagOverride": service.override,
        "ServiceProxy": _proxy(dialect),
        "ServiceConnect": _connect(service),
    }
    return made | {"CreateIndex": service.created, "ModifyIndex": service.modified}


def agent_service(dialect: Dialect, datacenter: str, service: Service) -> dict[str, Any]:
    """A service, as its own agent tells it."""
    made: dict[str, Any] = {"Kind": service.kind} if service.kind else {}
    made |= {"ID": service.id, "Service": service.name, "Tags": service.tags or [], "Meta": service.meta or {}}
    made |= {"Port": service.port, "Address": service.address}
    if dialect.knows_service_field("SocketPath"):
        made["SocketPath"] = service.socket
    if service.tagged:
        made["TaggedAddresses"] = service.tagged
    made |= {"Weights": service.weights, "EnableTagOverride": service.override}
    if service.native:
        made["Connect"] = {"Native": True}
    if dialect.services_have_datacenter:
        made["Datacenter"] = datacenter
    return made


def catalog_check(dialect: Dialect, found: Node, check: Check) -> dict[str, Any]:
    """A check, as the catalog tells it."""
    return _check(dialect, found.name, check) | {"CreateIndex": check.created, "ModifyIndex": check.modified}


def agent_check(dialect: Dialect, node_name: str, check: Check) -> dict[str, Any]:
    """A check, as its own agent tells it."""
    return _check(dialect, node_name, check) | {"CreateIndex": 0, "ModifyIndex": 0}


def agent_health_check(dialect: Dialect, node_name: str, check: Check) -> dict[str, Any]:
    """A check, as its own agent tells it beside a service's health: in the words of the Go client."""
    definition = {
        "Interval": "0s",
        "Timeout": "0s",
        "DeregisterCriticalServiceAfter": "0s",
        "HTTP": "",
        "Header": None,
        "Method": "",
        "Body": "",
        "TLSSkipVerify": False,
        "TCP": "",
    }
    if dialect.since(1, 10):
        definition |= {"TLSServerName": "", "GRPC": "", "GRPCUseTLS": False}
    made = _check(dialect, node_name, check) | {"Definition": definition, "CreateIndex": 0, "ModifyIndex": 0}
    for name in ("Interval", "Timeout", "ExposedPort"):
        made.pop(name, None)  # the client's words have none
    return made | {"ServiceTags": check.service_tags, "Type": ""}  # here what was not said at all stays null


def _check(dialect: Dialect, node_name: str, check: Check) -> dict[str, Any]:
    made: dict[str, Any] = {
        "Node": check.node or node_name,
        "CheckID": check.id,
        "Name": check.name,
        "Status": check.status,
        "Notes": check.notes,
        "Output": check.output,
        "ServiceID": check.service_id,
        "ServiceName": check.service_name,
        "ServiceTags": check.service_tags or [],
        "Type": check.type,
    }
    if dialect.checks_have_pace:
        made |= {"Interval": check.interval, "Timeout": check.timeout, "ExposedPort": 0}
    return made | {"Definition": check.definition}


def _port(dialect: Dialect, name: str, port: int) -> dict[str, int]:
    return {} if port == 0 and dialect.leaves_out_port_zero else {name: port}


def _proxy(dialect: Dialect) -> dict[str, Any]:
    made: dict[str, Any] = {"MeshGateway": {}, "Expose": {}}
    return made | {"Mode": ""} if dialect.since(1, 10) else made


def _connect(service: Service) -> dict[str, Any]:
    return {"Native": True} if service.native else {}

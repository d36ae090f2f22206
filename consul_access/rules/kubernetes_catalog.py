"""Kubernetes' services as they stand in Consul's catalog, by the conventions of consul-k8s' catalog sync.

hashicorp/consul-k8s:control-plane/catalog/to-consul/resource.go, with these differences: the node, the tag and the
owner's mark are this sync's own; an instance without a statement about its readiness counts as ready; instances of
NodePort services and load balancers have a check, too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from consul_access.errors import InvalidInput
from consul_access.models import inputs
from consul_access.models.effective import NamedPort
from consul_access.models.kubernetes import (
    Endpoints,
    EndpointSlice,
    KubernetesInstance,
    KubernetesNode,
    KubernetesService,
)
from consul_access.models.status import CheckStatus
from consul_access.models.sync import LeftOut, NodePortAddresses, SyncInstance, SyncList, SyncRules, tags_of
from consul_access.rules.endpoints import instances_of

__all__ = ["Cluster", "catalog_of"]

_ANNOTATIONS: Final = "consul.hashicorp.com/service-"
_META: Final = "meta-"
_OWN_META: Final = 10
"""So many pairs of meta are made here; the ports and the annotations have the rest."""
_ORDER: Final[Mapping[NodePortAddresses, tuple[str, ...]]] = {
    "external_first": ("ExternalIP", "InternalIP"),
    "external_only": ("ExternalIP",),
    "internal_only": ("InternalIP",),
}
_TRUE: Final = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE: Final = {"0", "f", "F", "false", "FALSE", "False"}
"""What Go's strconv.ParseBool takes."""
_META_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")


@dataclass(slots=True)
class Cluster:
    """Everything of a cluster that matters here.

    Args:
        services: all Services.
        slices: all EndpointSlices.
        endpoints: all Endpoints.
        nodes: all Nodes.
        unreadable: the origins of objects that cannot be read, each with the reason.
        unreadable_nodes: the names of Nodes that cannot be read.
        revision: as of which revision of etcd's store.
    """

    services: Sequence[KubernetesService] = ()
    slices: Sequence[EndpointSlice] = ()
    endpoints: Sequence[Endpoints] = ()
    nodes: Sequence[KubernetesNode] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    unreadable_nodes: frozenset[str] = frozenset()
    revision: int = 0


class _Place(NamedTuple):
    """Where one instance is called.

    Args:
        key: what its id is made of.
        address: an address or a host name.
        ports: the one meant in front.
        ready: whether it should get calls.
        behind: the pod behind it, if it is one.
    """

    key: str
    address: str
    ports: tuple[NamedPort, ...]
    ready: bool
    behind: KubernetesInstance | None = None


def catalog_of(cluster: Cluster, rules: SyncRules) -> SyncList:
    """What of a cluster should be in the catalog.

    Args:
        cluster: everything there is.
        rules: what is meant, and how it is named.
    """
    slices: dict[tuple[str, str], list[EndpointSlice]] = {}
    for one in cluster.slices:
        slices.setdefault((one.metadata.namespace, one.service), []).append(one)
    endpoints = {(one.metadata.namespace, one.metadata.name): one for one in cluster.endpoints}
    nodes = {one.metadata.name: one for one in cluster.nodes}
    instances: list[SyncInstance] = []
    left_out = [LeftOut(origin, reason) for origin, reason in sorted(cluster.unreadable.items())]
    doubtful = set(cluster.unreadable)
    for service in sorted(cluster.services, key=lambda one: (one.namespace, one.name)):
        try:
            if not _is_meant(service, rules):
                continue
            place = (service.namespace, service.name)
            pods = instances_of(*place, service=service, slices=slices.get(place, ()), endpoints=endpoints.get(place))
            made = [_instance(service, one, rules) for one in _places(service, pods, nodes, rules)]
        except InvalidInput as error:
            left_out.append(LeftOut(_origin(service), str(error)))
        else:
            instances += made
            if any(pod.node in cluster.unreadable_nodes for pod in pods):
                doubtful.add(_origin(service))
            if not made and pods:
                left_out.append(LeftOut(_origin(service), "its instances have no port, or their nodes no address"))
    return SyncList(
        instances=tuple(instances),
        left_out=tuple(left_out),
        doubtful=frozenset(doubtful),
        source="kubernetes",
        revision=cluster.revision,
    )


def _origin(service: KubernetesService) -> str:
    return f"{service.namespace}/{service.name}"


def _is_meant(service: KubernetesService, rules: SyncRules) -> bool:
    if not rules.means(service.namespace) or service.spec.type == "ExternalName":
        return False
    said = _annotation(service, "sync")
    if said in _TRUE or said in _FALSE:
        return said in _TRUE
    if said:
        raise InvalidInput(f"the annotation {_ANNOTATIONS}sync={said!r} is neither true nor false")
    return rules.by_default


def _annotation(service: KubernetesService, name: str) -> str:
    return service.metadata.annotations.get(_ANNOTATIONS + name, "").strip()


# --- where the instances are --------------------------------------------------------------------------------


def _places(
    service: KubernetesService,
    pods: Sequence[KubernetesInstance],
    nodes: Mapping[str, KubernetesNode],
    rules: SyncRules,
) -> Iterator[_Place]:
    if service.spec.external_ips:
        return _in_front(service, service.spec.external_ips, pods)
    if service.spec.type == "LoadBalancer":
        ingress = service.status.load_balancer.ingress
        return _in_front(service, [one.ip or one.hostname for one in ingress], pods)
    if service.spec.type == "NodePort":
        return _on_nodes(service, pods, nodes, _ORDER[rules.node_port_addresses])
    return _pods(service, pods)


def _in_front(
    service: KubernetesService, addresses: Iterable[str], pods: Sequence[KubernetesInstance]
) -> Iterator[_Place]:
    """What stands for all pods together is ready when one of them is."""
    ports = tuple(NamedPort(port.name, port.port) for port in service.spec.ports)
    ready = any(pod.ready for pod in pods)
    for address in dict.fromkeys(addresses):
        if address and ports:
            yield _Place(address, address, _meant_first(service, ports), ready)


def _on_nodes(
    service: KubernetesService,
    pods: Sequence[KubernetesInstance],
    nodes: Mapping[str, KubernetesNode],
    order: tuple[str, ...],
) -> Iterator[_Place]:
    ports = tuple(NamedPort(port.name, port.node_port) for port in service.spec.ports if port.node_port)
    for pod in pods:
        node = nodes.get(pod.node)
        address = "" if node is None else node.address_of(order)
        if address and ports:
            yield _Place(pod.host, address, _meant_first(service, ports), pod.ready, pod)


def _pods(service: KubernetesService, pods: Sequence[KubernetesInstance]) -> Iterator[_Place]:
    for pod in pods:
        ports = _meant_first(service, pod.ports)
        if ports:
            yield _Place(pod.host, pod.host, ports, pod.ready, pod)


def _meant_first(service: KubernetesService, ports: tuple[NamedPort, ...]) -> tuple[NamedPort, ...]:
    """The port that the annotation asks for in front: by name, or a number in place of all."""
    asked = _annotation(service, "port")
    if asked.isascii() and asked.isdigit():
        return (NamedPort("default", inputs.port(int(asked), f"the annotation {_ANNOTATIONS}port")),)
    return tuple(sorted(ports, key=lambda port: port.name != asked)) if asked else ports


# --- how they are written -----------------------------------------------------------------------------------


def _instance(service: KubernetesService, place: _Place, rules: SyncRules) -> SyncInstance:
    name = _name(service, rules)
    digest = hashlib.sha1(f"{name}-{place.key}".encode(), usedforsecurity=False).hexdigest()
    service_id = inputs.identifier(f"{name}-{digest[:12]}", "the service's id")
    ready = "passing" if place.ready else "failing"
    tags = (tag.strip() for tag in _annotation(service, "tags").split(","))
    return SyncInstance(
        id=service_id,
        name=name,
        address=inputs.host(place.address, "the address"),
        port=inputs.port(place.ports[0].port),
        ports=tuple(port._replace(name=port.name or f"port{at}") for at, port in enumerate(place.ports, 1)),
        tags=tags_of(rules, (tag for tag in tags if tag)),
        meta=inputs.check_meta(_meta(service, place)),
        weight=_weight(service),
        origin=_origin(service),
        status=CheckStatus.PASSING if place.ready else CheckStatus.CRITICAL,
        check_id=f"{service.namespace}/{service_id}",
        check_name="Kubernetes Readiness Check",
        check_type="kubernetes-readiness",
        output=f"Kubernetes health checks {ready}",
    )


def _name(service: KubernetesService, rules: SyncRules) -> str:
    """The annotation's, as it is; otherwise made of prefix, name and namespace."""
    given = _annotation(service, "name")
    if given:
        return inputs.service_name(given)
    suffix = f"-{service.namespace}" if rules.add_namespace else ""
    return inputs.service_name(f"{rules.prefix}{service.name}{suffix}")


def _weight(service: KubernetesService) -> int:
    said = _annotation(service, "weight")
    return inputs.whole(int(said), f"the annotation {_ANNOTATIONS}weight", 1, 65535) if said.isdecimal() else 1


def _meta(service: KubernetesService, place: _Place) -> dict[str, str]:
    """Where it comes from, the Service's own ports, and what annotations add; what no meta can be is left out."""
    found = {"external-k8s-ns": service.namespace}
    pod = place.behind
    if pod is not None:
        told = {
            "external-k8s-ref-kind": "Pod" if pod.pod else "",
            "external-k8s-ref-name": pod.pod,
            "external-k8s-node-name": pod.node,
            "external-k8s-topology-zone": pod.zone,
        }
        found |= {key: value for key, value in told.items() if value}
    more = {f"port-{port.name}": str(port.port) for port in service.spec.ports}
    more |= {
        key.removeprefix(_ANNOTATIONS + _META): value
        for key, value in service.metadata.annotations.items()
        if key.startswith(_ANNOTATIONS + _META)
    }
    usable = ((key, value) for key, value in more.items() if _is_meta(key, value))
    return found | dict(list(usable)[: inputs.META_PAIRS - _OWN_META])


def _is_meta(key: str, value: str) -> bool:
    try:
        inputs.check_meta({key: value})
    except InvalidInput:
        return False
    return _META_KEY.match(key) is not None

"""From Kubernetes' objects to the instances of a service: slices first, Endpoints where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from consul_access.models.effective import NamedPort
from consul_access.models.kubernetes import (
    Endpoint,
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    KubernetesInstance,
    KubernetesService,
    Subset,
)

__all__ = ["instances_of"]

_ZONES = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
_HOST = "kubernetes.io/hostname"


def instances_of(
    namespace: str,
    name: str,
    *,
    service: KubernetesService | None,
    slices: Sequence[EndpointSlice],
    endpoints: Endpoints | None,
) -> tuple[KubernetesInstance, ...]:
    """The instances of a service, each address once, in the order in which they are told.

    Args:
        namespace: where the service is.
        name: its name.
        service: the Service, which tells which port comes first; None if it is not there.
        slices: the slices of the namespace; those of other services are left out.
        endpoints: the older object, looked at only when no slice belongs to the service: Kubernetes mirrors one
            into the other, and both together would count everything twice.
    """
    own = [one for one in slices if one.service == name]
    told: Iterator[KubernetesInstance] = (
        (found for one in own for found in _of_slice(namespace, name, one))
        if own or endpoints is None
        else (found for subset in endpoints.subsets for found in _of_subset(namespace, name, subset))
    )
    first = service.spec.ports[0].name if service is not None and service.spec.ports else None
    return tuple(_first_in_front(one, first) for one in _merged(told))


def _of_slice(namespace: str, name: str, found: EndpointSlice) -> Iterator[KubernetesInstance]:
    ports = _ports(found.ports)
    for endpoint in found.endpoints:
        topology = endpoint.topology or endpoint.deprecated_topology
        for address in endpoint.addresses:
            yield KubernetesInstance(
                service=name,
                namespace=namespace,
                host=address,
                ports=ports,
                ready=endpoint.conditions.ready,
                serving=endpoint.conditions.serving,
                terminating=endpoint.conditions.terminating,
                node=endpoint.node_name or topology.get(_HOST, ""),
                zone=endpoint.zone or next((topology[key] for key in _ZONES if key in topology), ""),
                pod=_pod(endpoint),
                hostname=endpoint.hostname or "",
            )


def _of_subset(namespace: str, name: str, subset: Subset) -> Iterator[KubernetesInstance]:
    ports = _ports(subset.ports)
    for addresses, ready in ((subset.addresses, True), (subset.not_ready_addresses, False)):
        for address in addresses:
            yield KubernetesInstance(
                service=name,
                namespace=namespace,
                host=address.ip,
                ports=ports,
                ready=ready,
                serving=ready,
                node=address.node_name or "",
                pod=_pod(address),
                hostname=address.hostname,
            )


def _pod(told: Endpoint | EndpointAddress) -> str:
    return told.target_ref.name if told.target_ref is not None and told.target_ref.kind == "Pod" else ""


def _ports(told: Iterable[EndpointPort]) -> tuple[NamedPort, ...]:
    """The ports; one without a number stands for all of them, and names none."""
    return tuple(NamedPort(port.name, port.port, verified=True, default=False) for port in told if port.port)


def _merged(told: Iterable[KubernetesInstance]) -> Iterable[KubernetesInstance]:
    """Each address once: the ports of one pod may be told in several slices, and a pod may move between slices."""
    found: dict[str, KubernetesInstance] = {}
    for one in told:
        known = found.get(one.host)
        found[one.host] = one if known is None else _joined(known, one)
    return found.values()


def _joined(known: KubernetesInstance, one: KubernetesInstance) -> KubernetesInstance:
    return replace(
        known,
        ports=(*known.ports, *(port for port in one.ports if port not in known.ports)),
        ready=known.ready or one.ready,
        serving=known.serving or one.serving,
        terminating=known.terminating and one.terminating,
    )


def _first_in_front(one: KubernetesInstance, name: str | None) -> KubernetesInstance:
    """Slices and Endpoints tell ports in an order of their own; the Service's decides which one is meant."""
    if len(one.ports) < 2 or name is None:
        return one
    return replace(one, ports=tuple(sorted(one.ports, key=lambda port: port.name != name)))

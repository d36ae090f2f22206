"""Services and endpoints of Kubernetes, as its API describes them; read from there or from its etcd alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from consul_access.errors import BadValue, NoInstances
from consul_access.models.address import Address
from consul_access.models.effective import NamedPort
from consul_access.models.nullable import NullAs

__all__ = [
    "EndpointSlice",
    "Endpoints",
    "KubernetesInstance",
    "KubernetesNode",
    "KubernetesService",
    "KubernetesSnapshot",
    "Readiness",
    "read_kubernetes",
]

M = TypeVar("M", bound="_Kubernetes")

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
_Port = Annotated[int, Field(ge=0, le=65535)]
_Texts = Annotated[dict[str, str], NullAs(dict)]


class Readiness(StrEnum):
    """Which instances of a service are meant."""

    READY = "ready"
    """Those that Kubernetes itself would send new calls to."""
    SERVING = "serving"
    """Also those that are shutting down and still answer."""
    ANY = "any"
    """All of them."""


class _Kubernetes(BaseModel):
    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore", defer_build=True
    )


class ObjectMeta(_Kubernetes):
    """What every object has.

    Args:
        name: unique in its namespace.
        namespace: where it is.
        uid: unique for all time.
        resource_version: of its last change; in etcd that is the key's `mod_revision`.
        labels: what it can be found by.
        annotations: what tools have noted.
    """

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: _Texts = Field(default_factory=dict)
    annotations: _Texts = Field(default_factory=dict)


class KubernetesPort(_Kubernetes):
    """A port of a Service.

    Args:
        name: may be empty when there is only one.
        port: where the Service itself listens.
        target_port: where its pods listen, as a number or by the port's name there.
        node_port: where every node listens, or 0.
        protocol: TCP, UDP or SCTP.
        app_protocol: what is spoken, such as `http`.
    """

    name: str = ""
    port: _Port
    target_port: int | str = 0
    node_port: _Port = 0
    protocol: str = "TCP"
    app_protocol: str | None = None


class Ingress(_Kubernetes):
    """Where a load balancer is reached: an IP address or a host name."""

    ip: str = ""
    hostname: str = ""


class LoadBalancer(_Kubernetes):
    """The load balancer of a Service."""

    ingress: Annotated[tuple[Ingress, ...], NullAs(tuple)] = ()


class ServiceStatus(_Kubernetes):
    """How a Service stands."""

    load_balancer: LoadBalancer = LoadBalancer()


class ServiceSpec(_Kubernetes):
    """What a Service is to be. The fields are those of Kubernetes' API."""

    type: str = "ClusterIP"
    ports: Annotated[tuple[KubernetesPort, ...], NullAs(tuple)] = ()
    selector: _Texts = Field(default_factory=dict)
    cluster_ip: str = Field(default="", validation_alias="clusterIP")
    cluster_ips: Annotated[tuple[str, ...], NullAs(tuple)] = Field(default=(), validation_alias="clusterIPs")
    external_ips: Annotated[tuple[str, ...], NullAs(tuple)] = Field(default=(), validation_alias="externalIPs")
    external_name: str = ""
    publish_not_ready_addresses: bool = False
    ip_families: Annotated[tuple[str, ...], NullAs(tuple)] = ()


class KubernetesService(_Kubernetes):
    """A Service.

    Args:
        metadata: its name, namespace, labels and annotations.
        spec: its type, ports and addresses.
        status: its load balancer.
    """

    metadata: ObjectMeta
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return self.metadata.namespace

    @property
    def is_headless(self) -> bool:
        """Whether it has no address of its own, only those of its pods."""
        return self.spec.cluster_ip == "None"

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses inside the cluster that stand for all its pods."""
        ips = self.spec.cluster_ips or ((self.spec.cluster_ip,) if self.spec.cluster_ip else ())
        return tuple(ip for ip in ips if ip != "None")

    @property
    def outside_addresses(self) -> tuple[str, ...]:
        """Where it is reached from outside, by its load balancer's addresses or names and by external IPs."""
        balancer = (one.ip or one.hostname for one in self.status.load_balancer.ingress)
        return (*(address for address in balancer if address), *self.spec.external_ips)

    @classmethod
    def from_api(cls, found: Mapping[str, Any]) -> KubernetesService:
        """A Service as Kubernetes' API answers with it.

        Raises:
            BadValue: it is none.
        """
        return read_kubernetes(cls, "Service", found)


class ObjectReference(_Kubernetes):
    """Another object: its kind and name."""

    kind: str = ""
    name: str = ""


class EndpointConditions(_Kubernetes):
    """How an endpoint stands. What is not told counts as ready, as serving, and as not terminating."""

    ready: Annotated[bool, NullAs(lambda: True)] = True
    serving: Annotated[bool, NullAs(lambda: True)] = True
    terminating: Annotated[bool, NullAs(bool)] = False


class Endpoint(_Kubernetes):
    """An endpoint of a slice: v1 with `zone`, v1beta1 with `topology`."""

    addresses: Annotated[tuple[str, ...], NullAs(tuple)] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    target_ref: ObjectReference | None = None
    node_name: str | None = None
    zone: str | None = None
    topology: _Texts = Field(default_factory=dict)
    deprecated_topology: _Texts = Field(default_factory=dict)


class EndpointPort(_Kubernetes):
    """A port of a slice or subset; a slice may leave everything open."""

    name: Annotated[str, NullAs(str)] = ""
    port: Annotated[_Port, NullAs(int)] = 0
    protocol: Annotated[str, NullAs(lambda: "TCP")] = "TCP"


class EndpointSlice(_Kubernetes):
    """A part of a service's endpoints; all of them have the same ports."""

    metadata: ObjectMeta
    address_type: str = ""
    endpoints: Annotated[tuple[Endpoint, ...], NullAs(tuple)] = ()
    ports: Annotated[tuple[EndpointPort, ...], NullAs(tuple)] = ()

    @property
    def service(self) -> str:
        """The service it belongs to; empty for none."""
        return self.metadata.labels.get(SERVICE_NAME_LABEL, "")

    @classmethod
    def from_api(cls, found: Mapping[str, Any]) -> EndpointSlice:
        """A slice as Kubernetes' API answers with it.

        Raises:
            BadValue: it is none.
        """
        return read_kubernetes(cls, "EndpointSlice", found)


class EndpointAddress(_Kubernetes):
    """An address of a subset."""

    ip: str
    hostname: str = ""
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class Subset(_Kubernetes):
    """A part of a service's Endpoints; all of its addresses have the same ports."""

    addresses: Annotated[tuple[EndpointAddress, ...], NullAs(tuple)] = ()
    not_ready_addresses: Annotated[tuple[EndpointAddress, ...], NullAs(tuple)] = ()
    ports: Annotated[tuple[EndpointPort, ...], NullAs(tuple)] = ()


class Endpoints(_Kubernetes):
    """A service's endpoints in one object: the older shape, cut off at 1000 addresses, one address family only."""

    metadata: ObjectMeta
    subsets: Annotated[tuple[Subset, ...], NullAs(tuple)] = ()

    @classmethod
    def from_api(cls, found: Mapping[str, Any]) -> Endpoints:
        """Endpoints as Kubernetes' API answers with them.

        Raises:
            BadValue: they are none.
        """
        return read_kubernetes(cls, "Endpoints", found)


class NodeAddress(_Kubernetes):
    """One of a node's addresses, such as its `InternalIP`."""

    type: str = ""
    address: str = ""


class NodeStatus(_Kubernetes):
    """How a node stands."""

    addresses: Annotated[tuple[NodeAddress, ...], NullAs(tuple)] = ()


class KubernetesNode(_Kubernetes):
    """A Node: a machine of the cluster.

    Args:
        metadata: its name, labels and annotations.
        status: its addresses.
    """

    metadata: ObjectMeta
    status: NodeStatus = NodeStatus()

    def address_of(self, kinds: Iterable[str]) -> str:
        """Its first address of the first of these kinds that it has any of; empty if it has none."""
        found = (one.address for kind in kinds for one in self.status.addresses if one.type == kind and one.address)
        return next(found, "")

    @classmethod
    def from_api(cls, found: Mapping[str, Any]) -> KubernetesNode:
        """A Node as Kubernetes' API answers with it.

        Raises:
            BadValue: it is none.
        """
        return read_kubernetes(cls, "Node", found)


def read_kubernetes(kind: type[M], name: str, found: Mapping[str, Any]) -> M:
    """An object as a model.

    Args:
        kind: the model.
        name: the kind's name in Kubernetes.
        found: the object as Kubernetes' API has it.

    Raises:
        BadValue: it is of another kind, or has something where it cannot be.
    """
    told = found.get("kind", name)
    if told != name:
        raise BadValue(f"this is a {told!r} and no {name}")
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadValue(f"this is no {name} as Kubernetes has them ({place}: {first['msg']})") from error


@dataclass(frozen=True, slots=True)
class KubernetesInstance:
    """One running copy of a Kubernetes service, at one address.

    Args:
        service: the Service's name.
        namespace: and its namespace.
        host: an IP address, or a name in slices of type FQDN.
        ports: by name, where this instance listens; the Service's first port in front.
        ready: it should get calls.
        serving: it answers, perhaps while it shuts down.
        terminating: it is shutting down.
        node: the node it runs on; empty if unknown.
        zone: the node's zone; empty if unknown.
        pod: the pod; empty if something else stands behind the address.
        hostname: its own host name, if it has one.
    """

    service: str
    namespace: str
    host: str
    ports: tuple[NamedPort, ...] = ()
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""
    zone: str = ""
    pod: str = ""
    hostname: str = ""

    @property
    def id(self) -> str:
        """What tells it from the service's other instances, made of the pod's name if there is one and the address."""
        return f"{self.pod}-{self.host}" if self.pod else self.host

    @property
    def port(self) -> int:
        """The port to call, the Service's first one; 0 for none."""
        return self.ports[0].port if self.ports else 0

    @property
    def address(self) -> Address:
        """Where to call it.

        Raises:
            NoInstances: it has no port.
        """
        if not self.port:
            raise NoInstances(f"instance {self.id!r} of {self.namespace}/{self.service} has no port")
        return Address(self.host, self.port)

    def port_named(self, name: str) -> NamedPort:
        """One of its ports by name.

        Raises:
            NoInstances: it has no port of that name.
        """
        for port in self.ports:
            if port.name == name:
                return port
        names = ", ".join(repr(port.name) for port in self.ports) or "none"
        raise NoInstances(f"instance {self.id!r} of {self.namespace}/{self.service} has no port {name!r}, but {names}")

    def is_meant(self, readiness: Readiness) -> bool:
        """Whether it is among those that this kind of readiness means."""
        if readiness is Readiness.READY:
            return self.ready
        return self.serving or self.ready or readiness is Readiness.ANY


@dataclass(frozen=True, slots=True)
class KubernetesSnapshot:
    """The instances of a service at one moment.

    Args:
        instances: those that were asked for.
        revision: etcd's revision as of which they are.
    """

    instances: tuple[KubernetesInstance, ...]
    revision: int

"""The registry's own entries, whole: nodes, checks, catalog entries, health entries, and an agent's services.

They read every version's answers: missing keys, nulls for empty maps, unknown keys.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_pascal

from consul_access.errors import InvalidInput
from consul_access.models.address import Address
from consul_access.models.effective import (
    KubernetesMarks,
    NamedPort,
    callable_address,
    effective_host,
    effective_port,
    kubernetes_marks,
    port_named,
)
from consul_access.models.instance import PortEntry, ServiceInstance, Standing, check_status, standing_of
from consul_access.models.nullable import NullAs
from consul_access.models.places import Host, Port
from consul_access.models.status import CheckStatus

__all__ = ["AgentInfo", "AgentService", "CatalogEntry", "Check", "HealthEntry", "Node", "Service", "Weights"]

Text = Annotated[str, NullAs(str)]
Texts = Annotated[dict[str, str], NullAs(dict)]
Tags = Annotated[tuple[str, ...], NullAs(tuple)]
Ports = Annotated[tuple[PortEntry, ...], NullAs(tuple)]
HostOrNull = Annotated[Host, NullAs(str)]
PortOrNull = Annotated[Port, NullAs(int)]


class _Entry(BaseModel):
    """What all entries have in common: CamelCase on the wire, snake case here, frozen, tolerant of the unknown."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_pascal,
        validate_by_name=True,
        validate_by_alias=True,
        defer_build=True,
    )


class Weights(_Entry):
    """A share of the calls, by state.

    Args:
        passing: while the instance passes; 1 to 65535.
        warning: while it is in warning; 0 to 65535.
    """

    passing: int = 1
    warning: int = 1

    @classmethod
    def checked(cls, passing: int = 1, warning: int = 1) -> Weights:
        """Weights that an agent takes.

        Raises:
            InvalidInput: they are out of bounds.
        """
        for name, value, least in (("passing", passing, 1), ("warning", warning, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 65535:
                raise InvalidInput(f"the {name} weight {value!r} is out of bounds: write {least} to 65535")
        return cls(passing=passing, warning=warning)


class TaggedAddress(_Entry):
    """An address of a service under another name, such as `wan`."""

    address: HostOrNull = ""
    port: PortOrNull = 0


class Node(_Entry):
    """A machine with an agent, or what stands for one."""

    id: Text = Field("", alias="ID")
    name: Text = Field("", alias="Node")
    address: HostOrNull = ""
    datacenter: Text = ""
    tagged_addresses: Texts = Field(default_factory=dict)
    meta: Texts = Field(default_factory=dict)
    create_index: int = 0
    modify_index: int = 0


class Check(_Entry):
    """A check as the catalog holds it."""

    id: Text = Field("", alias="CheckID")
    name: Text = ""
    node: Text = ""
    status: CheckStatus
    notes: Text = ""
    output: Text = ""
    service_id: Text = Field("", alias="ServiceID")
    service_name: Text = ""
    service_tags: Tags = ()
    type: Text = ""
    modify_index: int = 0

    @property
    def effective_status(self) -> CheckStatus:
        """The status, with maintenance told from an ordinary critical by the check's id."""
        return check_status(self.id, self.status)

    @property
    def is_own(self) -> bool:
        """Whether it checks the service, and not its node."""
        return bool(self.service_id)


class _Reached(_Entry):
    """What can be asked of everything that has an address, a port, named ports and meta."""

    @property
    def host(self) -> str:
        """The IP address or name to call; empty when there is none."""
        raise NotImplementedError

    def _own_port(self) -> int:
        raise NotImplementedError

    def _own_ports(self) -> tuple[PortEntry, ...]:
        raise NotImplementedError

    def _own_meta(self) -> dict[str, str]:
        raise NotImplementedError

    def _named(self) -> str:
        raise NotImplementedError

    @property
    def effective_port(self) -> int:
        """The port to call: its own, else the default one of its named ports, else the first; 0 for none."""
        return effective_port(self._own_port(), (entry.named() for entry in self._own_ports()))

    @property
    def effective_address(self) -> Address:
        """Where to call it.

        Raises:
            NoInstances: it has registered no port, or no address that can be called.
        """
        return callable_address(self.host, self.effective_port, self._named())

    @property
    def kubernetes(self) -> KubernetesMarks | None:
        """What catalog sync from Kubernetes tells about it; None when it was not synced."""
        return kubernetes_marks(self._own_meta())

    def port_named(self, name: str) -> NamedPort:
        """One of its ports by name.

        Raises:
            NoInstances: it has no port of that name.
        """
        return port_named(name, (entry.named() for entry in self._own_ports()), self._own_meta(), self._named())


class CatalogEntry(_Reached):
    """An instance as the catalog holds it: node and service, without health."""

    node_id: Text = Field("", alias="ID")
    node: Text = ""
    address: HostOrNull = ""
    datacenter: Text = ""
    tagged_addresses: Texts = Field(default_factory=dict)
    node_meta: Texts = Field(default_factory=dict)
    service_kind: Text = ""
    service_id: str = Field(alias="ServiceID")
    service_name: str
    service_tags: Tags = ()
    service_address: HostOrNull = ""
    service_tagged_addresses: Annotated[dict[str, TaggedAddress], NullAs(dict)] = Field(default_factory=dict)
    service_weights: Annotated[Weights, NullAs(Weights)] = Field(default_factory=Weights)
    service_meta: Texts = Field(default_factory=dict)
    service_port: PortOrNull = 0
    service_ports: Ports = ()
    service_socket_path: Text = ""
    service_enable_tag_override: bool = False
    create_index: int = 0
    modify_index: int = 0

    @property
    def host(self) -> str:
        """The service's own address, else its node's; empty when neither can be called."""
        return effective_host(self.service_address, self.address, synced=bool(self.node_meta.get("external-source")))

    def _own_port(self) -> int:
        return self.service_port

    def _own_ports(self) -> tuple[PortEntry, ...]:
        return self.service_ports

    def _own_meta(self) -> dict[str, str]:
        return self.service_meta

    def _named(self) -> str:
        return f"instance {self.service_id!r} of {self.service_name!r}"

    @property
    def instance(self) -> ServiceInstance:
        """The same, flat. The catalog knows no health, so it counts as passing."""
        return ServiceInstance(
            id=self.service_id,
            service=self.service_name,
            node=self.node,
            datacenter=self.datacenter,
            service_address=self.service_address,
            node_address=self.address,
            service_port=self.service_port,
            port_entries=self.service_ports,
            tags=self.service_tags,
            meta=self.service_meta,
            passing_weight=self.service_weights.passing,
            warning_weight=self.service_weights.warning,
            source=self.node_meta.get("external-source", ""),
            modify_index=self.modify_index,
        )


class Service(_Entry):
    """The service's part of a health entry, and what an agent tells about one of its services."""

    id: str = Field(alias="ID")
    name: str = Field(alias="Service")
    kind: Text = ""
    tags: Tags = ()
    meta: Texts = Field(default_factory=dict)
    address: HostOrNull = ""
    port: PortOrNull = 0
    ports: Ports = ()
    tagged_addresses: Annotated[dict[str, TaggedAddress], NullAs(dict)] = Field(default_factory=dict)
    weights: Annotated[Weights, NullAs(Weights)] = Field(default_factory=Weights)
    enable_tag_override: bool = False
    socket_path: Text = ""
    modify_index: int = 0


class AgentService(Service):
    """A service as the agent it was registered at knows it; `content_hash` changes with its registration."""

    content_hash: Text = ""
    datacenter: Text = ""


class HealthEntry(_Reached):
    """An instance with its node and all its checks."""

    node: Node
    service: Service
    checks: Annotated[tuple[Check, ...], NullAs(tuple)] = ()

    @property
    def standing(self) -> Standing:
        """How it stands over all its checks, and over its own."""
        return standing_of([(check.effective_status, check.is_own) for check in self.checks])

    @property
    def status(self) -> CheckStatus:
        """How it stands over all its checks: maintenance, then critical, warning, passing."""
        return self.standing.overall

    @property
    def host(self) -> str:
        """The service's own address, else its node's; empty when neither can be called."""
        return effective_host(
            self.service.address, self.node.address, synced=bool(self.node.meta.get("external-source"))
        )

    def _own_port(self) -> int:
        return self.service.port

    def _own_ports(self) -> tuple[PortEntry, ...]:
        return self.service.ports

    def _own_meta(self) -> dict[str, str]:
        return self.service.meta

    def _named(self) -> str:
        return f"instance {self.service.id!r} of {self.service.name!r}"

    @property
    def instance(self) -> ServiceInstance:
        """The same, flat."""
        return ServiceInstance(
            id=self.service.id,
            service=self.service.name,
            node=self.node.name,
            datacenter=self.node.datacenter,
            service_address=self.service.address,
            node_address=self.node.address,
            service_port=self.service.port,
            port_entries=self.service.ports,
            tags=self.service.tags,
            meta=self.service.meta,
            passing_weight=self.service.weights.passing,
            warning_weight=self.service.weights.warning,
            standing=self.standing,
            source=self.node.meta.get("external-source", ""),
            modify_index=self.service.modify_index,
        )


class AgentInfo(_Entry):
    """Which agent answers: `Config` of `/v1/agent/self`."""

    version: str
    node_name: Text = ""
    node_id: Text = Field("", alias="NodeID")
    datacenter: Text = ""
    server: bool = False

    @field_validator("version")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value:
            raise ValueError("the agent tells no version")
        return value

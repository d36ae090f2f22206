"""One running copy of a service, flat and small: what look-ups hand out and caches hold by the thousand."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, cast

from pydantic import AliasPath, ConfigDict, Field, GetCoreSchemaHandler
from pydantic.dataclasses import dataclass
from pydantic_core import CoreSchema, core_schema

from consul_access.models.address import Address
from consul_access.models.effective import (
    Host,
    KubernetesMarks,
    NamedPort,
    Port,
    callable_address,
    effective_host,
    effective_port,
    kubernetes_marks,
    port_named,
)
from consul_access.models.nullable import NullAs
from consul_access.models.status import CheckStatus, aggregate

__all__ = [
    "AllPassing",
    "PortEntry",
    "ServiceInstance",
    "Standing",
    "check_status",
    "share_parts",
    "standing_of",
]

_NODE_MAINTENANCE = "_node_maintenance"
_SERVICE_MAINTENANCE = "_service_maintenance:"
_NOWHERE = "\0"


@dataclass(frozen=True, slots=True, config=ConfigDict(defer_build=True))
class _CheckOutline:
    """As much of a check as its instance's standing needs."""

    status: CheckStatus = Field(validation_alias="Status")
    check_id: str = Field("", validation_alias="CheckID")
    service_id: str = Field("", validation_alias="ServiceID")


class _Standing(NamedTuple):
    overall: CheckStatus = CheckStatus.PASSING
    own: CheckStatus = CheckStatus.PASSING


class Standing(_Standing):
    """How an instance stands over its checks.

    Args:
        overall: over all checks, its node's included.
        own: over its own checks; a node under maintenance counts too.
    """

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        outlines = handler.generate_schema(Annotated[list[_CheckOutline], NullAs(list)])
        return core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_after_validator_function(_standing, outlines),
            python_schema=core_schema.is_instance_schema(cls),
        )


_ALL_PASSING = Standing()


def check_status(check_id: str, status: CheckStatus) -> CheckStatus:
    """A check's status; maintenance shows by the check's id alone."""
    if check_id == _NODE_MAINTENANCE or check_id.startswith(_SERVICE_MAINTENANCE):
        return CheckStatus.MAINTENANCE
    return status


def _standing(checks: list[_CheckOutline]) -> Standing:
    if all(check.status is CheckStatus.PASSING for check in checks):
        return _ALL_PASSING
    return standing_of([(check_status(check.check_id, check.status), bool(check.service_id)) for check in checks])


def standing_of(statuses: list[tuple[CheckStatus, bool]]) -> Standing:
    """The standing over checks: each one's status, and whether it belongs to the service (and not to the node)."""
    own = (status for status, is_own in statuses if is_own or status is CheckStatus.MAINTENANCE)
    return Standing(aggregate(status for status, _ in statuses), aggregate(own))


@dataclass(frozen=True, slots=True, config=ConfigDict(defer_build=True, validate_by_name=True, validate_by_alias=True))
class PortEntry:
    """An entry of `Ports` (agent and health) or `ServicePorts` (catalog), Consul 1.22."""

    port: Annotated[int, Field(validation_alias="Port", ge=1, le=65535)]
    name: Annotated[str, Field(validation_alias="Name")] = ""
    default: Annotated[bool, Field(validation_alias="Default")] = False

    def named(self) -> NamedPort:
        return NamedPort(self.name, self.port, default=self.default)


def _service(name: str) -> AliasPath:
    return AliasPath("Service", name)


def _node(*names: str) -> AliasPath:
    return AliasPath("Node", *names)


@dataclass(frozen=True, slots=True, config=ConfigDict(defer_build=True, validate_by_name=True, validate_by_alias=True))
class ServiceInstance:
    """One running copy of a service.

    Args:
        id: the service id; unique at its agent only.
        service: the service's name.
        node: the node's name; empty where the registry knows no nodes.
        datacenter: the node's datacenter.
        service_address: the address that was registered with the service; often empty.
        node_address: the node's address.
        service_port: the port that was registered with the service, or 0.
        port_entries: further ports, by name.
        tags: the service's tags.
        meta: the service's meta.
        passing_weight: its share of the calls while it passes.
        warning_weight: its share of the calls while it is in warning.
        standing: how it stands over its checks.
        source: the outside source that its node stands for, such as `kubernetes`.
        modify_index: the index of its last change.

    `host`, `port` and `address` are where to call it.
    """

    id: Annotated[str, Field(validation_alias=_service("ID"))]
    service: Annotated[str, Field(validation_alias=_service("Service"))]
    node: Annotated[str, Field(validation_alias=_node("Node"))] = ""
    datacenter: Annotated[str, Field(validation_alias=_node("Datacenter")), NullAs(str)] = ""
    service_address: Annotated[Host, Field(validation_alias=_service("Address")), NullAs(str)] = ""
    node_address: Annotated[Host, Field(validation_alias=_node("Address")), NullAs(str)] = ""
    service_port: Annotated[Port, Field(validation_alias=_service("Port")), NullAs(int)] = 0
    port_entries: Annotated[tuple[PortEntry, ...], Field(validation_alias=_service("Ports")), NullAs(tuple)] = ()
    tags: Annotated[tuple[str, ...], Field(validation_alias=_service("Tags")), NullAs(tuple)] = ()
    meta: Annotated[dict[str, str], Field(validation_alias=_service("Meta")), NullAs(dict)] = Field(
        default_factory=dict
    )
    passing_weight: Annotated[int, Field(validation_alias=AliasPath("Service", "Weights", "Passing"))] = 1
    warning_weight: Annotated[int, Field(validation_alias=AliasPath("Service", "Weights", "Warning"))] = 1
    standing: Annotated[Standing, Field(validation_alias="Checks")] = _ALL_PASSING
    source: Annotated[str, Field(validation_alias=_node("Meta", "external-source"))] = ""
    modify_index: Annotated[int, Field(validation_alias=_service("ModifyIndex"))] = 0

    @property
    def status(self) -> CheckStatus:
        """How it stands over all its checks; maintenance counts most, then critical, warning, passing."""
        return self.standing.overall

    @property
    def host(self) -> str:
        """The IP address or name to call, the service's own or else its node's; empty when neither can be called."""
        return effective_host(self.service_address, self.node_address, synced=bool(self.source))

    @property
    def port(self) -> int:
        """The port to call, the service's own, else the default one of its named ports, else the first; 0 for none."""
        if self.service_port:
            return self.service_port
        return effective_port(0, self._ports())

    @property
    def address(self) -> Address:
        """Where to call it.

        Raises:
            NoInstances: it has registered no port, or no address that can be called.
        """
        return callable_address(self.host, self.port, self._named())

    @property
    def is_callable(self) -> bool:
        """Whether it has an address and a port."""
        return bool(self.host and self.port)

    @property
    def weight(self) -> int:
        """Its share of the calls in its present state; 0 when it should get none."""
        if self.status is CheckStatus.PASSING:
            return self.passing_weight
        return self.warning_weight if self.status is CheckStatus.WARNING else 0

    @property
    def kubernetes(self) -> KubernetesMarks | None:
        """What catalog sync from Kubernetes tells about it; None when it was not synced."""
        return kubernetes_marks(self.meta)

    def port_named(self, name: str) -> NamedPort:
        """One of its ports by name, registered or told by catalog sync (then not `verified`).

        Raises:
            NoInstances: it has no port of that name.
        """
        return port_named(name, self._ports(), self.meta, self._named())

    def __hash__(self) -> int:
        return hash((self.service, self.node, self.id))

    def _ports(self) -> tuple[NamedPort, ...]:
        return tuple(entry.named() for entry in self.port_entries)

    def _named(self) -> str:
        return f"instance {self.id!r} of {self.service!r}"


def share_parts(instance: ServiceInstance, pool: dict[object, object]) -> None:
    """Has the instance share tags and meta with others that have the same: most copies of a service do.

    That halves what a cached instance weighs, and is done before anybody else has seen it.
    """
    tags, meta = instance.tags, instance.meta
    object.__setattr__(instance, "tags", pool.setdefault(tags, tags))
    object.__setattr__(instance, "meta", pool.setdefault((*meta.items(), None), meta))


class AllPassing:
    """Marks instances whose agent was asked for passing ones only, so that their checks need not be read.

    Reading them is a third of the work. The mark changes where `standing` is looked for, and nothing else.
    """

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: dict[str, Any] = {**handler.resolve_ref_schema(handler(source))}
        arguments: dict[str, Any] = {**schema["schema"]}
        arguments["fields"] = [
            {**field, "validation_alias": _NOWHERE} if field["name"] == "standing" else field
            for field in arguments["fields"]
        ]
        schema["schema"] = arguments
        schema.pop("ref", None)
        # Pydantic's core would use the validator of the class itself, once there is one; not for generic classes.
        schema["generic_origin"] = schema["cls"]
        return cast("CoreSchema", schema)

"""One running copy of a service, flat and small: what look-ups hand out and caches hold by the thousand.

How an answer becomes instances is written here as a schema of Pydantic's core. Pydantic would make the same one of
annotations, but to load it takes longer than all the rest of a program's first look-up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic_core import ArgsKwargs, CoreConfig, CoreSchema, SchemaValidator, core_schema

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
from consul_access.models.nullable import null_as
from consul_access.models.places import HOST, PORT
from consul_access.models.status import CheckStatus, aggregate

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

__all__ = [
    "AllPassing",
    "PortEntry",
    "ServiceInstance",
    "Standing",
    "check_status",
    "share_parts",
    "standing_of",
]

S = TypeVar("S", bound="_Schemed")

_NODE_MAINTENANCE = "_node_maintenance"
_SERVICE_MAINTENANCE = "_service_maintenance:"
_NOWHERE = "\0"

_TEXT = core_schema.str_schema()
_NUMBER = core_schema.int_schema()
_BY_NAME_TOO = CoreConfig(validate_by_name=True, validate_by_alias=True)


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


_ALL_PASSING = Standing()


def check_status(check_id: str, status: CheckStatus) -> CheckStatus:
    """A check's status; maintenance shows by the check's id alone."""
    if check_id == _NODE_MAINTENANCE or check_id.startswith(_SERVICE_MAINTENANCE):
        return CheckStatus.MAINTENANCE
    return status


def _standing(checks: list[dict[str, Any]]) -> Standing:
    if all(check["Status"] is CheckStatus.PASSING for check in checks):
        return _ALL_PASSING
    return standing_of([
        (check_status(check["CheckID"], check["Status"]), bool(check["ServiceID"])) for check in checks
    ])  # fmt: skip


def standing_of(statuses: list[tuple[CheckStatus, bool]]) -> Standing:
    """The standing over checks: each one's status, and whether it belongs to the service (and not to the node)."""
    own = (status for status, is_own in statuses if is_own or status is CheckStatus.MAINTENANCE)
    return Standing(aggregate(status for status, _ in statuses), aggregate(own))


# --- schemas ------------------------------------------------------------------------------------------------


def _dataclass(kind: type[object], *parts: core_schema.DataclassField) -> CoreSchema:
    arguments = core_schema.dataclass_args_schema(kind.__name__, list(parts))
    names = [part["name"] for part in parts]
    return core_schema.dataclass_schema(kind, arguments, names, config=_BY_NAME_TOO, slots=True)


def _field(name: str, found_at: str | list[str | int], schema: CoreSchema) -> core_schema.DataclassField:
    return core_schema.dataclass_field(name, schema, kw_only=False, validation_alias=found_at)


def _or(schema: CoreSchema, default: object) -> CoreSchema:
    return core_schema.with_default_schema(schema, default=default)


def _or_null(schema: CoreSchema, empty: Callable[[], object]) -> CoreSchema:
    return core_schema.with_default_schema(null_as(schema, empty), default_factory=empty)


def _standing_schema() -> CoreSchema:
    """From an answer, checks; by hand, the standing itself."""
    outline = core_schema.typed_dict_schema({
        "Status": core_schema.typed_dict_field(core_schema.enum_schema(CheckStatus, list(CheckStatus), sub_type="str")),
        "CheckID": core_schema.typed_dict_field(_or(_TEXT, "")),
        "ServiceID": core_schema.typed_dict_field(_or(_TEXT, "")),
    })  # fmt: skip
    checks = null_as(core_schema.list_schema(outline), list)
    return core_schema.json_or_python_schema(
        json_schema=core_schema.no_info_after_validator_function(_standing, checks),
        python_schema=core_schema.is_instance_schema(Standing),
    )


class _Schemed(ABC):
    """Has a schema of its own, also for models of Pydantic that it is part of."""

    __slots__ = ()

    @classmethod
    @abstractmethod
    def core_schema(cls) -> CoreSchema:
        """How it is read."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return cls.core_schema()


def _checked(kind: type[S]) -> type[S]:
    """Has it checked by its schema also when it is made by hand."""

    @cache
    def validator() -> SchemaValidator:
        return SchemaValidator(kind.core_schema())

    @wraps(kind.__init__)
    def made(self: S, *given: object, **named: object) -> None:
        validator().validate_python(ArgsKwargs(given, named), self_instance=self)

    kind.__init__ = made  # type: ignore[assignment, method-assign] # pyright: ignore[reportAttributeAccessIssue]
    return kind


@_checked
@dataclass(frozen=True, slots=True)
class PortEntry(_Schemed):
    """An entry of `Ports` (agent and health) or `ServicePorts` (catalog), Consul 1.22."""

    port: int
    name: str = ""
    default: bool = False

    @classmethod
    def core_schema(cls) -> CoreSchema:
        """How it is read."""
        return _dataclass(
            cls,
            _field("port", "Port", core_schema.int_schema(ge=1, le=65535)),
            _field("name", "Name", _or(_TEXT, "")),
            _field("default", "Default", _or(core_schema.bool_schema(), False)),
        )

    def named(self) -> NamedPort:
        return NamedPort(self.name, self.port, default=self.default)


@_checked
@dataclass(frozen=True, slots=True)
class ServiceInstance(_Schemed):
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

    id: str
    service: str
    node: str = ""
    datacenter: str = ""
    service_address: str = ""
    node_address: str = ""
    service_port: int = 0
    port_entries: tuple[PortEntry, ...] = ()
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = field(default_factory=dict)
    passing_weight: int = 1
    warning_weight: int = 1
    standing: Standing = _ALL_PASSING
    source: str = ""
    modify_index: int = 0

    @classmethod
    def core_schema(cls, *, standing: str = "Checks") -> CoreSchema:
        """How an entry of `/v1/health/service` is read.

        Args:
            standing: the key at which its checks are looked for.
        """
        texts = core_schema.tuple_variable_schema(_TEXT)
        return _dataclass(
            cls,
            _field("id", ["Service", "ID"], _TEXT),
            _field("service", ["Service", "Service"], _TEXT),
            _field("node", ["Node", "Node"], _or(_TEXT, "")),
            _field("datacenter", ["Node", "Datacenter"], _or_null(_TEXT, str)),
            _field("service_address", ["Service", "Address"], _or_null(HOST, str)),
            _field("node_address", ["Node", "Address"], _or_null(HOST, str)),
            _field("service_port", ["Service", "Port"], _or_null(PORT, int)),
            _field(
                "port_entries",
                ["Service", "Ports"],
                _or_null(core_schema.tuple_variable_schema(PortEntry.core_schema()), tuple),
            ),
            _field("tags", ["Service", "Tags"], _or_null(texts, tuple)),
            _field("meta", ["Service", "Meta"], _or_null(core_schema.dict_schema(_TEXT, _TEXT), dict)),
            _field("passing_weight", ["Service", "Weights", "Passing"], _or(_NUMBER, 1)),
            _field("warning_weight", ["Service", "Weights", "Warning"], _or(_NUMBER, 1)),
            _field("standing", standing, _or(_standing_schema(), _ALL_PASSING)),
            _field("source", ["Node", "Meta", "external-source"], _or(_TEXT, "")),
            _field("modify_index", ["Service", "ModifyIndex"], _or(_NUMBER, 0)),
        )

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

    @staticmethod
    def core_schema() -> CoreSchema:
        """How such instances are read."""
        return ServiceInstance.core_schema(standing=_NOWHERE)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return self.core_schema()

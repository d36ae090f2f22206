"""What the catalog is told directly, without an agent: a node that is no machine, a service on it, and its checks.

https://developer.hashicorp.com/consul/api-docs/catalog#register-entity
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from consul_access.models import inputs
from consul_access.models.status import CheckStatus

if TYPE_CHECKING:
    from consul_access.models.definition import ServiceDefinition

__all__ = ["SYNTHETIC_META", "SYNTHETIC_NODE", "CatalogCheck", "CatalogRegistration"]

SYNTHETIC_NODE: Final = "consul-access"
SYNTHETIC_META: Final[Mapping[str, str]] = {"external-node": "true", "external-source": "consul-access"}
"""By `external-source` readers know that the node's address, 127.0.0.1, leads nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogCheck:
    """A check whose status somebody states; no agent runs it.

    Args:
        id: unique on its node.
        name: for people.
        status: passing, warning or critical.
        service_id: the service it belongs to.
        notes: for people.
        output: for people, and for the heartbeat's stamp.
        type: what kind of check it is, for those who read it.
    """

    id: str
    name: str
    status: CheckStatus
    service_id: str
    notes: str = ""
    output: str = ""
    type: str = ""

    def payload(self) -> dict[str, Any]:
        """The check as servers read it."""
        return {
            "CheckID": inputs.identifier(self.id, "the check's id"),
            "Name": self.name,
            "Status": str(self.status),
            "ServiceID": inputs.identifier(self.service_id, "id"),
            "Notes": self.notes,
            "Output": self.output,
        } | ({"Type": self.type} if self.type else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogRegistration:
    """One write to the catalog: a node's service, its checks, or both.

    Args:
        node: the node's name; it is made when it does not exist and the token may, and left as it is otherwise.
        address: of the node, when it is made.
        node_meta: of the node, when it is made.
        service: the service; None leaves it as it is, and is refused by the servers when it is not there.
        checks: the checks.
    """

    node: str = SYNTHETIC_NODE
    address: str = "127.0.0.1"
    node_meta: Mapping[str, str] = field(default_factory=lambda: SYNTHETIC_META)
    service: ServiceDefinition | None = None
    checks: tuple[CatalogCheck, ...] = ()

    def payload(self) -> dict[str, Any]:
        """The write as servers read it.

        Raises:
            InvalidInput: something cannot be right.
        """
        body: dict[str, Any] = {
            "Node": inputs.identifier(self.node, "node"),
            "Address": inputs.host(self.address, "address"),
            "NodeMeta": dict(self.node_meta),
            "SkipNodeUpdate": True,
        }
        if self.service is not None:
            body["Service"] = _service(self.service.payload())
        if self.checks:
            body["Checks"] = [check.payload() for check in self.checks]
        return body


def _service(registered: dict[str, Any]) -> dict[str, Any]:
    """An agent's registration in the words of the catalog."""
    renamed = {"Service" if key == "Name" else key: value for key, value in registered.items()}
    return {key: value for key, value in renamed.items() if key not in {"Check", "Checks", "Partition"}}

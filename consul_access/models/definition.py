"""What a service says about itself when it registers."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from consul_access.errors import InvalidInput
from consul_access.models import inputs
from consul_access.models.address import Address
from consul_access.models.catalog import Weights
from consul_access.models.checks import KINDS, AliasCheck, AnyCheck, TtlCheck

__all__ = ["ServiceDefinition"]

log = logging.getLogger("consul_access")

LARGEST: Final = 512 * 1024
"""Every registration becomes one entry of the servers' log; theirs are kept below this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDefinition:
    """A registration, validated when it is made.

    Args:
        id: unique at the agent.
        name: the service.
        address: where it can be reached; None for the agent's own address.
        port: 1 to 65535, or None.
        tags: any texts.
        meta: up to 64 pairs.
        checks: how the agent finds out whether it works.
        ports: further ports by name, instead of `port` (Consul 1.22); the first is the default one.
        weights: its share of the calls, by state.
        tagged_addresses: further addresses by name.
        enable_tag_override: lets others change the tags in the catalog.
        namespace: Consul Enterprise.
        partition: Consul Enterprise.

    Raises:
        InvalidInput: something cannot be right.
    """

    id: str
    name: str
    address: str | None = None
    port: int | None = None
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[AnyCheck, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    weights: Weights | None = None
    tagged_addresses: Mapping[str, Address] = field(default_factory=dict)
    enable_tag_override: bool = False
    namespace: str | None = None
    partition: str | None = None
    _payload: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Written once: to check it is most of the work of a registration.
        object.__setattr__(self, "_payload", self._written())
        if not inputs.fits_dns(inputs.service_name(self.name)):
            log.warning(
                "service %r cannot be looked up in DNS: letters, digits and '-' can, up to 63 of them", self.name
            )
        if len(json.dumps(self._payload, ensure_ascii=False).encode("utf-8", "surrogatepass")) > LARGEST:
            raise InvalidInput(
                f"the registration of {self.id!r} is longer than {LARGEST} bytes: shorten tags or checks"
            )

    def payload(self) -> dict[str, Any]:
        """The registration as agents read it; only what was given is in it."""
        return dict(self._payload)

    def _written(self) -> dict[str, Any]:
        body: dict[str, Any] = {"ID": inputs.identifier(self.id, "id"), "Name": inputs.service_name(self.name)}
        if self.address is not None:
            body["Address"] = inputs.host(self.address, "address")
        body |= self._ports()
        if self.tags:
            body["Tags"] = list(inputs.check_tags(self.tags))
        if self.meta:
            body["Meta"] = inputs.check_meta(self.meta)
        if self.weights is not None:
            weights = Weights.checked(self.weights.passing, self.weights.warning)
            body["Weights"] = {"Passing": weights.passing, "Warning": weights.warning}
        if self.tagged_addresses:
            body["TaggedAddresses"] = {name: _tagged(name, where) for name, where in self.tagged_addresses.items()}
        if self.enable_tag_override:
            body["EnableTagOverride"] = True
        for key, value in (("Namespace", self.namespace), ("Partition", self.partition)):
            if value is not None:
                body[key] = inputs.identifier(value, key.lower())
        return body | self._checks(body.get("Address", "127.0.0.1"))

    def check_ids(self) -> tuple[str, ...]:
        """The ids of the checks: those given, and those the agent makes (observed on 1.8 and 1.10)."""
        if len(self.checks) == 1:
            return (self.checks[0].id or f"service:{self.id}",)
        return tuple(check.id or f"service:{self.id}:{number}" for number, check in enumerate(self.checks, 1))

    def ttl_check_ids(self) -> tuple[str, ...]:
        """The ids of the TTL checks."""
        named = zip(self.check_ids(), self.checks, strict=True)
        return tuple(check_id for check_id, check in named if isinstance(check, TtlCheck))

    def only_ttl_check_id(self) -> str:
        """The id of the TTL check, if there is exactly one.

        Raises:
            InvalidInput: there is none, or there are several.
        """
        found = self.ttl_check_ids()
        if len(found) != 1:
            raise InvalidInput(f"{self.id!r} has {len(found)} TTL checks: name the one to report, by check_id=")
        return found[0]

    def alias_nodes(self) -> tuple[str, ...]:
        """The nodes that alias checks follow."""
        return tuple(check.node for check in self.checks if isinstance(check, AliasCheck) and check.node is not None)

    def _ports(self) -> dict[str, Any]:
        if self.ports and self.port is not None:
            raise InvalidInput("port= and ports= exclude each other at the agent: put the port into ports=, in front")
        if self.port is not None:
            return {"Port": inputs.port(self.port)}
        entries = [
            {"Name": inputs.identifier(name, "the port's name"), "Port": inputs.port(port, f"ports[{name!r}]")}
            | ({"Default": True} if not position else {})
            for position, (name, port) in enumerate(self.ports.items())
        ]
        return {"Ports": entries} if entries else {}

    def _checks(self, address: str) -> dict[str, Any]:
        for check in self.checks:
            if not isinstance(check, KINDS):
                raise InvalidInput(f"{check!r} is no check: write HttpCheck(...), TtlCheck(...) or another kind")
        ids = self.check_ids()
        twice = {name for name in ids if ids.count(name) > 1}
        if twice:
            raise InvalidInput(f"the check id {min(twice)!r} is given twice: the agent would keep the last one only")
        own = self._own_address(address)
        written = [check.payload(own) for check in self.checks]
        if len(written) == 1:
            return {"Check": written[0]}
        return {"Checks": written} if written else {}

    def _own_address(self, address: str) -> Address | None:
        """Where checks without a target aim: without an address the service is on the agent's own machine."""
        port = self.port if self.port is not None else next(iter(self.ports.values()), None)
        return None if port is None else Address(address, port)


def _tagged(name: str, where: Address) -> dict[str, object]:
    what = f"tagged_addresses[{name!r}]"
    inputs.identifier(name, "the address's tag")
    return {"Address": inputs.host(where[0], what), "Port": inputs.port(where[1], what)}

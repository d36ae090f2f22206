"""Why a service can be found, or cannot: the facts, what they mean, and what to do. `str()` is a page for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from consul_access.models.address import Address
from consul_access.models.status import CheckStatus, HealthPolicy

__all__ = [
    "AddressOrigin",
    "AskedAgent",
    "CheckView",
    "Explanation",
    "Finding",
    "FindingCode",
    "InstanceVerdict",
    "PortOrigin",
    "Severity",
]

WIDTH = 110


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """Something is not found because of it, or nothing could be found out."""
    WARNING = "warning"
    """It may surprise somebody, or be the reason although that cannot be seen for certain."""
    INFO = "info"
    """Good to know."""


class FindingCode(StrEnum):
    """What was found; programs compare these, the texts are for people."""

    # --- the way there
    AGENT_UNREACHABLE = "agent_unreachable"
    NO_LEADER = "no_leader"
    TOKEN_UNKNOWN = "token_unknown"  # noqa: S105 - what was found
    PERMISSION_DENIED = "permission_denied"
    UNKNOWN_DATACENTER = "unknown_datacenter"
    FILTER_REFUSED = "filter_refused"
    NOT_ANSWERED = "not_answered"

    # --- whether it is there
    UNKNOWN_SERVICE = "unknown_service"
    HIDDEN_BY_ACL = "hidden_by_acl"
    IS_AN_ID = "is_an_id"
    ALSO_AN_ID = "also_an_id"
    OTHER_CASE = "other_case"
    NOT_IN_CATALOG = "not_in_catalog"
    NODE_NAME_RESERVED = "node_name_reserved"
    NOT_AT_AGENT = "not_at_agent"
    DIFFERS = "differs"
    UNUSABLE_ENTRIES = "unusable_entries"

    # --- its health
    CHECK_CRITICAL = "check_critical"
    CHECK_WARNING = "check_warning"
    TTL_EXPIRED = "ttl_expired"
    NEVER_CHECKED = "never_checked"
    NODE_FAILED = "node_failed"
    SERVICE_MAINTENANCE = "service_maintenance"
    NODE_MAINTENANCE = "node_maintenance"
    NO_CHECKS = "no_checks"
    NO_AGENT = "no_agent"
    NO_LEASE = "no_lease"

    # --- the question
    EXCLUDED_BY_QUERY = "excluded_by_query"

    # --- where to call it
    NO_ADDRESS = "no_address"
    NO_PORT = "no_port"
    LOOPBACK_ADDRESS = "loopback_address"
    ADDRESS_FROM_NODE = "address_from_node"
    WEIGHT_ZERO = "weight_zero"
    DUPLICATE_ADDRESS = "duplicate_address"
    DUPLICATE_ID = "duplicate_id"


class AddressOrigin(StrEnum):
    """Where the address to call comes from."""

    SERVICE = "service"
    """It was registered with the service."""
    NODE = "node"
    """None was registered, so it is the node's."""
    NONE = "none"
    """There is none that can be called."""


class PortOrigin(StrEnum):
    """Where the port to call comes from."""

    SERVICE = "service"
    """It was registered with the service."""
    NAMED = "named"
    """It is the default one of the named ports, or the first."""
    NONE = "none"
    """There is none."""


class _Fact(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, defer_build=True)


class Finding(_Fact):
    """One thing that was found.

    Args:
        code: what it is.
        severity: how much it matters.
        text: what it is, in words.
        remedy: what to do about it; empty when there is nothing to do.
        instance: the id of the instance that it concerns; empty for none in particular.
        node: the node that it concerns; empty for none in particular.
    """

    code: FindingCode
    severity: Severity
    text: str
    remedy: str = ""
    instance: str = ""
    node: str = ""


class CheckView(_Fact):
    """One check of an instance, or of its node.

    Args:
        id: its id.
        name: its name.
        status: how it stands; maintenance is told from an ordinary critical.
        output: what it said last, whole.
        notes: what its author says about it; under maintenance, the reason.
        of_node: it is the node's and not the service's.
    """

    id: str
    name: str
    status: CheckStatus
    output: str = ""
    notes: str = ""
    of_node: bool = False


class InstanceVerdict(_Fact):
    """One instance: where it is registered, how it stands, and what a look-up makes of it.

    Args:
        id: its id.
        service: its service's name.
        node: the node it is registered at; empty at etcd.
        key: the key it is written under at etcd; empty at Consul.
        datacenter: the node's datacenter; empty when the catalog does not know it.
        at_agent: whether the asked agent holds it; None when that agent could not be asked, or is another node's.
        in_catalog: whether the catalog holds it.
        host: the host to call; empty when there is none.
        port: the port to call; 0 when there is none.
        address_origin: where the host comes from.
        port_origin: where the port comes from.
        tagged_addresses: further addresses; look-ups do not use them.
        tags: its tags.
        status: over all checks; None when it is not in the catalog.
        weight: its share of the calls in its present state.
        checks: its own and its node's.
        admitted_by: the policies that let it be found.
        excluded_by: why the look-up as asked leaves it out; empty when it does not.
        is_discoverable: `search_service` gives its address.
    """

    id: str
    service: str
    node: str
    key: str = ""
    datacenter: str = ""
    at_agent: bool | None = None
    in_catalog: bool = True
    host: str = ""
    port: int = 0
    address_origin: AddressOrigin = AddressOrigin.NONE
    port_origin: PortOrigin = PortOrigin.NONE
    tagged_addresses: dict[str, Address] = {}
    tags: tuple[str, ...] = ()
    status: CheckStatus | None = None
    weight: int = 0
    checks: tuple[CheckView, ...] = ()
    admitted_by: tuple[HealthPolicy, ...] = ()
    excluded_by: tuple[str, ...] = ()
    is_discoverable: bool = False


class AskedAgent(_Fact):
    """The agent that was asked, or the member of etcd.

    Args:
        address: its address.
        node: its node's name; empty when it did not tell.
        version: its version.
        datacenter: its datacenter.
        leader: the address of the servers' leader; empty when there is none, or it is not known. At etcd `none` when
            the member knows of none.
        registry: `Consul` or `etcd`.
    """

    address: str
    node: str = ""
    version: str = ""
    datacenter: str = ""
    leader: str = ""
    registry: str = "Consul"


class Explanation(_Fact):
    """Why a service is found by look-ups, or is not.

    Args:
        asked: the name or id that was asked about.
        service: the service's name; None when there is no such service.
        instance_id: the id, when an id was asked about.
        policy: the health policy of the look-up.
        narrowed: its other options that leave instances out, as text.
        agent: who was asked.
        instances: every instance, with what the look-up makes of it.
        findings: what was found, errors first.
        is_discoverable: `search_service` gives at least one address; of an id, its own.
    """

    asked: str
    service: str | None
    instance_id: str | None = None
    policy: HealthPolicy = HealthPolicy.PASSING
    narrowed: str = ""
    agent: AskedAgent
    instances: tuple[InstanceVerdict, ...] = ()
    findings: tuple[Finding, ...] = ()
    is_discoverable: bool = False

    def found(self, code: FindingCode | str) -> tuple[Finding, ...]:
        """The findings of this code."""
        return tuple(finding for finding in self.findings if finding.code == code)

    def __str__(self) -> str:
        return "\n".join(self._page())

    def _page(self) -> Iterator[str]:
        yield f"{self.asked}: {self._verdict()}"
        yield f"look-up: policy {self.policy.value!r}{', ' + self.narrowed if self.narrowed else ''}"
        yield f"asked: {_agent_line(self.agent)}"
        for number, finding in enumerate(self.findings, 1):
            if number == 1:
                yield ""
            yield from _paragraph(f"{number}. {finding.severity.value}: {finding.text}", "   ")
            if finding.remedy:
                yield from _paragraph(f"-> {finding.remedy}", "   ", first="   ")
        for instance in self.instances:
            yield ""
            yield from _instance_lines(instance)

    def _verdict(self) -> str:
        if self.found(FindingCode.UNKNOWN_SERVICE) and not self.found(FindingCode.HIDDEN_BY_ACL):
            return "NOT discoverable, there is no such service or instance"
        if not self.instances:
            return "NOT discoverable, and nothing of it is seen"
        good = sum(instance.is_discoverable for instance in self.instances)
        named = f"instance of {self.service!r}, " if self.instance_id is not None else ""
        counted = f"{good} of {len(self.instances)} instances would be found"
        return f"{named}{'discoverable' if self.is_discoverable else 'NOT discoverable'}, {counted}"


def _agent_line(agent: AskedAgent) -> str:
    told = (
        (" node ", agent.node),
        (" datacenter ", agent.datacenter),
        (f" {agent.registry} ", agent.version),
        (" leader ", agent.leader),
    )
    return f"{'agent' if agent.registry == 'Consul' else 'member'} {agent.address}" + "".join(
        f",{label}{value}" for label, value in told if value
    )


def _instance_lines(instance: InstanceVerdict) -> Iterator[str]:
    place = str(Address(instance.host or "(no address)", instance.port))
    status = instance.status.value if instance.status is not None else "not in the catalog"
    mark = "found" if instance.is_discoverable else "left out"
    where = "" if instance.key else f" on {instance.node or '(unknown node)'}"
    yield f"{instance.id}{where}: {place}, {status}, {mark}"
    yield f"   address from: {_origin(instance)}"
    yield f"   registered: {instance.key or _registered(instance)}"
    if instance.tags:
        yield from _paragraph(f"tags: {', '.join(instance.tags)}", "     ", first="   ")
    for check in instance.checks:
        said = " ".join(check.output.split()) or check.notes
        owner = "node check" if check.of_node else "check"
        line = f"{owner} {check.name or check.id} is {check.status.value}" + (f": {said}" if said else "")
        yield from _paragraph(line, "     ", first="   ")
    if instance.in_catalog:
        yield f"   admitted by: {', '.join(policy.value for policy in instance.admitted_by)}"
    for reason in instance.excluded_by:
        yield from _paragraph(f"left out: {reason}", "     ", first="   ")


def _origin(instance: InstanceVerdict) -> str:
    origins = {
        AddressOrigin.SERVICE: "the service's registration",
        AddressOrigin.NODE: "its node, none was registered",
        AddressOrigin.NONE: "nowhere",
    }
    ports = {PortOrigin.SERVICE: "", PortOrigin.NAMED: "; a named port", PortOrigin.NONE: "; no port"}
    own = Address(instance.host, instance.port)
    tagged_ones = sorted((name, address) for name, address in instance.tagged_addresses.items() if address != own)
    further = ", ".join(f"{name} {address}" for name, address in tagged_ones)
    tagged = f"; not used: {further}" if further else ""
    return origins[instance.address_origin] + ports[instance.port_origin] + tagged


def _registered(instance: InstanceVerdict) -> str:
    agent = {True: "at the asked agent", False: "not at the asked agent", None: "at another agent, or nobody could say"}
    return f"{agent[instance.at_agent]}; {'in' if instance.in_catalog else 'not in'} the catalog"


def _paragraph(text: str, indent: str, *, first: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False) or [""]

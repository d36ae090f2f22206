"""Why a service is found, or is not: a judgement over facts that were gathered before. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from consul_access.errors import ConnectFailed, ConnectionLost, ConsulAccessError, DeadlineExceeded, NoLeader
from consul_access.models.address import Address
from consul_access.models.explanation import (
    AddressOrigin,
    AskedAgent,
    CheckView,
    Explanation,
    InstanceVerdict,
    PortOrigin,
    Severity,
)
from consul_access.models.meta import Entries
from consul_access.models.status import HealthPolicy
from consul_access.rules.facts import Case, Facts, known
from consul_access.rules.filtering import admits
from consul_access.rules.findings import findings
from consul_access.rules.seeing import troubles, words

if TYPE_CHECKING:
    from consul_access.models.catalog import AgentService, Check, HealthEntry, Service

__all__ = ["Facts", "explain", "identify", "is_away", "likely_names", "servers_are_silent"]


def is_away(error: ConsulAccessError) -> bool:
    """Whether the agent does not answer at all, so that asking it more is a waste of time."""
    return isinstance(error, (ConnectFailed, ConnectionLost, DeadlineExceeded))


def servers_are_silent(error: ConsulAccessError) -> bool:
    """Whether the servers behind an agent cannot answer, so that asking them more is a waste of time."""
    return isinstance(error, (NoLeader, DeadlineExceeded))


def identify(
    asked: str, names: frozenset[str] | ConsulAccessError, local: Mapping[str, AgentService] | ConsulAccessError
) -> tuple[str | None, str | None]:
    """The service's name, and the id if it is one; two Nones when neither the catalog nor the agent knows it.

    Look-ups do not mind the case of a name (observed, Consul 1.8), so that is the last thing to be tried.
    """
    held = {} if isinstance(local, ConsulAccessError) else local
    every = sorted({*known(names, frozenset()), *(service.name for service in held.values())})
    if asked in every:
        return asked, None
    if asked in held:
        return held[asked].name, asked
    return next((name for name in every if name.casefold() == asked.casefold()), None), None


def likely_names(asked: str, names: Iterable[str]) -> list[str]:
    """The services that an instance of this id may belong to, the likeliest first.

    Ids mostly begin with the service's name, so the longest name that fits goes first.
    """
    return sorted(names, key=lambda name: (-len(name) if asked.startswith(name) else 0, name))


def explain(facts: Facts) -> Explanation:
    """The judgement."""
    case = Case(facts)
    instances = tuple(_verdicts(case))
    order = list(Severity)
    distinct = dict.fromkeys(findings(case))  # what concerns a node comes up once for each of its instances
    return Explanation(
        asked=facts.asked,
        service=facts.service,
        instance_id=facts.instance_id,
        policy=case.policy,
        narrowed=words(facts.query),
        agent=_asked_agent(facts),
        instances=instances,
        findings=tuple(sorted(distinct, key=lambda finding: order.index(finding.severity))),
        is_discoverable=any(instance.is_discoverable for instance in instances),
    )


def _asked_agent(facts: Facts) -> AskedAgent:
    leader = known(facts.leader, "")
    if isinstance(facts.agent, ConsulAccessError):
        return AskedAgent(address=facts.address, leader=leader)
    about = facts.agent
    return AskedAgent(
        address=facts.address, node=about.node_name, version=about.version, datacenter=about.datacenter, leader=leader
    )


def _verdicts(case: Case) -> Iterator[InstanceVerdict]:
    found = {(one.node, one.id) for one in known(case.facts.found, Entries())}
    for entry in case.entries:
        yield _verdict(case, entry, found)
    for service in case.only_local:
        yield _local_verdict(case, service)


def _verdict(case: Case, entry: HealthEntry, found: set[tuple[str, str]]) -> InstanceVerdict:
    flat = entry.instance
    service = entry.service
    return InstanceVerdict(
        id=flat.id,
        service=flat.service,
        node=flat.node,
        datacenter=flat.datacenter,
        at_agent=case.at_agent(entry),
        host=flat.host,
        port=flat.port,
        address_origin=_address_origin(flat.host, service.address),
        port_origin=_port_origin(flat.port, service.port),
        tagged_addresses=_tagged(service),
        tags=flat.tags,
        status=flat.status,
        weight=flat.weight,
        checks=tuple(_view(check) for check in entry.checks),
        admitted_by=tuple(policy for policy in HealthPolicy if admits(policy, entry.standing)),
        excluded_by=tuple(_excluded(case, entry)),
        is_discoverable=(flat.node, flat.id) in found and flat.is_callable,
    )


def _local_verdict(case: Case, service: AgentService) -> InstanceVerdict:
    checks = [] if isinstance(case.facts.local_checks, ConsulAccessError) else case.facts.local_checks.values()
    return InstanceVerdict(
        id=service.id,
        service=service.name,
        node=case.node_name,
        at_agent=True,
        in_catalog=False,
        host=service.address,
        port=service.port,
        address_origin=_address_origin(service.address, service.address),
        port_origin=_port_origin(service.port, service.port),
        tagged_addresses=_tagged(service),
        tags=service.tags,
        checks=tuple(_view(check) for check in checks if check.service_id == service.id),
        excluded_by=("the catalog does not show it",),
    )


def _excluded(case: Case, entry: HealthEntry) -> Iterator[str]:
    """Why the look-up leaves it out."""
    if not case.fits(entry):
        yield case.misfit(entry)
    yield from troubles(entry, case.policy)
    if not entry.host:
        yield "it has no address that can be called"
    if not entry.effective_port:
        yield "it has no port"


def _view(check: Check) -> CheckView:
    return CheckView(
        id=check.id,
        name=check.name,
        status=check.effective_status,
        output=check.output,
        notes=check.notes,
        of_node=not check.is_own,
    )


def _address_origin(host: str, registered: str) -> AddressOrigin:
    if not host:
        return AddressOrigin.NONE
    return AddressOrigin.SERVICE if host == registered else AddressOrigin.NODE


def _port_origin(port: int, registered: int) -> PortOrigin:
    if not port:
        return PortOrigin.NONE
    return PortOrigin.SERVICE if registered else PortOrigin.NAMED


def _tagged(service: Service) -> dict[str, Address]:
    return {name: Address(one.address, one.port) for name, one in service.tagged_addresses.items()}

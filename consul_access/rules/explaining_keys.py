"""Why a service at etcd is found, or is not: a judgement over what is below the prefix. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast

from consul_access.errors import (
    ConnectFailed,
    ConnectionLost,
    ConsulAccessError,
    DeadlineExceeded,
    NoLeader,
    PermissionDenied,
    TokenUnknown,
)
from consul_access.models.explanation import (
    AddressOrigin,
    AskedAgent,
    Explanation,
    Finding,
    FindingCode,
    InstanceVerdict,
    PortOrigin,
    Severity,
)
from consul_access.models.instance import ServiceInstance
from consul_access.models.query import Query, RegistryQuery
from consul_access.models.status import CheckStatus, HealthPolicy
from consul_access.rules.filtering import admits
from consul_access.rules.seeing import similar_names, words
from consul_access.rules.selecting import Selection
from consul_access.rules.telling import (
    GIVE_ADDRESS,
    GIVE_PORT,
    NO_PORT,
    OTHER_OPTIONS,
    grouped,
    is_loopback,
    lacking,
    leads_home,
    some,
    weightless,
)

__all__ = ["HeldKey", "KeyFacts", "explain_keys"]

_FAILURES: Final = (
    (NoLeader, FindingCode.NO_LEADER, "the members have no leader: look-ups fail, and leases cannot be kept alive"),
    ((ConnectFailed, ConnectionLost, DeadlineExceeded), FindingCode.AGENT_UNREACHABLE, "etcd does not answer"),
    (TokenUnknown, FindingCode.TOKEN_UNKNOWN, "etcd does not accept the login"),
    (PermissionDenied, FindingCode.PERMISSION_DENIED, "the user may not read all keys below the prefix"),
    (ConsulAccessError, FindingCode.NOT_ANSWERED, "no usable answer"),
)
_STATES: Final = {
    CheckStatus.MAINTENANCE: (
        FindingCode.SERVICE_MAINTENANCE,
        "is in maintenance: it is being drained, or was put there",
        "It ends by itself when the owner has drained; otherwise its owner has to end it.",
    ),
    CheckStatus.CRITICAL: (
        FindingCode.CHECK_CRITICAL,
        "is critical: that is what its owner's health function answers",
        "Ask the process itself; the key's value holds what the function said.",
    ),
    CheckStatus.WARNING: (
        FindingCode.CHECK_WARNING,
        "is in warning",
        "policy='passing_or_warning' finds it in this state.",
    ),
}


class HeldKey(NamedTuple):
    """A key below the prefix that stands for an instance.

    Args:
        key: the key, for a person to read.
        service: the service's name, as the key says.
        id: the instance's id, as the key says.
        lease: the lease that it ends with; None when it never does.
        instance: what it stands for; None when that cannot be read.
        trouble: why not.
    """

    key: str
    service: str
    id: str
    lease: int | None = None
    instance: ServiceInstance | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """What was gathered.

    Args:
        asked: the name or id.
        query: the options of the look-up.
        address: the member that was asked.
        prefix: what the registry's keys begin with.
        version: that member's version; empty when it did not tell.
        has_leader: whether it knows a leader.
        held: all keys below the prefix, or why they could not be read.
    """

    asked: str
    query: RegistryQuery = field(default_factory=RegistryQuery)
    address: str = ""
    prefix: str = ""
    version: str = ""
    has_leader: bool = True
    held: Sequence[HeldKey] | ConsulAccessError


class _Case:
    """The facts, sorted."""

    def __init__(self, facts: KeyFacts) -> None:
        self.facts = facts
        self.selection = Selection.of(facts.query)
        held = () if isinstance(facts.held, ConsulAccessError) else facts.held
        self.names = {one.service for one in held}
        self.ids = {one.id for one in held}
        self.is_id = facts.asked not in self.names and facts.asked in self.ids
        self.concerned = [one for one in held if facts.asked == (one.id if self.is_id else one.service)]
        self.everything = [(one, one.instance) for one in self.concerned if one.instance is not None]

    @property
    def services(self) -> list[str]:
        """The services that it is about: several only when all of them have an instance of that id."""
        return sorted({one.service for one in self.concerned})


def explain_keys(facts: KeyFacts) -> Explanation:
    """The judgement."""
    case = _Case(facts)
    order = list(Severity)
    verdicts = tuple(_verdict(case, held, one) for held, one in case.everything)
    return Explanation(
        asked=facts.asked,
        service=case.services[0] if case.services else None,
        instance_id=facts.asked if case.is_id else None,
        policy=case.selection.policy,
        narrowed=words(cast("Query", facts.query)),
        agent=AskedAgent(
            address=facts.address, version=facts.version, leader="" if facts.has_leader else "none", registry="etcd"
        ),
        instances=verdicts,
        findings=tuple(sorted(_findings(case), key=lambda finding: order.index(finding.severity))),
        is_discoverable=any(one.is_discoverable for one in verdicts),
    )


def _verdict(case: _Case, held: HeldKey, one: ServiceInstance) -> InstanceVerdict:
    is_chosen = bool(case.selection.of_these([one]))
    return InstanceVerdict(
        id=one.id,
        service=one.service,
        node="",
        key=held.key,
        host=one.host,
        port=one.port,
        address_origin=AddressOrigin.SERVICE if one.host else AddressOrigin.NONE,
        port_origin=_port_origin(one),
        tags=one.tags,
        status=one.status,
        weight=one.weight,
        admitted_by=tuple(policy for policy in HealthPolicy if admits(policy, one.standing)),
        excluded_by=tuple(_excluded(case, one)),
        is_discoverable=is_chosen and one.is_callable,
    )


def _port_origin(one: ServiceInstance) -> PortOrigin:
    if not one.port:
        return PortOrigin.NONE
    return PortOrigin.SERVICE if one.service_port else PortOrigin.NAMED


def _excluded(case: _Case, one: ServiceInstance) -> Iterator[str]:
    if not case.selection.fits(one):
        yield _misfit(case, one)
    if not admits(case.selection.policy, one.standing):
        yield f"it is {one.status}"
    if not one.host:
        yield "it has no address that can be called"
    if not one.port:
        yield "it has no port"


def _misfit(case: _Case, one: ServiceInstance) -> str:
    missing = lacking(sorted(case.selection.tags), one.tags)
    if missing:
        return missing
    key, value = min(case.selection.meta - one.meta.items())
    held = one.meta.get(key)
    return f"its meta has no {key!r}" if held is None else f"its meta {key!r} is {held!r}, not {value!r}"


# --- what there is to say -----------------------------------------------------------------------------------


def _findings(case: _Case) -> Iterator[Finding]:
    yield from _way(case)
    yield from _existence(case)
    for held, one in case.everything:
        yield from _of_instance(case, held, one)
    yield from _duplicates(case)


def _way(case: _Case) -> Iterator[Finding]:
    error = case.facts.held
    if isinstance(error, ConsulAccessError):
        code, text = next((code, text) for kind, code, text in _FAILURES if isinstance(error, kind))
        said = f"{error.address}: {error.message}" if error.address else error.message
        yield Finding(code=code, severity=Severity.ERROR, text=f"{text}: {said}", remedy=error.advice)
    elif not case.facts.has_leader:
        _, code, text = _FAILURES[0]
        yield Finding(code=code, severity=Severity.ERROR, text=text, remedy="Elections take seconds; are enough up?")


def _existence(case: _Case) -> Iterator[Finding]:
    facts = case.facts
    if isinstance(facts.held, ConsulAccessError):
        return
    for held in case.concerned:
        if held.instance is not None:
            continue
        yield Finding(
            code=FindingCode.UNUSABLE_ENTRIES,
            severity=Severity.ERROR,
            text=f"{held.id} is left out of every list: {held.trouble}",
            remedy="Was it written by hand, by a later version, or with another codec=? Write it anew, or delete it.",
            instance=held.id,
        )
    if not case.concerned:
        yield _unknown(case)
    elif case.is_id:
        named = " and ".join(map(repr, case.services))
        yield Finding(
            code=FindingCode.IS_AN_ID,
            severity=Severity.INFO,
            text=f"{facts.asked!r} is the id of an instance of {named}",
            remedy=f"Look-ups take the service's name: instances({case.services[0]!r}).",
            instance=facts.asked,
        )


def _unknown(case: _Case) -> Finding:
    asked, names = case.facts.asked, case.names
    other_case = next((name for name in sorted(names) if name.casefold() == asked.casefold()), None)
    if other_case is not None:
        return Finding(
            code=FindingCode.OTHER_CASE,
            severity=Severity.ERROR,
            text=f"{asked!r} is registered as {other_case!r}; at etcd, look-ups mind the case",
            remedy=f"Write {other_case!r}.",
        )
    similar = similar_names(asked, names | case.ids)
    there = f"There is {' and '.join(map(repr, similar))}. " if similar else ""
    return Finding(
        code=FindingCode.UNKNOWN_SERVICE,
        severity=Severity.ERROR,
        text=f"below {case.facts.prefix} there is no service or instance {asked!r}, among {len(names)} services",
        remedy=f"{there}Is it registered at this cluster, under exactly this name, with this prefix= and codec=, and "
        "is its process alive? A key ends with its lease.",
    )


def _of_instance(case: _Case, held: HeldKey, one: ServiceInstance) -> Iterator[Finding]:
    def say(code: FindingCode, severity: Severity, text: str, remedy: str) -> Finding:
        return Finding(code=code, severity=severity, text=f"{one.id} {text}", remedy=remedy, instance=one.id)

    if not case.selection.fits(one):
        text = f"is left out by the look-up's own options: {_misfit(case, one)}"
        yield say(FindingCode.EXCLUDED_BY_QUERY, Severity.ERROR, text, OTHER_OPTIONS)
    if one.status in _STATES:
        code, text, remedy = _STATES[one.status]
        is_in_the_way = not admits(case.selection.policy, one.standing)
        yield say(code, Severity.ERROR if is_in_the_way else Severity.WARNING, text, remedy)
    if held.lease is None:
        text = f"is under no lease: {held.key} stays when its process is gone"
        yield say(FindingCode.NO_LEASE, Severity.WARNING, text, "Delete it, if nobody looks after it by other means.")
    yield from (say(*told) for told in _place(one))
    if one.weight == 0 and one.status in {CheckStatus.PASSING, CheckStatus.WARNING}:
        remedy = "Register it with weights= above 0."
        yield say(FindingCode.WEIGHT_ZERO, Severity.WARNING, weightless(one.status), remedy)


def _place(one: ServiceInstance) -> Iterator[tuple[FindingCode, Severity, str, str]]:
    if not one.host:
        yield FindingCode.NO_ADDRESS, Severity.ERROR, "has no address that can be called", GIVE_ADDRESS
    elif is_loopback(one.host):
        yield FindingCode.LOOPBACK_ADDRESS, Severity.WARNING, leads_home(one.host), GIVE_ADDRESS
    if not one.port:
        yield FindingCode.NO_PORT, Severity.ERROR, NO_PORT, GIVE_PORT


def _duplicates(case: _Case) -> Iterator[Finding]:
    callable_ones = [one for _, one in case.everything if one.is_callable]
    for (_, address), ones in grouped(callable_ones, lambda one: (one.service, one.address)).items():
        if len(ones) > 1:
            yield Finding(
                code=FindingCode.DUPLICATE_ADDRESS,
                severity=Severity.WARNING,
                text=f"{address} is registered {len(ones)} times, as {some(one.id for one in ones)}: it gets as many "
                "shares of the calls",
                remedy="Mostly ids that change at each start: give a fixed id=. Old keys end with their leases.",
            )

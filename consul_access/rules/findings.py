"""What is to be said about a service that is, or is not, found. Each function looks at one side of the case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from consul_access.errors import (
    ConnectFailed,
    ConnectionLost,
    ConsulAccessError,
    DeadlineExceeded,
    FilterError,
    NoLeader,
    PermissionDenied,
    TokenUnknown,
    UnknownDatacenter,
)
from consul_access.models.address import Address
from consul_access.models.explanation import Finding, FindingCode, Severity
from consul_access.models.status import CheckStatus, HealthPolicy
from consul_access.rules.filtering import admits
from consul_access.rules.seeing import excerpt, similar_names
from consul_access.rules.telling import (
    GIVE_ADDRESS,
    GIVE_PORT,
    NO_PORT,
    OTHER_OPTIONS,
    grouped,
    is_loopback,
    leads_home,
    some,
    weightless,
)

if TYPE_CHECKING:
    from consul_access.models.catalog import AgentService, Check, HealthEntry, Service
    from consul_access.rules.facts import Case

__all__ = ["findings"]

SERF: Final = "serfHealth"
"""The check by which the other agents say that an agent is alive."""


def findings(case: Case) -> Iterator[Finding]:
    """Everything there is to say, in the order of the way from the agent to the address."""
    yield from _way(case)
    yield from _identity(case)
    yield from _existence(case)
    yield from _agreement(case)
    for entry in case.entries:
        if not case.fits(entry):
            yield _of(
                entry,
                FindingCode.EXCLUDED_BY_QUERY,
                Severity.ERROR,
                f"{entry.service.id} is left out by the look-up's own options: {case.misfit(entry)}",
                OTHER_OPTIONS,
            )
        yield from _health(case, entry)
        yield from _place(entry)
        yield from _weight(case, entry)
    yield from _duplicates(case)


def _of(entry: HealthEntry, code: FindingCode, severity: Severity, text: str, remedy: str = "") -> Finding:
    return Finding(
        code=code, severity=severity, text=text, remedy=remedy, instance=entry.service.id, node=entry.node.name
    )


# --- the way there ----------------------------------------------------------------------------------------

_FAILURES: Final = (
    ((ConnectFailed, ConnectionLost, DeadlineExceeded), FindingCode.AGENT_UNREACHABLE, "the agent does not answer"),
    (NoLeader, FindingCode.NO_LEADER, "the servers have no leader: look-ups fail, and registrations are not handed on"),
    (TokenUnknown, FindingCode.TOKEN_UNKNOWN, "the servers do not know the token"),
    (PermissionDenied, FindingCode.PERMISSION_DENIED, "the token may not read {operations}"),
    (UnknownDatacenter, FindingCode.UNKNOWN_DATACENTER, "the servers know no such datacenter"),
    (FilterError, FindingCode.FILTER_REFUSED, "the filter is refused, so every look-up with it fails"),
    (ConsulAccessError, FindingCode.NOT_ANSWERED, "no usable answer from {operations}"),
)


def _way(case: Case) -> Iterator[Finding]:
    """What stood in the way of finding out, each kind once."""
    failures = case.facts.failures()
    if case.facts.leader == "" and not any(isinstance(error, NoLeader) for error in failures):
        failures.append(NoLeader("the servers name no leader", operation="status.leader", address=case.facts.address))
    answers = not isinstance(case.facts.agent, ConnectFailed | ConnectionLost | DeadlineExceeded)
    for (code, text), errors in grouped(failures, lambda error: _failure(error, agent_answers=answers)).items():
        first = errors[0]
        operations = ", ".join(dict.fromkeys(error.operation for error in errors if error.operation))
        said = f"{first.address}: " if first.address else ""
        said += first.message + (f" ({excerpt(first.excerpt)})" if first.excerpt else "")
        mild = code in {FindingCode.PERMISSION_DENIED, FindingCode.NOT_ANSWERED} and case.facts.found not in errors
        yield Finding(
            code=code,
            severity=Severity.WARNING if mild else Severity.ERROR,
            text=f"{text.format(operations=operations)}: {said}",
            remedy=first.advice,
        )


def _failure(error: ConsulAccessError, *, agent_answers: bool) -> tuple[FindingCode, str]:
    if agent_answers and isinstance(error, DeadlineExceeded):
        return FindingCode.NOT_ANSWERED, "the agent answers, and the servers behind it do not answer {operations}"
    return next((code, text) for kind, code, text in _FAILURES if isinstance(error, kind))


# --- whether it is there ----------------------------------------------------------------------------------


def _identity(case: Case) -> Iterator[Finding]:
    facts = case.facts
    if facts.instance_id is not None:
        yield Finding(
            code=FindingCode.IS_AN_ID,
            severity=Severity.INFO,
            text=f"{facts.asked!r} is the id of an instance; its service is {facts.service!r}",
            remedy=f"Look-ups take the service's name: instances({facts.service!r}).",
            instance=facts.instance_id,
        )
        return
    if facts.service not in {None, facts.asked}:
        yield Finding(
            code=FindingCode.OTHER_CASE,
            severity=Severity.INFO,
            text=f"{facts.asked!r} is registered as {facts.service!r}; look-ups do not mind, comparisons of names do",
            remedy=f"Write {facts.service!r}.",
        )
    namesake = None if isinstance(facts.local, ConsulAccessError) else facts.local.get(facts.asked)
    if namesake is not None and namesake.name != facts.asked:
        yield Finding(
            code=FindingCode.ALSO_AN_ID,
            severity=Severity.INFO,
            text=f"{facts.asked!r} is also the id of an instance of {namesake.name!r}; this page is about the service",
            instance=namesake.id,
        )


def _existence(case: Case) -> Iterator[Finding]:
    entries = case.facts.entries
    if isinstance(entries, ConsulAccessError):
        return
    if entries.rejected:
        yield Finding(
            code=FindingCode.UNUSABLE_ENTRIES,
            severity=Severity.ERROR,
            text=f"{entries.rejected} further instances cannot be used: an impossible address or port",
            remedy="Agents store whatever they are told; the log says what is wrong. Register them correctly.",
        )
    if case.entries:
        return
    veil, is_certain = case.veil()
    if not is_certain and not case.only_local:
        yield _unknown(case)
    # What an agent shows to a token would be in that token's list of names, if the catalog had it.
    if is_certain or (veil and not case.only_local):
        yield Finding(
            code=FindingCode.HIDDEN_BY_ACL,
            severity=Severity.ERROR if is_certain else Severity.WARNING,
            text=f"nothing is seen of {case.facts.asked!r}: {veil}",
            remedy="Give a token with service:read for the service and node:read for its nodes.",
        )


def _unknown(case: Case) -> Finding:
    asked, searched = case.facts.asked, case.facts.searched
    ids = [] if isinstance(case.facts.local, ConsulAccessError) else list(case.facts.local)
    similar = similar_names(asked, {*case.names, *ids})
    there = ""
    if similar:
        there = f"There is {' and '.join(map(repr, similar))}. "
    elif case.names:
        there = f"There are {some(sorted(case.names))}. "
    return Finding(
        code=FindingCode.UNKNOWN_SERVICE,
        severity=Severity.ERROR,
        text=f"the catalog shows no service {asked!r}"
        + (f", and in {searched} services no instance of that id" if searched else ""),
        remedy=f"{there}Is it registered, at an agent of this datacenter, under exactly this name?",
    )


# --- whether agent and catalog hold the same --------------------------------------------------------------


def _agreement(case: Case) -> Iterator[Finding]:
    if isinstance(case.facts.entries, ConsulAccessError):
        return
    if case.only_local and not case.veil()[1]:
        yield from _not_in_catalog(case)
    for entry in case.entries:
        held = (case.local or {}).get(entry.service.id) if entry.node.name == case.node_name else None
        if held is not None:
            yield from _differences(entry, held)
        elif case.at_agent(entry) is False:
            yield _of(
                entry,
                FindingCode.NOT_AT_AGENT,
                Severity.WARNING,
                f"the catalog lists {entry.service.id} at {entry.node.name}, whose agent does not hold it",
                "The agent removes it at its next comparison, within minutes. If it was registered through the catalog "
                "API, use a node name that no agent has.",
            )


def _not_in_catalog(case: Case) -> Iterator[Finding]:
    owner = case.reserved_by()
    if owner:
        yield Finding(
            code=FindingCode.NODE_NAME_RESERVED,
            severity=Severity.ERROR,
            text=f"the catalog holds node name {case.node_name!r} for another agent (node id {owner}), so it takes "
            "over nothing that is registered at this one",
            remedy="An agent that was restarted without its data has a new id: keep its data folder, or wait until the "
            "old one counts as failed and is removed (consul force-leave).",
            node=case.node_name,
        )
    for service in case.only_local:
        yield Finding(
            code=FindingCode.NOT_IN_CATALOG,
            severity=Severity.ERROR,
            text=f"the agent holds {service.id}, and the catalog does not show it",
            remedy="The name of the agent's node is taken, as said."
            if owner
            else "The agent hands it on within seconds, if it reaches the servers and its token may write the service "
            "(service:write) and its node; the agent's log says why not.",
            instance=service.id,
            node=case.node_name,
        )


def _differences(entry: HealthEntry, held: AgentService) -> Iterator[Finding]:
    listed: Service = entry.service
    pairs = (
        ("address", listed.address, held.address),
        ("port", listed.port, held.port),
        ("tags", sorted(listed.tags), sorted(held.tags)),
        ("meta", listed.meta, held.meta),
    )
    for what, in_catalog, at_agent in pairs:
        if in_catalog != at_agent:
            yield _of(
                entry,
                FindingCode.DIFFERS,
                Severity.WARNING,
                f"{held.id}: {what} is {in_catalog!r} in the catalog and {at_agent!r} at its agent",
                "The agent hands its own on within minutes, unless enable_tag_override lets others change the tags.",
            )


# --- its health -------------------------------------------------------------------------------------------

_HEALTH_REMEDIES: Final = {
    FindingCode.SERVICE_MAINTENANCE: "End it with maintenance({id!r}, False), at the agent of node {node}.",
    FindingCode.NODE_MAINTENANCE: "End it with node_maintenance(False), at the agent of node {node}.",
    FindingCode.NODE_FAILED: "Is the agent gone, or its machine? If it is for good: consul force-leave {node}.",
    FindingCode.TTL_EXPIRED: "Is the process alive, and does it report to the agent that it registered at?",
    FindingCode.NEVER_CHECKED: "TTL checks pass when they are first reported, others at their first run.",
    FindingCode.CHECK_WARNING: "policy='passing_or_warning' finds it in this state, as Consul's DNS does.",
    FindingCode.CHECK_CRITICAL: "The output is what the checker saw, from the agent of node {node}.",
}


def _health(case: Case, entry: HealthEntry) -> Iterator[Finding]:
    for check in entry.checks:
        if check.effective_status is not CheckStatus.PASSING:
            yield _trouble(case.policy, entry, check)
    if not any(check.is_own for check in entry.checks):
        yield _of(
            entry,
            FindingCode.NO_CHECKS,
            Severity.INFO,
            f"{entry.service.id} has no check of its own: it passes for as long as its node does",
            "Register it with a check, so that it is left out when it no longer works.",
        )
    if not any(check.id == SERF for check in entry.checks):
        yield Finding(
            code=FindingCode.NO_AGENT,
            severity=Severity.INFO,
            text=f"node {entry.node.name} has no agent: what is said of it changes only when somebody writes it",
            node=entry.node.name,
        )


def _trouble(policy: HealthPolicy, entry: HealthEntry, check: Check) -> Finding:
    code = _check_code(check)
    node = f"node {entry.node.name}"
    where = f"check {check.name or check.id!r} of {entry.service.id if check.is_own else node}"
    said = excerpt(check.output)
    reason = excerpt(check.notes) or "no reason given"
    texts = {
        FindingCode.SERVICE_MAINTENANCE: f"{entry.service.id} is in maintenance: {reason}",
        FindingCode.NODE_MAINTENANCE: f"{node} is in maintenance: {reason}",
        FindingCode.NODE_FAILED: f"the agent of {node} does not answer the other agents: {said}",
        FindingCode.TTL_EXPIRED: f"{where} has not been reported in time: {said}",
        FindingCode.NEVER_CHECKED: f"{where} is critical and has said nothing: it has probably not run yet",
    }
    return Finding(
        code=code,
        severity=Severity.ERROR if _is_in_the_way(policy, check) else Severity.WARNING,
        text=texts.get(code) or f"{where} is {check.status}: {said or 'no output'}",
        remedy=_HEALTH_REMEDIES[code].format(id=entry.service.id, node=entry.node.name),
        instance=entry.service.id if check.is_own else "",
        node=entry.node.name,
    )


def _check_code(check: Check) -> FindingCode:
    status = check.effective_status
    if status is CheckStatus.MAINTENANCE:
        return FindingCode.SERVICE_MAINTENANCE if check.is_own else FindingCode.NODE_MAINTENANCE
    if status is CheckStatus.WARNING:
        return FindingCode.CHECK_WARNING
    if check.id == SERF:
        return FindingCode.NODE_FAILED
    if check.output.startswith("TTL expired"):
        return FindingCode.TTL_EXPIRED
    return FindingCode.CHECK_CRITICAL if check.output.strip() else FindingCode.NEVER_CHECKED


def _is_in_the_way(policy: HealthPolicy, check: Check) -> bool:
    status = check.effective_status
    match policy:
        case HealthPolicy.ANY:
            return False
        case HealthPolicy.PASSING:
            return True
        case HealthPolicy.PASSING_OR_WARNING:
            return status is not CheckStatus.WARNING
        case HealthPolicy.SERVICE_CHECKS_ONLY:
            return check.is_own or status is CheckStatus.MAINTENANCE


# --- where to call it -------------------------------------------------------------------------------------


def _place(entry: HealthEntry) -> Iterator[Finding]:
    name, host = entry.service.id, entry.host
    if not host:
        yield _of(entry, FindingCode.NO_ADDRESS, Severity.ERROR, _no_address(entry), GIVE_ADDRESS)
    elif host != entry.service.address:
        text = f"{name} has registered no address, so callers get that of node {entry.node.name}: {host}"
        yield _of(entry, FindingCode.ADDRESS_FROM_NODE, Severity.INFO, text, GIVE_ADDRESS)
    if not entry.effective_port:
        yield _of(entry, FindingCode.NO_PORT, Severity.ERROR, f"{name} {NO_PORT}", GIVE_PORT)
    if is_loopback(host) and not is_loopback(entry.node.address):
        text = f"{name} {leads_home(host)}"
        yield _of(entry, FindingCode.LOOPBACK_ADDRESS, Severity.WARNING, text, GIVE_ADDRESS)


def _no_address(entry: HealthEntry) -> str:
    source = entry.node.meta.get("external-source")
    if source:
        return (
            f"{entry.service.id} has registered no address, and node {entry.node.name} only stands for {source!r}: "
            f"its address {entry.node.address or '(none)'} leads nowhere"
        )
    return f"neither {entry.service.id} nor node {entry.node.name} has an address that can be called"


def _weight(case: Case, entry: HealthEntry) -> Iterator[Finding]:
    flat = entry.instance
    if flat.weight == 0 and flat.status in {CheckStatus.PASSING, CheckStatus.WARNING}:
        yield _of(
            entry,
            FindingCode.WEIGHT_ZERO,
            Severity.WARNING if admits(case.policy, entry.standing) else Severity.INFO,
            f"{flat.id} {weightless(flat.status)}",
            "Register it with weights=Weights(passing=..., warning=...) above 0.",
        )


def _duplicates(case: Case) -> Iterator[Finding]:
    asked = {id(entry) for entry in case.entries}
    for (host, port), entries in grouped(case.everything, lambda one: (one.host, one.effective_port)).items():
        if host and port and len(entries) > 1 and any(id(entry) in asked for entry in entries):
            names = some(f"{entry.service.id} on {entry.node.name}" for entry in entries)
            yield Finding(
                code=FindingCode.DUPLICATE_ADDRESS,
                severity=Severity.WARNING,
                text=f"{Address(host, port)} is registered {len(entries)} times, as {names}: it gets as many shares of "
                "the calls",
                remedy="Mostly ids that change at each start: give a fixed id=, and deregister the old ones.",
            )
    for service_id, entries in grouped(case.entries, lambda one: one.service.id).items():
        if len(entries) > 1:
            yield Finding(
                code=FindingCode.DUPLICATE_ID,
                severity=Severity.WARNING,
                text=f"the id {service_id} is registered on several nodes: "
                f"{some(entry.node.name for entry in entries)}",
                remedy="If that is one process, it was registered at two agents: deregister it at the one it left.",
                instance=service_id,
            )

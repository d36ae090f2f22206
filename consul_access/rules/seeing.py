"""What is seen of a service, in words: what answers, empty answers, checks and failures say. No clock, no I/O."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from consul_access.errors import (
    ConnectFailed,
    ConnectionLost,
    ConsulAccessError,
    DeadlineExceeded,
    InvalidInput,
    NoLeader,
    PermissionDenied,
    PoolExhausted,
    RateLimited,
    TokenUnknown,
)
from consul_access.models.filters import Filter
from consul_access.models.progress import Progress, ProgressKind
from consul_access.models.query import Query, policy_of
from consul_access.models.status import CheckStatus, HealthPolicy
from consul_access.rules.filtering import admits

if TYPE_CHECKING:
    from consul_access.models.catalog import Check, HealthEntry
    from consul_access.models.instance import ServiceInstance
    from consul_access.rules.selecting import Selection

__all__ = [
    "Surroundings",
    "Wanted",
    "excerpt",
    "failed",
    "hidden",
    "scope_of",
    "seen",
    "seen_instances",
    "similar_names",
    "troubles",
    "wanted_of",
    "wants_outputs",
    "with_outputs",
    "words",
]

TOLD: Final = 3
"""So many reasons are told at most; the others are counted."""
EXCERPT: Final = 160
"""Of a check's output so many characters are told."""

_KINDS: Final = (
    (TokenUnknown, ProgressKind.TOKEN_UNKNOWN),
    (PermissionDenied, ProgressKind.PERMISSION_DENIED),
    (NoLeader, ProgressKind.NO_LEADER),
    ((RateLimited, PoolExhausted), ProgressKind.BUSY),
    ((ConnectFailed, ConnectionLost, DeadlineExceeded), ProgressKind.AGENT_UNREACHABLE),
)
_SCOPE: Final = ("datacenter", "namespace", "partition", "consistency")
_NARROWING: Final = ("tags", "meta", "filter", "node_meta")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is waited for.

    Args:
        service: its name.
        at_least: how many instances.
        policy: which of them are good enough.
        narrowed: the options that leave instances out whatever their health, as text; empty for none.
    """

    service: str
    at_least: int = 1
    policy: HealthPolicy = HealthPolicy.PASSING
    narrowed: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else was found out when an answer was empty.

    Args:
        registered: how many instances there are without the narrowing options.
        names: the names of all services that the token may see; None when they could not be read.
        acls: whether access is controlled; None when that could not be found out.
        default_policy: `allow` or `deny`, as far as the agent tells.
        filtered: whether the agent says that it left something out.
    """

    registered: int = 0
    names: frozenset[str] | None = None
    acls: bool | None = None
    default_policy: str | None = None
    filtered: bool | None = None


def wanted_of(services: Mapping[str, int] | Iterable[str], query: Query) -> tuple[Wanted, ...]:
    """What is waited for.

    Args:
        services: the names, or how many instances of each.
        query: the options of the look-up.

    Raises:
        InvalidInput: there is none, a number is none, or an option is in the way.
    """
    for option in ("index", "wait"):
        if option in query:
            raise InvalidInput(f"{option}= is chosen by the waiting itself; leave it out")
    if isinstance(services, str):
        raise InvalidInput(f"services={services!r} must be a list of names, or names with numbers of instances")
    numbers = dict(services) if isinstance(services, Mapping) else dict.fromkeys(services, 1)
    if not numbers:
        raise InvalidInput("there is nothing to wait for: name at least one service")
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InvalidInput(f"at_least={number!r} of {name!r} cannot be waited for: write 1 or more")
    policy = policy_of(query) or HealthPolicy.PASSING
    narrowed = words(query)
    return tuple(Wanted(name, number, policy, narrowed) for name, number in numbers.items())


def scope_of(query: Query) -> Query:
    """The options that say where to look, and not for what."""
    return cast("Query", {option: value for option, value in query.items() if option in _SCOPE})


def words(query: Query) -> str:
    """The options that leave instances out whatever their health, as they were written."""
    given = ((option, value) for option, value in query.items() if option in _NARROWING)
    return ", ".join(
        f"{option}={str(value) if isinstance(value, Filter) else repr(value)}"
        for option, value in given
        if isinstance(value, Filter) or value
    )


def seen(wanted: Wanted, entries: Sequence[HealthEntry], around: Surroundings | None = None) -> Progress:
    """What an answer says.

    Args:
        wanted: what is waited for.
        entries: the instances in any state that fit the narrowing options.
        around: what else was found out, if there are none.
    """
    if not entries:
        return _nothing(wanted, around or Surroundings())
    refused = [entry for entry in entries if not admits(wanted.policy, entry.standing)]
    found = len(entries) - len(refused)
    ready = found >= wanted.at_least
    reasons = () if ready else _shortened([trouble for entry in refused for trouble in troubles(entry, wanted.policy)])
    kind = ProgressKind.READY if ready else ProgressKind.TOO_FEW
    return _progress(wanted, kind, reasons, found=found, registered=len(entries))


def seen_instances(
    wanted: Wanted, registered: Sequence[ServiceInstance], selection: Selection, names: Iterable[str] = ()
) -> Progress:
    """What a list of instances says, where the registry has no checks to read.

    Args:
        wanted: what is waited for.
        registered: the instances in any state.
        selection: which of them are good enough.
        names: the names of all services, if there are no instances.
    """
    if not registered:
        return _nothing(wanted, Surroundings(names=frozenset(names)))
    fitting = [one for one in registered if selection.fits(one)]
    if not fitting:
        return _nothing(wanted, Surroundings(registered=len(registered)))
    found = len(selection.of_these(fitting))
    ready = found >= wanted.at_least
    refused = [one for one in fitting if not admits(wanted.policy, one.standing)]
    reasons = () if ready else _shortened([f"{one.id} is {one.status}" for one in refused])
    kind = ProgressKind.READY if ready else ProgressKind.TOO_FEW
    return _progress(wanted, kind, reasons, found=found, registered=len(fitting))


def _nothing(wanted: Wanted, around: Surroundings) -> Progress:
    if around.registered:
        missed = (f"nothing fits {wanted.narrowed}",)
        return _progress(wanted, ProgressKind.NO_MATCH, missed, registered=around.registered)
    similar = similar_names(wanted.service, around.names or ())
    there = (f"there is {' and '.join(map(repr, similar))}",) if similar else ()
    reason, is_certain = hidden(wanted.service, around)
    if is_certain:
        return _progress(wanted, ProgressKind.HIDDEN, (reason,))
    if reason:
        return _progress(wanted, ProgressKind.MAYBE_HIDDEN, (reason, *there))
    return _progress(wanted, ProgressKind.UNKNOWN_SERVICE, there, registered=0)


def hidden(service: str, around: Surroundings) -> tuple[str, bool]:
    """Why nothing may be seen although there is something, and whether that is certain; an empty text if it is not so.

    Look-ups need service:read and node:read; the list of names needs the former alone (observed, Consul 1.8).
    """
    if around.filtered:
        return "the agent left out instances that the token may not see (service:read, node:read)", True
    is_controlled = around.acls or around.default_policy == "deny"
    if is_controlled and service in (around.names or ()):
        return "the token may see the service and not the nodes it runs on (node:read)", True
    if not is_controlled or around.default_policy == "allow":
        return "", False
    return "access is controlled here, and the token sees no such service (service:read, node:read)", False


def troubles(entry: HealthEntry, policy: HealthPolicy) -> list[str]:
    """Why the policy does not admit this instance: its checks that are in the way, the worst first."""
    if admits(policy, entry.standing):
        return []
    tolerated = {CheckStatus.PASSING}
    if policy is HealthPolicy.PASSING_OR_WARNING:
        tolerated.add(CheckStatus.WARNING)
    counted = [
        check
        for check in entry.checks
        if policy is not HealthPolicy.SERVICE_CHECKS_ONLY
        or check.is_own
        or check.effective_status is CheckStatus.MAINTENANCE
    ]
    in_the_way = [check for check in counted if check.effective_status not in tolerated]
    order = [CheckStatus.MAINTENANCE, CheckStatus.CRITICAL, CheckStatus.WARNING]
    return [
        _trouble(entry, check) for check in sorted(in_the_way, key=lambda check: order.index(check.effective_status))
    ]


def _trouble(entry: HealthEntry, check: Check) -> str:
    where = entry.service.id if check.is_own else f"node {entry.node.name}"
    if check.effective_status is CheckStatus.MAINTENANCE:
        return f"{where} is in maintenance" + (f": {excerpt(check.notes)}" if check.notes else "")
    output = excerpt(check.output) or "it has said nothing yet"
    return f"check {check.name or check.id!r} of {where} is {check.effective_status}: {output}"


def wants_outputs(wanted: Wanted, entries: Sequence[HealthEntry]) -> bool:
    """Whether checks are in the way whose output the catalog does not hold."""
    refused = [entry for entry in entries if not admits(wanted.policy, entry.standing)]
    if len(entries) - len(refused) >= wanted.at_least:
        return False
    return any(
        check.effective_status is CheckStatus.CRITICAL and not check.output
        for entry in refused
        for check in entry.checks
    )


def with_outputs(entries: Iterable[HealthEntry], checks: Iterable[Check]) -> list[HealthEntry]:
    """The same entries with the outputs that their agent knows.

    An output that changes while the status stays reaches the catalog up to five minutes late (check_update_interval),
    so that a check which fails from its first run on has no output there for a long time.
    """
    known = {(check.node, check.id): check.output for check in checks}
    return [
        entry.model_copy(
            update={
                "checks": tuple(
                    check.model_copy(update={"output": known.get((entry.node.name, check.id), check.output)})
                    for check in entry.checks
                )
            }
        )
        for entry in entries
    ]


def excerpt(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"


def _shortened(reasons: list[str]) -> tuple[str, ...]:
    distinct = list(dict.fromkeys(reasons))
    if len(distinct) <= TOLD:
        return tuple(distinct)
    return (*distinct[:TOLD], f"and {len(distinct) - TOLD} more")


def similar_names(name: str, names: Iterable[str]) -> list[str]:
    """At most three of the names that this one may be a misspelling of."""
    by_folded = {other.casefold(): other for other in sorted(names) if other != name}
    return [by_folded[match] for match in difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.7)]


def failed(wanted: Wanted, error: ConsulAccessError, before: Progress | None = None) -> Progress:
    """What a failure says.

    Args:
        wanted: what is waited for.
        error: what the look-up ended with.
        before: what was known before.
    """
    kind = next((kind for errors, kind in _KINDS if isinstance(error, errors)), ProgressKind.FAILED)
    where = f"{error.address}: " if error.address else ""
    text = excerpt(error.excerpt) if error.excerpt else ""
    registered = before.registered if before is not None else None
    reason = f"{where}{error.message}" + (f" ({text})" if text else "")
    return _progress(wanted, kind, (reason,), registered=registered)


def _progress(
    wanted: Wanted, kind: ProgressKind, reasons: tuple[str, ...] = (), *, found: int = 0, registered: int | None = None
) -> Progress:
    return Progress(wanted.service, kind, wanted.at_least, found, registered, wanted.policy, reasons)

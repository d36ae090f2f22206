"""What an answer, an empty answer or a failure says to somebody who waits for a service. No clock, no I/O."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from consul_access.errors import (
    AnswerTooLarge,
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    ConsulAccessError,
    DeadlineExceeded,
    FeatureDisabled,
    FilterError,
    InvalidInput,
    InvalidRequest,
    NoLeader,
    NotReady,
    PermissionDenied,
    PoolExhausted,
    RateLimited,
    RequestRefused,
    TlsError,
    TokenUnknown,
)
from consul_access.models.filters import Filter
from consul_access.models.progress import Progress, ProgressKind
from consul_access.models.query import Query, policy_of
from consul_access.models.status import CheckStatus, HealthPolicy
from consul_access.rules.blocking import Ask, BlockingQuery, silence_allowed
from consul_access.rules.filtering import admits

if TYPE_CHECKING:
    from consul_access.models.catalog import Check, HealthEntry

__all__ = [
    "Surroundings",
    "Turn",
    "Waiting",
    "Wanted",
    "excerpt",
    "failed",
    "hidden",
    "is_hopeless",
    "not_ready",
    "scope_of",
    "seen",
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
WAIT: Final = 10.0
"""Seconds that the server waits for a change: short enough to notice a frozen agent, or new rights, in good time."""
TURN: Final = 2.0
"""Seconds that it waits when there is a reason to ask again soon."""
LONGEST_PAUSE: Final = 2.5
"""Seconds between two requests at most, since somebody is waiting; four in five seconds are allowed."""
FRESH: Final = 1.0
"""Seconds for which an answer is believed while other services are still waited for."""

_HOPELESS: Final = (
    AnswerTooLarge,
    ClientClosed,
    FeatureDisabled,
    FilterError,
    InvalidInput,
    InvalidRequest,
    TlsError,
)
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


def is_hopeless(error: ConsulAccessError) -> bool:
    """Whether waiting cannot help: the question itself is wrong, or the client cannot ask it.

    A token that is refused may become known, an agent that is away may come back, a datacenter may join.
    """
    return isinstance(error, _HOPELESS)


def not_ready(progress: Sequence[Progress], elapsed: float, cause: ConsulAccessError | None) -> NotReady:
    """The error when the time is up.

    Args:
        progress: what was seen last of each service.
        elapsed: seconds since the beginning.
        cause: what the last look-up failed with, if it did.
    """
    missing = [one for one in progress if not one.is_ready]
    names = ", ".join(repr(one.service) for one in missing)
    seen_last = " | ".join(one.text if len(missing) == 1 else str(one) for one in missing)
    error = NotReady(
        f"{names} not ready after {elapsed:.1f} s: {seen_last}",
        progress=tuple(progress),
        operation="wait_for",
        address=cause.address if cause is not None else None,
        elapsed=elapsed,
    )
    error.__cause__ = cause
    return error


def _progress(
    wanted: Wanted, kind: ProgressKind, reasons: tuple[str, ...] = (), *, found: int = 0, registered: int | None = None
) -> Progress:
    return Progress(wanted.service, kind, wanted.at_least, found, registered, wanted.policy, reasons)


@dataclass(frozen=True, slots=True)
class Turn:
    """What to ask next.

    Args:
        wanted: about which service.
        due: when; the monotonic time.
    """

    wanted: Wanted
    due: float


class _Course:
    """How far one service is."""

    __slots__ = ("answered_at", "asked_at", "due", "entries", "progress", "query", "wanted")

    def __init__(self, wanted: Wanted, query: BlockingQuery) -> None:
        self.wanted = wanted
        self.query = query
        self.due = query.due
        self.progress = Progress(wanted.service, wanted=wanted.at_least, policy=wanted.policy)
        self.entries: Sequence[HealthEntry] | None = None
        self.asked_at = self.answered_at = float("-inf")


class Waiting:
    """One wait, for one service or several.

    They are asked about in turn, one after the other: as all of them have to be there, looking at one that is missing
    loses no time for the others. When the last one is ready, those that were ready long before are looked at again.

    Args:
        wanted: what is waited for.
        spread: a random number between two others.
        now: the monotonic time.
        deadline: when it is over.
    """

    def __init__(
        self, wanted: Iterable[Wanted], *, spread: Callable[[float, float], float], now: float, deadline: float
    ) -> None:
        self.deadline = deadline
        self._spread = spread
        self._began = now
        self._courses = {one.service: _Course(one, self._query(now)) for one in wanted}
        self._unconfirmed: set[str] | None = None
        self._cause: ConsulAccessError | None = None

    @property
    def progress(self) -> tuple[Progress, ...]:
        """What was seen last of each service."""
        return tuple(course.progress for course in self._courses.values())

    def next(self, now: float) -> Turn | None:
        """Whom to ask about next; None when all are ready, and were so a moment ago."""
        missing = [course for course in self._courses.values() if not course.progress.is_ready]
        if missing:
            self._unconfirmed = None
        else:
            missing = self._to_be_confirmed(now)
        if not missing:
            return None
        course = min(missing, key=lambda one: (max(one.due, now), one.asked_at))
        return Turn(course.wanted, max(course.due, now))

    def _to_be_confirmed(self, now: float) -> list[_Course]:
        if self._unconfirmed is None:
            old = [course for course in self._courses.values() if now - course.answered_at > FRESH]
            self._unconfirmed = {course.wanted.service for course in old}
            for course in old:
                course.query, course.due = self._query(now), now
        return [self._courses[service] for service in self._unconfirmed]

    def ask(self, wanted: Wanted, now: float) -> tuple[Ask, float]:
        """What to send, and how many seconds of silence are allowed."""
        course = self._courses[wanted.service]
        course.asked_at = now
        ask = course.query.ask(now, longest=TURN if self._is_hurried(course) else WAIT)
        silence = silence_allowed(ask.wait if ask.index is not None else 0.0)
        return ask, max(0.0, min(silence, self.deadline - now))

    def _is_hurried(self, course: _Course) -> bool:
        """Whether others are missing, too, or new rights may come, by which no blocking query is woken."""
        if course.progress.kind in {ProgressKind.HIDDEN, ProgressKind.MAYBE_HIDDEN}:
            return True
        return any(not one.progress.is_ready for one in self._courses.values() if one is not course)

    def answered(
        self, wanted: Wanted, entries: Sequence[HealthEntry], around: Surroundings | None, index: int | None, now: float
    ) -> Progress | None:
        """An answer came.

        Args:
            wanted: what was asked about.
            entries: the instances in any state that fit the narrowing options.
            around: what else was found out, if there are none.
            index: the answer's.
            now: the monotonic time.

        Returns:
            The progress, if there is some to tell.
        """
        course = self._courses[wanted.service]
        changed = course.entries is None or list(course.entries) != list(entries)
        course.query.answered(index, changed=changed, now=now)
        course.entries = entries
        course.answered_at = now
        if self._unconfirmed is not None:
            self._unconfirmed.discard(wanted.service)
        self._cause = None
        return self._told(course, seen(wanted, entries, around), now)

    def failed(self, wanted: Wanted, error: ConsulAccessError, now: float) -> Progress | None:
        """There was no usable answer; the progress, if there is some to tell.

        What is cut short by the end of the wait says nothing new about the agent, unless it never answered at all.
        """
        course = self._courses[wanted.service]
        is_cut = isinstance(error, DeadlineExceeded) and now >= self.deadline
        if is_cut and course.progress.kind is not ProgressKind.ASKING:
            return None
        if isinstance(error, RequestRefused):
            course.query.refused(now)
        else:
            course.query.failed(now)
        course.entries = None
        self._cause = error
        return self._told(course, failed(wanted, error, course.progress), now)

    def over(self, now: float) -> NotReady:
        """The error when the time is up."""
        return not_ready(self.progress, now - self._began, self._cause)

    def _told(self, course: _Course, progress: Progress, now: float) -> Progress | None:
        course.due = min(course.query.due, now + LONGEST_PAUSE)
        before, course.progress = course.progress, progress
        return progress if progress != before else None

    def _query(self, now: float) -> BlockingQuery:
        return BlockingQuery(spread=self._spread, now=now, wait=WAIT)

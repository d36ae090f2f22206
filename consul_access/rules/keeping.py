"""Keeping a registration true: what to do next, when, and what an answer means. No clock, no I/O.

A registration is compared before it is written: registering again restarts its checks and their counters (observed), so
that is done only when the agent has lost it or holds another one, never on a timer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, Self

from consul_access.models.checks import TtlCheck
from consul_access.models.durations import seconds

if TYPE_CHECKING:
    from consul_access.models.catalog import Check, Service
    from consul_access.models.definition import ServiceDefinition

__all__ = ["KeeperEvent", "KeeperState", "Keeping", "Step", "beat_interval", "drift", "time_to_end"]

LOOK_EVERY: Final = 5.0
"""Seconds between two looks at the agent's own copy: a local read, answered in well under a millisecond."""
FIRST_LOOK: Final = 1.0
"""Seconds from a registration to the first look: who else wants the id is mostly starting, too."""
LONGEST_PAUSE: Final = 5.0
UNSEEN_AFTER: Final = 10.0
"""A registration that the catalog does not show for so long is reported: the agent accepted it, nobody can find it.
Servers without a quorum take 7 s for each answer, the registration's too, and the cause is to be told within 30 s."""
MOVE_EVERY: Final = 1.0
"""Seconds between two questions to others about an agent that does not answer."""
CONTEST_WINDOW: Final = 60.0
"""Registrations lost again and again within this time are made ever more slowly: somebody else wants the id."""


class KeeperState(StrEnum):
    """How a kept registration stands."""

    PENDING = "pending"
    """On its way: not accepted yet, or accepted by the agent and not yet in the catalog."""
    REGISTERED = "registered"
    """At the agent, as defined, and in the catalog."""
    RENEWING = "renewing"
    """The agent did not answer; how it stands there is not known, and it is being asked again."""
    LOST = "lost"
    """The agent has forgotten it, or holds another one; it is being registered again."""
    DRAINING = "draining"
    """Taken out of every look-up; it ends soon."""
    STOPPED = "stopped"
    """Ended."""


@dataclass(frozen=True, slots=True)
class KeeperEvent:
    """One change in a kept registration's life.

    Args:
        kind: `registered`, `visible`, `unseen`, `missed`, `recovered`, `lost`, `registered_again`, `draining`,
            `deregistered`, `handed_over` (other processes go on keeping it), or `left_behind` (it could not be
            deregistered); with several addresses also `relocated` (it goes on at another agent), `orphan_removed`
            (the copy at the former one is out of the catalog), and `wrong_agent` (the agent behind the address is not
            the one it was registered at).
        state: the state it led to.
        service_id: whose it is.
        cause: what the agent said, or what differs; empty when there is nothing to say.
    """

    kind: str
    state: KeeperState
    service_id: str
    cause: str = ""


class Step(IntEnum):
    """What a keeper does; the smaller goes first when several are due."""

    MOVE = 0
    """Asks other addresses whether the agent is gone for good."""
    REGISTER = 1
    BEAT = 2
    LOOK = 3
    CONFIRM = 4
    CLEAN = 5
    """Removes the copy at an agent that it was moved away from."""


_STEADY: Final = frozenset({Step.BEAT, Step.LOOK})
P = ParamSpec("P")


def _while_it_lasts(
    method: Callable[Concatenate[Keeping, P], list[KeeperEvent]],
) -> Callable[Concatenate[Keeping, P], list[KeeperEvent]]:
    """Once it is ending, no answer that comes late changes anything any more."""

    @wraps(method)
    def guarded(self: Keeping, /, *args: P.args, **kwargs: P.kwargs) -> list[KeeperEvent]:
        state = self.state
        if state is KeeperState.DRAINING or state is KeeperState.STOPPED:
            return []
        return method(self, *args, **kwargs)

    return guarded


class Keeping:
    """The life of one registration.

    Args:
        service_id: whose it is.
        beat: seconds between heartbeats, or None when no TTL check asks for any.
        spread: a random number between two others.
        now: the monotonic time.
        moves: whether there may be other addresses to go to when the agent stays away.

    `next` says what is due; whoever does it says how it went (`registered`, `succeeded`, `seen`, `unseen`, `gone`,
    `failed`, `stayed`, `moved`, `cleaned`) and passes on the events that come back.
    """

    def __init__(
        self,
        service_id: str,
        beat: float | None,
        *,
        spread: Callable[[float, float], float],
        now: float,
        moves: bool = False,
    ) -> None:
        self.state = KeeperState.PENDING
        self.misses = 0
        self.re_registrations = 0
        self._id = service_id
        self._beat = beat
        self._spread = spread
        self._moves = moves
        self._away_since: float | None = None
        self._due: dict[Step, float] = {Step.REGISTER: now}
        self._registered_before = False
        self._in_catalog = False
        self._looks_in_vain = 0
        self._unseen_since: float | None = None
        self._losses: list[float] = []

    def next(self, now: float) -> tuple[Step, float] | None:
        """The next step and when it is due; of those due already the most urgent. None once it is ending."""
        first: tuple[float, Step] | None = None
        for step, when in list(self._due.items()):  # a copy: another thread may be writing
            if first is None or (max(when, now), step) < first:  # whatever is due already is due now
                first = max(when, now), step
        return None if first is None else (first[1], first[0])

    @classmethod
    def ended(cls) -> Self:
        """A life that has not begun."""
        rule = cls("", None, spread=lambda low, _: low, now=0.0)
        rule.stopped()
        return rule

    @property
    def registered_before(self) -> bool:
        """Whether the agent has accepted it at least once."""
        return self._registered_before

    @property
    def is_steady(self) -> bool:
        """Whether all is well, and nothing but heartbeats and looks is to be done."""
        return self.state is KeeperState.REGISTERED and not self.misses and _STEADY.issuperset(list(self._due))

    @property
    def interval(self) -> float:
        """Seconds between heartbeats, or between looks when there are none."""
        return self._beat or LOOK_EVERY

    @_while_it_lasts
    def registered(self, now: float) -> list[KeeperEvent]:
        """The agent has accepted the registration."""
        again = self._registered_before
        self._registered_before = True
        self.re_registrations += again
        self.misses = 0
        self._away_since = None
        self._in_catalog = False
        self._looks_in_vain = 0
        self._unseen_since = now
        self.state = KeeperState.PENDING
        self._due = self._owed() | {Step.CONFIRM: now, Step.LOOK: now + self._jittered(FIRST_LOOK)}
        if self._beat is not None:
            self._due[Step.BEAT] = now
        return [self._event("registered_again" if again else "registered")]

    @_while_it_lasts
    def succeeded(self, step: Step, now: float) -> list[KeeperEvent]:
        """A heartbeat was taken, or the agent's copy is as it should be."""
        interval = self._beat if step is Step.BEAT else LOOK_EVERY
        self._due[step] = now + self._jittered(interval or LOOK_EVERY)
        return self._answered()

    @_while_it_lasts
    def seen(self) -> list[KeeperEvent]:
        """The catalog shows it."""
        self._due.pop(Step.CONFIRM, None)
        self._in_catalog = True
        self._unseen_since = None
        self.state = KeeperState.REGISTERED
        return [self._event("visible")]

    @_while_it_lasts
    def unseen(self, now: float, cause: str) -> list[KeeperEvent]:
        """The catalog does not show it yet, or cannot be asked."""
        self._looks_in_vain += 1
        self._due[Step.CONFIRM] = now + min(LONGEST_PAUSE, 0.05 * 2**self._looks_in_vain)
        if self._unseen_since is None or now - self._unseen_since < UNSEEN_AFTER:
            return []
        self._unseen_since = None  # it is said once
        return [self._event("unseen", cause)]

    @_while_it_lasts
    def gone(self, now: float, cause: str) -> list[KeeperEvent]:
        """The agent has forgotten it, or holds something else under its id."""
        self._losses = [when for when in self._losses if now - when < CONTEST_WINDOW]
        contested = len(self._losses)
        self._losses.append(now)
        pause = 0.0 if contested < 2 else self._spread(0.5, 1.0) * min(30.0, 2.0 ** (contested - 1))
        self._due = self._owed() | {Step.REGISTER: now + pause}
        self._away_since = None  # whoever says so has answered
        self.state = KeeperState.LOST
        return [self._event("lost", cause)]

    @_while_it_lasts
    def failed(self, step: Step, now: float, cause: str) -> list[KeeperEvent]:
        """No answer, or one that says nothing about the registration. It is tried again, for ever."""
        self.misses += 1
        if self._away_since is None:
            self._away_since = now
        if self._moves:
            self._due.setdefault(Step.MOVE, now + self._jittered(MOVE_EVERY))
        longest = min(LONGEST_PAUSE, self._beat or LONGEST_PAUSE)
        self._due[step] = now + self._spread(0.05, max(0.05, min(longest, 0.1 * 2.0 ** min(self.misses, 30))))
        if self.state is KeeperState.REGISTERED:  # one that nobody could find yet is still pending
            self.state = KeeperState.RENEWING
        return [self._event("missed", cause)] if self.misses == 1 else []

    def away(self, now: float) -> float:
        """Seconds since the agent was first found not to answer; 0 while it does."""
        return 0.0 if self._away_since is None else now - self._away_since

    @_while_it_lasts
    def stayed(self, now: float) -> list[KeeperEvent]:
        """The others were asked, and the agent is not gone for good, as far as they know."""
        self._due[Step.MOVE] = now + self._jittered(min(LONGEST_PAUSE, max(MOVE_EVERY, self.away(now) / 60)))
        return []

    @_while_it_lasts
    def moved(self, now: float, cause: str) -> list[KeeperEvent]:
        """The agent is gone for good; it is to be registered at another one, and the copy here is owed a removal."""
        self._due = {Step.REGISTER: now, Step.CLEAN: now + self._jittered(MOVE_EVERY)}
        self._away_since = None
        self.state = KeeperState.LOST
        return [self._event("relocated", cause)]

    def owes(self, now: float) -> None:
        """A copy was left somewhere else, without a move."""
        self._due[Step.CLEAN] = now

    @_while_it_lasts
    def cleaned(self, now: float, pause: float | None) -> list[KeeperEvent]:
        """The former agents were seen to; again after that pause, or never when nothing is owed any more."""
        if pause is None:
            self._due.pop(Step.CLEAN, None)
        else:
            self._due[Step.CLEAN] = now + self._jittered(pause)
        return []

    def told(self, kind: str, cause: str) -> KeeperEvent:
        """Something worth telling that changes nothing in the state."""
        return self._event(kind, cause)

    def draining(self) -> list[KeeperEvent]:
        """It is about to end."""
        self._due = {}
        self.state = KeeperState.DRAINING
        return [self._event("draining")]

    def stopped(self, failure: str = "") -> list[KeeperEvent]:
        """It has ended; with a failure, the agent may still hold it."""
        self._due = {}
        self.state = KeeperState.STOPPED
        return [self._event("left_behind", failure) if failure else self._event("deregistered")]

    def handed_over(self) -> list[KeeperEvent]:
        """It has ended here; other processes go on keeping it."""
        self._due = {}
        self.state = KeeperState.STOPPED
        return [self._event("handed_over")]

    def _answered(self) -> list[KeeperEvent]:
        missed, self.misses = self.misses, 0
        self._away_since = None
        self._due.pop(Step.MOVE, None)
        if self.state is KeeperState.RENEWING:
            self.state = KeeperState.REGISTERED if self._in_catalog else KeeperState.PENDING
        return [self._event("recovered")] if missed else []

    def _owed(self) -> dict[Step, float]:
        return {Step.CLEAN: self._due[Step.CLEAN]} if Step.CLEAN in self._due else {}

    def _jittered(self, interval: float) -> float:
        return interval * self._spread(0.9, 1.0)  # never later: the third beat has to be in time as well

    def _event(self, kind: str, cause: str = "") -> KeeperEvent:
        return KeeperEvent(kind, self.state, self._id, cause)


def beat_interval(definition: ServiceDefinition) -> float | None:
    """A third of the shortest TTL, so that one heartbeat and one retry may be lost; None without a TTL check."""
    lengths = [seconds(check.ttl, what="ttl") for check in definition.checks if isinstance(check, TtlCheck)]
    return min(lengths) / 3 if lengths else None


def drift(definition: ServiceDefinition, found: Service, checks: Mapping[str, Check] | None) -> str | None:
    """What the agent, or the catalog, holds differently from what was registered, or None.

    Args:
        definition: what should be there.
        found: what is there.
        checks: the checks that belong to the service, by id; None when they cannot be read.
    """
    wanted: dict[str, object] = {"name": definition.name, "address": definition.payload().get("Address", "")}
    held: dict[str, object] = {"name": found.name, "address": found.address}
    if not definition.ports:
        wanted["port"], held["port"] = definition.port or 0, found.port
    if not definition.enable_tag_override:  # others may then change them
        wanted["tags"], held["tags"] = sorted(definition.tags), sorted(found.tags)
    wanted["meta"], held["meta"] = dict(definition.meta), dict(found.meta)
    if definition.weights is not None:
        wanted["weights"], held["weights"] = definition.weights, found.weights
    for what, value in wanted.items():
        if held[what] != value:
            return f"{what} is {held[what]!r} at the agent instead of {value!r}"
    missing = set(definition.check_ids()) - set(checks) if checks is not None else ()
    return f"check {min(missing)!r} is gone, or belongs to another service" if missing else None


def time_to_end(stop_timeout: float, spent: float) -> float:
    """Seconds for deregistering, after the service was taken out of the look-ups.

    Both belong to the time to stop, so that with the drain between them all of it takes no longer than drain and
    `stop_timeout` together; but an agent that was slow in the first has half of that time left for the second.

    Args:
        stop_timeout: seconds for both.
        spent: seconds that the first took.
    """
    return max(stop_timeout - spent, stop_timeout / 2)

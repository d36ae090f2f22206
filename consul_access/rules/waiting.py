"""Waiting for services: which one to ask about next, when, and what there is to tell. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from consul_access.errors import (
    AnswerTooLarge,
    ClientClosed,
    ConsulAccessError,
    DeadlineExceeded,
    FeatureDisabled,
    FilterError,
    InvalidInput,
    InvalidRequest,
    NotReady,
    RequestRefused,
    TlsError,
)
from consul_access.models.progress import Progress, ProgressKind
from consul_access.rules.blocking import Ask, BlockingQuery, silence_allowed
from consul_access.rules.seeing import Surroundings, Wanted, failed, seen

if TYPE_CHECKING:
    from consul_access.models.catalog import HealthEntry

__all__ = ["Turn", "Waiting", "is_hopeless", "not_ready"]

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

"""Watching keys: which events are new, from where to go on after a break, and what a line of the stream calls for.

What etcd guarantees within one stream (ordered, unique, whole revisions, resumable from the last revision + 1) is
carried over its breaks: whatever line a stream ends at, the next one begins where the events handed out ended.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum
from typing import NamedTuple

from consul_access.errors import TokenUnknown, Unavailable
from consul_access.models.keys import KeyEvent
from consul_access.rules.retrying import Meaning

__all__ = ["KeyWatchState", "Step", "Then", "WatchLine", "Watching", "is_at_once", "reopening_pause"]

STEADY_SECONDS = 1.0
"""A stream that has lasted for so long may be followed by another one at once; else there is a pause, which grows."""
SHORT_OUTAGE = 30.0
"""Seconds for which a watch tries at least every second; later at least every 15 s."""


class KeyWatchState(StrEnum):
    """How a watch stands."""

    PENDING = "pending"
    """Not opened yet."""
    CONNECTED = "connected"
    """Events arrive as they happen."""
    SUSPENDED = "suspended"
    """No member can be watched at the moment; what happens meanwhile is told when one can be."""
    CLOSED = "closed"
    """Ended."""


class WatchLine(NamedTuple):
    """One line of a watch's stream.

    Args:
        revision: the store's revision when the line was made; a member that catches up may hold events back.
        watch_id: which of the stream's watches it belongs to.
        created: the watch has begun.
        canceled: the watch has ended, although the stream stays open.
        compact_revision: the oldest revision that can still be watched, when that is why it has ended.
        cancel_reason: why else.
        fragment: further lines belong to this one.
        events: in the order in which they happened.
        error: message and gRPC code with which the stream has ended.
    """

    revision: int = 0
    watch_id: int = 0
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    fragment: bool = False
    events: tuple[KeyEvent, ...] = ()
    error: tuple[str, int | None] | None = None


class Then(Enum):
    """What to do after a line."""

    GO_ON = "read on"
    REOPEN = "close the stream and open another one"
    RENEW = "get a new token, and open another stream"
    RESYNC = "read everything, and watch from there"
    DOUBT = "ask the leader whether the store has really gone back"
    FAIL = "raise the error"


class Step(NamedTuple):
    """What a line brings.

    Args:
        events: the new ones.
        then: what to do.
        meaning: what an ending line says.
        text: etcd's own words.
    """

    events: tuple[KeyEvent, ...] = ()
    then: Then = Then.GO_ON
    meaning: Meaning = Meaning(Unavailable, "the watch was canceled", applied=False)
    text: str = ""


class Watching:
    """Where the watch of one range stands.

    Args:
        meaning: what an error's message and code stand for.
        start: the first revision wanted; 0 for whatever happens from now on.
    """

    __slots__ = ("_goal", "_held", "_meaning", "_next")

    def __init__(self, meaning: Callable[[str, int | None], Meaning], start: int = 0) -> None:
        self._meaning = meaning
        self._next = start
        self._goal = 0
        self._held: list[KeyEvent] = []

    @property
    def resume_at(self) -> int:
        """The first revision that was not told of yet; 0 for now."""
        return self._next

    @property
    def opens_at(self) -> int:
        """The revision to open a stream at; 0 for now: the last one told of, so that a compaction behind it is noticed.

        Servers before 3.4.34 and 3.5.16 forget what was deleted at the very revision of a compaction, and let a watch
        begin there as if nothing were missing.
        """
        return min(self._next, max(self._next - 1, 1))

    @property
    def is_behind(self) -> bool:
        """Whether the member knew of revisions, when the watch began, that have not been told of: ours, or others'."""
        return self._next <= self._goal

    def lost(self) -> None:
        """Notes that the stream has ended; what came of an incomplete revision will come again."""
        self._held.clear()

    def restart(self, revision: int) -> None:
        """Notes that everything was read, as of this revision."""
        self._held.clear()
        self._next = revision + 1

    def take(self, line: WatchLine) -> Step:
        """What a line of this watch brings."""
        if line.error is not None:
            return self._ended(*line.error)
        if line.canceled:
            if line.compact_revision:
                return Step(then=Then.RESYNC)
            return self._ended(line.cancel_reason, None) if line.cancel_reason else Step(then=Then.REOPEN)
        if line.created:
            return self._begun(line.revision)
        if line.events:
            return Step(self._new(line))
        if not self._held:  # progress: everything up to this revision has been told
            self._next = max(self._next, line.revision + 1)
        return Step()

    def _begun(self, revision: int) -> Step:
        if not self._next:
            self._next = revision + 1
        self._goal = revision
        # A member that lags knows less than we do for a moment. A store that was restored does so for ever, and
        # would let this watch wait in silence.
        return Step(then=Then.DOUBT) if revision + 1 < self._next else Step()

    def _new(self, line: WatchLine) -> tuple[KeyEvent, ...]:
        """The events that were not handed out yet, of complete revisions only: the last of a fragment may go on."""
        self._held += (event for event in line.events if event.revision >= self._next)
        if not self._held:
            return ()
        last = self._held[-1].revision
        if line.fragment:
            done = tuple(event for event in self._held if event.revision < last)
            self._held = self._held[len(done) :]
            self._next = max(self._next, last)
        else:
            done, self._held = tuple(self._held), []
            # Not the line's own revision: a member that catches up has not told all of it.
            self._next = max(self._next, last + 1)
        return done

    def _ended(self, text: str, code: int | None) -> Step:
        meant = self._meaning(text, code)
        if issubclass(meant.error, TokenUnknown):
            return Step(then=Then.RENEW, meaning=meant, text=text)
        return Step(then=Then.REOPEN if meant.error.retryable else Then.FAIL, meaning=meant, text=text)


def is_at_once(lasted: float | None, *, is_deliberate: bool) -> bool:
    """Whether a stream that has ended is followed by another one at once; else there is a pause, which grows.

    Args:
        lasted: seconds since it was confirmed; None when it never was.
        is_deliberate: the member has ended it for a reason that says nothing against another one, such as a token.
    """
    return is_deliberate or (lasted is not None and lasted >= STEADY_SECONDS)


def reopening_pause(failures: int, down_for: float, uniform: Callable[[float, float], float]) -> float:
    """Seconds to wait before a watch is opened again: none at first, then back-off with jitter, for ever.

    Args:
        failures: how many attempts have failed in a row.
        down_for: seconds since the watch was last connected.
        uniform: a random number between two.
    """
    if failures == 0:
        return 0.0
    cap = 1.0 if down_for < SHORT_OUTAGE else 15.0
    return uniform(0.0, min(cap, 0.05 * 2 ** min(failures - 1, 10)))

"""When a blocking query is asked again, and with which index.

The rules are those of https://developer.hashicorp.com/consul/api-docs/features/blocking, and what real servers taught
beyond them: an index may be absent, stand still or go back; an answer may come at once, again and again; errors carry
an index that means nothing. Whatever the index says, there are at most four requests in five seconds unless the
answer really changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from consul_access.errors import InvalidInput

__all__ = ["Ask", "BlockingQuery", "silence_allowed"]

SHORTEST_WAIT: Final = 1.0
LEAST_PAUSE: Final = 0.1
"""Between two requests, also when every answer brings news."""
BURST: Final = 2
"""So many answers may bring news, one right after the other."""
CALM: Final = 1
"""So many answers may come early without any, before the pace is slowed down."""
CALM_REFILL: Final = 15.0
"""Seconds after which another early answer is taken calmly."""
CHURN_PAUSE: Final = 5.0
"""The index grew, so something happened that this query does not show."""
STUCK_PAUSE: Final = 15.0
"""Nothing happened at all: the server does not block."""
PATIENT_AFTER: Final = 30.0
"""Seconds of failures after which the pauses may be longer: by then it is no restart any more."""
SHORT_CAP: Final = 1.0
LONG_CAP: Final = 15.0
REFUSED_PAUSE: Final = 5.0
REFUSED_CAP: Final = 60.0
LOOK_AGAIN: Final = 4.0
ANEW_WITHIN: Final = 1.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Args:
        index: what to wait beyond; None asks for an answer at once.
        wait: seconds that the server is to wait.
        proven: the servers were not well, and may tell what was true once: the leader has to prove that it leads.
    """

    index: int | None
    wait: float
    proven: bool = False


class BlockingQuery:
    """One question that is asked again and again.

    Args:
        spread: a random number between two others.
        now: the monotonic time.
        wait: seconds for the server to wait when nothing happens; the tenth of it is left to chance, so that
            thousands of clients do not march in step.

    At `due`, `ask` says what to send; whoever sends it says how it went: `answered`, `failed` (no usable answer) or
    `refused` (400, 403: it will not help to repeat it soon). After `suspect` or `hasten` it is asked earlier.
    """

    __slots__ = (
        "_asked",
        "_asked_at",
        "_excused",
        "_failing_since",
        "_failures",
        "_news",
        "_patience",
        "_refusals",
        "_shaken",
        "_spread",
        "_wait",
        "due",
        "index",
        "odd_indexes",
    )

    def __init__(self, *, spread: Callable[[float, float], float], now: float, wait: float = 55.0) -> None:
        if not SHORTEST_WAIT <= wait <= 600.0:
            raise InvalidInput(f"wait={wait!r} is no time to wait for a change: write 1 to 600 seconds")
        self.due = now
        self.index = 0
        self.odd_indexes = 0
        self._spread = spread
        self._wait = wait
        self._asked = Ask(None, wait)
        self._asked_at = now
        self._excused = self._shaken = False
        self._news = _Bucket(BURST, LEAST_PAUSE, now)
        self._patience = _Bucket(CALM, CALM_REFILL, now)
        self._failures = self._refusals = 0
        self._failing_since = now

    def ask(self, now: float, *, longest: float = 600.0) -> Ask:
        """What to send now.

        Args:
            now: the monotonic time.
            longest: seconds that the server may wait this time, when others are waiting for their turn.
        """
        wait = max(SHORTEST_WAIT, min(self._wait * self._spread(0.9, 1.0), longest))
        self._asked = Ask(self.index or None, wait, proven=self._shaken)
        self._asked_at = now
        return self._asked

    def answered(self, index: int | None, *, changed: bool, now: float) -> None:
        """An answer came.

        Args:
            index: the one it carried; None when it carried none, or none that can be read.
            changed: whether it differs from the answer before.
            now: the monotonic time.
        """
        self._failures = self._refusals = 0
        before = self.index
        self._shaken = False
        self._follow(index)
        excused, self._excused = self._excused, False
        self.due = now
        if changed:
            if not self._news.takes(now):
                self.due = now + self._least()
                self._news.empty(self.due)
        elif not excused and (self._asked.index is None or now - self._asked_at < 0.9 * self._asked.wait):
            if self._patience.takes(now):
                self.due = now + self._least()
            else:
                self.due = now + self._spread(0.9, 1.1) * (CHURN_PAUSE if self.index > before else STUCK_PAUSE)
                self._patience.empty(self.due)

    def failed(self, now: float) -> None:
        """No usable answer came. It is tried again for ever, and begins with a plain read."""
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        self._shaken = True
        self.index = 0
        longest = SHORT_CAP if now - self._failing_since < PATIENT_AFTER else LONG_CAP
        ceiling = min(longest, 0.1 * 2.0 ** min(self._failures, 30))
        self.due = now + self._spread(min(0.05, ceiling), ceiling)

    def refused(self, now: float) -> None:
        """The server understood and said no."""
        self._refusals += 1
        self.index = 0
        ceiling = min(REFUSED_CAP, REFUSED_PAUSE * 2.0 ** min(self._refusals - 1, 10))
        self.due = now + self._spread(ceiling / 2, ceiling)

    def suspect(self, now: float) -> None:
        """The answer is not believed: look again in a few seconds, at once and not waiting for anything."""
        self.index = 0
        self.due = now + self._spread(LOOK_AGAIN / 2, LOOK_AGAIN)

    def anew(self, now: float) -> None:
        """What it waits for may never be answered: it begins with a plain read, within a second."""
        self.index = 0
        self._excused = self._shaken = True
        self.due = now + self._spread(0.0, ANEW_WITHIN)

    def hasten(self, now: float) -> None:
        """What it was refused for has changed: try at once."""
        self.due = min(self.due, now)

    @property
    def is_failing(self) -> bool:
        """Whether the last request brought nothing."""
        return bool(self._failures or self._refusals)

    def _follow(self, index: int | None) -> None:
        if index is None or index < 1:
            self.odd_indexes += 1
            self.index = 1  # always safe, says the documentation
        elif index < self.index:
            self.index = 0  # the servers were restored or exchanged, or read back what had happened: begin anew
            self._shaken = True
        else:
            self.index = index

    def _least(self) -> float:
        return self._spread(LEAST_PAUSE, LEAST_PAUSE * 1.5)


class _Bucket:
    """A few tokens, and another one every so often."""

    __slots__ = ("_every", "_filled_at", "_room", "_tokens")

    def __init__(self, room: int, every: float, now: float) -> None:
        self._room = self._tokens = float(room)
        self._every = every
        self._filled_at = now

    def takes(self, now: float) -> bool:
        """Takes one, if there is one."""
        self._tokens = min(self._room, self._tokens + max(0.0, now - self._filled_at) / self._every)
        self._filled_at = max(now, self._filled_at)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def empty(self, until: float) -> None:
        """Has it begin to fill then, and not before."""
        self._tokens, self._filled_at = 0.0, until


def silence_allowed(wait: float) -> float:
    """Seconds of silence after which an answer is not waited for any longer.

    Servers add up to a sixteenth to the wait, and take 7 s to say that they have no leader.
    """
    return max(8.0, wait * 17 / 16 + 3.0)

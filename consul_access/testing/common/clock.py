"""Time, as a fake sees it: the real one, or one that passes when it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from consul_access.errors import InvalidInput

__all__ = ["Clock", "RealClock", "SimulatedClock"]


class Clock:
    """What tells the time, in seconds from any beginning."""

    passes_by_itself = True
    """Whether waiting makes sense: the time passes without anybody's doing."""
    automatic = False
    """Whether the time jumps to the next event when somebody waits for it."""

    def now(self) -> float:
        """The time."""
        raise NotImplementedError

    def listen(self, listener: Callable[[], None]) -> None:
        """Has `listener` called whenever the time was set forward by hand."""


class RealClock(Clock):
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Seconds since some moment in the past."""
        return time.monotonic()


class SimulatedClock(Clock):
    """A clock that stands still until it is set forward.

    Args:
        automatic: a request that has to wait sets it forward itself, to the next moment at which something happens. So
            a blocking query of five minutes takes no time; for tests with one thread or task.
    """

    passes_by_itself = False

    def __init__(self, *, automatic: bool = False) -> None:
        self.automatic = automatic
        self._now = 0.0
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> float:
        """Seconds since it was made, as far as it was set forward."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Sets it forward, and lets everything happen that is due by then.

        Raises:
            InvalidInput: it would go backwards.
        """
        if not seconds >= 0:
            raise InvalidInput(f"seconds={seconds!r}: a clock goes forward")
        with self._lock:
            self._now += seconds
        for listener in tuple(self._listeners):
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Has `listener` called after every `advance`."""
        self._listeners.append(listener)

    def __repr__(self) -> str:
        return f"<SimulatedClock at {self._now:g} s>"

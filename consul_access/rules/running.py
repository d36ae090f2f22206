"""Running a program as a registered service: what follows when its port opens, a signal comes, it ends.

No clock, no I/O. The order on SIGTERM is the point of it: out of every look-up, a while in which the program still
serves, deregistered, and only then the signal for the program. Whoever sends a second one does not want to wait, and it
goes straight through.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

__all__ = ["Action", "Announce", "Finish", "Forward", "Leave", "RunState", "Running", "Say"]

ENDS: Final = frozenset(
    int(getattr(signal, name)) for name in ("SIGTERM", "SIGINT", "SIGQUIT") if hasattr(signal, name)
)
"""The signals that ask a server to end; all others (reload, reopen, resize) are none of the registry's business."""
TERMINATE: Final = int(signal.SIGTERM)
KILL: Final = 9
FAILED: Final = 125
"""The exit code for what `run` itself could not do, as with `env` and `docker run`."""
PATIENCE: Final = 10.0
"""Seconds that a program has to end when it is ended by us, and not by somebody else's signal."""
UNDER_WAY: Final = 2.0
"""Seconds that a signal waits for a registration that is just being made, so that what callers have seen is drained."""
FAREWELL: Final = 7.0
"""Seconds that an ended program is outlived by, for its deregistration: the keeper's own limit, and some room."""


class RunState(StrEnum):
    """How the program stands."""

    STARTING = "starting"
    """It runs, and its port takes no connections yet."""
    SERVING = "serving"
    """Its port takes connections; it is registered, or about to be."""
    DRAINING = "draining"
    """It leaves the registry and still serves; it has not been told to end yet."""
    ENDING = "ending"
    """It has been told to end, or has ended; what is left of it is cleared away."""
    ENDED = "ended"
    """Nothing is left."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Register it."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Deregister it; `at_once` without grace, which also cuts short a grace that has begun."""

    at_once: bool


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the program this signal."""

    number: int


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the people."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """End with this code; a negative one stands for a signal, as in `subprocess`."""

    code: int


Action: TypeAlias = Announce | Leave | Forward | Say | Finish


class Running:
    """The life of one program that is a service.

    Args:
        port: where it is going to take connections.
        ready_within: seconds it has for that, or None for as long as it takes.
        kill_after: seconds it has to end once it was told to, or None for as long as it takes.
        now: the monotonic time.

    Each event (`port_opened`, `announced`, `refused`, `left`, `signalled`, `child_ended`, `time_passed`) gives what is
    to be done, in that order. `due` is when `time_passed` wants to be called, if at all.
    """

    def __init__(self, port: int, *, ready_within: float | None, kill_after: float | None, now: float):
        self.state = RunState.STARTING
        self.due = None if ready_within is None else now + ready_within
        self._port = port
        self._ready_within = ready_within
        self._kill_after = kill_after
        self._announced = False
        self._leaving: Leave | None = None
        self._gone = True
        self._held: int | None = None
        self._childs_code: int | None = None
        self._own_code: int | None = None

    def port_opened(self, _: float) -> list[Action]:
        """The port takes connections."""
        if self.state is not RunState.STARTING:
            return []
        self.state = RunState.SERVING
        self.due = None
        self._gone = False
        return [Announce()]

    def announced(self, _: float) -> list[Action]:
        """It is registered, or will be as soon as the agent answers."""
        self._announced = True
        if self.state is RunState.DRAINING:
            self.due = None
        return []

    def refused(self, reason: str, now: float) -> list[Action]:
        """It cannot be registered. A service that nobody can find is of no use, and hides the mistake."""
        if self.state is RunState.ENDED:
            return []
        said: list[Action] = [Say(reason)]
        if self.state is not RunState.SERVING:
            return said + self.left(now)
        self._gone = True
        return said + self._ended_by_us(now)

    def left(self, now: float) -> list[Action]:
        """It is deregistered, or that was given up."""
        self._gone = True
        if self.state is RunState.ENDED:
            return []
        if self._childs_code is not None:
            return self._finished()
        if self._held is None:
            return []
        return self._told_to_end(self._held, now, self._kill_after)

    def signalled(self, number: int, from_terminal: bool, now: float) -> list[Action]:
        """A signal came.

        Args:
            number: which.
            from_terminal: the terminal sent it to the program as well, as it does with Ctrl-C.
            now: the monotonic time.
        """
        if self._childs_code is not None or self.state is RunState.ENDED:
            return []
        forwarded: list[Action] = [] if from_terminal else [Forward(number)]
        if number not in ENDS:
            return forwarded
        if self.state is RunState.SERVING and not from_terminal:
            self.state = RunState.DRAINING
            self._held = number
            self.due = None if self._announced else now + UNDER_WAY
            return self._leaves(at_once=False)
        if self.state is RunState.ENDING:
            return forwarded
        leaves = [] if self.state is RunState.STARTING else self._leaves(at_once=True)
        self._held = None
        self._await_end(now, self._kill_after)
        return leaves + forwarded

    def child_ended(self, code: int, now: float) -> list[Action]:
        """The program has ended; a negative code stands for a signal."""
        if self._childs_code is not None:
            return []
        started, self._childs_code, self._held = self.state is not RunState.STARTING, code, None
        if self._gone:
            early: list[Action] = [] if started else [Say(f"it ended before port {self._port} took connections")]
            return early + self._finished()
        self._await_end(now, FAREWELL)
        return self._leaves(at_once=True)

    def time_passed(self, now: float) -> list[Action]:
        """It is `due`."""
        if self.due is None or now < self.due:
            return []
        self.due = None
        if self.state is RunState.STARTING:
            late = (
                f"port {self._port} has taken no connection within {self._ready_within:g} s: the command is ended; "
                "allow more with --ready-timeout"
            )
            return [Say(late), *self._ended_by_us(now)]
        if self._held is not None:
            return [*self._leaves(at_once=True), *self._told_to_end(self._held, now, self._kill_after)]
        if self._childs_code is None:
            return [Say("the command has not ended in time and is killed"), Forward(KILL)]
        return [Say("the agent has not confirmed the deregistration; it may be left behind"), *self._finished()]

    def _ended_by_us(self, now: float) -> list[Action]:
        self._own_code = FAILED
        return self._told_to_end(TERMINATE, now, self._kill_after or PATIENCE)

    def _told_to_end(self, number: int, now: float, within: float | None) -> list[Action]:
        self._held = None
        self._await_end(now, within)
        return [Forward(number)]

    def _await_end(self, now: float, within: float | None) -> None:
        self.state = RunState.ENDING
        self.due = None if within is None else now + within

    def _leaves(self, *, at_once: bool) -> list[Action]:
        wanted = Leave(at_once)
        if self._gone or self._leaving in (wanted, Leave(at_once=True)):
            return []
        self._leaving = wanted
        return [wanted]

    def _finished(self) -> list[Action]:
        self.state = RunState.ENDED
        self.due = None
        code = self._own_code if self._own_code is not None else self._childs_code
        return [Finish(code if code is not None else FAILED)]

# Written by tools/faces.py from consul_access/_async/pulse.py; edit that one.
"""One worker makes the heartbeats of all keepers of a client, those that are due about now in a row.

To wake a thread, or a task, for each of them costs more than the heartbeat itself, and a row of them a fraction of as
many single ones (measured: docs/benchmarks.md). Nobody depends on it: a keeper that was not served in time, since an
agent keeps the pulse waiting, helps itself.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from heapq import heappop, heappush

from consul_access._pairs.threads import Bell, Later, Worker
from consul_access.rules.pulsing import LINGER, is_late, patience, reach

__all__ = ["Pulse", "Stay"]

Serve = Callable[[float], "Later[float | None]"]
"""Does what is due by then, in monotonic time; says when to come again, or None for never."""


class Stay:
    """One keeper's membership, until it leaves.

    Args:
        serve: called when something is due.
        help_yourself: called, by any thread, when it was not served in time.
        interval: seconds between its heartbeats, and for which it can wait for a late one.
    """

    __slots__ = ("help_yourself", "interval", "serve")

    def __init__(self, serve: Serve, help_yourself: Callable[[], None], interval: float) -> None:
        self.serve: Serve | None = serve
        self.help_yourself = help_yourself
        self.interval = interval

    def leave(self) -> None:
        """It is not called any more; a call that is under way goes on."""
        self.serve = None


class Pulse:
    """Serves whoever joins."""

    def __init__(self) -> None:
        self._round: _Round | None = None

    def join(self, stay: Stay, due: float) -> None:
        """Has somebody served from now on, for the first time when it is due, in monotonic time."""
        if self._round is None or not self._round.goes_on:
            self._round = _Round()
        self._round.add(due, stay)

    def end(self) -> None:
        """Nobody will join any more."""
        if self._round is not None:
            self._round.end()


class _Round:
    """The life of one worker: it ends when there has been nobody for a while, with its event loop, and by a fork."""

    __slots__ = (
        "_alert",
        "_bell",
        "_due",
        "_ended",
        "_ending",
        "_guard",
        "_interval",
        "_numbers",
        "_process",
        "_worker",
    )

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Stay]] = []
        self._numbers = itertools.count()
        self._interval = float("inf")
        self._bell, self._alert = Bell(), Bell()
        self._ended = self._ending = False
        self._process = os.getpid()
        self._worker = Worker(self._run, "consul-access heartbeats")
        self._guard = Worker(self._watch_over, "consul-access heartbeats, in time")

    @property
    def goes_on(self) -> bool:
        return not self._ended and self._process == os.getpid()

    def add(self, due: float, stay: Stay) -> None:
        if stay.interval < self._interval:
            self._interval = stay.interval
            self._alert.ring()
        heappush(self._due, (due, next(self._numbers), stay))  # one step of the interpreter: threads need no lock
        if any(first is stay for _, _, first in self._due[:1]):
            self._bell.ring()

    def end(self) -> None:
        self._ending = True
        if self.goes_on:
            self._bell.ring()

    def _run(self) -> None:
        try:
            while not self._ending:
                rung = self._bell.rung
                self._serve()
                pause = max(0.0, self._due[0][0] - time.monotonic()) if self._due else LINGER
                if not self._bell.wait(rung, pause) and not self._due:
                    return
        finally:
            self._ended = True
            self._alert.ring()

    def _serve(self) -> None:
        until = reach(time.monotonic(), self._interval)
        while self._due and self._due[0][0] <= until:
            _, _, stay = heappop(self._due)
            again = None if stay.serve is None else stay.serve(until)
            if again is not None:
                heappush(self._due, (again, next(self._numbers), stay))

    def _watch_over(self) -> None:
        """Tells those to help themselves who are late, since one before them has to wait for an answer."""
        rung = 0
        while not self._ended:
            self._alert.wait(rung, self._patience())
            rung, now = self._alert.rung, time.monotonic()
            for due, _, stay in list(self._due):
                if is_late(due, self._interval, now):
                    stay.help_yourself()
        for _, _, stay in list(self._due):  # who has joined at the last moment
            stay.help_yourself()

    def _patience(self) -> float:
        first = self._due[:1]  # a copy: the pulse takes from it
        return patience(first[0][0] if first else None, self._interval, time.monotonic())

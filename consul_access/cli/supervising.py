"""Runs a program beside its registration: starts it, carries out what the rule says, ends as it ended.

It stays in this process's group and has its standard streams, its environment and its terminal, so that it is as if it
ran alone. As process 1 of a container this also clears away what other programs leave behind.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence

from consul_access.cli.announcing import Announcement, Event, MakeKeeper
from consul_access.cli.output import say
from consul_access.cli.signals import Signals
from consul_access.rules.running import Action, Announce, Finish, Forward, Leave, Running, Say

__all__ = ["Supervisor", "end_as"]

_PYTHONS_OWN = tuple(getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name))
"""Signals that Python ignores in its own process, and that other programs expect as they were."""


class Supervisor:
    """One program, and the rule it is run by.

    Args:
        command: the program and its arguments.
        rule: what follows from what.
    """

    def __init__(self, command: Sequence[str], rule: Running) -> None:
        self._command = list(command)
        self._rule = rule
        self._events: deque[Event] = deque()
        self._child = 0
        self._code: int | None = None

    def run(self, make_keeper: MakeKeeper, hosts: Sequence[str], port: int) -> int:
        """Runs it to its end.

        Args:
            make_keeper: makes what registers it once its port takes connections.
            hosts: where the port may open.
            port: the port.

        Returns:
            Its exit code; negative for the signal that ended it.

        Raises:
            OSError: it could not be started.
        """
        signals = Signals()
        announcement = Announcement(make_keeper, hosts, port, rule=self._rule, tell=self._hear)
        # posix_spawn, since it is the one way to give a program another signal mask than this thread's.
        self._child = os.posix_spawnp(
            self._command[0], self._command, os.environ, setsigmask=signals.before, setsigdef=_PYTHONS_OWN
        )
        announcement.begin()
        while self._code is None:
            for action in self._happened(signals):
                self._perform(action, announcement)
        return self._code

    def _hear(self, event: Event) -> None:
        self._events.append(event)
        Signals.wake()

    def _happened(self, signals: Signals) -> Iterator[Action]:
        """Waits for whatever is next, and tells the rule."""
        due = self._rule.due
        sent = signals.wait(None if due is None else due - time.monotonic())
        now = time.monotonic()
        if sent is not None and sent.number != signal.SIGCHLD:
            yield from self._rule.signalled(sent.number, sent.from_terminal and self._shares_group(), now)
        for pid, code in _ended():
            if pid == self._child:
                yield from self._rule.child_ended(code, now)
        while self._events:
            yield from self._events.popleft()(now)
        yield from self._rule.time_passed(now)

    def _shares_group(self) -> bool:
        """Whether the program is still in the group that a terminal sends its signals to."""
        with contextlib.suppress(ProcessLookupError):  # it has ended
            return os.getpgid(self._child) == os.getpgrp()
        return False

    def _perform(self, action: Action, announcement: Announcement) -> None:
        if isinstance(action, Announce):
            announcement.announce()
        elif isinstance(action, Leave):
            announcement.leave(at_once=action.at_once)
        elif isinstance(action, Forward):
            self._forward(action.number)
        elif isinstance(action, Say):
            say(action.text)
        elif isinstance(action, Finish):
            self._code = action.code

    def _forward(self, number: int) -> None:
        try:
            os.kill(self._child, number)
        except PermissionError:
            say(f"signal {number} may not be sent to the command, which runs as another user")


def _ended() -> Iterator[tuple[int, int]]:
    """The children that have ended, adopted ones too, and how; negative for a signal."""
    with contextlib.suppress(ChildProcessError):  # there are no more
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            yield pid, os.waitstatus_to_exitcode(status)


def end_as(code: int) -> int:
    """Ends this process by the signal that a negative code stands for, as the program was ended.

    Whoever waits then sees what would be seen without us: shells stop their script on Ctrl-C, systemd takes SIGTERM for
    a good end. No memory is dumped a second time.

    Returns:
        The exit code, if it stands for no signal; or 128 and the signal, where the signal does nothing: process 1 of a
        container cannot be ended by its own.
    """
    if code >= 0:
        return code
    number = -code
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    with contextlib.suppress(OSError):  # SIGKILL has no handler to reset
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number

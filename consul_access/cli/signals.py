"""Signals as events: blocked in every thread, and taken one by one by the thread that waits for them.

No handler interrupts anything, none gets lost between two waits, and the kernel tells who sent each: a terminal sends
Ctrl-C to the whole foreground group, the program included, which must not be sent it a second time.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType
from typing import NamedTuple

__all__ = ["Sent", "Signals"]

_SYNCHRONOUS = ("SIGABRT", "SIGBUS", "SIGEMT", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
"""Faults of the process itself."""
_STOPPING = ("SIGKILL", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT")
"""Job control stops and continues both as they are; the first two cannot be had."""
_OURS = ("SIGPIPE", "SIGALRM")
_SI_KERNEL = 0x80
"""`si_code` of what the kernel itself sends, such as for a terminal (Linux, asm-generic/siginfo.h)."""
_FROM_KEYS = frozenset({signal.SIGINT, signal.SIGQUIT})
"""What is taken for the terminal's where senders are not told; a new window size comes twice, which does no harm."""


class Sent(NamedTuple):
    """A signal, and whether the terminal sent it to everybody in the foreground."""

    number: int
    from_terminal: bool


class Signals:
    """From its making to the end of the process, signals wait until they are taken.

    Those that are ignored at that time (`nohup`) stay so. `before` is the mask that a program started meanwhile should
    have.
    """

    def __init__(self) -> None:
        left_alone = {getattr(signal, name, None) for name in (*_SYNCHRONOUS, *_STOPPING, *_OURS)}
        self._taken = {
            number
            for number in signal.valid_signals() - left_alone
            if number == signal.SIGCHLD or signal.getsignal(number) is not signal.SIG_IGN
        }
        self.before = signal.pthread_sigmask(signal.SIG_BLOCK, self._taken | {signal.SIGALRM})
        for number in self._taken:
            signal.signal(number, _never_called)  # some systems drop what would be ignored, blocked or not

    def wait(self, seconds: float | None) -> Sent | None:
        """The next signal, or None when there was none in that time (None: however long it takes)."""
        if not hasattr(signal, "sigtimedwait"):  # macOS
            return self._wait_by_alarm(seconds)
        info = signal.sigwaitinfo(self._taken) if seconds is None else signal.sigtimedwait(self._taken, max(0, seconds))
        return None if info is None else Sent(info.si_signo, info.si_code == _SI_KERNEL)

    def _wait_by_alarm(self, seconds: float | None) -> Sent | None:
        alarm = {signal.SIGALRM}
        signal.setitimer(signal.ITIMER_REAL, 0 if seconds is None else max(1e-6, seconds))
        number = signal.sigwait(self._taken | alarm)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if signal.SIGALRM in signal.sigpending():  # it went off meanwhile
            signal.sigwait(alarm)
        return None if number in alarm else Sent(number, number in _FROM_KEYS and _in_foreground())

    @staticmethod
    def wake() -> None:
        """Makes whoever waits look around: a child's end is what is looked for at any rate."""
        os.kill(os.getpid(), signal.SIGCHLD)


def _in_foreground() -> bool:
    """Whether a terminal's keys reach this process; where the sender is not told, they are taken for it."""
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False


def _never_called(_: int, __: FrameType | None) -> None:
    """Blocked signals are waited for; no handler sees them."""

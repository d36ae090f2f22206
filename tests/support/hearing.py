"""What a terminal sends to programs, also to those that are started under nohup or by a shell in its background."""

from __future__ import annotations

import signal


def hear_signals() -> None:
    """Takes SIGHUP and SIGINT for itself where they are ignored: programs that this one starts would ignore them, too.

    nohup has the former ignored, a shell without a terminal the latter for what it starts with `&`.
    """
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # unlike an ignored one, a handled one is not inherited

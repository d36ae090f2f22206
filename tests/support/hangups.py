"""What a terminal that hangs up does to programs, also to those that are started under nohup."""

from __future__ import annotations

import signal


def hear_hangups() -> None:
    """Takes SIGHUP for itself where it is ignored: programs that this one starts would ignore it as well."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)  # unlike an ignored one, a handled one is not inherited

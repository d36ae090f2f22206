"""Every way out of a process: what is still registered when it ends is deregistered, once.

A `with` block, `sys.exit`, an exception and Ctrl-C unwind by themselves. This is the net for the rest: the end of the
interpreter without the block's end (`atexit`), and SIGTERM and SIGHUP, whose default action unwinds nothing. Handlers
that are already there are left alone, since servers (uvicorn, gunicorn, asyncio) end in their own way, and the process
ends by the signal that it was sent, so that its exit code stays what it was. A forked child owns nothing of this.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Once", "add", "leaving", "prepare", "remove", "settle"]

Farewell = Callable[[float], None]
"""Ends one registration within so many seconds; never raises, and does nothing the second time."""

log = logging.getLogger("consul_access")

AT_EXIT: float = 2.0
"""Seconds that the end of the process may be delayed by, for all registrations together."""
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Once:
    """A right that exactly one of several threads and signal handlers gets."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken = threading.Lock()

    def claim(self) -> bool:
        """Whether the right was still free."""
        return self._taken.acquire(blocking=False)


class _Net:
    def __init__(self) -> None:
        self.farewells: dict[object, Farewell] = {}
        self.under_way = 0
        self.counting = threading.Lock()
        self.pending: signal.Signals | None = None
        self.ending = False
        self.prepared = False


_net = _Net()


def add(key: object, farewell: Farewell) -> None:
    """Has `farewell` called if the process ends before `remove`.

    Args:
        key: whose it is.
        farewell: called with the seconds it may take.
    """
    prepare()
    _net.farewells[key] = farewell


def prepare() -> None:
    """Puts the net up before there is anything in it; for who wants to answer a signal before the net does."""
    if not _net.prepared:
        _net.prepared = True
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget)
    _install()


def remove(key: object) -> None:
    """It has ended in order; there is nothing left to do for it."""
    _net.farewells.pop(key, None)
    if not _net.farewells:
        _uninstall()


def settle() -> None:
    """Somebody has put our signal handlers back; they go, too, when there is nothing left to do."""
    if not _net.farewells:
        _uninstall()


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """While the block runs, something ends in order: a signal waits for it, and then takes its course."""
    with _net.counting:
        _net.under_way += 1
    try:
        yield
    finally:
        with _net.counting:
            _net.under_way -= 1
        if not _net.under_way and _net.pending is not None:
            number, _net.pending = _net.pending, None
            os.kill(os.getpid(), number)


def _farewells(within: float) -> None:
    deadline = time.monotonic() + within
    while _net.farewells:
        _, farewell = _net.farewells.popitem()
        try:
            farewell(max(0.1, deadline - time.monotonic()))
        except Exception:  # whatever it was, the others have their turn and the process ends
            log.exception("something could not be deregistered at the process's end")


def _at_exit() -> None:
    _farewells(AT_EXIT)


def _on_signal(number: int, _: FrameType | None) -> None:
    if _net.ending:  # a second signal must not cut short what the first is waiting for, which is bounded
        return
    if _net.under_way:
        _net.pending = signal.Signals(number)
        return
    _net.ending = True
    if _net.farewells:
        log.info("%s: deregistering before the process ends", signal.Signals(number).name)
    _farewells(AT_EXIT)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _install() -> None:
    if threading.current_thread() is not threading.main_thread():
        log.debug("signals can be looked after from the main thread only; SIGTERM ends this process at once")
        return
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _on_signal)


def _uninstall() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is _on_signal:
                signal.signal(number, signal.SIG_DFL)


def _forget() -> None:
    """In a forked child: what the parent registered is the parent's."""
    _net.farewells.clear()
    _net.under_way = 0
    _net.counting = threading.Lock()
    _net.pending = None
    _net.ending = False

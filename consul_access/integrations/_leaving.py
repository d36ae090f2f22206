"""Leaves the registry before a signal takes its course, and then passes it on to whoever was there before.

Servers close their port when they are told to end, and callers who have just looked the service up find it closed. So
the signal is answered first: out of every look-up, some seconds of grace, deregistered; then the server's own handler
is called, or the signal's default action ends the process. The exit code stays what it was.

It is made before the registration begins: callers may find the service before its keeper has started completely.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import signal
import threading
from collections.abc import Awaitable, Callable, Collection
from types import FrameType
from typing import TypeAlias

from consul_access import exits

__all__ = ["AsyncLeaving", "Leaving"]

log = logging.getLogger("consul_access")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
Handler: TypeAlias = Callable[[int, FrameType | None], object]


class _Chain:
    """Handlers of ours before those that were there; the third signal is passed on at once."""

    def __init__(self, signals: Collection[int], skipped: Collection[str] = ()) -> None:
        self._before: dict[int, Handler] = {}
        self._asked = 0
        self._process = os.getpid()
        if threading.current_thread() is not threading.main_thread():
            log.debug("signals can be looked after from the main thread only; they end this process as without us")
            return
        exits.prepare()
        for number in signals:
            handler = signal.getsignal(number)
            if callable(handler) and getattr(handler, "__module__", "") not in skipped:
                self._before[number] = handler
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        # Whoever asks twice does not want to wait for the drain; the third time nothing of ours is waited for.
        if self._asked > 2 or self._process != os.getpid():
            self._before[number](number, frame)
        else:
            self._begin(number, self._asked == 2)

    def _begin(self, number: int, hurry: bool) -> None:
        raise NotImplementedError

    def _restore(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in self._before.items():
            # Bound methods are equal, and not the same.
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, handler)
        exits.settle()


class Leaving(_Chain):
    """For threads. The handlers are put in place when it is made, which has to be in the main thread.

    Args:
        leave: leaves the registry; is told whether to hurry, and may be called a second time meanwhile, to hurry.
        hurried: signals that mean to hurry from the beginning.
        signals: the signals to answer.
    """

    def __init__(
        self, leave: Callable[[bool], object], *, hurried: Collection[int] = (), signals: Collection[int] = SIGNALS
    ) -> None:
        self._leave = leave
        self._hurried = hurried
        self._gone = False
        self._under_way: list[threading.Thread] = []
        # A signal handler may put something there at any moment; a thread started there could wait for its own lock.
        self._received: queue.SimpleQueue[tuple[int, bool] | None] = queue.SimpleQueue()
        super().__init__(signals)
        if self._before:
            threading.Thread(target=self._wait, name="consul-access signals", daemon=True).start()

    def end(self) -> None:
        """The handlers that were there are back. A signal that was answered takes its course before this returns."""
        self._received.put(None)
        for thread in self._under_way:
            if thread is not threading.current_thread():
                thread.join()
        self._restore()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._gone:
            self._before[number](number, frame)
        else:
            super()._on_signal(number, frame)

    def _begin(self, number: int, hurry: bool) -> None:
        self._received.put((number, hurry or number in self._hurried))

    def _wait(self) -> None:
        while (received := self._received.get()) is not None:
            thread = threading.Thread(target=self._left, args=received, name="consul-access leaves")
            self._under_way.append(thread)
            thread.start()

    def _left(self, number: int, hurry: bool) -> None:
        try:
            self._leave(hurry)
        finally:
            self._gone = True
            # Once more to the main thread, where Python calls handlers, and which may be waiting in the system.
            signal.pthread_kill(threading.main_thread().ident or 0, number)


class AsyncLeaving(_Chain):
    """For tasks of asyncio. Made inside the running loop; does nothing in another one (trio's).

    Args:
        leave: leaves the registry; is told whether to hurry, and may be called a second time meanwhile, to hurry.
    """

    def __init__(self, leave: Callable[[bool], Awaitable[object]]) -> None:
        self._leave = leave
        self._leaving: list[asyncio.Task[None]] = []  # asyncio itself holds tasks only weakly
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            signals: Collection[int] = ()
        else:
            signals = SIGNALS
        # asyncio calls the handlers of `add_signal_handler` by itself; what Python knows of is a placeholder.
        super().__init__(signals, skipped={"asyncio.unix_events", "signal", "_signal"})

    async def end(self) -> None:
        """The handlers that were there are back. A signal that was answered takes its course before this returns."""
        others = [task for task in self._leaving if task is not asyncio.current_task()]
        if others:
            await asyncio.wait(others)
        self._restore()

    def _begin(self, number: int, hurry: bool) -> None:
        self._loop.call_soon_threadsafe(self._leaves, number, hurry)

    def _leaves(self, number: int, hurry: bool) -> None:
        name = f"consul-access leaves, {signal.Signals(number).name}"
        self._leaving.append(self._loop.create_task(self._left(number, hurry), name=name))

    async def _left(self, number: int, hurry: bool) -> None:
        try:
            await self._leave(hurry)
        finally:
            self._before[number](number, None)

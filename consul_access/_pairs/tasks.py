"""Waiting, for tasks: asyncio and trio, by way of anyio."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread

from consul_access._pairs.sockets import CHUNK, Probe, SocketAddress, left, look_up

__all__ = [
    "BEGINS_AGAIN_AFTER_FORK",
    "Bell",
    "Examiner",
    "Flag",
    "Host",
    "Inlet",
    "Later",
    "Slots",
    "Worker",
    "aside",
    "at_once",
    "resolve",
    "settled",
    "shielded",
    "sleep",
    "time_limit",
    "wait_readable",
    "wait_writable",
    "within",
]

T = TypeVar("T")

sleep = anyio.sleep

BEGINS_AGAIN_AFTER_FORK = False
"""Whether what runs in the background can go on in a forked child: an event loop cannot."""

Later = Awaitable[T]
"""What a function gives that is awaited."""


async def wait_readable(sock: socket.socket, deadline: float) -> None:
    """Waits until something has arrived, or the other side has closed."""
    with anyio.fail_after(left(deadline)):
        await anyio.wait_readable(sock)


async def wait_writable(sock: socket.socket, deadline: float) -> None:
    """Waits until something can be sent."""
    with anyio.fail_after(left(deadline)):
        await anyio.wait_writable(sock)


class Inlet(Probe):
    """Where the bytes of one plain socket come in, call after call.

    In asyncio's event loop they are taken as soon as they are there, before any task has its turn. The loop goes on
    watching the socket between calls: to begin that and to end it would take longer than all else that is done here.

    Args:
        sock: the socket, which never blocks; `close` closes it.
    """

    __slots__ = ("_alarm", "_alarm_at", "_deadline", "_ended", "_loop", "_silence", "_since", "_take", "_watcher")

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._watcher: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf

    async def feed(self, take: Callable[[bytes], bool], silence: float, deadline: float) -> None:
        """Gives away what arrives, until whoever takes it has enough.

        Args:
            take: takes the next bytes (none when the other side has closed); true when nothing more is wanted.
            silence: seconds that may pass without any.
            deadline: until when to wait at most.

        Raises:
            TimeoutError: nothing came in time.
            OSError: the connection broke.
        """
        loop = _running()
        if loop is None or (loop is not self._watcher and not self._is_watched_by(loop)):
            await self._pull(take, silence, deadline)
            return
        self._take, self._silence, self._deadline = take, silence, deadline
        self._since = time.monotonic()
        self._ended = ended = loop.create_future()
        try:
            self._set_alarm(loop)
            await ended
        except BaseException:
            self._let_go()
            raise
        finally:
            self._ended = None

    async def feed_on(self, take: Callable[[bytes], bool], deadline: float) -> None:
        """The same for a stream, which may be silent, and of which something may have arrived since the last time."""
        is_watched = self._watcher is not None and self._watcher is _running()  # then the loop would have told
        if is_watched or not (self.is_readable() and self._taken(take)):
            await self.feed(take, math.inf, deadline)

    def close(self) -> None:
        """Closes the socket, where it is watched: as long as a loop watches its number, nobody else may get that."""
        if self._let_go() or not self._called_there(self.close):
            super().close()

    def abandon(self) -> None:
        """Closes what a forked child has of its parent's socket, and leaves its parent's event loop alone."""
        self._watcher = None
        super().abandon()

    async def _pull(self, take: Callable[[bytes], bool], silence: float, deadline: float) -> None:
        enough = False
        while not enough:
            await wait_readable(self._sock, min(time.monotonic() + silence, deadline))
            enough = self._taken(take)

    def _taken(self, take: Callable[[bytes], bool]) -> bool:
        try:
            return take(self._sock.recv(CHUNK))
        except BlockingIOError:  # the kernel had promised too much
            return False

    def _arrived(self) -> None:
        ended = self._ended
        if ended is None or ended.done():  # nobody waits for it now; whoever does so next has it watched again
            self._let_go()
            return
        try:
            if self._taken(self._take):
                ended.set_result(None)
            else:
                self._since = time.monotonic()
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            ended.set_exception(error)

    def _is_watched_by(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Has the loop watch the socket, if it can; one that runs in another thread has to let go of it first."""
        if not self._let_go():
            self._called_there(self._let_go)
            return False
        number = self._sock.fileno()  # given the socket, asyncio would describe it in an error that nobody sees
        try:
            loop.remove_reader(number)  # in a forked child, what its parent's loop watched under this number
            loop.add_reader(number, self._arrived)
        except NotImplementedError:  # Windows' proactor
            return False
        self._watcher = loop
        return True

    def _let_go(self) -> bool:
        """Ends the watching; whether it has ended. A loop that runs in another thread has to do so itself."""
        loop = self._watcher
        if loop is not None:
            if loop.is_running() and loop is not _running():
                return False
            if not loop.is_closed():
                loop.remove_reader(self._sock.fileno())
            self._watcher = None
        return True

    def _called_there(self, function: Callable[[], object]) -> bool:
        """Calls a function, soon, where the socket is watched; False if that loop has been closed."""
        if self._watcher is not None:
            with contextlib.suppress(RuntimeError):
                self._watcher.call_soon_threadsafe(function)
                return True
        return False

    # One timer serves call after call: it is not cancelled at the end of each, but looks around when its time comes.

    def _set_alarm(self, loop: asyncio.AbstractEventLoop) -> None:
        until = min(self._since + self._silence, self._deadline)
        if self._alarm is not None and loop is self._loop:
            if self._alarm_at <= until:
                return
            self._alarm.cancel()
        self._loop, self._alarm_at = loop, until
        self._alarm = loop.call_later(max(0.0, until - time.monotonic()), self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:  # the connection has moved on to another event loop
            return
        self._alarm = None
        ended = self._ended
        if ended is None or ended.done():
            return
        if time.monotonic() < min(self._since + self._silence, self._deadline):
            self._set_alarm(loop)
        else:
            ended.set_exception(TimeoutError())


def _running() -> asyncio.AbstractEventLoop | None:
    """asyncio's event loop, if it is the one that runs here."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # trio's, or none
        return None


async def resolve(host: str, port: int, deadline: float) -> list[SocketAddress]:
    """The addresses of a host name, looked up in a thread that is left behind when time runs out."""
    with anyio.fail_after(left(deadline)):
        return await anyio.to_thread.run_sync(look_up, host, port, abandon_on_cancel=True)


async def within(
    deadline: float,
    function: Callable[[], Awaitable[T]],
    *,
    late: Callable[[T], object] | None = None,  # noqa: ARG001 - what is cancelled returns nothing
) -> T:
    """What a function returns, which is cancelled when time runs out."""
    with time_limit(deadline):
        return await function()


def time_limit(deadline: float) -> AbstractContextManager[object]:
    """Ends the block at the deadline, with `TimeoutError`."""
    return anyio.fail_after(max(0.0, deadline - time.monotonic()))


def shielded() -> AbstractContextManager[object]:
    """Lets the block end although its task is being cancelled; the block has its own limit in time."""
    return anyio.CancelScope(shield=True)


async def settled(value: T | Awaitable[T]) -> T:
    """The value, awaited if it has to be."""
    if not hasattr(value, "__await__"):  # asked on every call; inspect.isawaitable takes four times as long
        return value  # pyright: ignore[reportReturnType] - it is no awaitable
    return await cast("Awaitable[T]", value)


async def at_once(functions: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """What they return, in their order, each in a task of its own. They must not raise."""
    answers: dict[int, T] = {}

    async def work(place: int) -> None:
        answers[place] = await functions[place]()

    async with anyio.create_task_group() as group:
        for place in range(len(functions)):
            group.start_soon(work, place)
    return [answers[place] for place in range(len(functions))]


async def aside(function: Callable[[], T]) -> T:
    """What the function returns, which may take its time: here it is called in a thread."""
    return await anyio.to_thread.run_sync(function)


class Slots:
    """A number of places; whoever finds none free waits for one, in vain at most until the deadline."""

    __slots__ = ("_places",)

    def __init__(self, places: int) -> None:
        self._places = anyio.Semaphore(places, fast_acquire=True)

    async def acquire(self, deadline: float) -> None:
        """Takes a place."""
        if not self.acquire_now():
            with anyio.fail_after(left(deadline)):
                await self._places.acquire()

    def acquire_now(self) -> bool:
        """Takes a place if one is free; whether it has."""
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            return False
        return True

    def release(self) -> None:
        """Gives it back."""
        self._places.release()


class Flag:
    """Something that happens once, and can be waited for."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """It has happened."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._event.is_set()

    async def wait(self, seconds: float) -> bool:
        """Waits for it; whether it has happened."""
        with anyio.move_on_after(max(0.0, seconds)):
            await self._event.wait()
        return self._event.is_set()


class Bell:
    """Something that happens again and again, and can be waited for."""

    __slots__ = ("_event", "rung")

    def __init__(self) -> None:
        self.rung = 0
        self._event: anyio.Event | None = None  # made for whoever waits: most of the time nobody does

    def ring(self) -> None:
        """It has happened once more."""
        self.rung += 1
        event, self._event = self._event, None
        if event is not None:
            event.set()

    async def wait(self, rung: int, seconds: float) -> bool:
        """Waits until it has happened more often than that; whether it has."""
        if self.rung == rung:
            if self._event is None:
                self._event = anyio.Event()
            event = self._event
            if seconds == math.inf:
                await event.wait()
            else:
                with anyio.move_on_after(max(0.0, seconds)):
                    await event.wait()
        return self.rung != rung


class Host:
    """Runs something that is written for tasks only: on this face, as a task beside the others.

    Args:
        main: what to run.
        name: of the task.
    """

    __slots__ = ("_main", "_name", "_worker")

    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._main = main
        self._name = name
        self._worker: Worker | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has begun and not ended, and its event loop neither."""
        return self._worker is not None and self._worker.is_running

    def start(self) -> None:
        """Begins, if it does not run."""
        if not self.is_running:
            self._worker = Worker(self._main, self._name)

    def call(self, function: Callable[[], object]) -> None:
        """Calls a function where it runs."""
        function()

    async def join(self, seconds: float) -> None:
        """Waits for its end."""
        if self._worker is not None:
            await self._worker.join(seconds)


class Worker:
    """Runs a function beside everything else, in a task of its own that belongs to no task group.

    It ends with the event loop, which cancels it: asyncio's tasks at the end of `asyncio.run`, trio's system tasks
    after the main one. So it may be started in one task and ended in another, as test fixtures and servers do.

    Args:
        function: what to run.
        name: of the task.
    """

    __slots__ = ("_ended", "_function", "_scope", "_task")

    def __init__(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._function = function
        self._ended = anyio.Event()
        self._scope = anyio.CancelScope()
        self._task: object = _started(self._run, name)  # kept: asyncio itself holds tasks only weakly

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._function()
        finally:
            self._ended.set()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended, and its event loop neither."""
        return not self._ended.is_set()

    async def join(self, seconds: float) -> None:
        """Waits for its end, and cancels it when that does not come."""
        with anyio.move_on_after(max(0.0, seconds)):
            await self._ended.wait()
        self._scope.cancel()


def _started(function: Callable[[], Coroutine[Any, Any, None]], name: str) -> object:
    loop = _running()
    if loop is None:
        import trio

        return trio.lowlevel.spawn_system_task(function, name=name)
    return loop.create_task(function(), name=name)


class Examiner:
    """Asks a user's function, plain or async, which may crash or hang, within a limit of time.

    Args:
        function: the question.
    """

    __slots__ = ("_busy", "_function")

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._busy = False

    async def ask(self, within: float) -> object:
        """Its answer.

        Raises:
            TimeoutError: it has not answered in time. A plain function is not asked again before it has.
            Exception: whatever it raises.
        """
        if self._busy:
            raise TimeoutError
        with anyio.fail_after(within):
            if inspect.iscoroutinefunction(self._function):
                return await self._function()
            (answer,) = await anyio.to_thread.run_sync(self._plain, abandon_on_cancel=True)
            return await settled(answer)

    def _plain(self) -> tuple[object]:  # wrapped: trio wants no coroutine out of a thread
        self._busy = True
        try:
            return (self._function(),)
        finally:
            self._busy = False

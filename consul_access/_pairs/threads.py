"""Waiting, for threads."""

from __future__ import annotations

import contextlib
import inspect
import math
import queue
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from consul_access._pairs.sockets import CHUNK, Probe, SocketAddress, left, look_up, ready
from consul_access.errors import InvalidInput, InvalidSettings

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

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

sleep = time.sleep

BEGINS_AGAIN_AFTER_FORK = True
"""Whether what runs in the background can go on in a forked child."""

Later = Annotated[T, "at once"]
"""What a function gives that would be awaited on the other face."""


def wait_readable(sock: socket.socket, deadline: float) -> None:
    """Waits until something has arrived, or the other side has closed."""
    if not ready(sock, left(deadline), writing=False):
        raise TimeoutError


def wait_writable(sock: socket.socket, deadline: float) -> None:
    """Waits until something can be sent."""
    if not ready(sock, left(deadline), writing=True):
        raise TimeoutError


class Inlet(Probe):
    """Where the bytes of one plain socket come in, call after call.

    Args:
        sock: the socket, which never blocks.
    """

    __slots__ = ()

    def feed(self, take: Callable[[bytes], bool], silence: float, deadline: float) -> None:
        """Gives away what arrives, until whoever takes it has enough.

        Args:
            take: takes the next bytes (none when the other side has closed); true when nothing more is wanted.
            silence: seconds that may pass without any.
            deadline: until when to wait at most.

        Raises:
            TimeoutError: nothing came in time.
            OSError: the connection broke.
        """
        while (seconds := min(silence, deadline - time.monotonic())) > 0 and self.is_readable(seconds):
            try:
                if take(self._sock.recv(CHUNK)):
                    return
            except BlockingIOError:  # the kernel had promised too much
                continue
        raise TimeoutError

    def feed_on(self, take: Callable[[bytes], bool], deadline: float) -> None:
        """The same for a stream, which may be silent."""
        self.feed(take, math.inf, deadline)


def resolve(host: str, port: int, deadline: float) -> list[SocketAddress]:
    """The addresses of a host name, looked up in a thread that is left behind when time runs out."""
    return within(deadline, lambda: look_up(host, port))


def within(deadline: float, function: Callable[[], T], *, late: Callable[[T], object] | None = None) -> T:
    """What a function returns that cannot be interrupted, and is left behind in a thread when time runs out.

    Args:
        deadline: until when to wait.
        function: what is called.
        late: takes what it returns when nobody waits for that any more.

    Raises:
        TimeoutError: it has not returned in time.
        Exception: whatever it raises.
    """
    found: list[T] = []
    failed: list[Exception] = []
    is_left = threading.Event()

    def work() -> None:
        try:
            found.append(function())
        except Exception as error:  # noqa: BLE001 - it is handed over, not swallowed
            failed.append(error)
            return
        if is_left.is_set() and late is not None:
            late(found[0])

    worker = threading.Thread(target=work, name="consul-access within", daemon=True)
    try:
        worker.start()
    except RuntimeError:  # the interpreter is shutting down (Python 3.12) and starts no threads any more
        return function()
    worker.join(left(deadline))
    if failed:
        raise failed[0]
    if not found:
        is_left.set()
        raise TimeoutError
    return found[0]


def time_limit(_deadline: float) -> AbstractContextManager[object]:
    """Nothing: a thread in foreign code cannot be interrupted. It has been told its limits instead."""
    return contextlib.nullcontext()


def shielded() -> AbstractContextManager[object]:
    """Nothing: threads cannot be cancelled."""
    return contextlib.nullcontext()


def settled(value: T | Awaitable[T]) -> T:
    """The value itself.

    Raises:
        InvalidSettings: it is a coroutine or another awaitable.
    """
    if not hasattr(value, "__await__"):
        return value  # pyright: ignore[reportReturnType] - it is no awaitable
    if inspect.iscoroutine(value):
        value.close()
    raise InvalidSettings(
        "an async function was given to a client for threads: use AsyncConsulAccess, or a plain function"
    )


def at_once(functions: Sequence[Callable[[], T]]) -> list[T]:
    """What they return, in their order, each in a thread of its own. They must not raise."""
    answers: dict[int, T] = {}

    def work(place: int) -> None:
        answers[place] = functions[place]()

    threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(1, len(functions))]
    for thread in threads:
        thread.start()
    if functions:
        work(0)
    for thread in threads:
        thread.join()
    return [answers[place] for place in range(len(functions))]


def aside(function: Callable[[], T]) -> T:
    """What the function returns, which may take its time."""
    return function()


class Slots:
    """A number of places; whoever finds none free waits for one, in vain at most until the deadline."""

    __slots__ = ("_places",)

    def __init__(self, places: int) -> None:
        # A queue of the places themselves: it is written in C, and several times faster than a semaphore.
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(places):
            self._places.put(None)

    def acquire(self, deadline: float) -> None:
        """Takes a place."""
        if not self.acquire_now():
            try:
                self._places.get(timeout=left(deadline))
            except queue.Empty:
                raise TimeoutError from None

    def acquire_now(self) -> bool:
        """Takes a place if one is free; whether it has."""
        try:
            self._places.get_nowait()
        except queue.Empty:
            return False
        return True

    def release(self) -> None:
        """Gives it back."""
        self._places.put(None)


class Flag:
    """Something that happens once, and can be waited for."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """It has happened."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Waits for it; whether it has happened."""
        return self._event.wait(max(0.0, seconds))


class Bell:
    """Something that happens again and again, and can be waited for."""

    __slots__ = ("_condition", "_waiting", "rung")

    def __init__(self) -> None:
        self.rung = 0
        self._condition = threading.Condition()
        self._waiting = 0

    def ring(self) -> None:
        """It has happened once more."""
        with self._condition:
            self.rung += 1
            if self._waiting:
                self._condition.notify_all()

    def wait(self, rung: int, seconds: float) -> bool:
        """Waits until it has happened more often than that; whether it has."""
        with self._condition:
            self._waiting += 1
            try:
                return self._condition.wait_for(lambda: self.rung != rung, None if seconds == math.inf else seconds)
            finally:
                self._waiting -= 1


class Host:
    """Runs something that is written for tasks only: on this face, in a daemon thread with an event loop of its own.

    One thread drives any number of connections so, and whoever waits for one of them waits for a `Bell` instead, and
    can be woken.

    Args:
        main: what to run.
        name: of the thread.
    """

    __slots__ = ("_loop", "_main", "_name", "_thread")

    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._main = main
        self._name = name
        self._thread: threading.Thread | None = None
        self._loop: AbstractEventLoop | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has begun and not ended. After a fork it is not running in the child."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begins, if it does not run."""
        if self.is_running:
            return
        import asyncio

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name=self._name, daemon=True)
        self._thread.start()

    def _run(self, loop: AbstractEventLoop) -> None:
        import asyncio

        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._main())

    def call(self, function: Callable[[], object]) -> None:
        """Calls a function where it runs, soon; never if it has ended."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed at this very moment
                self._loop.call_soon_threadsafe(function)

    def join(self, seconds: float) -> None:
        """Waits for its end."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, seconds))


class Worker:
    """Runs a function beside everything else, in a daemon thread.

    Args:
        function: what to run; it has to end by itself when it is told to.
        name: of the thread.
    """

    __slots__ = ("_thread",)

    def __init__(self, function: Callable[[], None], name: str) -> None:
        self._thread = threading.Thread(target=function, name=name, daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Waits for its end. A thread in a call that does not return is left behind."""
        if self._thread is not threading.current_thread():
            self._thread.join(max(0.0, seconds))


class Examiner:
    """Asks a user's function, which may crash or hang, within a limit of time.

    Args:
        function: the question.

    Raises:
        InvalidInput: an async function was given to the face for threads.
    """

    __slots__ = ("_asked", "_function")

    def __init__(self, function: Callable[[], T]) -> None:
        if inspect.iscoroutinefunction(function):
            raise InvalidInput(
                f"{function!r} is an async function, which threads cannot ask: use AsyncConsulAccess, or a plain one"
            )
        self._function = function
        self._asked: threading.Thread | None = None

    def ask(self, within: float) -> object:
        """Its answer.

        Raises:
            TimeoutError: it has not answered in time. It is not asked again before it has.
            Exception: whatever it raises.
        """
        answers: list[object] = []
        failures: list[Exception] = []

        def work() -> None:
            try:
                answers.append(self._function())
            except Exception as error:  # noqa: BLE001 - it is handed over, not swallowed
                failures.append(error)

        if self._asked is not None and self._asked.is_alive():
            raise TimeoutError
        self._asked = threading.Thread(target=work, name="consul-access health", daemon=True)
        self._asked.start()
        self._asked.join(within)
        if failures:
            raise failures[0]
        if not answers:
            raise TimeoutError
        return answers[0]

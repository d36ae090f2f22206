"""Waiting, for threads."""

from __future__ import annotations

import contextlib
import inspect
import queue
import socket
import threading
import time
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from typing import TypeVar

from consul_access._pairs.sockets import SocketAddress, left, look_up, ready
from consul_access.errors import InvalidSettings

__all__ = ["Slots", "resolve", "settled", "shielded", "sleep", "time_limit", "wait_readable", "wait_writable"]

T = TypeVar("T")

sleep = time.sleep


def wait_readable(sock: socket.socket, deadline: float) -> None:
    """Waits until something has arrived, or the other side has closed."""
    if not ready(sock, left(deadline), writing=False):
        raise TimeoutError


def wait_writable(sock: socket.socket, deadline: float) -> None:
    """Waits until something can be sent."""
    if not ready(sock, left(deadline), writing=True):
        raise TimeoutError


def resolve(host: str, port: int, deadline: float) -> list[SocketAddress]:
    """The addresses of a host name, looked up in a thread that is left behind when time runs out."""
    found: list[list[SocketAddress]] = []
    failed: list[OSError] = []

    def work() -> None:
        try:
            found.append(look_up(host, port))
        except OSError as error:
            failed.append(error)

    worker = threading.Thread(target=work, name=f"consul-access resolve {host}", daemon=True)
    try:
        worker.start()
    except RuntimeError:  # the interpreter is shutting down (Python 3.12) and starts no threads any more
        return look_up(host, port)
    worker.join(left(deadline))
    if failed:
        raise failed[0]
    if not found:
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
        try:
            self._places.get_nowait()
        except queue.Empty:
            self._wait(deadline)

    def _wait(self, deadline: float) -> None:
        try:
            self._places.get(timeout=left(deadline))
        except queue.Empty:
            raise TimeoutError from None

    def release(self) -> None:
        """Gives it back."""
        self._places.put(None)

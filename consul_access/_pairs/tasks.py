"""Waiting, for tasks: asyncio and trio, by way of anyio."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from typing import TypeVar, cast

import anyio
import anyio.to_thread

from consul_access._pairs.sockets import SocketAddress, left, look_up

__all__ = ["Slots", "resolve", "settled", "shielded", "sleep", "time_limit", "wait_readable", "wait_writable"]

T = TypeVar("T")

sleep = anyio.sleep


async def wait_readable(sock: socket.socket, deadline: float) -> None:
    """Waits until something has arrived, or the other side has closed."""
    with anyio.fail_after(left(deadline)):
        await anyio.wait_readable(sock)


async def wait_writable(sock: socket.socket, deadline: float) -> None:
    """Waits until something can be sent."""
    with anyio.fail_after(left(deadline)):
        await anyio.wait_writable(sock)


async def resolve(host: str, port: int, deadline: float) -> list[SocketAddress]:
    """The addresses of a host name, looked up in a thread that is left behind when time runs out."""
    with anyio.fail_after(left(deadline)):
        return await anyio.to_thread.run_sync(look_up, host, port, abandon_on_cancel=True)


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


class Slots:
    """A number of places; whoever finds none free waits for one, in vain at most until the deadline."""

    __slots__ = ("_places",)

    def __init__(self, places: int) -> None:
        self._places = anyio.Semaphore(places, fast_acquire=True)

    async def acquire(self, deadline: float) -> None:
        """Takes a place."""
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            with anyio.fail_after(left(deadline)):
                await self._places.acquire()

    def release(self) -> None:
        """Gives it back."""
        self._places.release()

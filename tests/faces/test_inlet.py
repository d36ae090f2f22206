"""What takes an answer off a socket, call after call: its time limits hold for each call, in whatever event loop."""

from __future__ import annotations

import asyncio
import functools
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator

import pytest
import trio

from consul_access._pairs import tasks, threads

Ends = tuple[socket.socket, socket.socket]

LONG = 30.0


def in_an_event_loop(test: Callable[[Ends], Coroutine[None, None, None]]) -> Callable[[Ends], None]:
    @functools.wraps(test)
    def run(ends: Ends) -> None:
        asyncio.run(test(ends))

    return run


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def anything(data: bytes) -> bool:
    return bool(data)


async def answered(inlet: tasks.Inlet, theirs: socket.socket) -> None:
    theirs.send(b"answer")
    await inlet.feed(anything, LONG, time.monotonic() + LONG)


async def in_vain(inlet: tasks.Inlet, seconds: float) -> float:
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        await inlet.feed(anything, seconds, begun + LONG)
    return time.monotonic() - begun


@in_an_event_loop
async def test_a_short_call_after_a_long_one_ends_by_its_own_limit(ends: Ends) -> None:
    inlet = tasks.Inlet(ends[0])
    await answered(inlet, ends[1])
    assert 0.05 <= await in_vain(inlet, 0.05) < LONG / 3


@in_an_event_loop
async def test_the_timer_of_an_earlier_call_ends_no_later_one(ends: Ends) -> None:
    inlet = tasks.Inlet(ends[0])
    begun = time.monotonic()
    ends[1].send(b"answer")
    await inlet.feed(anything, 0.1, begun + LONG)
    assert await in_vain(inlet, 0.3) >= 0.3


@in_an_event_loop
async def test_every_byte_that_comes_begins_the_silence_anew(ends: Ends) -> None:
    inlet, loop, came = tasks.Inlet(ends[0]), asyncio.get_running_loop(), bytearray()
    for step in range(4):
        loop.call_later(0.15 * step, ends[1].send, b".")

    def four(data: bytes) -> bool:
        came.extend(data)
        return len(came) == 4

    await inlet.feed(four, 0.4, time.monotonic() + LONG)
    assert came == b"...."


def test_one_connection_serves_event_loop_after_event_loop(ends: Ends) -> None:
    inlet = tasks.Inlet(ends[0])
    for _ in range(3):
        asyncio.run(answered(inlet, ends[1]))
    trio.run(answered, inlet, ends[1])
    assert asyncio.run(in_vain(inlet, 0.05)) < LONG / 3


def test_the_timer_of_a_loop_that_goes_on_elsewhere_does_no_harm(ends: Ends) -> None:
    inlet, first, second = tasks.Inlet(ends[0]), asyncio.new_event_loop(), asyncio.new_event_loop()

    async def short() -> None:
        ends[1].send(b"answer")
        await inlet.feed(anything, 0.1, time.monotonic() + LONG)

    try:
        first.run_until_complete(short())
        elsewhere = threading.Thread(target=first.run_until_complete, args=(asyncio.sleep(0.3),))
        elsewhere.start()
        assert second.run_until_complete(in_vain(inlet, 0.2)) >= 0.2
        elsewhere.join()
    finally:
        first.close()
        second.close()


@in_an_event_loop
async def test_a_cancelled_call_leaves_the_event_loop_as_it_was(ends: Ends) -> None:
    inlet = tasks.Inlet(ends[0])
    call = asyncio.create_task(inlet.feed(anything, LONG, time.monotonic() + LONG))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not asyncio.get_running_loop().remove_reader(ends[0].fileno())
    await answered(inlet, ends[1])


@in_an_event_loop
async def test_of_a_stream_what_has_come_already_is_taken_without_waiting(
    ends: Ends,
) -> None:
    inlet = tasks.Inlet(ends[0])
    ends[1].send(b"line")
    step = inlet.feed_on(anything, time.monotonic() + LONG)
    with pytest.raises(StopIteration):
        step.send(None)


def test_threads_wait_so_long_and_no_longer(ends: Ends) -> None:
    inlet = threads.Inlet(ends[0])
    ends[1].send(b"answer")
    inlet.feed(anything, LONG, time.monotonic() + LONG)
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        inlet.feed_on(anything, begun + 0.05)
    assert 0.05 <= time.monotonic() - begun < LONG / 3

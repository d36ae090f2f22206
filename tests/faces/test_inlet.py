"""What takes an answer off a socket, call after call: its time limits hold for each call, in whatever event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import ParamSpec

import pytest
import trio

from consul_access._pairs import tasks, threads

P = ParamSpec("P")
Ends = tuple[socket.socket, socket.socket]

LONG = 30.0


def in_an_event_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

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


async def removed(number: int) -> bool:
    """Whether the event loop watched this number; it does no more."""
    return asyncio.get_running_loop().remove_reader(number)


@contextlib.contextmanager
def in_another_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs there."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LONG)
        loop.close()


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
async def test_the_event_loop_is_asked_once_to_watch_the_socket(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    inlet, loop = tasks.Inlet(ends[0]), asyncio.get_running_loop()
    await answered(inlet, ends[1])
    monkeypatch.setattr(loop, "add_reader", pytest.fail)
    for _ in range(3):
        await answered(inlet, ends[1])


@in_an_event_loop
async def test_what_comes_while_nobody_waits_keeps_no_event_loop_busy_and_is_there_for_the_next(ends: Ends) -> None:
    inlet, loop = tasks.Inlet(ends[0]), asyncio.get_running_loop()
    await answered(inlet, ends[1])
    ends[1].send(b"too much")
    assert inlet.is_readable(LONG)
    for _ in range(2):  # it is told of the socket behind what is ready already
        await asyncio.sleep(0)
    assert not loop.remove_reader(ends[0].fileno())
    await inlet.feed(b"too much".__eq__, LONG, time.monotonic() + LONG)


@in_an_event_loop
async def test_a_closed_socket_s_number_is_free_for_another_one(ends: Ends) -> None:
    inlet, number = tasks.Inlet(ends[0]), ends[0].fileno()
    await answered(inlet, ends[1])
    inlet.close()
    with contextlib.closing(ends[1].dup()) as successor:
        assert successor.fileno() == number, "the lowest number that is free"
        asyncio.get_running_loop().add_reader(number, pytest.fail)
        assert asyncio.get_running_loop().remove_reader(number)


def test_a_loop_in_another_thread_gives_its_socket_up_before_that_is_closed(ends: Ends) -> None:
    inlet, number = tasks.Inlet(ends[0]), ends[0].fileno()
    with in_another_thread() as there:
        asyncio.run_coroutine_threadsafe(answered(inlet, ends[1]), there).result(LONG)
        inlet.close()
        watched = asyncio.run_coroutine_threadsafe(removed(number), there).result(LONG)
    assert not watched
    assert ends[0].fileno() < 0


def test_two_event_loops_in_two_threads_take_turns(ends: Ends) -> None:
    inlet = tasks.Inlet(ends[0])
    with in_another_thread() as there:
        for _ in range(3):
            asyncio.run_coroutine_threadsafe(answered(inlet, ends[1]), there).result(LONG)
            asyncio.run(answered(inlet, ends[1]))
            trio.run(answered, inlet, ends[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@in_an_event_loop
async def test_a_forked_child_takes_nothing_away_from_its_parent(ends: Ends) -> None:
    inlet = tasks.Inlet(ends[0])
    await answered(inlet, ends[1])
    child = os.fork()
    if not child:
        inlet.abandon()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222 - the child ends at once
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

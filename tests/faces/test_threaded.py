"""A transport for threads, as tasks use it: bodies that never end, answers that nobody wants any more."""

from __future__ import annotations

import gzip
import queue
import threading
import time
from collections.abc import Callable, Iterator

import anyio
import httpx
import pytest

from consul_access._live.threaded import ThreadedTransport
from consul_access._pairs.threads import within
from tests.support.waiting import eventually

REQUEST = httpx.Request("GET", "http://registry.example/")


class Endless(httpx.SyncByteStream):
    """A body whose pieces are put into it."""

    def __init__(self) -> None:
        self.pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.pieces.get():
            yield piece

    def close(self) -> None:
        self.is_closed = True
        self.pieces.put(b"")


class Answering(httpx.BaseTransport):
    """Answers as a function says."""

    def __init__(self, answer: Callable[[], httpx.Response]) -> None:
        self.answer = answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.answer()


def test_pieces_are_handed_on_as_they_come_and_a_quiet_body_takes_nobodys_place():
    body = Endless()
    answers = iter([httpx.Response(200, stream=body), httpx.Response(204)])

    async def story() -> None:
        transport = ThreadedTransport(Answering(lambda: next(answers)), places=1)
        with anyio.fail_after(20):
            response = await transport.handle_async_request(REQUEST)
            pieces = aiter(response.stream)
            body.pieces.put(b"one")
            assert await anext(pieces) == b"one"
            async with anyio.create_task_group() as group:
                group.start_soon(anext, pieces)
                assert (await transport.handle_async_request(REQUEST)).status_code == 204
                group.cancel_scope.cancel()
            await response.aclose()
        assert body.is_closed

    anyio.run(story)


def test_an_answer_that_comes_too_late_is_closed():
    body = Endless()
    go_on = threading.Event()

    def late() -> httpx.Response:
        go_on.wait(20)
        return httpx.Response(200, stream=body)

    async def story() -> None:
        with pytest.raises(TimeoutError), anyio.fail_after(0.05):
            await ThreadedTransport(Answering(late), places=1).handle_async_request(REQUEST)
        go_on.set()

    anyio.run(story)
    eventually(lambda: body.is_closed)


def test_what_the_transport_has_read_and_decoded_already_is_not_decoded_again():
    def read() -> httpx.Response:
        headers = {"content-encoding": "gzip"}
        response = httpx.Response(200, headers=headers, stream=httpx.ByteStream(gzip.compress(b"text")))
        response.read()
        return response

    async def story() -> None:
        response = await ThreadedTransport(Answering(read), places=1).handle_async_request(REQUEST)
        assert b"".join([piece async for piece in aiter(response.stream)]) == b"text"
        assert "content-encoding" not in response.headers

    anyio.run(story)


def test_what_a_thread_brings_too_late_is_taken_by_somebody_else():
    go_on = threading.Event()
    late: list[str] = []

    def work() -> str:
        go_on.wait(20)
        return "brought"

    with pytest.raises(TimeoutError):
        within(time.monotonic() + 0.05, work, late=late.append)
    go_on.set()
    eventually(lambda: late == ["brought"])
    assert within(time.monotonic() + 20, work) == "brought"
    with pytest.raises(ZeroDivisionError):
        within(time.monotonic() + 20, lambda: 1 // 0)


def test_what_the_transport_raises_is_raised():
    def refuse() -> httpx.Response:
        raise httpx.ConnectError("nobody there")

    async def story() -> None:
        with pytest.raises(httpx.ConnectError):
            await ThreadedTransport(Answering(refuse), places=1).handle_async_request(REQUEST)

    anyio.run(story)

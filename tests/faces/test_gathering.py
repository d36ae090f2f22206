"""Questions that are asked together, on both faces, without a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import pytest

from consul_access import ConnectFailed, DeadlineExceeded
from consul_access._async.gathering import AsyncGathering
from consul_access._sync.gathering import Gathering

SOON = 20.0


class Answering:
    """Answers with the double of each number, and remembers what was asked together."""

    def __init__(self, answer: Callable[[Sequence[int]], Mapping[int, int]] | None = None) -> None:
        self.asked: list[list[int]] = []
        self.answer = answer or (lambda keys: {key: 2 * key for key in keys})
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self, keys: Sequence[int], within: float) -> Mapping[int, int]:
        assert 0 < within <= SOON
        self.asked.append(list(keys))
        assert self.may_go.wait(SOON)
        return self.answer(keys)

    async def later(self, keys: Sequence[int], within: float) -> Mapping[int, int]:
        assert 0 < within <= SOON
        self.asked.append(list(keys))
        while not self.may_go.is_set():
            await anyio.sleep(0.005)
        return self.answer(keys)


def asked_at_once(
    face, answering: Answering, keys: Sequence[int], *, most: int = 100, linger: float = 0.05, within: float = SOON
) -> dict[int, object]:
    """What everybody gets who asks at the same time: an answer, or an error."""
    settings: dict[str, Any] = {"most": most, "linger": lambda: linger}
    if face.is_async:
        return anyio.run(asked_by_tasks, answering, keys, settings, within, backend=face.name)
    return asked_by_threads(Gathering(answering, **settings), keys, within)


def asked_by_threads(gathering: Gathering[int, int], keys: Sequence[int], within: float) -> dict[int, object]:
    got: dict[int, object] = {}

    def ask(key: int) -> None:
        try:
            got[key] = gathering.ask(key, within)
        except (ConnectFailed, DeadlineExceeded) as error:
            got[key] = error

    threads = [threading.Thread(target=ask, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    return got


async def asked_by_tasks(
    answering: Answering, keys: Sequence[int], settings: dict[str, Any], within: float
) -> dict[int, object]:
    got: dict[int, object] = {}
    gathering = AsyncGathering(answering.later, **settings)

    async def ask(key: int) -> None:
        try:
            got[key] = await gathering.ask(key, within)
        except (ConnectFailed, DeadlineExceeded) as error:
            got[key] = error

    async with anyio.create_task_group() as group:
        for key in keys:
            group.start_soon(ask, key)
    return got


def test_who_asks_at_the_same_time_is_answered_by_few_requests(face):
    answering = Answering()
    keys = range(200)
    assert asked_at_once(face, answering, keys) == {key: 2 * key for key in keys}
    assert sorted(key for request in answering.asked for key in request) == list(keys)
    assert len(answering.asked) < 20
    assert max(map(len, answering.asked)) <= 100


def test_a_request_has_no_more_keys_than_it_may(face):
    answering = Answering()
    assert len(asked_at_once(face, answering, range(10), most=3)) == 10
    assert max(map(len, answering.asked)) <= 3


def test_what_an_answer_leaves_out_is_asked_again(face):
    answering = Answering(lambda keys: {keys[0]: 2 * keys[0]})
    assert asked_at_once(face, answering, range(5)) == {key: 2 * key for key in range(5)}
    assert sum(map(len, answering.asked)) >= 5


def test_an_error_is_that_of_all_who_were_in_the_request_and_of_nobody_else(face):
    def answer(keys: Sequence[int]) -> Mapping[int, int]:
        if 3 in keys:
            raise ConnectFailed("nobody there")
        return {key: 2 * key for key in keys}

    answering = Answering(answer)
    got = asked_at_once(face, answering, range(8), most=2)
    (company,) = (request for request in answering.asked if 3 in request)
    assert {key for key, value in got.items() if isinstance(value, ConnectFailed)} == set(company)
    assert {key: value for key, value in got.items() if key not in company} == {
        key: 2 * key for key in range(8) if key not in company
    }


def test_who_waits_for_ones_turn_in_vain_is_told_so_in_time(face):
    answering = Answering()
    answering.may_go.clear()
    begun = time.monotonic()
    threading.Timer(0.5, answering.may_go.set).start()
    got = asked_at_once(face, answering, [1, 2], most=1, linger=0.0, within=0.2)
    (first,) = answering.asked
    assert got[first[0]] == 2 * first[0]  # whom the answer reaches late has it all the same
    assert isinstance(got[3 - first[0]], DeadlineExceeded)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_is_cancelled_keeps_nobody_from_being_answered(backend):
    answering = Answering()
    answering.may_go.clear()

    async def story() -> None:
        gathering = AsyncGathering(answering.later, most=1, linger=lambda: 0.0)
        async with anyio.create_task_group() as group:
            with anyio.move_on_after(0.1):
                await gathering.ask(1, SOON)
            answering.may_go.set()
            group.start_soon(gathering.ask, 2, SOON)
        assert await gathering.ask(1, SOON) == 2

    anyio.run(story, backend=backend)
    assert answering.asked == [[1], [2], [1]]

"""One story for both faces: written once as a coroutine, told to asyncio, to trio, and to threads.

For threads nothing in it ever has to wait: methods are called as they are, and their results handed over to `await`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import anyio

__all__ = ["AwaitedBase", "rest", "tell"]


def tell(face: str, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a story to its end.

    Args:
        face: `threads`, `asyncio` or `trio`.
        story: makes the coroutine.

    Raises:
        AssertionError: on the face for threads something in it has to wait.
    """
    if face != "threads":
        anyio.run(story, backend=face)
        return
    telling = story()
    try:
        telling.send(None)
    except StopIteration:
        return
    telling.close()
    raise AssertionError("a client for threads has nothing to wait for")


async def rest(face: str, seconds: float) -> None:
    """Lets everything else go on for so many seconds."""
    if face == "threads":
        time.sleep(seconds)  # noqa: ASYNC251 - there is no loop on this face
    else:
        await anyio.sleep(seconds)


class AwaitedBase:
    """Something of the face for threads, to be iterated over and entered as on the other one.

    Args:
        inner: the thing.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._inner)
        except StopIteration:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        self._inner.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, traceback)

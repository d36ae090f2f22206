"""One story, told to both faces: written once as a coroutine, run under asyncio, under trio, and for threads.

For threads each method of the client is called as it is, and its result handed over to `await`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from consul_access import (
    AsyncCatalogSync,
    AsyncConsulAccess,
    AsyncEtcdRegistry,
    CatalogSync,
    ConsulAccess,
    EtcdRegistry,
    Keeper,
    Kubernetes,
    Lease,
    Registration,
    Resolver,
)
from consul_access.testing.stories import AwaitedBase, rest, tell

T = TypeVar("T")


@dataclass(frozen=True)
class Face:
    """One of `threads`, `asyncio`, `trio`."""

    name: str

    @property
    def is_async(self) -> bool:
        return self.name != "threads"

    def run(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs a story to its end."""
        tell(self.name, story)

    @asynccontextmanager
    async def access(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """A client, closed at the end of the block."""
        if self.is_async:
            async with AsyncConsulAccess(*args, **kwargs) as access:
                yield access
        else:
            with ConsulAccess(*args, **kwargs) as client:
                yield Awaited(client)

    @asynccontextmanager
    async def etcd(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """A client of etcd, closed at the end of the block."""
        if self.is_async:
            async with AsyncEtcdRegistry(*args, **kwargs) as etcd:
                yield etcd
        else:
            with EtcdRegistry(*args, **kwargs) as client:
                yield Awaited(client)

    def sync(self, source: Any, target: Any, **kwargs: Any) -> Any:
        """A sync from one client's services into the other's catalog."""
        if self.is_async:
            return AsyncCatalogSync(source, target, **kwargs)
        return Awaited(CatalogSync(unwrapped(source), unwrapped(target), **kwargs))

    async def sleep(self, seconds: float) -> None:
        """Lets everything else go on for so long."""
        await rest(self.name, seconds)

    async def eventually(self, condition: Callable[[], T], within: float = 10.0, what: str = "") -> tuple[T, float]:
        """What the condition answers as soon as that is true, and after how many seconds that was."""
        begun = time.monotonic()
        while not (found := condition()):
            if time.monotonic() - begun > within:
                raise AssertionError(f"within {within:g} s it did not come true: {what or condition}")
            await self.sleep(0.01)
        return found, time.monotonic() - begun

    def transport(self, handler: Callable[[httpx.Request], httpx.Response]) -> httpx.MockTransport:
        """A scripted exchange."""
        return httpx.MockTransport(handler)


class Awaited(AwaitedBase):
    """A thing of the threads' face with methods that can be awaited."""

    plain = frozenset({"approve", "on_ejection", "on_exchange", "on_keeper_event", "on_pick"})
    """Methods that are not awaited on the other face either."""
    making = frozenset({"registered", "resolver", "watch", "watch_key", "watch_prefix", "watch_services", "on_change"})
    """Methods that are not awaited, and give something with methods that are."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        if isinstance(inner, Resolver):
            self.plain = frozenset({"pick", "instances", "snapshot", "started", "report"})

    def __getattr__(self, name: str) -> Any:
        if name == "aclose":
            name = "close"
        value = getattr(self._inner, name)
        if isinstance(value, Kubernetes):
            return Awaited(value)
        if not inspect.ismethod(value) or name in self.plain or name.startswith("_"):
            return value

        if name in self.making:
            return lambda *args, **kwargs: Awaited(value(*args, **kwargs))

        async def method(*args: Any, **kwargs: Any) -> Any:
            return wrapped(value(*(unwrapped(one) for one in args), **kwargs))

        return method

    def __repr__(self) -> str:
        return repr(self._inner)


def wrapped(result: Any) -> Any:
    return Awaited(result) if isinstance(result, Registration | Keeper | Lease) else result


def unwrapped(value: Any) -> Any:
    return value._inner if isinstance(value, Awaited) else value

"""Any ASGI application (FastAPI, Starlette, Litestar, your own) as a registered service.

It registers when the application has started, and goes in the order that loses no request: out of every look-up,
`drain` seconds in which it still answers, deregistered, and only then does the server close its port. Lifespan's
shutdown alone is too late for that: uvicorn sends it after the port was closed.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from consul_access._async.consul import AsyncConsulAccess
from consul_access.errors import ConsulAccessError
from consul_access.models.default import DEFAULT, Default

if TYPE_CHECKING:
    from consul_access._async.keeper import AsyncKeeper
    from consul_access.models.address import Address
    from consul_access.models.catalog import Weights
    from consul_access.models.checks import AnyCheck
    from consul_access.rules.keeping import KeeperEvent

__all__ = ["Registered"]

log = logging.getLogger("consul_access")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

HEALTHY = b"ok"


class Registered:
    """An ASGI application that is registered while it runs.

    `app = Registered(app, "orders", port=8080)`, and serve that.

    Args:
        app: the application.
        name: the service.
        address: where it can be reached; see `AsyncConsulAccess.register_service`.
        port: the port that the server listens at; ASGI does not tell it.
        access: the client; by default one of its own, from the CONSUL_* environment.
        health_path: answered here with 200 and `ok`, without asking the application; None leaves it to the application.
        drain: seconds between the service's disappearance from every look-up and the server's own shutdown.

    The others are those of `AsyncConsulAccess.registered`.

    An application whose registration fails does not start: the server ends with the reason. Several workers on one port
    (`uvicorn --workers`) keep one registration together: when one of
    them ends alone, the others restore it at their next look, within 5 s.
    """

    def __init__(
        self,
        app: Application,
        name: str,
        address: str | None = None,
        port: int | None = None,
        *,
        access: AsyncConsulAccess | None = None,
        health_path: str | None = "/health",
        drain: float = 2.0,
        stop_timeout: float = 5.0,
        health: Callable[[], object] | None = None,
        on_event: Callable[[KeeperEvent], object] | None = None,
        fail_fast: bool = True,
        id: str | None = None,  # noqa: A002 - the registry's own word
        tags: Iterable[str] = (),
        meta: Mapping[str, str] | None = None,
        check: AnyCheck | Default | None = DEFAULT,
        checks: Iterable[AnyCheck] | None = None,
        weights: Weights | None = None,
        tagged_addresses: Mapping[str, Address] | None = None,
    ) -> None:
        self._app = app
        self._health_path = health_path
        self._given = access
        self._registered = partial(
            AsyncConsulAccess.registered,
            name=name,
            address=address,
            port=port,
            drain=drain,
            stop_timeout=stop_timeout,
            health=health,
            on_event=on_event,
            fail_fast=fail_fast,
            id=id,
            tags=tags,
            meta=meta,
            check=check,
            checks=checks,
            weights=weights,
            tagged_addresses=tagged_addresses,
        )
        self._access: AsyncConsulAccess | None = None
        self._keeper: AsyncKeeper | None = None
        self._signals: _Signals | None = None

    @property
    def keeper(self) -> AsyncKeeper | None:
        """The keeper, for its state; None while the application does not run."""
        return self._keeper

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == self._health_path and scope["method"] in {"GET", "HEAD"}:
            await _well(scope["method"], send)
        else:
            await self._app(scope, receive, send)

    async def _lifespan(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        heard = False

        async def hear() -> Message:
            nonlocal heard
            heard = True
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._end()
            return message

        async def tell(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                try:
                    await self._begin()
                except ConsulAccessError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
            await send(message)

        try:
            await self._app(scope, hear, tell)
        except Exception:
            if heard:
                raise
            log.debug("the application knows no lifespan; the service is registered all the same", exc_info=True)
            await self._alone(hear, tell)

    async def _alone(self, hear: Receive, tell: Send) -> None:
        """Lifespan on behalf of an application that knows none."""
        await hear()
        await tell({"type": "lifespan.startup.complete"})
        await hear()
        await tell({"type": "lifespan.shutdown.complete"})

    async def _begin(self) -> None:
        self._access = self._given or AsyncConsulAccess()  # one for each start: servers under test have several
        keeper = self._registered(self._access)
        await keeper.start()
        self._keeper = keeper
        self._signals = _Signals(keeper)

    async def _end(self) -> None:
        if self._signals is not None:
            self._signals.restore()
        if self._keeper is not None:
            await self._keeper.stop()
            self._keeper = None
        if self._access is not None and self._given is None:
            await self._access.aclose()


class _Signals:
    """Lets the service leave before the server's own handler begins to close the port; that one is called after."""

    def __init__(self, keeper: AsyncKeeper) -> None:
        self._keeper = keeper
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._asked = 0
        self._leaving: list[asyncio.Task[None]] = []  # asyncio itself holds tasks only weakly
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:  # trio
            return
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            # asyncio calls the handlers of `add_signal_handler` by itself; what Python knows of is a placeholder.
            if callable(handler) and getattr(handler, "__module__", "") not in {
                "asyncio.unix_events",
                "signal",
                "_signal",
            }:
                self._before[number] = handler
                signal.signal(number, self._on_signal)

    def restore(self) -> None:
        """Takes the handlers away again."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        if self._asked > 2:
            self._before[number](number, frame)
        else:  # whoever asks twice does not want to wait for the drain
            self._loop.call_soon_threadsafe(self._leave, number, self._asked == 2)

    def _leave(self, number: int, hurry: bool) -> None:
        name = f"consul-access leaves, {signal.Signals(number).name}"
        self._leaving.append(self._loop.create_task(self._left(number, hurry), name=name))

    async def _left(self, number: int, hurry: bool) -> None:
        try:
            await self._keeper.stop(hurry=hurry)
        finally:
            self._before[number](number, None)


async def _well(method: str, send: Send) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(HEALTHY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": HEALTHY if method == "GET" else b""})

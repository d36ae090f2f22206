"""Any ASGI application (FastAPI, Starlette, Litestar, your own) as a registered service.

It registers when the application has started, and goes in the order that loses no request: out of every look-up,
`drain` seconds in which it still answers, deregistered, and only then does the server close its port. Lifespan's
shutdown alone is too late for that: uvicorn sends it after the port was closed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from consul_access._async.consul import AsyncConsulAccess
from consul_access._async.health import AsyncHealthChecks, Health
from consul_access.errors import ConsulAccessError
from consul_access.integrations._leaving import AsyncLeaving
from consul_access.integrations._registration import DRAIN, RegistrationOptions, checked, reported

if TYPE_CHECKING:
    from consul_access._async.keeper import AsyncKeeper

__all__ = ["HealthRoute", "Registered", "lifespan"]

log = logging.getLogger("consul_access")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

App = TypeVar("App")
State = TypeVar("State")


class HealthRoute:
    """An ASGI application that answers how the service is; a route of Starlette and FastAPI, too.

    `app.add_route("/health", HealthRoute({"database": ping}))`. It answers 200 when every check passes, 429 for a
    warning and 503 when one is critical, as agents read it, with a JSON body that tells of each check.

    Args:
        health: a function, functions by name, or `AsyncHealthChecks` with limits of their own; without, 200 always.

    The body tells whoever may ask what the checks say, texts of their exceptions included.
    Source: https://developer.hashicorp.com/consul/docs/register/health-check/vm#http-checks
    """

    def __init__(self, health: Health | None = None) -> None:
        self.checks = AsyncHealthChecks.of(health)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["method"] not in {"GET", "HEAD"}:
            await _answer(send, 405, b"", (b"allow", b"GET, HEAD"))
            return
        report = await self.checks.report()
        body = report.body() if scope["method"] == "GET" else b""
        await _answer(send, report.http_status, body, (b"content-type", b"application/json"))


async def _answer(send: Send, status: int, body: bytes, header: tuple[bytes, bytes]) -> None:
    headers = [header, (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Registered:
    """An ASGI application that is registered while it runs.

    `app = Registered(app, "orders", port=8080)`, and serve that.

    Args:
        app: the application.
        name: the service.
        address: where it can be reached; see `AsyncConsulAccess.register_service`.
        port: the port that the server listens at; ASGI does not tell it.
        access: the client; by default one of its own, from the CONSUL_* environment.
        health: how the service is: a function, functions by name, or `AsyncHealthChecks`. It is what `health_path`
            answers, and what TTL checks are reported with.
        health_path: answered here, as by `HealthRoute`, without asking the application; None leaves it to the
            application.
        drain: seconds between the service's disappearance from every look-up and the server's own shutdown; 2 by
            default.

    The others are those of `AsyncConsulAccess.registered`.

    An application whose registration fails does not start: the server ends with the reason. Several workers on one port
    (`uvicorn --workers`) keep one registration together, and the last one to leave ends it.

    Raises:
        InvalidInput: an argument cannot be right.
    """

    def __init__(
        self,
        app: Application,
        name: str,
        address: str | None = None,
        port: int | None = None,
        *,
        access: AsyncConsulAccess | None = None,
        health: Health | None = None,
        health_path: str | None = "/health",
        drain: float = DRAIN,
        **registration: Unpack[RegistrationOptions],
    ) -> None:
        self._app = app
        self._health_path = health_path
        self._route = HealthRoute(health)
        self._session = _Session(
            name=name,
            address=address,
            port=port,
            access=access,
            health=None if health is None else self._route.checks,
            drain=drain,
            options=registration,
        )

    @property
    def keeper(self) -> AsyncKeeper | None:
        """The keeper, for its state; None while the application does not run."""
        return self._session.keeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == self._health_path:
            await self._route(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        heard = False

        async def hear() -> Message:
            nonlocal heard
            heard = True
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._session.end()
            return message

        async def tell(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                try:
                    await self._session.begin()
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


@overload
def lifespan(
    name: str,
    address: str | None = None,
    port: int | None = None,
    *,
    access: AsyncConsulAccess | None = None,
    health: Health | None = None,
    drain: float = DRAIN,
    **registration: Unpack[RegistrationOptions],
) -> Callable[[object], AbstractAsyncContextManager[None]]: ...


@overload
def lifespan(
    name: str,
    address: str | None = None,
    port: int | None = None,
    *,
    within: Callable[[App], AbstractAsyncContextManager[State]],
    access: AsyncConsulAccess | None = None,
    health: Health | None = None,
    drain: float = DRAIN,
    **registration: Unpack[RegistrationOptions],
) -> Callable[[App], AbstractAsyncContextManager[State]]: ...


def lifespan(
    name: str,
    address: str | None = None,
    port: int | None = None,
    *,
    within: Callable[[App], AbstractAsyncContextManager[State]] | None = None,
    access: AsyncConsulAccess | None = None,
    health: Health | None = None,
    drain: float = DRAIN,
    **registration: Unpack[RegistrationOptions],
) -> Callable[[App], AbstractAsyncContextManager[State | None]]:
    """A lifespan for Starlette and FastAPI that registers the service.

    `app = FastAPI(lifespan=lifespan("orders", port=8080))`.

    Args:
        name: the service.
        address: where it can be reached; see `AsyncConsulAccess.register_service`.
        port: the port that the server listens at.
        within: the application's own lifespan; the service is registered within it, and gone before it ends.
        access: the client; by default one of its own, from the CONSUL_* environment.
        health: what TTL checks are reported with; for HTTP checks give the same to a `HealthRoute`.
        drain: as with `Registered`.

    The others are those of `AsyncConsulAccess.registered`.

    Returns:
        What the application takes as its `lifespan`.

    Raises:
        InvalidInput: an argument cannot be right. What else can go wrong is raised when the application starts.
    """
    session = _Session(
        name=name,
        address=address,
        port=port,
        access=access,
        health=None if health is None else AsyncHealthChecks.of(health),
        drain=drain,
        options=registration,
    )

    @contextlib.asynccontextmanager
    async def registered(app: App) -> AsyncIterator[State | None]:
        own: AbstractAsyncContextManager[State | None] = contextlib.nullcontext() if within is None else within(app)
        async with own as state:
            await session.begin()
            try:
                yield state
            finally:
                await session.end()

    return registered


class _Session:
    """From the application's start to its end; any number of times, since servers under test have several."""

    def __init__(
        self,
        *,
        name: str,
        address: str | None,
        port: int | None,
        access: AsyncConsulAccess | None,
        health: AsyncHealthChecks | None,
        drain: float,
        options: RegistrationOptions,
    ) -> None:
        self._given = access
        self._access: AsyncConsulAccess | None = None
        self._leaving: AsyncLeaving | None = None
        self.keeper: AsyncKeeper | None = None
        options = checked(options)
        self._registered = partial(
            AsyncConsulAccess.registered,
            name=name,
            address=address,
            port=port,
            health=reported(health, options),
            drain=drain,
            shared=True,
            **options,
        )

    async def begin(self) -> None:
        access = self._given or AsyncConsulAccess()
        keeper = self._registered(access)
        leaving = AsyncLeaving(lambda hurry: keeper.stop(hurry=hurry))
        try:
            await keeper.start()
        except BaseException:
            await leaving.end()
            if self._given is None:
                await access.aclose()
            raise
        self._access, self.keeper, self._leaving = access, keeper, leaving

    async def end(self) -> None:
        """The port is closed by now, if the server is like uvicorn: no caller is served by waiting any longer."""
        keeper, self.keeper = self.keeper, None
        if keeper is not None:
            await keeper.stop(hurry=True)
        if self._leaving is not None:
            await self._leaving.end()
        if self._access is not None and self._given is None:
            await self._access.aclose()

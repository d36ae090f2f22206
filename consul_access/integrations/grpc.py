"""A gRPC server (grpcio) whose health service and registration keep step; needs the extra `grpc`.

When it starts, the health service of `grpc.health.v1` says SERVING and the service is registered with a check that asks
it. When it ends, by its block or by a signal, health says NOT_SERVING first, then it leaves every look-up, `drain`
seconds pass in which it still answers, it is deregistered, and the server ends what it has begun.
Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from consul_access._async.consul import AsyncConsulAccess
from consul_access.errors import InvalidInput
from consul_access.integrations._leaving import AsyncLeaving, Leaving
from consul_access.integrations._missing import missing
from consul_access.integrations._registration import DRAIN, RegistrationOptions, checked
from consul_access.models.checks import GrpcCheck
from consul_access.models.default import DEFAULT

if TYPE_CHECKING:
    import grpc
    import grpc.aio
    from grpc_health.v1.health import HealthServicer
    from grpc_health.v1.health import aio as health_aio

    from consul_access._async.keeper import AsyncKeeper
    from consul_access._sync.consul import ConsulAccess
    from consul_access._sync.keeper import Keeper

__all__ = ["AsyncRegistered", "Registered"]


class Registered:
    """A `grpc.Server` with a health service, registered from `start` to `stop`, or within its block.

    It is made before the server starts, since it adds a service; it starts and stops the server itself.

    Args:
        server: what `grpc.server(...)` gave, not started.
        name: the service.
        address: where it can be reached; see `ConsulAccess.register_service`.
        port: what `server.add_insecure_port(...)` gave.
        access: the client; by default one of its own, from the CONSUL_* environment.
        services: names of gRPC services whose health follows the server's; the server itself, `""`, always does.
        drain: seconds between the service's disappearance from every look-up and the server's end; 2 by default.
        grace: seconds that running calls are given after that; 5 by default.

    The others are those of `ConsulAccess.registered`; `check` is `GrpcCheck()` by default.

    SIGTERM and SIGINT, when it is started in the main thread, are answered first, and take their course afterwards.

    Raises:
        InvalidInput: an argument cannot be right.
        ImportError: grpcio or grpcio-health-checking is not installed; the text says what to do.
    """

    def __init__(
        self,
        server: grpc.Server,
        name: str,
        address: str | None = None,
        port: int | None = None,
        *,
        access: ConsulAccess | None = None,
        services: Iterable[str] = (),
        drain: float = DRAIN,
        grace: float = 5.0,
        **registration: Unpack[RegistrationOptions],
    ) -> None:
        try:
            from grpc_health.v1 import health, health_pb2, health_pb2_grpc
        except ImportError as error:
            raise missing(error, "grpcio-health-checking", "grpc") from error
        from consul_access._sync.consul import ConsulAccess

        self._serving = health_pb2.HealthCheckResponse.SERVING
        self._not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        self._servicer = health.HealthServicer()
        self._services = ("", *services)
        for service in self._services:
            self._servicer.set(service, self._not_serving)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        self._server = server
        self._grace = _seconds(grace)
        self._given = access
        self._registered = partial(
            ConsulAccess.registered, name=name, address=address, port=port, drain=drain, **_asked(registration)
        )
        self._keeper: Keeper | None = None
        self._leaving: Leaving | None = None
        self._access: ConsulAccess | None = None

    @property
    def keeper(self) -> Keeper | None:
        """The keeper, for its state; None while it is not registered."""
        return self._keeper

    @property
    def health(self) -> HealthServicer:
        """The health service, to set the state of single gRPC services."""
        return self._servicer

    def start(self) -> Self:
        """Starts the server and registers the service.

        Raises:
            ConsulAccessError: it cannot be registered; the server is stopped again.
        """
        from consul_access._sync.consul import ConsulAccess

        self._server.start()
        for service in self._services:
            self._servicer.set(service, self._serving)
        self._access = self._given or ConsulAccess()
        keeper = self._registered(self._access)
        leaving = Leaving(lambda hurry: self._leave(keeper, hurry))
        try:
            keeper.start()
        except BaseException:
            leaving.end()
            self._server.stop(0).wait()
            self._close()
            raise
        self._keeper, self._leaving = keeper, leaving
        return self

    def stop(self) -> None:
        """Says NOT_SERVING, drains and deregisters the service, and stops the server."""
        self._leave(self._keeper, False)
        if self._leaving is not None:
            self._leaving.end()
        self._close()

    def _leave(self, keeper: Keeper | None, hurry: bool) -> None:
        self._servicer.enter_graceful_shutdown()
        if keeper is not None:
            keeper.stop(hurry=hurry)
        self._server.stop(self._grace).wait()

    def _close(self) -> None:
        if self._access is not None and self._given is None:
            self._access.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class AsyncRegistered:
    """A `grpc.aio.Server` with a health service, registered from `start` to `stop`, or within its block.

    It is made before the server starts, since it adds a service; it starts and stops the server itself.

    Args:
        server: what `grpc.aio.server()` gave, not started.

    The others are those of `Registered`, with an `AsyncConsulAccess` as the client.

    SIGTERM and SIGINT are answered first unless asyncio has handlers for them (`loop.add_signal_handler`): such a
    handler ends the block in its own way.

    Raises:
        InvalidInput: an argument cannot be right.
        ImportError: grpcio or grpcio-health-checking is not installed; the text says what to do.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        name: str,
        address: str | None = None,
        port: int | None = None,
        *,
        access: AsyncConsulAccess | None = None,
        services: Iterable[str] = (),
        drain: float = DRAIN,
        grace: float = 5.0,
        **registration: Unpack[RegistrationOptions],
    ) -> None:
        try:
            from grpc_health.v1 import health, health_pb2, health_pb2_grpc
        except ImportError as error:
            raise missing(error, "grpcio-health-checking", "grpc") from error
        self._serving = health_pb2.HealthCheckResponse.SERVING
        self._not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        self._servicer = health.aio.HealthServicer()
        self._services = ("", *services)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        self._server = server
        self._grace = _seconds(grace)
        self._given = access
        self._registered = partial(
            AsyncConsulAccess.registered, name=name, address=address, port=port, drain=drain, **_asked(registration)
        )
        self._keeper: AsyncKeeper | None = None
        self._leaving: AsyncLeaving | None = None
        self._access: AsyncConsulAccess | None = None

    @property
    def keeper(self) -> AsyncKeeper | None:
        """The keeper, for its state; None while it is not registered."""
        return self._keeper

    @property
    def health(self) -> health_aio.HealthServicer:
        """The health service, to set the state of single gRPC services."""
        return self._servicer

    async def start(self) -> Self:
        """Starts the server and registers the service.

        Raises:
            ConsulAccessError: it cannot be registered; the server is stopped again.
        """
        await self._server.start()
        for service in self._services:
            await self._servicer.set(service, self._serving)
        self._access = self._given or AsyncConsulAccess()
        keeper = self._registered(self._access)
        leaving = AsyncLeaving(lambda hurry: self._leave(keeper, hurry))
        try:
            await keeper.start()
        except BaseException:
            await leaving.end()
            await self._server.stop(0)
            await self._close()
            raise
        self._keeper, self._leaving = keeper, leaving
        return self

    async def stop(self) -> None:
        """Says NOT_SERVING, drains and deregisters the service, and stops the server."""
        await self._leave(self._keeper, False)
        if self._leaving is not None:
            await self._leaving.end()
        await self._close()

    async def _leave(self, keeper: AsyncKeeper | None, hurry: bool) -> None:
        await self._servicer.enter_graceful_shutdown()
        if keeper is not None:
            await keeper.stop(hurry=hurry)
        await self._server.stop(self._grace)

    async def _close(self) -> None:
        if self._access is not None and self._given is None:
            await self._access.aclose()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()


def _asked(options: RegistrationOptions) -> RegistrationOptions:
    """With a check that asks the health service, unless others are given, or there is no agent that could ask."""
    options = checked(options)
    if options.get("mode") == "catalog":
        return options
    if options.get("checks") is None and options.get("check", DEFAULT) is DEFAULT:
        options["check"] = GrpcCheck()
    return options


def _seconds(grace: float) -> float:
    if not 0 <= grace < float("inf"):
        raise InvalidInput(f"grace={grace!r} is no number of seconds to wait")
    return grace

"""Gunicorn: its master registers the service when it listens, and drains it before it ends the workers.

In `gunicorn.conf.py`:

    from consul_access.integrations.gunicorn import Registered

    when_ready = Registered("orders")

The master owns the one registration, so workers of every class (sync, threads, gevent, uvicorn), with and without
`--preload`, come and go as they like. Whether the workers work is what the check asks; answer it with
`consul_access.integrations.wsgi.WithHealth` or a route of your own.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, Unpack

from consul_access._sync.health import Health, HealthChecks
from consul_access.errors import ConsulAccessError, InvalidInput
from consul_access.integrations._registration import DRAIN, RegistrationOptions
from consul_access.integrations._serving import Serving

if TYPE_CHECKING:
    from consul_access._sync.consul import ConsulAccess
    from consul_access._sync.keeper import Keeper
    from consul_access.models.listening import Listening

__all__ = ["Master", "Registered"]

QUICK = (signal.SIGINT, signal.SIGQUIT)
"""What gunicorn calls a quick shutdown: its workers do not end their requests, and nobody waits for the drain."""


class _Log(Protocol):
    def error(self, msg: str, *args: object) -> object: ...


class Master(Protocol):
    """Gunicorn's `Arbiter`."""

    @property
    def LISTENERS(self) -> Sequence[Listening]: ...  # noqa: N802 - the name it has there

    @property
    def log(self) -> _Log: ...


class Registered:
    """A service that gunicorn's master keeps registered; the `when_ready` of `gunicorn.conf.py`.

    Args:
        name: the service.
        address: where it can be reached; see `ConsulAccess.register_service`.
        port: by default the port of the first `bind`.
        access: the client; by default one of its own, from the CONSUL_* environment.
        health: what TTL checks are reported with; it is asked in the master.
        drain: seconds between the service's disappearance from every look-up and the end of the workers; 2 by default.

    The others are those of `ConsulAccess.registered`.

    SIGTERM is answered by the drain, SIGINT and SIGQUIT (a quick shutdown) without; then gunicorn does as it always
    does. While it upgrades itself (SIGUSR2), the two masters keep the registration together. When it cannot be
    registered, gunicorn does not start, and the log says why (`fail_fast=False` starts all the same).

    Raises:
        InvalidInput: an argument cannot be right.
    """

    def __init__(
        self,
        name: str,
        address: str | None = None,
        port: int | None = None,
        *,
        access: ConsulAccess | None = None,
        health: Health | None = None,
        drain: float = DRAIN,
        **registration: Unpack[RegistrationOptions],
    ) -> None:
        self._port = port
        checks = None if health is None else HealthChecks.of(health)
        self._serving = Serving(
            name=name,
            address=address,
            port=port,
            access=access,
            health=checks,
            drain=drain,
            options=registration,
            hurried=QUICK,
        )

    @property
    def keeper(self) -> Keeper | None:
        """The keeper, for its state; None while it is not registered."""
        return self._serving.keeper

    def __call__(self, server: Master) -> None:
        """What gunicorn calls in its master when it listens."""
        try:
            self._serving.start(self._listening(server))
        except ConsulAccessError as error:
            server.log.error("gunicorn does not start, since it cannot be registered: %s", error)
            sys.exit(1)

    def _listening(self, server: Master) -> int | Listening:
        if self._port is not None:
            return self._port
        if not server.LISTENERS:
            raise InvalidInput("with reuse_port the master has no socket to read the port from: give port=")
        return server.LISTENERS[0]

"""Any WSGI application (Flask, Django, Bottle, your own) as a registered service that answers `/health`.

WSGI does not tell an application when its server begins and ends, and importing it must not register anything: a
migration or a shell imports it as well. So the registration is begun by whoever begins to serve: gunicorn by
`consul_access.integrations.gunicorn`, a server within the program by a `with` block, and others by calling `start` in
each worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from consul_access._sync.health import Health, HealthChecks
from consul_access.integrations._registration import DRAIN, RegistrationOptions
from consul_access.integrations._serving import Serving

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from consul_access._sync.consul import ConsulAccess
    from consul_access._sync.keeper import Keeper
    from consul_access.models.listening import Listening

__all__ = ["Registered", "WithHealth"]

REASONS: Mapping[int, str] = {
    200: "OK",
    405: "Method Not Allowed",
    429: "Too Many Requests",
    503: "Service Unavailable",
}


class WithHealth:
    """A WSGI application that answers how it is.

    `app.wsgi_app = WithHealth(app.wsgi_app, {"database": ping})` for Flask. The path is answered with 200 when every
    check passes, 429 for a warning and 503 when one is critical, as agents read it, and with a JSON body that tells of
    each check; the application is not asked.

    Args:
        app: the application.
        health: a function, functions by name, or `HealthChecks` with limits of their own; without, 200 always.
        health_path: None leaves it to the application.

    The body tells whoever may ask what the checks say, texts of their exceptions included.
    Source: https://developer.hashicorp.com/consul/docs/register/health-check/vm#http-checks
    """

    def __init__(
        self, app: WSGIApplication, health: Health | None = None, *, health_path: str | None = "/health"
    ) -> None:
        self._app = app
        self._health_path = health_path
        self.checks = HealthChecks.of(health)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The WSGI interface."""
        if environ.get("PATH_INFO") != self._health_path:
            return self._app(environ, start_response)
        method = environ["REQUEST_METHOD"]
        if method not in {"GET", "HEAD"}:
            start_response(
                f"405 {REASONS[405]}", [("Allow", "GET, HEAD"), ("Content-Type", "text/plain"), ("Content-Length", "0")]
            )
            return []
        report = self.checks.report()
        body = report.body()
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        start_response(f"{report.http_status} {REASONS[report.http_status]}", headers)
        return [body] if method == "GET" else []


class Registered(WithHealth):
    """A WSGI application that answers how it is, and that is registered from `start` to `stop`, or within its block.

    Args:
        app: the application.
        name: the service.
        address: where it can be reached; see `ConsulAccess.register_service`.
        port: the port that the server listens at, or a socket or server to read it from; it can be given to `start`
            instead.
        access: the client; by default one of its own, from the CONSUL_* environment.
        health: how the service is: a function, functions by name, or `HealthChecks`. It is what `health_path` answers,
            and what TTL checks are reported with.
        health_path: None leaves it to the application.
        drain: seconds between the service's disappearance from every look-up and its end; 2 by default.

    The others are those of `ConsulAccess.registered`.

    SIGTERM and SIGINT, when it is started in the main thread, are answered first: out of every look-up, drained,
    deregistered; then they take their course. Several processes behind one port keep one registration together, and
    the last one to leave ends it.

    Raises:
        InvalidInput: an argument cannot be right.
    """

    def __init__(
        self,
        app: WSGIApplication,
        name: str,
        address: str | None = None,
        port: int | Listening | None = None,
        *,
        access: ConsulAccess | None = None,
        health: Health | None = None,
        health_path: str | None = "/health",
        drain: float = DRAIN,
        **registration: Unpack[RegistrationOptions],
    ) -> None:
        super().__init__(app, health, health_path=health_path)
        checks = None if health is None else self.checks
        self._serving = Serving(
            name=name,
            address=address,
            port=port,
            access=access,
            health=checks,
            drain=drain,
            options=registration,
        )

    @property
    def keeper(self) -> Keeper | None:
        """The keeper, for its state; None while it is not registered."""
        return self._serving.keeper

    def start(self, port: int | Listening | None = None) -> Self:
        """Registers the service; in a server with several processes, in each of those that serve.

        Args:
            port: the port that the server listens at, or a socket or server to read it from, if it was not known
                before.

        Raises:
            ConsulAccessError: it cannot be registered.
        """
        self._serving.start(port)
        return self

    def stop(self) -> None:
        """Drains and deregisters it."""
        self._serving.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

"""Django: registered while it serves, under uvicorn and gunicorn, and never by `manage.py migrate`.

In the settings:

    CONSUL_ACCESS = {
        "name": "orders",
        "port": 8000,
        "health": {"database": "consul_access.integrations.django.database"},
    }

What is in there are the arguments of `Registered` (`asgi`, `wsgi` or `gunicorn`); health functions may be named by
their dotted path. Then, each in its place:

    asgi.py            from consul_access.integrations.django import get_asgi_application
    wsgi.py            from consul_access.integrations.django import get_wsgi_application
    gunicorn.conf.py   from consul_access.integrations.django import when_ready      (with wsgi.py)

Both applications answer `/health` before Django does, so ALLOWED_HOSTS and a redirect to https do not stand in the
agent's way. Needs the extra `django`, or a Django of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from consul_access.errors import InvalidInput
from consul_access.integrations._missing import missing

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from django.http import HttpRequest, HttpResponse

    from consul_access._sync.health import HealthChecks
    from consul_access.integrations import asgi, gunicorn, wsgi

__all__ = ["database", "get_asgi_application", "get_wsgi_application", "health", "when_ready"]

FOR_THE_APPLICATION = ("health", "health_path")


def get_asgi_application() -> asgi.Registered:
    """Instead of Django's own in `asgi.py`: registered while the server runs.

    Raises:
        InvalidInput: `CONSUL_ACCESS` is missing in the settings, or cannot be right.
    """
    from consul_access.integrations.asgi import Registered

    try:
        from django.core.asgi import get_asgi_application as application
    except ImportError as error:
        raise missing(error, "django", "django") from error
    return Registered(application(), **_settings())


def get_wsgi_application() -> wsgi.Registered:
    """Instead of Django's own in `wsgi.py`: answers `/health`; what registers it is the server, see `when_ready`.

    Raises:
        InvalidInput: `CONSUL_ACCESS` is missing in the settings, or cannot be right.
    """
    from consul_access.integrations.wsgi import Registered

    try:
        from django.core.wsgi import get_wsgi_application as application
    except ImportError as error:
        raise missing(error, "django", "django") from error
    app: WSGIApplication = application()  # pyright: ignore[reportAssignmentType] - Django has no types
    return Registered(app, **_settings())


def when_ready(server: gunicorn.Master) -> None:
    """For `gunicorn.conf.py`: its master registers the service; see `consul_access.integrations.gunicorn.Registered`.

    DJANGO_SETTINGS_MODULE has to be set there, too: workers set it in `wsgi.py`, which the master does not load.
    """
    from consul_access.integrations.gunicorn import Registered

    settings = _settings()
    Registered(**{name: value for name, value in settings.items() if name not in FOR_THE_APPLICATION})(server)


def health(request: HttpRequest) -> HttpResponse:
    """A view that answers as `/health` does, for a path of your own: `path("ready", health)`."""
    from django.http import HttpResponse, HttpResponseNotAllowed

    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    report = _checks().report()
    headers = {"Cache-Control": "no-store"}
    return HttpResponse(report.body(), status=report.http_status, content_type="application/json", headers=headers)


def database(alias: str = "default") -> None:
    """A health check: the database answers. Its connection is closed again, since each check has a thread of its own.

    Args:
        alias: which of `DATABASES`.
    """
    from django.db import connections

    connection = connections[alias]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


@cache
def _checks() -> HealthChecks:
    """The same for every request: a check that hangs is not asked again each time."""
    from consul_access._sync.health import HealthChecks

    return HealthChecks.of(_settings()["health"])


def _settings() -> dict[str, Any]:
    try:
        from django.conf import settings
    except ImportError as error:
        raise missing(error, "django", "django") from error
    given = getattr(settings, "CONSUL_ACCESS", None)
    if not isinstance(given, Mapping) or "name" not in given:
        raise InvalidInput('the settings have no CONSUL_ACCESS: write CONSUL_ACCESS = {"name": "orders", "port": 8000}')
    return dict(given) | {"health": _functions(given.get("health"))}


def _functions(health: object) -> Any:
    from django.utils.module_loading import import_string

    def function(value: object) -> Callable[[], object] | object:
        return import_string(value) if isinstance(value, str) else value

    return (
        {name: function(value) for name, value in health.items()} if isinstance(health, Mapping) else function(health)
    )

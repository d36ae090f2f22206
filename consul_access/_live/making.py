"""Makes the engine of a client, of either face."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from consul_access._live.carrying import WatchTransport
from consul_access._live.hub import Hub
from consul_access.consul import texts
from consul_access.hooks import Exchange
from consul_access.settings import ConsulSettings, RetryPolicy
from consul_access.tokens import TokenSource

if TYPE_CHECKING:
    import httpx

__all__ = ["for_tasks", "make_hub"]

log = logging.getLogger("consul_access")

WAIT = 55.0
"""Seconds: few requests, and still less than what proxies call an idle connection."""
WHOLE = 60.0
"""Seconds for a whole answer, on top of the wait: long ones may come over slow lines, as long as something comes."""


def make_hub(
    settings: ConsulSettings, given: Any, tell: Callable[[Exchange], None], *, wait: float | None = None
) -> Hub:
    """The engine, with connections of its own: whoever waits at the agent takes none from ordinary calls.

    Args:
        settings: the client's.
        given: the httpx transport that the client was given, of either face.
        tell: is told of every exchange.
        wait: seconds for the server to wait when nothing happens.
    """
    limits = settings.timeouts
    own = replace(
        settings,
        retry=RetryPolicy.none(),
        max_connections=settings.watch_connections,
        timeouts=replace(limits, total=max(WHOLE, limits.total)),
    )
    transport = WatchTransport(own, meaning=texts.meaning, transport=for_tasks(given, settings.watch_connections))
    transport.add_hook(tell)
    return Hub(
        transport,
        wait=WAIT if wait is None else wait,
        read_timeout=limits.read,
        token=lambda: _mark(settings.token),
    )


def for_tasks(given: Any, places: int) -> httpx.AsyncBaseTransport | None:
    """A given transport of either face, for tasks.

    Args:
        given: the transport; None for none.
        places: requests that may wait at once, when it is one for threads.
    """
    if given is None or hasattr(given, "handle_async_request"):
        found: httpx.AsyncBaseTransport | None = given
        return found
    from consul_access._live.threaded import ThreadedTransport

    return ThreadedTransport(given, places)


def _mark(source: TokenSource) -> int:
    """A number for the token; 0 when only an async function could tell it."""
    try:
        token = source.read()
    except Exception:  # a user's function; whoever sends a call hears of it
        log.debug("the token cannot be told", exc_info=True)
        return 0
    if token is None or isinstance(token, str):
        return hash(token)
    if inspect.iscoroutine(token):
        token.close()
    return 0

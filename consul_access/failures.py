"""What `DiscoveryTransport` raises, in httpx's family and in ours::

    httpx.TransportError
    └── InstancesFailed                            also a ConsulAccessError
        ├── InstancesUnreachable (httpx.ConnectError)        no instance has seen the request, or there is none
        └── InstancesTimedOut (httpx.TimeoutException)       the last one asked did not answer in time

So code that knows only httpx, and code that knows only this library, both catch them.
"""

from __future__ import annotations

import httpx

from consul_access.errors import ConsulAccessError
from consul_access.rules.calling import FailedAttempt, How

__all__ = ["InstancesFailed", "InstancesTimedOut", "InstancesUnreachable", "how_it_failed", "instances_failed"]

_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
_NEVER_SENDABLE = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)


class InstancesFailed(ConsulAccessError, httpx.TransportError):
    """No instance of the service answered the request.

    `failures` has a `FailedAttempt` for each instance that was asked, in their order; the last one's error is the
    `__cause__`. Code that knows only httpx catches it as `httpx.TransportError`.
    """

    retryable = True
    advice = "Whether it can be repeated depends on the request: an instance may have acted on it."

    failures: tuple[FailedAttempt, ...] = ()


class InstancesUnreachable(InstancesFailed, httpx.ConnectError):
    """No instance has seen the request: none could be connected to, or there is none."""

    advice = "No instance has seen the request, so it can be repeated."


class InstancesTimedOut(InstancesFailed, httpx.TimeoutException):
    """The last instance that was asked did not answer in time."""


def how_it_failed(error: Exception) -> How:
    """In which way an attempt failed that ended with this error of httpx's."""
    if isinstance(error, _BEFORE_SENDING):
        return How.NOT_SENT
    if isinstance(error, httpx.PoolTimeout):
        return How.BUSY
    if isinstance(error, httpx.TimeoutException):
        return How.TIMED_OUT
    if isinstance(error, httpx.TransportError) and not isinstance(error, _NEVER_SENDABLE):
        return How.BROKEN
    return How.OUR_FAULT


def instances_failed(
    service: str, request: httpx.Request, failures: list[FailedAttempt], why: str = ""
) -> InstancesFailed:
    """The error for a request that found no answer.

    Args:
        service: the service.
        request: the request, as it was meant.
        failures: the attempts.
        why: why there was no further instance to ask, if that is the reason.
    """
    kind = InstancesFailed
    if all(failed.how.unseen for failed in failures):
        kind = InstancesUnreachable
    elif failures[-1].how is How.TIMED_OUT:
        kind = InstancesTimedOut
    said = "; ".join([*map(str, failures), *([why] if why else [])])
    asked = f"{request.method} {request.url.copy_with(query=None, userinfo=b'')}"
    error = kind(
        f"{asked}: no instance of {service!r} answered: {said}",
        address=str(failures[-1].address) if failures else None,
    )
    error.failures = tuple(failures)
    error.request = request
    return error

"""Every error this library raises, by what it means for the caller::

    ConsulAccessError
    ├── InvalidInput (ValueError)      refused here; nothing was sent
    │   ├── InvalidSettings            the address, token, TLS files or environment cannot be used
    │   └── UnsupportedByAgent         the agent's version does not know a field that was given
    ├── ClientClosed                   used after close()
    ├── NoInstances (LookupError)      the question was answered: there is no such instance now
    ├── NotReady (TimeoutError)        a service was waited for, and was not there in time
    ├── Unavailable                    no usable answer this time; asking later can help
    │   ├── ConnectFailed              no connection, so nothing was sent
    │   │   └── TlsError               the handshake was refused; later will not help
    │   ├── ConnectionLost             the connection broke during the exchange
    │   ├── DeadlineExceeded           the time for the whole call ran out
    │   ├── PoolExhausted              all of this client's own connections were busy
    │   ├── NoLeader                   the servers are electing a leader
    │   ├── RateLimited                the server asks to slow down
    │   │   └── ConnectionLimit        too many connections from this host to one agent
    │   ├── ServerError                any other 5xx
    │   └── StaleList                  a resolver's list cannot be confirmed, for longer than its policy allows
    ├── OutcomeUnknown                 a write was sent and its answer lost: it may have been applied
    ├── RequestRefused                 the server understood and said no; repeating it will not help
    │   ├── InvalidRequest             400: the request is malformed in the server's eyes
    │   ├── FilterError                the filter expression does not fit (Consul answers 500 here)
    │   ├── PermissionDenied           the token may not do this
    │   │   ├── TokenUnknown           the server does not know the token (deleted, expired, mistyped)
    │   │   └── AuthenticationFailed   etcd does not accept the user and password
    │   ├── NotFound                   404
    │   │   ├── UnknownService         the agent has no service of that id
    │   │   ├── UnknownCheck           the agent has no (TTL) check of that id
    │   │   └── UnknownLease           etcd has no lease of that id: expired or revoked
    │   ├── UnknownDatacenter          no path to that datacenter
    │   ├── Compacted                  etcd no longer has that revision
    │   ├── ResourceExhausted          etcd's store is full, or the request too large for it
    │   └── FeatureDisabled            the server's configuration or edition does not offer this
    │       └── GatewayUnusable        etcd's JSON gateway cannot be used as it is configured
    └── BadAnswer                      an answer came and cannot be believed
        ├── AnswerTooLarge             more bytes than allowed, on the wire or unpacked
        ├── UnexpectedRedirect         3xx; never followed, so that no token leaves for another host
        └── BadValue                   a stored value is not what its key promises
            └── EncryptedValue         it is encrypted at rest

An error carries what it knows as fields (`operation`, `address`, `status`, `excerpt`, `attempts`, `elapsed`),
and its text ends with what to do next. `retryable` says whether the same call can succeed later unchanged.
Errors of httpx, pydantic, tenacity, ssl and the operating system never escape; they are the `__cause__`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from consul_access.models.progress import Progress

__all__ = [
    "AnswerTooLarge",
    "AuthenticationFailed",
    "BadAnswer",
    "BadValue",
    "ClientClosed",
    "Compacted",
    "ConnectFailed",
    "ConnectionLimit",
    "ConnectionLost",
    "ConsulAccessError",
    "DeadlineExceeded",
    "EncryptedValue",
    "FeatureDisabled",
    "FilterError",
    "GatewayUnusable",
    "InvalidInput",
    "InvalidRequest",
    "InvalidSettings",
    "NoInstances",
    "NoLeader",
    "NotFound",
    "NotReady",
    "OutcomeUnknown",
    "PermissionDenied",
    "PoolExhausted",
    "RateLimited",
    "RequestRefused",
    "ResourceExhausted",
    "ServerError",
    "StaleList",
    "TlsError",
    "TokenUnknown",
    "Unavailable",
    "UnexpectedRedirect",
    "UnknownCheck",
    "UnknownDatacenter",
    "UnknownLease",
    "UnknownService",
    "UnsupportedByAgent",
]

EXCERPT_LIMIT = 200


class ConsulAccessError(Exception):
    """The root of the family; `except ConsulAccessError` catches everything this library raises.

    Args:
        message: what happened, in one sentence without a final stop.
        operation: the call's name, such as `health.service`; None when no call was involved.
        address: the server that was asked, as `host:port` or `unix:///path`.
        status: the HTTP status, when an answer came.
        excerpt: the first 200 characters of the answer's body.
        attempts: how many times the request was tried.
        elapsed: seconds from the first attempt to the error.
    """

    retryable: ClassVar[bool] = False
    advice: str = ""

    def __init__(
        self,
        message: str,
        *,
        operation: str | None = None,
        address: str | None = None,
        status: int | None = None,
        excerpt: str | None = None,
        attempts: int = 0,
        elapsed: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.address = address
        self.status = status
        self.excerpt = excerpt[:EXCERPT_LIMIT] if excerpt else None
        self.attempts = attempts
        self.elapsed = elapsed

    def __str__(self) -> str:
        text = self.message
        if self.operation:
            place = f" at {self.address}" if self.address else ""
            text = f"{self.operation}{place}: {text}"
        if self.status is not None:
            text += f" (HTTP {self.status}{f', {self.excerpt!r}' if self.excerpt else ''})"
        elif self.excerpt:
            text += f" ({self.excerpt!r})"
        if self.attempts > 1:
            text += f", after {self.attempts} attempts in {self.elapsed:.1f} s"
        return f"{text}. {self.advice}" if self.advice else text

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries (multiprocessing, pytest-xdist), keyword fields included.
        return (_rebuild, (type(self), self.message), self.__dict__)


def _rebuild(kind: type[ConsulAccessError], message: str) -> ConsulAccessError:
    return kind(message)


# --- refused here, nothing was sent -----------------------------------------------------------------------


class InvalidInput(ConsulAccessError, ValueError):
    """An argument cannot be right; nothing was sent. The text says what to write instead."""


class InvalidSettings(InvalidInput):
    """The client cannot be set up from these arguments and environment variables."""


class UnsupportedByAgent(InvalidInput):
    """A field was given that the agent's version does not know; nothing was sent.

    Agents refuse the whole registration for one unknown key (`json: unknown field`), hence the check here.
    """


class ClientClosed(ConsulAccessError):
    """The client was used after `close()`."""

    advice = "Open a new client, or keep this one open for as long as it is used."


class NoInstances(ConsulAccessError, LookupError):
    """The registry answered, and no instance fits the question now."""

    retryable = True


class NotReady(ConsulAccessError, TimeoutError):
    """A service that was waited for had too few instances when the time was up.

    `progress` holds what was seen last of every service that was waited for.
    """

    retryable = True
    advice = "Is it still starting (then a longer timeout= helps)? Call explain(name) to be told more."

    def __init__(
        self,
        message: str,
        *,
        progress: tuple[Progress, ...] = (),
        operation: str | None = None,
        address: str | None = None,
        status: int | None = None,
        excerpt: str | None = None,
        attempts: int = 0,
        elapsed: float = 0.0,
    ) -> None:
        super().__init__(
            message,
            operation=operation,
            address=address,
            status=status,
            excerpt=excerpt,
            attempts=attempts,
            elapsed=elapsed,
        )
        self.progress = progress


# --- no usable answer this time ---------------------------------------------------------------------------


class Unavailable(ConsulAccessError):
    """No usable answer came; the same call may succeed later."""

    retryable = True
    advice = "Is the agent running and reachable from here? The same call may succeed later."


class ConnectFailed(Unavailable):
    """No connection could be made (refused, unreachable, name not found), so nothing was sent."""

    advice = "Is the agent running and reachable from here? Check host and port (CONSUL_HTTP_ADDR)."


class TlsError(ConnectFailed):
    """The TLS handshake failed; nothing was sent and a retry will not help."""

    retryable = False
    advice = "Check the CA file, the client certificate and whether the server speaks https on this port."


class ConnectionLost(Unavailable):
    """The connection broke while the request was on its way or being answered."""


class DeadlineExceeded(Unavailable, TimeoutError):
    """The time allowed for the whole call ran out."""

    advice = "The server may be frozen or the network black-holed; a longer timeout= helps only if it is slow."


class PoolExhausted(Unavailable):
    """All connections of this client were in use for the whole time allowed for waiting."""

    advice = "Fewer callers at once, or a larger max_connections."


class NoLeader(Unavailable):
    """The servers have no leader at the moment (election, lost quorum)."""

    advice = "Elections take seconds; if this lasts, look at the servers (consul operator raft list-peers)."


class RateLimited(Unavailable):
    """The server asks to slow down (429 or 503)."""

    advice = "Call less often; the same call may succeed later."


class ConnectionLimit(RateLimited):
    """The agent refuses further connections from this host (200 by default, limits.http_max_conns_per_client)."""

    advice = "Share one client per process, and fewer blocking queries on this host."


class ServerError(Unavailable):
    """The server failed while answering (5xx)."""

    advice = "The server's log has the reason; the same call may succeed later."


class StaleList(Unavailable):
    """A resolver has a list, but could not confirm it for longer than its `StalePolicy` allows."""

    advice = "The registry has not answered; a longer StalePolicy.keep_for(...) bridges longer outages."


class OutcomeUnknown(ConsulAccessError):
    """A write was sent and its answer was lost: it may or may not have been applied.

    `repeatable` tells whether sending it again is harmless (registering by id is, check-and-set is not).
    """

    advice = "Read back what you wrote before you decide to repeat it."

    def __init__(
        self,
        message: str,
        *,
        repeatable: bool = False,
        operation: str | None = None,
        address: str | None = None,
        status: int | None = None,
        excerpt: str | None = None,
        attempts: int = 0,
        elapsed: float = 0.0,
    ) -> None:
        super().__init__(
            message,
            operation=operation,
            address=address,
            status=status,
            excerpt=excerpt,
            attempts=attempts,
            elapsed=elapsed,
        )
        self.repeatable = repeatable


# --- the server understood and said no --------------------------------------------------------------------


class RequestRefused(ConsulAccessError):
    """The server understood the request and refused it; repeating it unchanged will not help."""


class InvalidRequest(RequestRefused):
    """The server calls the request malformed (400)."""


class FilterError(RequestRefused):
    """The filter expression is refused: syntax, unknown selector, bad regular expression, wrong type.

    Consul answers 500 here, which other clients take for a passing fault and repeat.
    """

    advice = "Correct the expression, or build it with F, which quotes and checks."


class PermissionDenied(RequestRefused):
    """The token in use may not do this (403)."""

    advice = "The token needs a policy that allows this (service:write, node:read, ...)."


class TokenUnknown(PermissionDenied):
    """The server does not know the token: deleted, expired, mistyped, or none was sent where one is needed."""

    advice = "Give a valid token (token=, CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE)."


class AuthenticationFailed(PermissionDenied):
    """The user and password are none that etcd accepts."""

    advice = "Check user= and password= (ETCDCTL_USER, ETCDCTL_PASSWORD)."


class NotFound(RequestRefused):
    """The server does not know what was asked for (404)."""


class UnknownService(NotFound):
    """The agent has no service of that id."""

    advice = "Services live on the agent they were registered at: is this that agent? Register it again if it was lost."


class UnknownCheck(NotFound):
    """The agent has no check of that id, or it is not a TTL check."""

    advice = "If the agent was restarted without its data it has forgotten the service: register it again."


class UnknownLease(NotFound):
    """There is no lease of that id at etcd: it has expired or was revoked, and its keys are gone with it."""

    advice = "Grant a new lease and put the keys again."


class UnknownDatacenter(RequestRefused):
    """The servers know no way to that datacenter."""

    advice = "Check the spelling against /v1/catalog/datacenters."


class Compacted(RequestRefused):
    """That revision of etcd's is compacted away; only later ones can be read or watched."""

    advice = "Read again without a revision, and watch from that answer's revision + 1."


class ResourceExhausted(RequestRefused):
    """The store of etcd has reached its quota, or the request is larger than it takes (1.5 MiB by default)."""

    advice = "If the space is exceeded: compact, defragment and disarm the alarm (etcdctl alarm disarm)."


class FeatureDisabled(RequestRefused):
    """The server's configuration or edition does not offer this (script checks, namespaces)."""


class GatewayUnusable(FeatureDisabled):
    """The server is etcd, but its JSON gateway cannot be used as configured; the text says what to change."""


# --- an answer that cannot be believed --------------------------------------------------------------------


class BadAnswer(ConsulAccessError):
    """An answer came that is not what this call answers with: truncated, not JSON, wrong shape, too deep."""

    advice = "Is something else, such as a proxy or another service, listening at this address?"


class AnswerTooLarge(BadAnswer):
    """The answer has more bytes than allowed, as sent or after unpacking."""

    advice = "Ask for less (a filter), or allow more with max_answer_bytes."


class UnexpectedRedirect(BadAnswer):
    """The server sent 3xx. Redirects are never followed: the token would go wherever they point."""

    advice = "Give the address that finally answers, with its scheme."


class BadValue(BadAnswer):
    """A stored value is not what its key promises: damaged, cut off, or of another kind."""

    advice = "Read it with get() to see what is stored there."


class EncryptedValue(BadValue):
    """A Kubernetes object is encrypted at rest (`--encryption-provider-config`); only the API server can read it."""

    advice = "Ask the Kubernetes API instead, or leave services and endpoints out of the encrypted resources."

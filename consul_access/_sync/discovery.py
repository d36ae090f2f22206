# Written by tools/faces.py from consul_access/_async/discovery.py; edit that one.
"""`http://orders/v1/items` by httpx: the name is a service, and each request goes to one of its instances.

It keeps no connections itself: each instance has an httpx transport of its own, with its own pool. So none waits for
another's connections, and a pool can be given up as a whole: when its instance is gone, or when a request was
cancelled on its way to the answer, which httpcore's pools do not survive for certain (encode/httpcore#1093).
"""

from __future__ import annotations

import contextlib
import os
import random
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Literal, Unpack, cast

import httpx

from consul_access._pairs.threads import Slots, shielded, sleep, time_limit
from consul_access.errors import ClientClosed, ConsulAccessError, InvalidInput
from consul_access.failures import how_it_failed, instances_failed
from consul_access.models.address import Address
from consul_access.models.instance import ServiceInstance
from consul_access.models.query import Query
from consul_access.rules.balancing import Balancer, balancer_named
from consul_access.rules.calling import IDEMPOTENT, Course, FailedAttempt, How
from consul_access.rules.ejecting import EjectingBalancer, EjectionPolicy
from consul_access.rules.naming import ServiceNames, Wanted

if TYPE_CHECKING:
    from consul_access._sync.finding import Finding
    from consul_access._sync.resolver import Resolver
    from consul_access.rules.staleness import StalePolicy

__all__ = ["DiscoveryTransport"]

OPENING_SECONDS: Final = 30.0
"""The longest that a request waits for another one that is asking about the same service for the first time."""
CLOSING_SECONDS: Final = 1.0
LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=10, keepalive_expiry=5.0)
EJECTION: Final = EjectionPolicy()


class _Pool:
    """The connections to one instance, closed when it is retired and the last request has ended."""

    __slots__ = ("_requests", "address", "retired", "transport")

    def __init__(self, address: Address, transport: httpx.BaseTransport) -> None:
        self.address = address
        self.transport = transport
        self.retired = False
        self._requests: deque[None] = deque()  # their number is its length, which any thread may change

    def enter(self) -> bool:
        """A request begins; False when it has to take another pool."""
        self._requests.append(None)
        if self.retired:
            self._requests.pop()
            return False
        return True

    def leave(self) -> None:
        """A request has ended."""
        self._requests.pop()
        if self.retired:
            self.retire()

    def retire(self) -> None:
        """Closes it, now or when the last request ends."""
        self.retired = True
        if not self._requests:
            # What cannot be closed in that time is left to the garbage collector.
            with shielded(), contextlib.suppress(TimeoutError), time_limit(time.monotonic() + CLOSING_SECONDS):
                self.transport.close()


class _Service:
    """One service: its resolver, and the connections to its instances."""

    __slots__ = ("_ejecting", "pools", "resolver", "seen")

    def __init__(self, resolver: Resolver, ejecting: EjectingBalancer | None) -> None:
        self.resolver = resolver
        self._ejecting = ejecting
        self.pools: dict[tuple[Address, bool], _Pool] = {}
        self.seen: tuple[ServiceInstance, ...] = ()

    @property
    def left_out(self) -> Collection[Address]:
        return self._ejecting.ejected if self._ejecting is not None else ()

    def tell(self, address: Address, ok: bool | None, elapsed: float, *, connected: bool = True) -> None:
        """Tells the balancer how a request went."""
        if self._ejecting is not None:
            self._ejecting.report(address, ok, elapsed, connected=connected)
        else:
            self.resolver.report(address, ok, elapsed)

    def tidy(self, instances: tuple[ServiceInstance, ...]) -> None:
        """Gives up the connections to instances that are not there any more."""
        self.seen = instances
        present = {instance.address for instance in instances}
        for pool in [*self.pools.values()]:
            if pool.address not in present:
                self.give_up(pool)

    def give_up(self, pool: _Pool) -> None:
        """Has later requests to this address open connections anew."""
        for key, known in [*self.pools.items()]:
            if known is pool:
                self.pools.pop(key, None)
        pool.retire()

    def close(self) -> None:
        pools, self.pools = self.pools, {}
        self.resolver.stop()
        for pool in pools.values():
            pool.transport.close()


class _Attempt:
    """One request at one instance; it ends once."""

    __slots__ = ("_begun", "_elapsed", "_ended", "instance", "ok", "pool", "service")

    def __init__(self, service: _Service, pool: _Pool, instance: ServiceInstance) -> None:
        self.service = service
        self.pool = pool
        self.instance = instance
        self.ok: bool | None = None
        self._begun = time.monotonic()
        self._elapsed: float | None = None
        self._ended = False
        service.resolver.started(pool.address)

    def answered(self, ok: bool) -> None:
        """The answer's head is there; what counts as its time ends here."""
        self.ok = ok
        self._elapsed = self.elapsed

    def failed(self, how: How, reason: str) -> FailedAttempt:
        return FailedAttempt(self.pool.address, self.instance.id, how, reason, self.elapsed)

    @property
    def elapsed(self) -> float:
        """Seconds up to now, or to the answer's head."""
        return time.monotonic() - self._begun if self._elapsed is None else self._elapsed

    def end(self, *, connected: bool = True) -> None:
        if self._ended:
            return
        self._ended = True
        self.service.tell(self.pool.address, self.ok, self.elapsed, connected=connected)
        self.pool.leave()


class _Sent(httpx.SyncByteStream):
    """A body on its way out, which knows whether it has begun."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream
        self.begun = False

    def __iter__(self) -> Iterator[bytes]:
        self.begun = True
        for part in self._stream:
            yield part

    def close(self) -> None:
        self._stream.close()


class _Received(httpx.SyncByteStream):
    """A body on its way in; when it is closed, its request has ended."""

    def __init__(self, stream: httpx.SyncByteStream, attempt: _Attempt) -> None:
        self._stream = stream
        self._attempt = attempt

    def __iter__(self) -> Iterator[bytes]:
        try:
            for part in self._stream:
                yield part
        except httpx.TransportError:
            self._attempt.ok = False
            raise

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._attempt.end()


class DiscoveryTransport(httpx.BaseTransport):
    """An httpx transport that sends requests for a service to one of its instances.

    Args:
        access: the client to find instances with; it stays open when the transport is closed.
        services: the names that are services; by default every host name without a dot, except `localhost`. Names as
            Consul's DNS has them (`v2.orders.service.dc2.consul`) are services in any case; everything else, and every
            URL that names a port, is an ordinary host and passes through.
        domains: what Consul's DNS names end with; `consul` by default.
        balancer: how to choose, by name, or a function that makes a `Balancer` for each service.
        ejection: when an instance that keeps failing is left out; None for never.
        attempts: how many instances are asked at most; 3 by default.
        failing: statuses by which an instance says that it cannot serve now; 502, 503 and 504 by default. They count as
            failures of the instance, and what may be repeated is repeated.
        host: whose name the instance sees in the Host header, and has to prove by its certificate: the `service`'s, as
            the URL has it, or that of its own `address`.
        key: what a `sticky` balancer sticks to, from the request.
        whole: answers of at most so many bytes are read whole before they are handed over, if their request may be
            repeated: then it is, also when the answer breaks in the middle. 64 KiB by default; 0 for never.
        connect: seconds for a connection to an instance at most; 2 by default, or less if the request says so.
        stale: for how long a list is used that the registry cannot confirm; for ever by default.
        ssl_context: for https; httpx's default one otherwise.
        limits: for the connections to each instance; 100, of which 10 are kept for 5 s when idle, by default.
        connections: makes the transport for one instance, instead of httpx's own.
        ordinary: the transport for ordinary hosts, instead of httpx's own; closed with this one.
        query: narrows which instances are called; see `Query`.

    A service is followed from the first request for it (which waits for the registry's first answer, at most 10 s)
    until the transport is closed. Each response has its instance in `response.extensions["instance"]`.

    A request is repeated at another instance when none has seen it yet, or when its method means the same once or twice
    (GET, HEAD, OPTIONS, TRACE, PUT, DELETE), provided that its body can be sent again: a body that is a stream and has
    begun cannot. A POST that was sent is never sent again.

    Raises:
        InvalidInput: an argument cannot be right.
    """

    def __init__(
        self,
        access: Finding,
        *,
        services: Iterable[str] | None = None,
        domains: Iterable[str] = ("consul",),
        balancer: str | Callable[[], Balancer] = "power_of_two",
        ejection: EjectionPolicy | None = EJECTION,
        attempts: int = 3,
        failing: Iterable[int] = (502, 503, 504),
        host: Literal["service", "address"] = "service",
        key: Callable[[httpx.Request], str | None] | None = None,
        whole: int = 65_536,
        connect: float = 2.0,
        stale: StalePolicy | None = None,
        ssl_context: ssl.SSLContext | None = None,
        limits: httpx.Limits = LIMITS,
        connections: Callable[[], httpx.BaseTransport] | None = None,
        ordinary: httpx.BaseTransport | None = None,
        **query: Unpack[Query],
    ) -> None:
        if not hasattr(access, "close"):
            raise InvalidInput(f"access= must be of the type ConsulAccess here, not {type(access).__name__}")
        if attempts < 1 or connect <= 0 or host not in ("service", "address"):
            raise InvalidInput(
                f"attempts={attempts!r} must be 1 or more, connect={connect!r} more than 0, "
                f"and host={host!r} 'service' or 'address'"
            )
        self._random = random.Random()  # noqa: S311 - it spreads calls, it guards nothing
        if isinstance(balancer, str):
            balancer_named(balancer, self._random)
        self._access = access
        self._names = ServiceNames(services, domains)
        self._balancer = balancer
        self._ejection = ejection
        self._attempts = attempts
        self._failing = frozenset(failing)
        self._names_service = host == "service"
        self._key = key
        self._whole = whole
        self._connect = connect
        self._stale = stale
        self._ssl_context = ssl_context
        self._limits = limits
        self._connections = connections
        self._ordinary = ordinary
        self._query = query
        self._services: dict[Wanted, _Service] = {}
        self._gates: dict[Wanted, Slots] = {}
        self._closed = False
        _transports.add(self)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request.

        Raises:
            InstancesFailed: no instance answered; see `consul_access.failures`.
            httpx.TransportError: an ordinary host did not.
            ClientClosed: the transport or its client is closed.
        """
        if self._closed:
            raise ClientClosed("the transport is closed")
        wanted = self._names.wanted(request.url.host, request.url.port)
        if wanted is None:
            return self._to_ordinary_hosts().handle_request(request)
        service = self._services.get(wanted) or self._open(wanted, request)
        course = Course(request.method, self._attempts)
        body = cast("httpx.SyncByteStream", request.stream)
        if not isinstance(body, httpx.ByteStream):
            body = _Sent(body)
        while True:
            attempt = self._begin(wanted, service, course, request)
            response = self._send(attempt, course, request, body)
            if response is not None:
                return response

    def close(self) -> None:
        """Ends following the services, and closes every connection. The client stays open."""
        self._closed = True
        services, self._services = self._services, {}
        for service in services.values():
            service.close()
        if self._ordinary is not None:
            self._ordinary.close()

    def __repr__(self) -> str:
        known = (f"{wanted.service}: {len(service.seen)}" for wanted, service in [*self._services.items()])
        return f"<{type(self).__name__} {'closed' if self._closed else ', '.join(known) or 'nothing called yet'}>"

    # --- one request --------------------------------------------------------------------------------------

    def _begin(self, wanted: Wanted, service: _Service, course: Course, request: httpx.Request) -> _Attempt:
        """Chooses the instance, and has a place in its pool."""
        key = None if self._key is None else self._key(request)
        resolver = service.resolver
        try:
            instances = resolver.instances()
            instance = course.next(lambda: resolver.pick(key), instances, service.left_out, self._random.random)
        except ClientClosed:
            raise
        except ConsulAccessError as error:
            raise instances_failed(wanted.service, request, course.failures, why=str(error)) from error
        if instances is not service.seen:
            service.tidy(instances)
        address = instance.address
        pause = course.pause(address, self._random.random)
        if pause:
            sleep(pause)
        tls = request.url.scheme == "https"
        while True:
            pool = service.pools.get((address, tls))
            if pool is None:
                pool = service.pools.setdefault((address, tls), _Pool(address, self._made(tls)))
            if pool.enter():
                return _Attempt(service, pool, instance)

    def _send(
        self, attempt: _Attempt, course: Course, request: httpx.Request, body: httpx.SyncByteStream
    ) -> httpx.Response | None:
        """The response, or None when there is to be another attempt."""
        try:
            response = attempt.pool.transport.handle_request(self._outgoing(request, attempt, body))
            attempt.answered(ok=response.status_code not in self._failing)
            received = self._received(attempt, request, response)
        except Exception as error:
            if self._goes_on(error, attempt, course, body):
                return None
            raise instances_failed(attempt.instance.service, request, course.failures) from error
        except BaseException:  # cancelled, on its way to the answer
            attempt.service.give_up(attempt.pool)
            attempt.end()
            raise
        if response.status_code in self._failing:
            failed = attempt.failed(How.UNFIT, f"status {response.status_code}")
            if course.goes_on(failed, replayable=_is_fresh(body)):
                received.close()
                return None
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=received,
            extensions={**response.extensions, "instance": attempt.instance},
        )

    def _goes_on(
        self,
        error: Exception,
        attempt: _Attempt,
        course: Course,
        body: httpx.SyncByteStream,
    ) -> bool:
        """Whether there is to be another attempt after this error."""
        how = how_it_failed(error)
        failed = attempt.failed(how, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        attempt.ok = False if how.blames_the_instance else None
        attempt.end(connected=how is not How.NOT_SENT)
        if how is How.OUR_FAULT:
            raise error
        return course.goes_on(failed, replayable=_is_fresh(body))

    def _received(self, attempt: _Attempt, request: httpx.Request, response: httpx.Response) -> httpx.SyncByteStream:
        """The answer's body: whole when it is short and the request could be repeated, else as it comes."""
        received = _Received(cast("httpx.SyncByteStream", response.stream), attempt)
        length = response.headers.get("content-length", "")
        if request.method not in IDEMPOTENT or not length.isdigit() or int(length) > self._whole:
            return received
        try:
            return httpx.ByteStream(b"".join([part for part in received]))
        finally:
            received.close()

    def _outgoing(self, request: httpx.Request, attempt: _Attempt, body: httpx.SyncByteStream) -> httpx.Request:
        """The request, as it goes to the instance."""
        address = attempt.pool.address
        headers, extensions = request.headers, dict(request.extensions)
        timeout = dict(extensions.get("timeout") or {})
        connect = timeout.get("connect")
        timeout["connect"] = self._connect if connect is None else min(connect, self._connect)
        extensions["timeout"] = timeout
        if not self._names_service:
            headers = headers.copy()
            headers["host"] = str(address)
        elif request.url.scheme == "https":
            extensions.setdefault("sni_hostname", request.url.host)
        url = request.url.copy_with(host=address.host, port=address.port)
        return httpx.Request(request.method, url, headers=headers, stream=body, extensions=extensions)

    # --- what requests share ------------------------------------------------------------------------------

    def _open(self, wanted: Wanted, request: httpx.Request) -> _Service:
        """The service, which somebody has to ask for first."""
        gate = self._gates.get(wanted) or self._gates.setdefault(wanted, Slots(1))
        try:
            gate.acquire(time.monotonic() + OPENING_SECONDS)
        except TimeoutError as error:
            raise instances_failed(wanted.service, request, [], why="the registry has not answered") from error
        try:
            service = self._services.get(wanted)
            if service is None:
                service = self._services[wanted] = self._opened(wanted)
            if self._closed:  # meanwhile
                service.close()
                raise ClientClosed("the transport is closed")
            return service
        finally:
            gate.release()

    def _opened(self, wanted: Wanted) -> _Service:
        name = self._balancer
        balancer = balancer_named(name, self._random) if isinstance(name, str) else name()
        ejecting = None if self._ejection is None else EjectingBalancer(balancer, time.monotonic, self._ejection)
        query = self._query.copy()
        if wanted.tag:
            tags = query.get("tags", ())
            query["tags"] = [*([tags] if isinstance(tags, str) else tags), wanted.tag]
        if wanted.datacenter:
            query["datacenter"] = wanted.datacenter
        resolver = self._access.resolver(wanted.service, balancer=ejecting or balancer, stale=self._stale, **query)
        try:
            resolver.start()
        except BaseException:
            with shielded():
                resolver.stop()
            raise
        return _Service(resolver, ejecting)

    def _made(self, tls: bool) -> httpx.BaseTransport:
        """A transport for one instance."""
        if self._connections is not None:
            return self._connections()
        return httpx.HTTPTransport(verify=self._context() if tls else False, limits=self._limits, trust_env=False)

    def _to_ordinary_hosts(self) -> httpx.BaseTransport:
        if self._ordinary is None:
            self._ordinary = httpx.HTTPTransport(verify=self._context())
        return self._ordinary

    def _context(self) -> ssl.SSLContext:
        """Made once: it takes as long as a hundred requests."""
        if self._ssl_context is None:
            self._ssl_context = httpx.create_ssl_context()
        return self._ssl_context

    def _forget(self) -> None:
        """In a forked child: the connections are the parent's, and so is whoever was opening a service."""
        self._gates = {}
        for service in self._services.values():
            service.pools = {}


def _is_fresh(body: object) -> bool:
    """Whether a body can be sent from its beginning."""
    return not (isinstance(body, _Sent) and body.begun)


_transports: weakref.WeakSet[DiscoveryTransport] = weakref.WeakSet()


def _forget_in_child() -> None:
    for transport in list(_transports):
        transport._forget()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)

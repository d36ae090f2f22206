"""What is measured, by whichever system: the names, what they mean, and how the present state of clients is read.

OpenTelemetry's names are written here, and Prometheus' follow from them as OpenTelemetry's own exporters translate
them. So one dashboard serves both. Those of requests are the semantic conventions' for HTTP clients:
https://opentelemetry.io/docs/specs/semconv/http/http-metrics/
"""

from __future__ import annotations

import abc
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

from consul_access.errors import InvalidInput
from consul_access.rules.ejecting import EjectingBalancer
from consul_access.rules.keeping import KeeperState

if TYPE_CHECKING:
    from consul_access._async.consul import AsyncConsulAccess
    from consul_access._async.etcd import AsyncEtcdRegistry
    from consul_access._async.keeper import AsyncKeeper
    from consul_access._async.resolver import AsyncResolver
    from consul_access._sync.consul import ConsulAccess
    from consul_access._sync.etcd import EtcdRegistry
    from consul_access._sync.keeper import Keeper
    from consul_access._sync.resolver import Resolver
    from consul_access.hooks import Exchange
    from consul_access.models.address import Address
    from consul_access.models.instance import ServiceInstance
    from consul_access.models.snapshot import ServiceSnapshot
    from consul_access.rules.keeping import KeeperEvent

    AnyKeeper: TypeAlias = Keeper | AsyncKeeper
    AnyResolver: TypeAlias = Resolver | AsyncResolver
    Client: TypeAlias = ConsulAccess | AsyncConsulAccess | EtcdRegistry | AsyncEtcdRegistry

__all__ = [
    "ALL",
    "EJECTIONS",
    "EVENTS",
    "GAUGES",
    "KINDS",
    "PICKS",
    "REQUESTS",
    "WAITS",
    "Attributes",
    "Client",
    "Gauge",
    "Metric",
    "Observing",
    "of_exchange",
    "server_of",
]

Attributes: TypeAlias = dict[str, str | int]
Reading: TypeAlias = tuple[Attributes, float]

METHOD: Final = "http.request.method"
STATUS: Final = "http.response.status_code"
ADDRESS: Final = "server.address"
PORT: Final = "server.port"
ERROR: Final = "error.type"
OPERATION: Final = "consul_access.operation"
SERVICE: Final = "consul_access.service.name"
SERVICE_ID: Final = "consul_access.service.id"
STATE: Final = "consul_access.keeper.state"
EVENT: Final = "consul_access.keeper.event"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Args:
        name: as OpenTelemetry has it.
        unit: in UCUM: `s`, or what is counted in braces.
        text: what it says.
        attributes: what its series are told apart by.
        buckets: the upper bounds of a histogram's.
        counts: whether it only ever grows.
    """

    name: str
    unit: str
    text: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    counts: bool = False

    @property
    def prometheus_name(self) -> str:
        """As exporters for Prometheus translate it; a counter's samples end in `_total` besides."""
        return prometheus_name(self.name) + ("_seconds" if self.unit == "s" else "")

    @property
    def labels(self) -> tuple[str, ...]:
        """The attributes, as Prometheus has them."""
        return tuple(map(prometheus_name, self.attributes))


def prometheus_name(name: str) -> str:
    """A name of OpenTelemetry's as one of Prometheus'."""
    return name.replace(".", "_")


def _growing(name: str, unit: str, text: str, *attributes: str) -> Metric:
    return Metric(name, unit, text, attributes, counts=True)


REQUESTS: Final = Metric(
    "http.client.request.duration",
    "s",
    "Duration of requests to the registry, repeats included, without those that wait for a change.",
    (OPERATION, METHOD, ADDRESS, PORT, STATUS, ERROR),
    (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
WAITS: Final = Metric(
    "consul_access.blocking.request.duration",
    "s",
    "How long requests waited at the registry for a change.",
    (OPERATION, ADDRESS, PORT, STATUS, ERROR),
    (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 150.0, 300.0, 600.0),
)
EVENTS: Final = _growing(
    "consul_access.keeper.events",
    "{event}",
    "What happened to kept registrations: registered_again, lost, missed and others.",
    SERVICE,
    EVENT,
)
PICKS: Final = _growing("consul_access.resolver.picks", "{pick}", "Instances that resolvers have picked.", SERVICE)
EJECTIONS: Final = _growing(
    "consul_access.resolver.ejections", "{ejection}", "Times an instance was left out because calls failed.", SERVICE
)


KINDS: Final = ("registered_again", "lost", "missed", "recovered", "unseen", "relocated", "left_behind")
"""Events that are counted as 0 from the beginning: Prometheus sees no increase in what appears with its first one."""


def of_exchange(exchange: Exchange) -> tuple[Metric, Attributes]:
    """The metric that an exchange belongs to, and by what it is told apart there."""
    metric = WAITS if exchange.blocking else REQUESTS
    host, port = server_of(exchange)
    attributes: Attributes = {OPERATION: exchange.operation, ADDRESS: host}
    if not exchange.blocking:
        attributes[METHOD] = exchange.method
    if port is not None:
        attributes[PORT] = port
    if exchange.status is not None:
        attributes[STATUS] = exchange.status
    if exchange.error is not None:
        attributes[ERROR] = type(exchange.error).__name__
    return metric, attributes


def server_of(exchange: Exchange) -> tuple[str, int | None]:
    """The server's host and port; a Unix socket's path, which has no port."""
    url = urlsplit(exchange.server)
    if url.scheme == "unix":
        return url.path, None
    return url.hostname or "", url.port


class Observing(abc.ABC):
    """Whoever measures clients. It keeps none of them alive."""

    def __init__(self) -> None:
        self._observed: tuple[weakref.ref[Client], ...] = ()
        self._kept: set[str] = set()
        self._called: set[str] = set()

    def observe(self, client: Client) -> Callable[[], None]:
        """Has a client observed until it is closed; before it is first used, so that nothing is missed.

        Args:
            client: a `ConsulAccess`, an `EtcdRegistry`, or one for tasks.

        Returns:
            A function that ends it earlier.

        Raises:
            InvalidInput: it is observed already, and would be counted twice.
        """
        if any(observed is client for observed in self.clients()):
            raise InvalidInput(f"{client!r} is observed already: once is enough")
        self._observed = (*(ref for ref in self._observed if ref() is not None), weakref.ref(client))
        removals = (
            client.on_exchange(self._exchanged),
            client.on_keeper_event(self._keeps),
            client.on_pick(self._picks_one),
            client.on_ejection(self._leaves_out),
        )

        def end() -> None:
            self._observed = tuple(ref for ref in self._observed if ref() is not client)
            for remove in removals:
                remove()

        return end

    def clients(self) -> list[Client]:
        """Those that are observed and still there."""
        return [client for ref in self._observed if (client := ref()) is not None]

    def _keeps(self, service: str, event: KeeperEvent) -> None:
        if service not in self._kept:
            self._kept.add(service)
            for kind in KINDS:
                self._happened(service, kind, 0)
        self._happened(service, event.kind, 1)

    def _picks_one(self, instance: ServiceInstance) -> None:
        service = instance.service
        if service not in self._called:
            self._called.add(service)
            self._ejected(service, 0)
        self._picked(service)

    def _leaves_out(self, service: str, _: Address) -> None:
        self._ejected(service, 1)

    @abc.abstractmethod
    def _exchanged(self, exchange: Exchange) -> None:
        """There was an exchange."""

    @abc.abstractmethod
    def _happened(self, service: str, kind: str, times: int) -> None:
        """So many events of that kind."""

    @abc.abstractmethod
    def _picked(self, service: str) -> None:
        """One instance was picked."""

    @abc.abstractmethod
    def _ejected(self, service: str, times: int) -> None:
        """So many instances were left out."""


# --- the present state ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gauge:
    """A metric that is read when it is asked for.

    Args:
        metric: which.
        read: the values now, one for each set of attributes.
    """

    metric: Metric
    read: Callable[[Iterable[Client]], Iterator[Reading]]


def _merged(readings: Iterable[Reading], merge: Callable[[float, float], float]) -> Iterator[Reading]:
    """One reading for each set of attributes: whoever has several of a kind wants to hear of the worst."""
    found: dict[frozenset[tuple[str, str | int]], Reading] = {}
    for attributes, value in readings:
        key = frozenset(attributes.items())
        found[key] = attributes, (merge(found[key][1], value) if key in found else value)
    return iter(found.values())


def _of_resolvers(
    name: str,
    unit: str,
    text: str,
    read: Callable[[AnyResolver], float | None],
    merge: Callable[[float, float], float] = max,
) -> Gauge:
    def readings(clients: Iterable[Client]) -> Iterator[Reading]:
        for client in clients:
            for resolver in client.resolvers:
                value = read(resolver)
                if value is not None:
                    yield {SERVICE: resolver.snapshot().service}, value

    return Gauge(Metric(name, unit, text, (SERVICE,)), lambda clients: _merged(readings(clients), merge))


def _of_keepers(
    name: str, unit: str, text: str, read: Callable[[AnyKeeper], Iterable[Reading]], *further: str
) -> Gauge:
    def readings(clients: Iterable[Client]) -> Iterator[Reading]:
        for client in clients:
            for keeper in client.keepers:
                whose: Attributes = {SERVICE: keeper.name, SERVICE_ID: keeper.id}
                yield from ((whose | attributes, value) for attributes, value in read(keeper))

    metric = Metric(name, unit, text, (SERVICE, SERVICE_ID, *further))
    return Gauge(metric, lambda clients: _merged(readings(clients), max))


def _age(resolver: AnyResolver) -> float | None:
    snapshot = resolver.snapshot()
    return None if snapshot.answered_at is None else snapshot.age


def _lag(resolver: AnyResolver) -> float | None:
    snapshot: ServiceSnapshot = resolver.snapshot()
    if snapshot.source == "nothing":
        return None
    if snapshot.stale_at is not None:
        return max(0.0, time.monotonic() - snapshot.stale_at)
    return snapshot.age if snapshot.shared else 0.0


def _left_out(resolver: AnyResolver) -> float | None:
    balancer = resolver.balancer
    return len(balancer.ejected) if isinstance(balancer, EjectingBalancer) else None


def _states(keeper: AnyKeeper) -> list[Reading]:
    now = keeper.state  # once: it may change meanwhile
    return [({STATE: state.value}, float(now is state)) for state in KeeperState]


def _unconfirmed(keeper: AnyKeeper) -> list[Reading]:
    confirmed = keeper.last_ok
    return [] if confirmed is None else [({}, max(0.0, time.time() - confirmed.timestamp()))]


GAUGES: Final = (
    _of_resolvers(
        "consul_access.resolver.instances",
        "{instance}",
        "Instances that a resolver chooses from.",
        lambda resolver: len(resolver.instances()),
        min,
    ),
    _of_resolvers("consul_access.resolver.age", "s", "Time since the registry gave the list.", _age),
    _of_resolvers(
        "consul_access.resolver.lag",
        "s",
        "How far the list may be behind the registry: 0 while every change is told at once.",
        _lag,
    ),
    _of_resolvers(
        "consul_access.resolver.ejected",
        "{instance}",
        "Instances that are left out now because calls failed.",
        _left_out,
    ),
    _of_keepers(
        "consul_access.keeper.state",
        "{registration}",
        "1 for the state that a kept registration is in, 0 for the others.",
        _states,
        STATE,
    ),
    _of_keepers(
        "consul_access.keeper.misses",
        "{miss}",
        "Attempts in a row that the registry did not answer.",
        lambda keeper: [({}, keeper.misses)],
    ),
    _of_keepers(
        "consul_access.keeper.unconfirmed",
        "s",
        "Time since the registry last confirmed the registration.",
        _unconfirmed,
    ),
)
ALL: Final = (REQUESTS, WAITS, EVENTS, PICKS, EJECTIONS, *(gauge.metric for gauge in GAUGES))

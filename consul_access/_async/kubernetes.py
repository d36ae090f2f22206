"""The services of a Kubernetes cluster, read from its own etcd."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from consul_access._async.gateway import AsyncGateway
from consul_access._async.key_watching import AsyncKeyWatch
from consul_access._async.keys import AsyncKeyReader
from consul_access.errors import InvalidInput
from consul_access.etcd import kv
from consul_access.etcd.kubernetes import endpoints_key, read_object, service_key, services_prefix, slices_prefix
from consul_access.etcd.watch import Range
from consul_access.models.keys import EventKind, KeyEvent, KeyValue
from consul_access.models.kubernetes import (
    Endpoints,
    EndpointSlice,
    KubernetesInstance,
    KubernetesService,
    KubernetesSnapshot,
    Readiness,
)
from consul_access.models.meta import Entries
from consul_access.rules.endpoints import instances_of

if TYPE_CHECKING:
    from consul_access._async.key_listing import AsyncKeyListing
    from consul_access.models.sync import SyncRules
    from consul_access.rules.key_watching import KeyWatchState

__all__ = ["AsyncKubernetes", "AsyncKubernetesWatch"]


class AsyncKubernetes:
    """Reads Services, EndpointSlices and Endpoints as the API server has stored them; made by `etcd.kubernetes`.

    It never writes. Values encrypted at rest raise `EncryptedValue`; damaged ones are left out, and the log says so.

    Args:
        gateway: what calls are sent with.
        reader: what ranges are read with.
        prefix: what all keys begin with.
    """

    def __init__(self, gateway: AsyncGateway, reader: AsyncKeyReader, prefix: str) -> None:
        self._gateway = gateway
        self._reader = reader
        self._prefix = prefix

    async def services(self, namespace: str | None = "default") -> Entries[KubernetesService]:
        """The Services of a namespace.

        Args:
            namespace: its name; None for all namespaces.

        Returns:
            A list, with the number of objects `rejected` since they could not be read.

        Raises:
            EncryptedValue: they are encrypted at rest.
        """
        first, end = kv.prefix_range(services_prefix(self._prefix, namespace))
        items, _ = await self._reader.read_all(kv.Get(first, end))
        found = [read_object(item, KubernetesService.from_api) for item in items]
        usable = [service for service in found if service is not None]
        return Entries(usable, rejected=len(found) - len(usable))

    async def instances(
        self, namespace: str, name: str, *, readiness: Readiness | str = Readiness.READY
    ) -> list[KubernetesInstance]:
        """The instances of a Service: the pods and other addresses behind it.

        Args:
            namespace: where the Service is.
            name: its name.
            readiness: `ready` (those Kubernetes sends calls to), `serving` (also those that are shutting down and
                still answer) or `any`.

        Returns:
            One instance an address, with its ports by name; none when there is no such service.

        Raises:
            EncryptedValue: they are encrypted at rest.
            InvalidInput: the names or the readiness cannot be ones.
        """
        wanted = _readiness(readiness)
        store, _ = await self._load(namespace, name)
        return [one for one in store.instances() if one.is_meant(wanted)]

    def watch(
        self,
        namespace: str,
        name: str,
        *,
        readiness: Readiness | str = Readiness.READY,
        on_state: Callable[[KeyWatchState], None] | None = None,
    ) -> AsyncKubernetesWatch:
        """The instances of a Service now, and again whenever they have changed, in a `with` block or a loop.

        Args:
            namespace: where the Service is.
            name: its name.
            readiness: as with `instances`.
            on_state: called with a `KeyWatchState` whenever the watch loses its member or finds another one.
        """
        return AsyncKubernetesWatch(self, namespace, name, _readiness(readiness), on_state)

    def listing(self, rules: SyncRules, *, on_state: Callable[[], None] | None = None) -> AsyncKeyListing:
        """All services as they should stand in Consul's catalog, for `AsyncCatalogSync`.

        Args:
            rules: which services are meant, and how they are named.
            on_state: called when the listing loses its member or finds another one.
        """
        from consul_access._async.key_listing import AsyncKeyListing
        from consul_access.etcd.sources import KubernetesSource

        return AsyncKeyListing(self._gateway, self._reader, KubernetesSource(self._prefix, rules), on_state=on_state)

    async def _load(self, namespace: str, name: str) -> tuple[_Store, int]:
        """What there is about a service, all as of one revision."""
        store = _Store(self._prefix, namespace, name)
        revision = 0
        for wanted in store.ranges:
            items, told = await self._reader.read_all(kv.Get(wanted.key, wanted.end, revision=revision))
            revision = revision or told
            store.fill(wanted, items)
        return store, revision

    def _watch(
        self, ranges: list[Range], start: int, on_state: Callable[[KeyWatchState], None] | None
    ) -> AsyncKeyWatch:
        return AsyncKeyWatch(self._gateway, self._reader, ranges, start=start, on_state=on_state)


class AsyncKubernetesWatch:
    """Snapshots of a Service's instances, the first one at once; made by `etcd.kubernetes.watch`.

    A snapshot follows when the instances differ from the last ones, never because something could not be read: while no
    member answers there is none. Iteration ends after `close()`.
    """

    def __init__(
        self,
        kubernetes: AsyncKubernetes,
        namespace: str,
        name: str,
        readiness: Readiness,
        on_state: Callable[[KeyWatchState], None] | None,
    ) -> None:
        self._kubernetes = kubernetes
        self._namespace, self._name = namespace, name
        self._readiness = readiness
        self._on_state = on_state
        self._store = _Store(kubernetes._prefix, namespace, name)  # noqa: SLF001 - both belong together
        self._events: AsyncKeyWatch | None = None
        self._told: tuple[KubernetesInstance, ...] | None = None
        self._closed = False

    async def aclose(self) -> None:
        """Ends it; whoever waits for the next snapshot is told that there is none."""
        self._closed = True
        if self._events is not None:
            await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        if self._events is not None:
            await self._events.__aexit__(kind, error, traceback)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> KubernetesSnapshot:
        if self._closed:
            raise StopAsyncIteration
        if self._events is None:
            return await self._begin()
        while True:
            event = await anext(self._events)
            self._store.take(event)
            if self._events.pending:  # what came together is told together
                continue
            found = self._meant()
            if found != self._told:
                self._told = found
                return KubernetesSnapshot(found, event.revision)

    async def _begin(self) -> KubernetesSnapshot:
        self._store, revision = await self._kubernetes._load(self._namespace, self._name)  # noqa: SLF001
        self._events = self._kubernetes._watch(self._store.ranges, revision + 1, self._on_state)  # noqa: SLF001
        self._told = self._meant()
        return KubernetesSnapshot(self._told, revision)

    def _meant(self) -> tuple[KubernetesInstance, ...]:
        return tuple(one for one in self._store.instances() if one.is_meant(self._readiness))


class _Store:
    """What etcd holds about one service: the Service, the slices of its namespace, its Endpoints."""

    def __init__(self, prefix: str, namespace: str, name: str) -> None:
        self._namespace, self._name = namespace, name
        self._service_key = service_key(prefix, namespace, name).encode()
        self._endpoints_key = endpoints_key(prefix, namespace, name).encode()
        slices, end = kv.prefix_range(slices_prefix(prefix, namespace))
        self.ranges = [Range(slices, end), Range(self._endpoints_key), Range(self._service_key)]
        self._service: KubernetesService | None = None
        self._endpoints: Endpoints | None = None
        self._slices: dict[bytes, EndpointSlice] = {}

    def instances(self) -> tuple[KubernetesInstance, ...]:
        slices = [self._slices[key] for key in sorted(self._slices)]
        return instances_of(
            self._namespace, self._name, service=self._service, slices=slices, endpoints=self._endpoints
        )

    def fill(self, wanted: Range, items: tuple[KeyValue, ...]) -> None:
        """Takes all that there is in one of the ranges."""
        if wanted.end is not None:
            self._slices.clear()
        elif not items:
            self._forget(wanted.key)
        for item in items:
            self._put(item)

    def take(self, event: KeyEvent) -> None:
        """Takes a change."""
        if event.kind is EventKind.RESYNC:
            (wanted,) = (one for one in self.ranges if one.key == event.key)
            self.fill(wanted, event.items)
        elif event.kind is EventKind.DELETE:
            self._forget(event.key)
        elif event.metadata is not None:
            self._put(KeyValue(event.value, event.metadata))

    def _forget(self, key: bytes) -> None:
        if key == self._service_key:
            self._service = None
        elif key == self._endpoints_key:
            self._endpoints = None
        else:
            self._slices.pop(key, None)

    def _put(self, item: KeyValue) -> None:
        """Keeps an object; what cannot be read leaves the last one that could be in its place."""
        if item.key == self._service_key:
            self._service = read_object(item, KubernetesService.from_api) or self._service
        elif item.key == self._endpoints_key:
            self._endpoints = read_object(item, Endpoints.from_api) or self._endpoints
        else:
            found = read_object(item, EndpointSlice.from_api)
            if found is not None:
                self._slices[item.key] = found


def _readiness(readiness: Readiness | str) -> Readiness:
    try:
        return Readiness(readiness)
    except ValueError:
        raise InvalidInput(f"readiness={readiness!r} is none: write one of {', '.join(Readiness)}") from None
